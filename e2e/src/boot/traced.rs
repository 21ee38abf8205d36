//! What QEMU writes down of the commands to its own SMMU.

use crate::vehicle::{Commands, OfVmid};
use std::collections::BTreeMap;

/// Counts by VMID, from the lines of a trace; `None` if a line that counts is not as known. NH_ASID is
/// left out: its line does not say the VMID.
pub(super) fn by_vmid(trace: &str) -> Option<BTreeMap<u16, OfVmid>> {
    let mut all = BTreeMap::<u16, OfVmid>::new();
    for line in trace.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let fields: BTreeMap<_, _> = words.filter_map(|word| word.split_once('=')).collect();
        let vmid = || fields.get("vmid")?.parse().ok();
        let count = match name {
            "smmuv3_cmdq_tlbi_nh" => &mut all.entry(vmid()?).or_default().stage_one,
            "smmuv3_cmdq_tlbi_s12_vmid" => &mut all.entry(vmid()?).or_default().both,
            "smmuv3_range_inval" => {
                let of = all.entry(vmid()?).or_default();
                match (*fields.get("stage")?, *fields.get("asid")?) {
                    ("2", _) => &mut of.by_ipa,
                    // Of every ASID.
                    (_, "-1") => &mut of.by_address,
                    (_, asid) => of.by_asid.entry(asid.parse().ok()?).or_default(),
                }
            }
            _ => continue,
        };
        *count += 1;
    }
    Some(all)
}

/// Every command with what it names, if that is told; `None` if a line that counts is not as known.
///
/// `smmuv3_cmdq_opcode` is written for each command, and what else is written of it comes behind.
pub(super) fn commands(trace: &str) -> Option<Commands> {
    let mut all = Commands::new();
    let mut open: Option<(String, Option<u64>)> = None;
    for line in trace.lines() {
        let Some((event, rest)) = line.split_once(' ') else {
            continue;
        };
        if event == "smmuv3_cmdq_opcode" {
            if let Some(done) = open.take() {
                *all.entry(done).or_default() += 1;
            }
            let name = rest.split_whitespace().last()?.strip_prefix("SMMU_CMD_")?;
            let name = name.strip_prefix("TLBI_").unwrap_or(name);
            open = Some((name.to_owned(), None));
            continue;
        }
        let of_stream = event.starts_with("smmuv3_cmdq_cfgi");
        let field = if of_stream { "sid" } else { "vmid" };
        let named = rest.split_whitespace().find_map(|word| {
            let (name, value) = word.split_once('=')?;
            (name == field).then_some(value)
        });
        if let (Some(value), Some((_, whose))) = (named, &mut open) {
            *whose = Some(number(value)?);
        }
    }
    if let Some(done) = open {
        *all.entry(done).or_default() += 1;
    }
    Some(all)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_counted_for_its_vmid() {
        let trace = "\
smmuv3_cmdq_tlbi_nsnh
smmuv3_cmdq_tlbi_nh_asid asid=1445
smmuv3_cmdq_tlbi_nh vmid=1
smmuv3_cmdq_tlbi_s12_vmid vmid=1
smmuv3_range_inval vmid=1 asid=1445 addr=0x12345a000 tg=0 num_pages=0x1 ttl=0 leaf=1 stage=1
smmuv3_range_inval vmid=0 asid=-1 addr=0x12345a000 tg=0 num_pages=0x1 ttl=0 leaf=1 stage=1
smmuv3_range_inval vmid=1 asid=-1 addr=0x2468100000 tg=1 num_pages=0x10 ttl=3 leaf=1 stage=2
";
        let all = by_vmid(trace).expect("known lines");
        let one = OfVmid {
            by_ipa: 1,
            both: 1,
            stage_one: 1,
            by_asid: BTreeMap::from([(1445, 1)]),
            by_address: 0,
        };
        assert_eq!(all[&1], one);
        assert_eq!((all[&0].by_address, all.len()), (1, 2));
        assert_eq!(by_vmid("smmuv3_cmdq_tlbi_nh id=1"), None);
    }

    #[test]
    fn each_command_is_counted_once_with_whom_it_names() {
        let trace = "\
smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_VA
smmuv3_range_inval vmid=1 asid=689 addr=0x12345a000 tg=1 num_pages=0x2 ttl=0 leaf=1 stage=1
smmuv3_range_inval vmid=1 asid=689 addr=0x12345c000 tg=1 num_pages=0x1 ttl=0 leaf=1 stage=1
smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_ASID
smmuv3_cmdq_opcode <--- SMMU_CMD_CFGI_CD
smmuv3_cmdq_cfgi_cd sid=0x10
smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_ALL
smmuv3_cmdq_tlbi_nh vmid=1
smmuv3_cmdq_opcode <--- SMMU_CMD_SYNC
";
        let kind = |name: &str, whose| (name.to_owned(), whose);
        let want = [
            (kind("CFGI_CD", Some(0x10)), 1),
            (kind("NH_ALL", Some(1)), 1),
            (kind("NH_ASID", None), 1),
            (kind("NH_VA", Some(1)), 1),
            (kind("SYNC", None), 1),
        ];
        assert_eq!(commands(trace), Some(want.into()));
        let odd = "smmuv3_cmdq_opcode <--- SMMU_CMD_CFGI_CD\nsmmuv3_cmdq_cfgi_cd sid=x\n";
        assert_eq!(commands(odd), None);
    }
}
