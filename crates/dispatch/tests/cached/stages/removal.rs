//! What a command takes, and what it leaves.

use super::*;
use smmu_core::access::{Access, Operation};
use smmu_core::{StreamId, SubstreamId};

const NAMES: [(&str, Who, u64); 12] = [
    ("alone", ALONE, PAGE),
    ("alone, neighbour", ALONE, NEIGHBOUR),
    ("alone, block", ALONE, BLOCK + 0x5000),
    ("both", ONE, VA),
    ("both, neighbour", ONE, VA_NEIGHBOUR),
    ("both, global", ONE, VA_GLOBAL),
    ("both, in a block", ONE, VA_IN_BLOCK),
    ("pieces", ONE, VA_PIECES + 0x5000),
    ("pieces, last", ONE, VA_PIECES + 0x1f_f000),
    ("both, of two", TWO, VA),
    ("alone, of another VMID", OTHER_ALONE, PAGE),
    ("both, of another VMID", OTHER, VA),
];

/// What has gone after commands, when `change` has changed the tables behind everything's back.
fn gone(change: impl Fn(&Stages), commands: &[[u64; 2]]) -> Vec<&'static str> {
    let stages = Stages::new();
    let look = || NAMES.map(|(_, who, address)| stages.read(who, address));
    let before = look();
    change(&stages);
    assert_eq!(look(), before, "everything is cached");
    stages.execute(commands);
    let after = look();
    let moved = (0..NAMES.len()).filter(|&n| after[n] != before[n]);
    moved.map(|n| NAMES[n].0).collect()
}

fn second_gone(commands: &[[u64; 2]]) -> Vec<&'static str> {
    gone(|stages| stages.map(2), commands)
}

fn first_gone(commands: &[[u64; 2]]) -> Vec<&'static str> {
    gone(|stages| stages.map_first(0x1_0000), commands)
}
/// What combines both stages may stay (4.4.3); what asks stage 2 each time may not.
#[test]
fn law7_s2_ipa_takes_a_page_of_stage_2_and_no_neighbour() {
    let s2_ipa = |ipa: u64| second_gone(&[[of_vmid(S2_IPA), ipa]]);
    let here = |gone: Vec<&'static str>| -> Vec<&'static str> {
        gone.into_iter()
            .filter(|name| !name.ends_with("another VMID"))
            .collect()
    };
    assert_eq!(here(s2_ipa(PAGE)), ["alone"]);
    assert_eq!(here(s2_ipa(NEIGHBOUR)), ["alone, neighbour"]);
    assert_eq!(here(s2_ipa(BLOCK + 0x1_0000)), ["alone, block"]);
    assert_eq!(here(s2_ipa(PIECES + 0x5000)), ["pieces"]);
    assert_eq!(here(s2_ipa(PIECES + 0x1f_f000)), ["pieces, last"]);
    assert_eq!(here(s2_ipa(VA)), [""; 0], "an address of stage 1");
    // By ranges of pages of 4 KiB: sixteen, and all of it.
    let range =
        |scale: u64| second_gone(&[[of_vmid(S2_IPA) | 15 << 12 | scale << 20, PIECES | 1 << 10]]);
    assert_eq!(here(range(0)), ["pieces"]);
    assert_eq!(here(range(5)), ["pieces", "pieces, last"]);
}

#[test]
fn law7_s2_ipa_and_all_of_stage_1_take_what_was_made_of_it() {
    let all = [[of_vmid(S2_IPA), PAGE], [of_vmid(0x10), 0]];
    let gone = second_gone(&all);
    for name in ["alone", "both", "both, of two"] {
        assert!(gone.contains(&name), "{gone:?}");
    }
    // Stage 1 anew by what is cached of stage 2; a page that nobody uses but through stage 1 is not, by itself.
    assert_eq!(second_gone(&[[of_vmid(0x10), 0]]), ["both, global"]);
}

#[test]
fn law7_stage_1_commands_take_combined_entries() {
    let address = |va: u64| first_gone(&[[of_vmid(0x12) | ASID_ONE, va]]);
    assert!(address(VA).starts_with(&["both"]));
    assert!(!address(VA).contains(&"both, of two"));
    assert_eq!(address(VA_GLOBAL)[0], "both, global");
    assert_eq!(address(VA_IN_BLOCK)[0], "both, in a block");
    let asid = [
        "both",
        "both, neighbour",
        "both, in a block",
        "pieces",
        "pieces, last",
    ];
    assert_eq!(first_gone(&[[of_vmid(0x11) | ASID_ONE, 0]]), asid);
    let mut vmid: Vec<_> = NAMES.iter().map(|&(name, ..)| name).collect();
    vmid.retain(|name| !name.starts_with("alone") && !name.ends_with("another VMID"));
    assert_eq!(first_gone(&[[of_vmid(0x10), 0]]), vmid);
    assert_eq!(first_gone(&[[of_vmid(0x28), 0]]), vmid);
    let other = first_gone(&[[0x10 | OTHER_VMID << 32, 0]]);
    assert_eq!(other, ["both, of another VMID"]);
}

