//! What the guest asks of the host.

use super::recording::Recording;
use super::traced;
use super::waited::Waited;
use crate::nvme::{Controller, Dma};
use crate::vehicle::{Commands, OfVmid, Smmu};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use vcmdq_wording::count;

/// The most bytes of a checksum.
const LARGEST: usize = 64 << 20;

/// Until its VCMDQs are there, Linux invalidates through the SMMU's own queue: one for at least so many
/// that come later through VCMDQs.
const OWN_SHARE: u64 = 20;

/// What is needed to answer.
pub(super) struct Answers<'a> {
    pub(super) controller: Arc<Controller>,
    /// A way to memory as the device's.
    pub(super) dma: Box<dyn Dma>,
    /// The SMMU, if there is one.
    pub(super) smmu: Option<&'a Smmu>,
    /// The recording to be made.
    pub(super) recording: Option<Recording<'a>>,
    /// What QEMU writes of its own SMMU, if that is the one.
    pub(super) trace: Option<PathBuf>,
    /// The commands in it that have been told.
    pub(super) heard: Commands,
    /// How long the engine's worker had to wait for a processor, where that matters.
    pub(super) worker: Option<Waited>,
}

impl Answers<'_> {
    /// The answer to a question, which is one line. `None` if it is not understood.
    pub(super) fn answer(&mut self, question: &[String]) -> Option<String> {
        let words: Vec<&str> = question.iter().map(String::as_str).collect();
        match words[..] {
            ["sum", offset, bytes, want] => {
                let (offset, bytes) = (offset.parse().ok()?, bytes.parse().ok()?);
                Some(self.compare(offset, bytes, want))
            }
            ["use-after-unmap"] => Some(self.use_after_unmap()),
            ["corrupt-prefetch"] => {
                self.smmu?.corruption().arm();
                Some("armed".into())
            }
            ["record", kernel] => Some(self.recording.as_mut()?.begin(self.smmu?, kernel)),
            ["recorded"] => Some(self.recording.as_mut()?.end()),
            ["worker"] => Some(self.worker.as_mut().map_or("-".into(), Waited::share)),
            ["corrupted"] => Some(self.smmu?.corruption().done().to_string()),
            ["queues", cpus] => Some(queues(self.smmu?, cpus.parse().ok()?)),
            ["stage2"] => Some(stage2(&self.seen()?)),
            ["heard"] => Some(said(&self.heard()?)),
            ["nesting", asid] => Some(nesting(&self.seen()?, asid.parse().ok()?)),
            _ => None,
        }
    }

    /// What was invalidated, in the engine's SMMU or in QEMU's.
    fn seen(&self) -> Option<BTreeMap<u16, OfVmid>> {
        match &self.trace {
            Some(trace) => traced::by_vmid(&std::fs::read_to_string(trace).ok()?),
            None => Some(self.smmu?.dropping().seen()?.by_vmid()),
        }
    }

    /// The commands that have come since this was asked last, to the engine's SMMU or to QEMU's.
    fn heard(&mut self) -> Option<Commands> {
        match &self.trace {
            Some(trace) => {
                let trace = std::fs::read_to_string(trace).ok()?;
                let now = traced::commands(&trace)?;
                let before = std::mem::replace(&mut self.heard, now);
                Some(since(&before, &self.heard))
            }
            None => Some(self.smmu?.heard().take()),
        }
    }

    /// The guest has found its disk: from now on the engine may be broken on purpose.
    pub(super) fn disk_is_there(&self) {
        if let Some(smmu) = self.smmu {
            smmu.dropping().arm();
        }
    }

    /// Whether what lies in the backing file has the checksum that the guest saw.
    fn compare(&self, offset: u64, bytes: usize, want: &str) -> String {
        match self.controller.disk().contents(offset, bytes.min(LARGEST)) {
            Ok(contents) => {
                let have = hex(&Sha256::digest(contents));
                match have == want {
                    true => "same".into(),
                    false => format!("different {have}"),
                }
            }
            Err(error) => format!("unreadable {error}"),
        }
    }

    /// Uses the addresses of transfers that are over, as a broken device does.
    fn use_after_unmap(&mut self) -> String {
        let pages = self.controller.disk().recent();
        let mut word = [0; 8];
        let reached = pages
            .iter()
            .filter(|&&page| self.dma.read(page, &mut word).is_ok())
            .count();
        match (pages.len(), reached) {
            (0, _) => "nothing was transferred".into(),
            (all, 0) => format!("faulted {all} of {all}"),
            (all, reached) => format!("reached {reached} of {all}"),
        }
    }
}

