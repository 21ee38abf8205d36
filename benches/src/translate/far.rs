//! Misses whose tables are not in the processor's second cache: beside the reads that they need, and beside
//! a page that is known.

use super::goals::{Goals, ns};
use super::stages::{ALONE, LEAF, NESTED, RIGHTS, Stages, translate};
use super::world::only;
use crate::rounds::{Contender, medians};
use dispatch::backend::Backend;
use dispatch::{Batch, Scope};
use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vcmdq::VmMemory;
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Regions of 1 GiB, each with tables of its own at two levels, in both stages: 2 MiB of cache lines that
/// walks read, in 128 MiB.
const REGIONS: u64 = 8192;
/// Regions of one round.
const AT_ONCE: u64 = 64;
/// The first of the regions that are translated: tables and configuration lie below.
const FIRST_REGION: u64 = 1;
/// Levels 0 and 1 of a stage, and then two tables for each region.
const FIRST: u64 = 0x20_0000;
const SECOND: u64 = 0x480_0000;
/// Tables that map what tables lie in: level 2, then level 3.
const OF_TABLES: u64 = 0x8C0_0000;
const BYTES: u64 = 0x900_0000;
const LEVEL1: u64 = 0x1000;
const REST: u64 = 0x2_0000;

/// An address in a region, which no two regions have in the same lines of their tables; and its neighbour.
fn address(region: u64, page: u64) -> u64 {
    let spread = region.wrapping_mul(0x9E37_79B9) >> 7;
    let (middle, last) = (spread % 512, ((spread >> 9) % 512) & !1);
    (region + FIRST_REGION) << 30 | middle << 21 | (last | page) << 12
}

/// The tables of level 2 and 3 of a region.
fn tables(base: u64, region: u64) -> (u64, u64) {
    let level2 = base + REST + region * 0x2000;
    (level2, level2 + 0x1000)
}

fn world() -> Stages {
    let map = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), BYTES as usize)]);
    let memory = Arc::new(VmMemory::new(map.expect("144 MiB can be mapped")));
    let world = Stages::new(memory, FIRST, SECOND);
    for (base, leaf) in [(FIRST, LEAF), (SECOND, RIGHTS)] {
        write_tables(&world, base, leaf);
    }
    map_tables(&world);
    world
}

/// Each page to itself, through all levels.
fn write_tables(world: &Stages, base: u64, leaf: u64) {
    for region in 0..REGIONS {
        let input = address(region, 0);
        let level1 = base + LEVEL1 * (1 + (input >> 39));
        let (level2, level3) = tables(base, region);
        world.set(base + 8 * (input >> 39), level1 | 3);
        world.set(level1 + 8 * (input >> 30 & 511), level2 | 3);
        world.set(level2 + 8 * (input >> 21 & 511), level3 | 3);
        for page in [0, 1] {
            let input = address(region, page);
            world.set(level3 + 8 * (input >> 12 & 511), input | leaf);
        }
    }
}

/// What tables and configuration lie in: the first gigabyte of stage 2, by pages.
fn map_tables(world: &Stages) {
    let level1 = SECOND + LEVEL1;
    world.set(SECOND, level1 | 3);
    world.set(level1, OF_TABLES | 3);
    for table in 0..BYTES >> 21 {
        let level3 = OF_TABLES + 0x1000 * (1 + table);
        world.set(OF_TABLES + 8 * table, level3 | 3);
        for page in 0..512 {
            world.set(level3 + 8 * page, table << 21 | page << 12 | RIGHTS);
        }
    }
}

/// A contender that begins at a place of its own, so that nobody finds what another one has fetched.
fn contender<'a>(
    name: &'static str,
    place: u64,
    mut before: impl FnMut(u64) + 'a,
    mut timed: impl FnMut(u64) -> u64 + 'a,
) -> Contender<'a> {
    let mut next = place * (REGIONS / 8);
    Contender::new(name, move || {
        let mut took = Duration::ZERO;
        for _ in 0..AT_ONCE {
            next = (next + 1) % REGIONS;
            before(next);
            let start = Instant::now();
            black_box(timed(address(next, 0)));
            took += start.elapsed();
        }
        took
    })
}

fn contenders(world: &Rc<Stages>) -> Vec<Contender<'static>> {
    let mut all = vec![contender("clock", 0, |_| (), |address| address)];
    let (nested, alone) = (world.clone(), world.clone());
    let both = move |address| nested.both(address);
    all.push(contender("24 reads", 1, |_| (), both));
    let first = move |address| alone.alone(address);
    all.push(contender("4 reads", 2, |_| (), first));
    for (place, name, stream, known) in [
        (3, "nested, cold", NESTED, false),
        (4, "nested, neighbour", NESTED, true),
        (5, "stage 1, cold", ALONE, false),
        (6, "stage 1, neighbour", ALONE, true),
    ] {
        let (world, mut batch) = (world.clone(), Batch::new());
        let port = Rc::new(RefCell::new(world.port(stream)));
        let timed = port.clone();
        let before = move |region| {
            only(&mut batch, Scope::All);
            world.software.submit(&batch).expect("nothing refuses");
            if known {
                translate(&mut port.borrow_mut(), address(region, 1));
            }
        };
        all.push(contender(name, place, before, move |address| {
            translate(&mut timed.borrow_mut(), address)
        }));
    }
    all
}

/// The rows.
///
/// # Panics
///
/// If a translation is not what the reads say.
pub fn measure(rounds: usize, goals: &mut Goals) {
    let world = Rc::new(world());
    let (known, mut port) = (address(700, 1), world.port(NESTED));
    assert_eq!(translate(&mut port, known), world.both(known), "the same");
    drop(port);
    let times = medians(&mut contenders(&world), rounds, AT_ONCE as usize);
    let of = |at: usize| (times[at] - times[0]).max(0.0);
    for (what, reads, count, cold, neighbour) in [
        ("both stages", of(1), 24, of(3), of(4)),
        ("stage 1 alone", of(2), 4, of(5), of(6)),
    ] {
        goals.row(
            &format!("miss, {what}, tables beyond the second cache"),
            ns(cold),
            format!("its {count} reads {} ({:.1}x)", ns(reads), cold / reads),
            "3x",
            Some(cold <= 3.0 * reads),
        );
        goals.row(
            &format!("  beside a known page, {what}"),
            ns(neighbour),
            format!("cold {} ({:.2}x)", ns(cold), neighbour / cold),
            "1/3",
            Some(3.0 * neighbour <= cold),
        );
    }
}
