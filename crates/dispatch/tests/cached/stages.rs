//! By hand: what a command takes where the guest has a stage 2 of its own, and what it leaves; and which
//! stage a fault is of, found in a cache or by a walk.

use crate::memory::Memory;
use crate::rig::{execute, setup};
use dispatch::Backend;
use dispatch::backend::Software;
use dispatch::backend::software::Denied;
use smmu_core::access::{Access, Operation};
use smmu_core::caps::Capabilities;
use smmu_core::fault::{Fault, Place};
use smmu_core::spec::event::Class;
use smmu_core::translate::Failed;
use smmu_core::{StreamId, SubstreamId};
use std::sync::Arc;

pub(crate) const CDS: u64 = 0x1000;
/// T0SZ=25, SL0=1 (level 1), 4 KiB, S2PS=48 bits, AA64, S2R.
pub(crate) const DW2: u64 = 25 << 32 | 1 << 38 | 5 << 48 | 1 << 51 | 1 << 58;
/// Stage 1: levels 1 to 3, of 4 KiB.
pub(crate) const TABLES: u64 = 0x1_0000;
/// Stage 2: level 1, level 2, level 3 of the first 2 MiB, level 3 of [`PIECES`].
pub(crate) const SECOND: u64 = 0x2_0000;
/// AF, SH, AP=01, nG, page.
const OWN: u64 = 0xf43;
const GLOBAL: u64 = 0x743;
/// Readable, writable, AF, write-back, page.
const RIGHTS: u64 = 0x4ff;

/// Intermediate addresses: pages, a block of stage 2, and 2 MiB of which stage 2 maps pages.
pub(crate) const PAGE: u64 = 0x10_0000;
pub(crate) const NEIGHBOUR: u64 = 0x10_1000;
pub(crate) const OF_GLOBAL: u64 = 0x10_2000;
pub(crate) const BLOCK: u64 = 0x40_0000;
pub(crate) const PIECES: u64 = 0x60_0000;
/// And what stage 1 makes them of.
pub(crate) const VA: u64 = 0x20_3000;
pub(crate) const VA_NEIGHBOUR: u64 = 0x20_4000;
pub(crate) const VA_GLOBAL: u64 = 0x20_5000;
pub(crate) const VA_IN_BLOCK: u64 = 0x20_8000;
pub(crate) const VA_PIECES: u64 = 0x40_0000;

/// Stream, SubstreamID.
pub(crate) type Who = (u32, Option<u32>);

pub(crate) const ALONE: Who = (1, None);
pub(crate) const ONE: Who = (2, Some(1));
const TWO: Who = (2, Some(2));
const OTHER_ALONE: Who = (3, None);
const OTHER: Who = (4, Some(1));
pub(crate) const FIRST_ONLY: Who = (5, Some(1));

pub(crate) const VMID: u64 = 9;
const OTHER_VMID: u64 = 5;

pub(crate) struct Stages {
    pub(crate) memory: Arc<Memory>,
    pub(crate) core: Arc<Software>,
    pub(crate) caps: Capabilities,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// With more or fewer capabilities.
    pub(crate) fn with(change: impl FnOnce(&mut Capabilities)) -> Self {
        let memory = Arc::new(Memory::new(0x4_0000));
        let mut caps = Capabilities::default();
        caps.idr0.set_s2p(true);
        caps.idr0.set_httu(2);
        change(&mut caps);
        let setup = setup(caps);
        let core = Arc::new(Software::default());
        core.memory_changed(memory.clone());
        core.set_up(Some(setup));
        let stages = Self { memory, core, caps };
        stages.configure();
        stages.map(1);
        stages
    }

    fn configure(&self) {
        for (stream, config, vmid) in [
            (1, 6, VMID),
            (2, 7, VMID),
            (3, 6, OTHER_VMID),
            (4, 7, OTHER_VMID),
            (5, 5, VMID),
        ] {
            // V, Config, two bits of SubstreamID if there is a stage 1.
            let first = 1 | config << 1 | if config == 6 { 0 } else { CDS | 2 << 59 };
            self.memory
                .set_all(64 * stream, &[first, 0, vmid | DW2, SECOND]);
        }
        for substream in 1..3u64 {
            // T0SZ=T1SZ=25, TG1=4K, EPD1, V, IPS=48 bits, AA64, R, A.
            let first = 0x6205_c099_0019 | substream << 48;
            self.memory
                .set_all(CDS + 64 * substream, &[first, TABLES, 0, 0xf404_ff44]);
        }
        self.memory.set(TABLES, (TABLES + 0x1000) | 3);
        self.memory.set(TABLES + 0x1008, (TABLES + 0x2000) | 3);
        self.memory.set(SECOND, (SECOND + 0x1000) | 3);
        self.memory.set(SECOND + 0x1000, (SECOND + 0x2000) | 3);
        self.memory.set(SECOND + 0x1018, (SECOND + 0x3000) | 3);
        // Configuration and tables lie where they lie.
        for page in 0..0x40 {
            self.memory
                .set(SECOND + 0x2000 + 8 * page, page << 12 | RIGHTS);
        }
        self.map_first(0);
    }