/// Whether commands went the way that Linux sends them: invalidations through the VCMDQs, of which
/// one for each CPU had some, and what concerns configuration through the SMMU's own queue.
fn queues(smmu: &Smmu, cpus: usize) -> String {
    let (own, queues) = smmu.rings();
    let each: Vec<_> = queues.iter().map(|queue| queue.invalidations).collect();
    let stray: u64 = queues.iter().map(|queue| queue.effects).sum();
    let busy = each.iter().filter(|&&count| count > 0).count();
    let used = busy > 0 && busy == cpus.min(each.len()) && stray == 0;
    let (effects, invalidations) = (own.effects, own.invalidations);
    let rest = effects > 0 && invalidations * OWN_SHARE <= each.iter().sum();
    let verdict = if used && rest {
        "as Linux does"
    } else {
        "other"
    };
    format!(
        "{verdict}: VCMDQs {each:?} invalidations, {stray} others; \
         own queue {invalidations} invalidations, {effects} others"
    )
}

/// Whether translations went by stage 2 alone.
fn stage2(seen: &BTreeMap<u16, OfVmid>) -> String {
    let two: u64 = seen.values().map(|of| of.by_ipa + of.both).sum();
    let one: u64 = seen.values().map(OfVmid::of_stage_one).sum();
    let verdict = if two > 0 && one == 0 {
        "alone"
    } else {
        "other"
    };
    let two = count(two, "request");
    format!("{verdict}: {two} of stage 2, {one} of stage 1 alone")
}

/// Whether one host VMID has had what Linux sends for a nested address space: addresses of its stage 2,
/// then all of stage 1 because of them; and the guest's own commands with its ASID.
fn nesting(seen: &BTreeMap<u16, OfVmid>, asid: u16) -> String {
    let own = |of: &OfVmid| of.by_asid.get(&asid).copied().unwrap_or(0);
    let of_guest = seen.iter().filter(|(_, of)| own(of) > 0);
    let of_guest: Vec<_> = of_guest.collect();
    let [(vmid, of)] = of_guest[..] else {
        return format!("other: {} VMIDs have ASID {asid}", of_guest.len());
    };
    let whole = *vmid != 0 && of.by_ipa > 0 && of.stage_one > 0;
    let verdict = if whole { "as Linux does" } else { "other" };
    let (ipa, asids, one) = (of.by_ipa, own(of), of.stage_one);
    format!("{verdict}: VMID {vmid}: {ipa} by IPA, {one} of stage 1, {asids} of ASID {asid}")
}

/// What one list of counts has more than the other.
fn since(before: &Commands, now: &Commands) -> Commands {
    let more = now.iter().map(|(kind, count)| {
        let told = before.get(kind).unwrap_or(&0);
        (kind.clone(), count.saturating_sub(*told))
    });
    more.filter(|(_, count)| *count > 0).collect()
}

