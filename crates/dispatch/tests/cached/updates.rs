//! Access flags and dirty state, which walks write and a cache must not lose.

use crate::memory::{Configuration, View};
use crate::naive::attributes::INCOMING;
use crate::naive::model::{Answer, Registers, Request, translate};
use crate::stages::{
    ALONE, BLOCK, CDS, FIRST_ONLY, NEIGHBOUR, ONE, PAGE, PIECES, SECOND, Stages, TABLES, VA,
    VA_GLOBAL, VA_IN_BLOCK, VA_NEIGHBOUR, VA_PIECES, Who,
};
use crate::world::Dice;
use dispatch::backend::software::Denied;
use smmu_core::access::Operation;
use smmu_core::spec::event::EventId;
use std::collections::BTreeMap;

pub(crate) const AF: u64 = 1 << 10;
/// Of stage 1; of stage 2 it means writable.
pub(crate) const READ_ONLY: u64 = 1 << 7;
const WRITABLE: u64 = 1 << 7;
pub(crate) const DBM: u64 = 1 << 51;
pub(crate) const S2HA: u64 = 1 << 56;
pub(crate) const S2HD: u64 = 1 << 55;
pub(crate) const HA: u64 = 1 << 43;
pub(crate) const HD: u64 = 1 << 42;
pub(crate) const NSNH_ALL: [u64; 2] = [0x30, 0];

pub(crate) fn leaf_of(va: u64) -> u64 {
    match va {
        VA_PIECES => TABLES + 0x1010,
        _ => TABLES + 0x2000 + 8 * (va >> 12 & 0x1ff),
    }
}

fn page_of(ipa: u64) -> u64 {
    match ipa {
        BLOCK => SECOND + 0x1010,
        PIECES => SECOND + 0x3000,
        _ => SECOND + 0x2000 + 8 * (ipa >> 12),
    }
}

pub(crate) const VAS: [u64; 5] = [VA, VA_NEIGHBOUR, VA_GLOBAL, VA_IN_BLOCK, VA_PIECES];
/// CDs, tables of stage 1, and where accesses go.
pub(crate) const IPAS: [u64; 8] = [
    CDS,
    TABLES,
    TABLES + 0x1000,
    TABLES + 0x2000,
    PAGE,
    NEIGHBOUR,
    BLOCK,
    PIECES,
];

/// A world in which hardware updates some descriptors.
pub(crate) struct Updated {
    pub(crate) stages: Stages,
    pub(crate) registers: Registers,
}

impl Updated {
    pub(crate) fn new(cd: u64, ste: u64) -> Self {
        let stages = Stages::new();
        let memory = &stages.memory;
        memory.expect_updates();
        let add = |at: u64, bits: u64| memory.set(at, memory.get(at).expect("in memory") | bits);
        (1..3).for_each(|substream| add(CDS + 64 * substream, cd));
        (1..5).for_each(|stream| add(64 * stream + 16, ste));
        let caps = stages.caps;
        let registers = Registers {
            idr0: caps.idr0.into_bits(),
            idr1: caps.idr1.into_bits(),
            idr3: caps.idr3.into_bits(),
            idr5: caps.idr5.into_bits(),
            strtab_base: 0,
            strtab_base_cfg: 6,
            e2h: false,
        };
        Self { stages, registers }
    }

    pub(crate) fn get(&self, at: u64) -> u64 {
        self.stages.memory.get(at).expect("in memory")
    }

    /// Access flag, dirty state and whether that may change, of any leaf.
    pub(crate) fn change(&self, dice: &mut Dice) {
        let at = if dice.percent(60) {
            leaf_of(dice.pick(&VAS))
        } else {
            page_of(dice.pick(&IPAS))
        };
        let flags = dice.word() & (AF | READ_ONLY | DBM);
        let old = self.get(at) & !(AF | READ_ONLY | DBM);
        self.stages.memory.set(at, old | flags);
    }