    /// Stage 2 maps everything to the `n`th place.
    fn map(&self, n: u64) {
        let to = n << 32;
        for page in 0x100..0x140 {
            self.memory
                .set(SECOND + 0x2000 + 8 * page, to | page << 12 | RIGHTS);
        }
        self.memory.set(SECOND + 0x1010, to | BLOCK | RIGHTS & !2);
        for page in 0..512 {
            let at = SECOND + 0x3000 + 8 * page;
            self.memory.set(at, to | PIECES | page << 12 | RIGHTS);
        }
    }

    /// Stage 1 maps everything to so many bytes further on.
    fn map_first(&self, offset: u64) {
        for (va, ipa, kind) in [
            (VA, PAGE, OWN),
            (VA_NEIGHBOUR, NEIGHBOUR, OWN),
            (VA_GLOBAL, OF_GLOBAL, GLOBAL),
            (VA_IN_BLOCK, BLOCK + 0x3000, OWN),
        ] {
            let at = TABLES + 0x2000 + 8 * (va >> 12 & 0x1ff);
            self.memory.set(at, (ipa + offset) | kind);
        }
        // A block cannot move by less than itself.
        let block = if offset == 0 { PIECES } else { BLOCK };
        self.memory.set(TABLES + 0x1010, block | OWN & !2);
    }

    pub(crate) fn execute(&self, commands: &[[u64; 2]]) {
        execute(&self.core, &self.caps, commands, false);
    }

    pub(crate) fn access(
        &self,
        who: Who,
        address: u64,
        operation: Operation,
    ) -> Result<u64, Denied> {
        let mut port = self.core.port(StreamId(who.0)).expect("a guard");
        let access = Access {
            address,
            operation,
            privileged: true,
        };
        let guard = port.translate(who.1.map(SubstreamId), access, 1, |_| ())?;
        Ok(guard.output().address)
    }

    fn read(&self, who: Who, address: u64) -> u64 {
        self.access(who, address, Operation::Read).expect("mapped")
    }

    fn write_fails(&self, who: Who, address: u64) -> Failed {
        match self.access(who, address, Operation::Write) {
            Err(Denied::Fault(failed)) => failed,
            other => panic!("{other:x?}"),
        }
    }
}

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

fn of_vmid(operation: u64) -> u64 {
    operation | VMID << 32
}

const S2_IPA: u64 = 0x2a;
const ASID_ONE: u64 = 1 << 48;

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

/// Rows 21 and 22 of the peers' bugs, on a hit: the stage that refuses says so, with CLASS and the
/// intermediate address if it is stage 2.
#[test]
fn peers_row21_row22_a_permission_fault_on_a_hit_names_its_stage() {
    let stages = Stages::new();
    let input = |ipa: u64| {
        Fault::Permission(Place::Stage2 {
            class: Class::Input,
            ipa,
        })
    };
    let second_leaf = |ipa: u64| SECOND + 0x2000 + 8 * (ipa >> 12);
    let first_leaf = |va: u64| TABLES + 0x2000 + 8 * (va >> 12 & 0x1ff);
    let forbid = |at: u64, bits: u64| {
        let entry = stages.memory.get(at).expect("in memory");
        stages.memory.set(at, entry ^ bits);
    };
    // Stage 2 refuses writes of one page, stage 1 of the next; of the pieces stage 2 does.
    forbid(second_leaf(PAGE), 1 << 7);
    forbid(first_leaf(VA_NEIGHBOUR), 1 << 7);
    forbid(SECOND + 0x3000 + 8 * 5, 1 << 7);
    let expected = [
        (ONE, VA, input(PAGE)),
        (ONE, VA_NEIGHBOUR, Fault::Permission(Place::Stage1)),
        (ONE, VA_PIECES + 0x5000, input(PIECES + 0x5000)),
        (ALONE, PAGE, input(PAGE)),
    ];
    let check = |when: &str| {
        for (who, address, fault) in expected {
            let failed = stages.write_fails(who, address);
            assert_eq!(failed.fault, fault, "{when}: {address:#x}");
            let record = failed.record(None);
            let second = fault != Fault::Permission(Place::Stage1);
            assert_eq!((record.dw1().s2(), record.dw1().class()), (second, 2));
            assert_eq!(record.input_addr(), address);
        }
    };
    check("walked");
    for (who, address, _) in expected {
        stages.read(who, address);
    }
    check("cached");
    // Both refuse: stage 1 comes first.
    forbid(first_leaf(VA), 1 << 7);
    stages.execute(&[[of_vmid(0x10), 0]]);
    stages.read(ONE, VA);
    let failed = stages.write_fails(ONE, VA);
    assert_eq!(failed.fault, Fault::Permission(Place::Stage1));
}