/// `NAME@ID=COUNT` of each kind; the ID is hexadecimal, or `?`.
fn said(heard: &Commands) -> String {
    heard
        .iter()
        .fold("heard".into(), |mut text, (kind, count)| {
            let (name, whose) = kind;
            let _a_string_takes_all = match whose {
                Some(whose) => write!(text, " {name}@{whose:x}={count}"),
                None => write!(text, " {name}@?={count}"),
            };
            text
        })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _a_string_takes_all = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::{BLOCK, Disk, Flat};
    use crate::vehicle::Ram;

    fn answers() -> Answers<'static> {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8 * BLOCK).expect("a file");
        let ram = Ram::new(2).expect("two MiB");
        Answers {
            controller: Controller::new(Disk::new(file).expect("a file")),
            dma: Box::new(Flat(ram.memory().clone())),
            smmu: None,
            recording: None,
            trace: None,
            heard: Commands::new(),
            worker: None,
        }
    }

    fn ask(question: &str) -> Option<String> {
        let words: Vec<_> = question.split(' ').map(str::to_owned).collect();
        answers().answer(&words)
    }

    #[test]
    fn checksums_are_compared_with_the_file() {
        // sha256 of 512 zero bytes.
        let zeros = "076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560";
        assert_eq!(ask(&format!("sum 0 512 {zeros}")).as_deref(), Some("same"));
        let other = ask("sum 0 512 00").expect("an answer");
        assert!(other.starts_with("different 076a"), "{other}");
        let beyond = ask("sum 8192 512 00").expect("an answer");
        assert!(beyond.starts_with("unreadable"), "{beyond}");
    }

    #[test]
    fn commands_are_told_once_and_with_whom_they_name() {
        let kind = |name: &str, whose| (name.to_owned(), whose);
        let before = Commands::from([(kind("NH_VA", Some(0x1A)), 4)]);
        let now = Commands::from([(kind("NH_VA", Some(0x1A)), 6), (kind("NH_ASID", None), 1)]);
        let told = said(&since(&before, &now));
        assert_eq!(told, "heard NH_ASID@?=1 NH_VA@1a=2");
        assert_eq!(said(&since(&now, &now)), "heard");
    }

    #[test]
    fn a_device_without_transfers_has_nothing_to_misuse() {
        let answer = ask("use-after-unmap");
        assert_eq!(answer.as_deref(), Some("nothing was transferred"));
    }

    #[test]
    fn a_nested_address_space_has_one_vmid() {
        let of = |by_ipa, stage_one, asid| OfVmid {
            by_ipa,
            stage_one,
            by_asid: BTreeMap::from([(asid, 3)]),
            ..OfVmid::default()
        };
        let verdict = |seen: &[(u16, OfVmid)]| nesting(&seen.iter().cloned().collect(), 9);
        let whole = verdict(&[(0, of(0, 0, 1)), (2, of(5, 4, 9))]);
        assert_eq!(
            whole,
            "as Linux does: VMID 2: 5 by IPA, 4 of stage 1, 3 of ASID 9"
        );
        for other in [
            verdict(&[(0, of(5, 4, 9))]),
            verdict(&[(2, of(0, 4, 9))]),
            verdict(&[(2, of(5, 0, 9))]),
            verdict(&[(2, of(5, 4, 8))]),
            verdict(&[(1, of(5, 4, 9)), (2, of(5, 4, 9))]),
        ] {
            assert!(other.starts_with("other"), "{other}");
        }
    }

    #[test]
    fn stage_two_alone_has_no_request_of_stage_one() {
        let only = OfVmid {
            by_ipa: 2,
            both: 1,
            ..OfVmid::default()
        };
        let first = OfVmid {
            by_address: 1,
            ..OfVmid::default()
        };
        let two = BTreeMap::from([(1, only)]);
        assert_eq!(
            stage2(&two),
            "alone: 3 requests of stage 2, 0 of stage 1 alone"
        );
        let mut both = two.clone();
        both.insert(0, first);
        assert!(stage2(&both).starts_with("other"));
        assert!(stage2(&BTreeMap::new()).starts_with("other"));
    }

    #[test]
    fn what_is_not_understood_has_no_answer() {
        assert_eq!(ask("sum x 512 00"), None);
        assert_eq!(ask("hello"), None);
        assert_eq!(ask("corrupt-prefetch"), None, "there is no SMMU");
    }
}
