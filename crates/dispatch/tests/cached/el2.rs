//! By hand: translations of EL2, and what takes them.

use crate::memory::Memory;
use crate::rig::{WAITER, execute};
use dispatch::backend::Software;
use dispatch::{Backend, Barrier};
use smmu_core::access::{Access, Operation};
use smmu_core::caps::Capabilities;
use smmu_core::config::StreamTable;
use smmu_core::decode::decode;
use smmu_core::spec::command::RawCommand;
use smmu_core::translate::Setup;
use smmu_core::{Gpa, StreamId, SubstreamId};
use std::sync::Arc;

const CDS: u64 = 0x1000;
/// Levels 1 to 3, of 4 KiB.
const TABLES: u64 = 0x1_0000;
const VA: u64 = 0x20_3000;
const VA_GLOBAL: u64 = 0x20_5000;
/// AF, SH, AP=01, nG, page.
const OWN: u64 = 0xf43;
const GLOBAL: u64 = 0x743;

/// Stream 1 is of NS-EL1, stream 2 of EL2; both have contexts of ASIDs 1 and 2.
const NAMES: [(&str, u32, u32, u64); 6] = [
    ("EL1", 1, 1, VA),
    ("EL1, other", 1, 2, VA),
    ("EL1, global", 1, 1, VA_GLOBAL),
    ("EL2", 2, 1, VA),
    ("EL2, other", 2, 2, VA),
    ("EL2, global", 2, 1, VA_GLOBAL),
];

struct Bench {
    memory: Arc<Memory>,
    core: Arc<Software>,
    caps: Capabilities,
}

impl Bench {
    fn new(e2h: bool) -> Self {
        let memory = Arc::new(Memory::new(0x2_0000));
        let caps = Capabilities::builder().el2_contexts(true).build().unwrap();
        let setup = Setup {
            streams: StreamTable {
                base: Gpa(0),
                log2size: 6,
                split: 6,
                two_level: false,
            },
            caps,
            e2h,
            record_bad_stream_id: true,
        };
        let core = Arc::new(Software::default());
        core.memory_changed(memory.clone());
        core.set_up(Some(setup));
        for (stream, strw) in [(1, 0), (2, 2u64 << 30)] {
            // V, Config=101, four CDs.
            memory.set_all(64 * stream, &[0xb | CDS | 2 << 59, strw]);
        }
        for substream in 1..3u64 {
            // T0SZ=T1SZ=25, TG1=4K, EPD1, V, IPS=48 bits, AA64, R, A.
            let first = 0x6205_c099_0019 | substream << 48;
            memory.set_all(CDS + 64 * substream, &[first, TABLES, 0, 0xf404_ff44]);
        }
        memory.set(TABLES, (TABLES + 0x1000) | 3);
        memory.set(TABLES + 0x1008, (TABLES + 0x2000) | 3);
        let bench = Self { memory, core, caps };
        bench.map(1);
        bench
    }

    /// Everything is mapped to the `n`th place.
    fn map(&self, n: u64) {
        for (va, kind) in [(VA, OWN), (VA_GLOBAL, GLOBAL)] {
            let at = TABLES + 0x2000 + 8 * (va >> 12 & 0x1ff);
            self.memory.set(at, n << 32 | va | kind);
        }
    }

    fn read(&self, stream: u32, substream: u32, address: u64) -> u64 {
        let mut port = self.core.port(StreamId(stream)).expect("a guard");
        let guard = port.translate(Some(SubstreamId(substream)), read(address), 1, |_| ());
        guard.expect("mapped").output().address
    }
}

fn read(address: u64) -> Access {
    Access {
        address,
        operation: Operation::Read,
        privileged: true,
    }
}