    /// What the naive SMMU makes of an access, and which descriptors it updates.
    fn naive(&self, request: &Request) -> (Option<u64>, u64, BTreeMap<u64, u64>) {
        let nothing = Configuration {
            end: 0,
            words: Vec::new(),
        };
        let view = View::new(&self.stages.memory, &[], &nothing);
        let (output, event) = match translate(&view, &self.registers, request) {
            Answer::Page { output, .. } => (Some(output), 0),
            Answer::Event([first, ..]) => (None, first & 0xff),
            other => panic!("{other:?}"),
        };
        (output, event, view.updated().into_iter().collect())
    }
}

pub(crate) fn request(who: Who, address: u64, operation: Operation) -> Request {
    Request {
        stream: who.0,
        substream: who.1,
        address,
        write: operation == Operation::Write,
        execute: operation == Operation::Execute,
        privileged: true,
        incoming: INCOMING,
    }
}

fn any_access(dice: &mut Dice, everybody: bool) -> (Who, u64, Operation) {
    let who = if everybody {
        dice.pick(&[ALONE, ONE, ONE, FIRST_ONLY])
    } else {
        FIRST_ONLY
    };
    let address = if who == ALONE {
        dice.pick(&IPAS[4..])
    } else {
        dice.pick(&VAS)
    };
    let operation = dice.pick(&[Operation::Read, Operation::Write, Operation::Execute]);
    (who, address, operation)
}

/// With nothing cached, the core updates what the naive SMMU does, and nothing else.
#[test]
fn law3_what_is_not_cached_is_updated_as_the_naive_smmu_does() {
    let (mut updated, mut refused) = (0, 0);
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let world = Updated::new(
            dice.pick(&[0, HA, HA | HD, HA | HD]),
            dice.pick(&[0, S2HA, S2HA | S2HD, S2HA | S2HD]),
        );
        for _ in 0..100 {
            (0..dice.below(4)).for_each(|_| world.change(&mut dice));
            let (who, address, operation) = any_access(&mut dice, true);
            let (output, event, updates) = world.naive(&request(who, address, operation));
            world.stages.execute(&[NSNH_ALL]);
            match world.stages.access(who, address, operation) {
                Ok(address) => assert_eq!(Some(address), output),
                Err(Denied::Fault(failed)) => {
                    assert_eq!((failed.fault.event() as u64, None), (event, output));
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
            assert_eq!(world.stages.memory.take_updated(), updates);
            updated += updates.len();
        }
    }
    assert!(updated > 1000 && refused > 200, "{updated} {refused}");
}

/// What of a page's rights may be cached: of reads, writes and fetches, and whether a write asks again.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cached {
    address: u64,
    allowed: [bool; 3],
    clean: bool,
}

/// With stage 1 cached, an access either goes by the tables and updates them, or by what was true since
/// the last invalidation and updates nothing; a write to what was clean always goes by the tables.
#[test]
fn law3_what_is_cached_loses_no_update() {
    const ALL: [Operation; 3] = [Operation::Read, Operation::Write, Operation::Execute];
    let (mut by_cache, mut by_tables) = (0, 0);
    for seed in 0..60 {
        let mut dice = Dice::new(1000 + seed);
        let world = Updated::new(HA | if dice.percent(80) { HD } else { 0 }, 0);
        let has_dirty_state = world.get(CDS + 64) & HD != 0;
        let mut cached: Vec<Cached> = Vec::new();
        for _ in 0..150 {
            if dice.percent(25) {
                world.change(&mut dice);
            }
            if dice.percent(10) {
                world.stages.execute(&[NSNH_ALL]);
                cached.clear();
            }
            let (who, address, operation) = any_access(&mut dice, false);
            let (output, _, updates) = world.naive(&request(who, address, operation));
            let passed = world.stages.access(who, address, operation).is_ok();
            let written = world.stages.memory.take_updated();
            let fresh = passed == output.is_some() && written == updates;
            let kind = ALL
                .iter()
                .position(|&o| o == operation)
                .expect("one of them");
            let by_kept = written.is_empty()
                && cached.iter().any(|kept| {
                    let refuses = !(kept.allowed[kind] || kept.clean && kind == 1);
                    kept.address == address && if passed { kept.allowed[kind] } else { refuses }
                });
            assert!(
                fresh || by_kept,
                "seed {seed}: {operation:?} {address:x}: {cached:x?}"
            );
            by_tables += usize::from(fresh && !updates.is_empty());
            by_cache += usize::from(!fresh);
            if !passed {
                continue;
            }
            // What a walk at this moment finds, by the descriptor as it is now.
            let leaf = world.get(leaf_of(address));
            let clean = has_dirty_state && leaf & DBM != 0 && leaf & READ_ONLY != 0;
            let rights = |operation| world.naive(&request(who, address, operation)).0.is_some();
            let mut allowed = ALL.map(rights);
            allowed[1] &= !clean;
            cached.push(Cached {
                address,
                allowed,
                clean,
            });
        }
    }
    assert!(by_tables > 500 && by_cache > 200, "{by_tables} {by_cache}");
}