/// S2PTW on a hit: a table's page is cached with what it is.
#[test]
fn protected_walks_refuse_device_memory_from_the_cache() {
    let stages = Stages::new();
    let third = TABLES + 0x2000;
    let page = SECOND + 0x2000 + 8 * (third >> 12);
    stages.memory.set(page, third | RIGHTS & !0x3c);
    stages.read(ONE, VA);
    let second = stages.memory.get(2 * 64 + 16).expect("STE");
    stages.memory.set(2 * 64 + 16, second | 1 << 54);
    stages.execute(&[[0x03 | 2 << 32, 1], [of_vmid(0x10), 0]]);
    // A guest that has sent no S12_VMALL: the page of stage 2 is still cached.
    let failed = stages.access(ONE, VA, Operation::Read);
    let fault = Fault::Permission(Place::Stage2 {
        class: Class::TranslationTable,
        ipa: third + 8 * 3,
    });
    assert!(matches!(failed, Err(Denied::Fault(failed)) if failed.fault == fault));
}

/// Where a CD lies is asked of stage 2 each time until it is there: such a fault is no configuration.
#[test]
fn a_cd_that_stage_2_does_not_map_is_looked_for_again() {
    let stages = Stages::new();
    let page = SECOND + 0x2000 + 8 * (CDS >> 12);
    stages.memory.set(page, 0);
    let fault = Fault::Translation(Place::Stage2 {
        class: Class::Cd,
        ipa: CDS + 64,
    });
    let mut port = stages.core.port(StreamId(ONE.0)).expect("a guard");
    let mut ask = || {
        let access = Access {
            address: VA,
            operation: Operation::Read,
            privileged: true,
        };
        let guard = port.translate(ONE.1.map(SubstreamId), access, 1, |_| ());
        guard.map(|guard| guard.output().address)
    };
    for _ in 0..2 {
        assert!(matches!(ask(), Err(Denied::Fault(failed)) if failed.fault == fault));
    }
    stages.memory.set(page, CDS | RIGHTS);
    assert_eq!(ask(), Ok(1 << 32 | PAGE));
}

/// The guest has stage 2 lead to another place in the middle of an access, and asks for what that takes:
/// at whatever moment, nothing of before is found afterwards.
fn moved_under_way(who: Who, address: u64, change: (u64, u64), commands: &[[u64; 2]]) {
    let second = SECOND + 0x1000;
    let mut moments = 0;
    loop {
        moments += 1;
        let stages = Stages::new();
        // The same levels, from the first one on; pages that are no tables at place 2.
        for (from, to) in [
            (SECOND, 0x3_8000),
            (second, 0x3_9000),
            (SECOND + 0x2000, 0x3_a000),
        ] {
            for at in (0..0x1000).step_by(8) {
                let entry = stages.memory.get(from + at).expect("in memory");
                let moved = match entry & !0xfff {
                    0 => 0,
                    _ if from + at == SECOND => 0x3_9003,
                    _ if from + at == second => 0x3_a003,
                    _ if entry >> 32 == 1 => entry + (1 << 32),
                    _ => entry,
                };
                stages.memory.set(to + at, moved);
            }
        }
        let mut port = stages.core.port(StreamId(who.0)).expect("a guard");
        let mut ask = || {
            let access = Access {
                address,
                operation: Operation::Read,
                privileged: true,
            };
            let result = port.translate(who.1.map(SubstreamId), access, 1, |_| ());
            result.map(|guard| guard.output().address >> 32)
        };
        // A port that knows its ASID keeps its guard while it reads its configuration again.
        assert_eq!(ask(), Ok(1));
        stages.execute(&[[0x04, 31], [0x30, 0]]);
        let (memory, core, caps) = (stages.memory.clone(), stages.core.clone(), stages.caps);
        let commands = commands.to_vec();
        let moved = move || {
            memory.set(change.0, change.1);
            execute(&core, &caps, &commands, false);
        };
        stages.memory.interrupt(moments, Box::new(moved));
        let during = ask();
        if !stages.memory.has_happened() {
            break;
        }
        assert!(matches!(during, Ok(1 | 2)), "{during:x?}");
        assert_eq!(
            ask(),
            Ok(2),
            "outdated at the look at memory number {moments}"
        );
    }
    assert!(moments > 7, "an STE and three levels at least");
}

#[test]
fn law3_a_walk_of_stage_2_under_way_is_not_cached() {
    let leads_elsewhere = (SECOND + 0x1000, 0x3_a003);
    let s2_ipa = [of_vmid(S2_IPA), PAGE];
    moved_under_way(ALONE, PAGE, leads_elsewhere, &[s2_ipa]);
    let nh_all = [of_vmid(0x10), 0];
    moved_under_way(ONE, VA, leads_elsewhere, &[s2_ipa, nh_all]);
}

#[test]
fn law3_a_walk_of_stage_2_by_an_outdated_ste_is_not_cached() {
    let s12_vmall = [of_vmid(0x28), 0];
    for (who, address) in [(ALONE, PAGE), (ONE, VA)] {
        let stream = u64::from(who.0);
        let other_table = (64 * stream + 24, 0x3_8000);
        let cfgi_ste = [0x03 | stream << 32, 1];
        moved_under_way(who, address, other_table, &[cfgi_ste, s12_vmall]);
    }
}