/// What a command has removed.
fn gone(e2h: bool, command: [u64; 2]) -> Vec<&'static str> {
    let bench = Bench::new(e2h);
    let look = || NAMES.map(|(_, stream, asid, va)| bench.read(stream, asid, va));
    let before = look();
    bench.map(2);
    assert_eq!(look(), before, "everything is cached");
    execute(&bench.core, &bench.caps, &[command], e2h);
    let after = look();
    let moved = (0..NAMES.len()).filter(|&n| after[n] != before[n]);
    moved.map(|n| NAMES[n].0).collect()
}

const ALL: u64 = 0x20;
const ASID: u64 = 0x21;
const ADDRESS: u64 = 0x22;
const EVERY_ASID: u64 = 0x23;
const ONE: u64 = 1 << 48;
const SEVEN: u64 = 7 << 48;

#[test]
fn law7_el2_e2h_commands_take_el2s_translations_and_no_others() {
    let gone = |command| gone(true, command);
    assert_eq!(gone([ALL, 0]), ["EL2", "EL2, other", "EL2, global"]);
    assert_eq!(gone([ASID | ONE, 0]), ["EL2"]);
    assert_eq!(gone([ADDRESS | ONE, VA]), ["EL2"]);
    assert_eq!(gone([ADDRESS | SEVEN, VA]), [""; 0]);
    assert_eq!(gone([ADDRESS | SEVEN, VA_GLOBAL]), ["EL2, global"]);
    assert_eq!(gone([EVERY_ASID, VA]), ["EL2", "EL2, other"]);
    // Sixteen pages of 4 KiB, by a range.
    let range = [EVERY_ASID | 15 << 12, 0x20_0000 | 1 << 10];
    assert_eq!(gone(range), ["EL2", "EL2, other", "EL2, global"]);
}

/// Without E2H there are no ASIDs: nothing is of one, and an address is everybody's.
#[test]
fn law7_el2_has_no_asids_without_e2h() {
    let gone = |command| gone(false, command);
    assert_eq!(gone([ALL, 0]), ["EL2", "EL2, other", "EL2, global"]);
    assert_eq!(gone([ASID | ONE, 0]), [""; 0]);
    assert_eq!(gone([ADDRESS | SEVEN, VA]), ["EL2", "EL2, other"]);
    assert_eq!(gone([EVERY_ASID, VA_GLOBAL]), ["EL2, global"]);
}

#[test]
fn law7_commands_of_el1_leave_el2() {
    for e2h in [false, true] {
        let gone = |command| gone(e2h, command);
        assert_eq!(gone([0x10, 0]), ["EL1", "EL1, other", "EL1, global"]);
        assert_eq!(gone([0x11 | ONE, 0]), ["EL1"]);
        assert_eq!(gone([0x12 | ONE, VA]), ["EL1"]);
        assert_eq!(gone([0x13, VA_GLOBAL]), ["EL1, global"]);
        // NSNH_ALL may leave EL2 and does not.
        assert!(gone([0x30, 0]).starts_with(&["EL1", "EL1, other", "EL1, global"]));
    }
}

#[test]
fn law3_a_sync_waits_for_an_access_of_el2() {
    for (e2h, command) in [(true, ASID | ONE), (false, ADDRESS), (true, ALL)] {
        let bench = Bench::new(e2h);
        bench.read(2, 1, VA);
        let mut port = bench.core.port(StreamId(2)).expect("a guard");
        let guard = port.translate(Some(SubstreamId(1)), read(VA), 1, |_| ());
        execute(&bench.core, &bench.caps, &[[command, VA & !0xfff]], false);
        assert_eq!(bench.core.barrier(WAITER), Barrier::Pending);
        drop(guard);
        assert_eq!(bench.core.barrier(WAITER), Barrier::Done);
    }
}

#[test]
fn without_hyp_the_commands_are_illegal() {
    let without = Capabilities::default();
    let with = Capabilities::builder().el2_contexts(true).build().unwrap();
    for opcode in [ALL, ASID, ADDRESS, EVERY_ASID] {
        let raw = RawCommand {
            dw0: opcode,
            dw1: 0,
        };
        assert!(decode(raw, &without).is_err() && decode(raw, &with).is_ok());
    }
}