/// Stage 2's dirty state behind a combined entry, and behind one of a block of stage 1 in pieces.
#[test]
fn law3_a_write_to_a_cached_nested_page_makes_it_dirty_in_both_stages() {
    for (va, ipa) in [(VA, PAGE), (VA_IN_BLOCK, BLOCK), (VA_PIECES, PIECES)] {
        let world = Updated::new(HA | HD, S2HA | S2HD);
        let (first, second) = (leaf_of(va), page_of(ipa));
        let memory = &world.stages.memory;
        memory.set(first, world.get(first) | READ_ONLY | DBM);
        memory.set(second, world.get(second) & !WRITABLE | DBM);
        let dirty = || {
            (
                world.get(first) & READ_ONLY == 0,
                world.get(second) & WRITABLE != 0,
            )
        };
        for _again in 0..2 {
            let read = world.stages.access(ONE, va, Operation::Read);
            assert!(read.is_ok() && dirty() == (false, false), "{va:#x}");
        }
        for _again in 0..2 {
            let write = world.stages.access(ONE, va, Operation::Write);
            assert!(write.is_ok() && dirty() == (true, true), "{va:#x}");
        }
        // Only stage 2's page is made clean; the invalidation is that of a hypervisor.
        memory.set(second, world.get(second) & !WRITABLE);
        let vmid = 9 << 32;
        world
            .stages
            .execute(&[[0x2a | vmid, ipa], [0x10 | vmid, 0]]);
        assert!(world.stages.access(ONE, va, Operation::Read).is_ok());
        assert_eq!(dirty(), (true, false));
        assert!(world.stages.access(ONE, va, Operation::Write).is_ok());
        assert_eq!(dirty(), (true, true));
    }
}

/// A table of stage 1 in a page that stage 2 has cached as clean is written through the tables.
#[test]
fn law3_an_update_of_stage_1_finds_its_page_of_stage_2_cached() {
    let world = Updated::new(HA, S2HA | S2HD);
    let (first, table) = (leaf_of(VA), page_of(TABLES + 0x2000));
    let memory = &world.stages.memory;
    memory.set(table, world.get(table) & !WRITABLE | DBM);
    assert!(world.stages.access(ONE, VA, Operation::Read).is_ok());
    assert_eq!(world.get(table) & WRITABLE, 0, "nothing was to be written");
    memory.set(first, world.get(first) & !AF);
    world.stages.execute(&[[0x10 | 9 << 32, 0]]);
    assert!(world.stages.access(ONE, VA, Operation::Read).is_ok());
    assert_ne!(world.get(table) & WRITABLE, 0);
    assert_ne!(world.get(first) & AF, 0);
    // Where stage 2 does not let it be written, the fault is stage 2's.
    memory.set(first, world.get(first) & !AF);
    memory.set(table, world.get(table) & !(WRITABLE | DBM));
    world.stages.execute(&[NSNH_ALL]);
    let denied = world.stages.access(ONE, VA, Operation::Read);
    let Err(Denied::Fault(failed)) = denied else {
        panic!("{denied:x?}");
    };
    let record = failed.record(None);
    assert_eq!(record.id(), Some(EventId::Permission));
    assert!(record.dw1().s2() && !record.dw1().ttrnw());
    assert_eq!(record.ipa(), TABLES + 0x2000);
}