/// Stage 2 maps a block of stage 1 by pages: each is looked up anew when any address of the block has
/// been named, since the guest names a block once. By level and granule, too.
#[test]
fn law7_an_address_in_a_block_takes_all_pieces_of_it() {
    let pieces = ["pieces", "pieces, last"];
    assert_eq!(
        first_gone(&[[of_vmid(0x12) | ASID_ONE, VA_PIECES + 0x9000]]),
        pieces
    );
    let level2 = VA_PIECES | 1 << 10 | 2 << 8;
    assert_eq!(first_gone(&[[of_vmid(0x12) | ASID_ONE, level2]]), pieces);
}

#[test]
fn law7_s12_vmall_takes_everything_of_its_vmid() {
    let other = |name: &&str| name.ends_with("another VMID");
    let names = || NAMES.iter().map(|&(name, ..)| name);
    let mine: Vec<_> = names().filter(|name| !other(name)).collect();
    assert_eq!(second_gone(&[[of_vmid(0x28), 0]]), mine);
    let others: Vec<_> = names().filter(other).collect();
    assert_eq!(second_gone(&[[0x28 | OTHER_VMID << 32, 0]]), others);
    let all: Vec<_> = names().collect();
    assert_eq!(second_gone(&[[0x30, 0]]), all);
}

/// A table of stage 1 moves: stage 2 maps its page to another one.
#[test]
fn law7_tables_of_stage_1_are_found_by_what_stage_2_says_now() {
    let stages = Stages::new();
    let (third, copy) = (TABLES + 0x2000, 0x3_0000);
    for at in (0..0x1000).step_by(8) {
        let entry = stages.memory.get(third + at).expect("in memory");
        let moved = if entry == 0 { 0 } else { entry + 0x1_0000 };
        stages.memory.set(copy + at, moved);
    }
    let page = SECOND + 0x2000 + 8 * (third >> 12);
    let mut port = stages.core.port(StreamId(ONE.0)).expect("a guard");
    let mut read = |address| {
        let access = Access::of_smmu(address, Operation::Read);
        let guard = port.translate(ONE.1.map(SubstreamId), access, 1, |_| ());
        guard.expect("mapped").output().address
    };
    assert_eq!(read(VA), 1 << 32 | PAGE);
    stages.memory.set(page, copy | RIGHTS);
    assert_eq!(read(VA_NEIGHBOUR), 1 << 32 | NEIGHBOUR, "where it was");
    let nh_all = [of_vmid(0x10), 0];
    stages.execute(&[[of_vmid(S2_IPA), third], nh_all]);
    assert_eq!(read(VA), 1 << 32 | PAGE | 0x1_0000);
    assert_eq!(read(VA_NEIGHBOUR), 1 << 32 | NEIGHBOUR | 0x1_0000);
}

/// A stream without stage 2 finds no entry of both, and the other way round, though VMID, ASID and
/// address are the same.
#[test]
fn law2_stage_1_alone_and_both_do_not_find_each_others_entries() {
    let stages = Stages::new();
    for _ in 0..2 {
        assert_eq!(stages.read(ONE, VA), 1 << 32 | PAGE);
        assert_eq!(stages.read(FIRST_ONLY, VA), PAGE);
        assert_eq!(stages.read(ONE, VA_GLOBAL), 1 << 32 | OF_GLOBAL);
        assert_eq!(stages.read(FIRST_ONLY, VA_GLOBAL), OF_GLOBAL);
        assert_eq!(stages.read(ONE, VA_PIECES), 1 << 32 | PIECES);
        assert_eq!(stages.read(FIRST_ONLY, VA_PIECES), PIECES);
    }
}

/// VMIDs are the guest's name space: the same address of another one is another address.
#[test]
fn law2_a_vmid_has_its_own_stage_2() {
    let stages = Stages::new();
    let (own, copy) = (SECOND, 0x3_8000);
    // The other VMID's stage 2: the same levels, but pages of another place.
    for table in [0, 0x1000, 0x2000, 0x3000] {
        for at in (0..0x1000).step_by(8) {
            let entry = stages.memory.get(own + table + at).expect("in memory");
            let inner = (own..own + 0x4000).contains(&(entry & !0xfff)) && table < 0x2000;
            let far = entry >> 32 == 1;
            let moved = match (inner, far) {
                (true, _) => entry - own + copy,
                (_, true) => entry + (1 << 32),
                _ => entry,
            };
            stages.memory.set(copy + table + at, moved);
        }
    }
    for stream in [3, 4] {
        stages.memory.set(64 * stream + 24, copy);
    }
    for _ in 0..2 {
        let places = [(ALONE, PAGE), (OTHER_ALONE, PAGE), (ONE, VA), (OTHER, VA)]
            .map(|(who, address)| stages.read(who, address) >> 32);
        assert_eq!(places, [1, 2, 1, 2]);
    }
}
