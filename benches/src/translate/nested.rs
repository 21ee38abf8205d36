//! Two stages of four levels each: a miss beside the memory reads that it needs, the miss of the page
//! next to it, and a hit beside one of stage 1 alone.

use super::chain;
use super::goals::{Goals, ns};
use super::stages::{ALONE, LEAF, NESTED, RIGHTS, Stages, translate};
use super::world::only;
use crate::rig::guest_memory;
use crate::rounds::{Contender, medians};
use dispatch::backend::Backend;
use dispatch::{Batch, Scope};
use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Regions of 2 MiB, each with a last table of its own in both stages.
const REGIONS: u64 = 64;
/// Pages that hits look up.
const HITS: u64 = 255;
const LOOKUPS: usize = 20_000;

/// Levels 0 to 2, and then a table for each region.
const FIRST: u64 = 0x2_0000;
/// The same, and before them level 3 of what tables and configuration lie in.
const SECOND: u64 = 0x10_0000;
const FIRST_ADDRESS: u64 = 1 << 32;
const FIRST_IPA: u64 = 1 << 30;
const OUTPUT: u64 = 0x8000_0000;

fn address(page: u64) -> u64 {
    FIRST_ADDRESS + (page << 12)
}

fn world() -> Stages {
    let world = Stages::new(guest_memory(), FIRST, SECOND);
    let table = |base: u64, n: u64| base + 0x1000 * n;
    let level2 = |base: u64| table(base, 2);
    world.set(FIRST, table(FIRST, 1) | 3);
    world.set(
        table(FIRST, 1) + 8 * (FIRST_ADDRESS >> 30),
        level2(FIRST) | 3,
    );
    world.set(SECOND, table(SECOND, 1) | 3);
    // What the tables lie in, and what the pages lie in: a level 2 each.
    world.set(table(SECOND, 1), table(SECOND, 3) | 3);
    world.set(table(SECOND, 1) + 8, level2(SECOND) | 3);
    world.set(table(SECOND, 3), table(SECOND, 4) | 3);
    for page in 0..512 {
        world.set(table(SECOND, 4) + 8 * page, page << 12 | RIGHTS);
    }
    for region in 0..REGIONS {
        let (first, second) = (table(FIRST, 3 + region), table(SECOND, 5 + region));
        world.set(level2(FIRST) + 8 * region, first | 3);
        world.set(level2(SECOND) + 8 * region, second | 3);
        for index in 0..512 {
            let offset = (region * 512 + index) << 12;
            world.set(first + 8 * index, (FIRST_IPA + offset) | LEAF);
            world.set(second + 8 * index, (OUTPUT + offset) | RIGHTS);
        }
    }
    world
}

/// Times one thing for a page of each region, `before` it not.
fn each_region(mut before: impl FnMut(u64), mut timed: impl FnMut(u64) -> u64) -> Duration {
    let mut took = Duration::ZERO;
    for region in 0..REGIONS {
        let page = region * 512 + region * 5 % 500;
        before(page);
        let start = Instant::now();
        black_box(timed(page));
        took += start.elapsed();
    }
    took
}

/// The clock, the reads, and the misses: both stages and the first one alone, each cold and beside a
/// page that is known.
fn misses(world: &Rc<Stages>) -> Vec<Contender<'static>> {
    let mut all = vec![Contender::new("clock", || each_region(|_| (), |page| page))];
    let reads = world.clone();
    all.push(Contender::new("reads", move || {
        each_region(|_| (), |page| reads.both(address(page)))
    }));
    for (name, stream, known) in [
        ("nested, cold", NESTED, false),
        ("nested, neighbour", NESTED, true),
        ("stage 1, cold", ALONE, false),
        ("stage 1, neighbour", ALONE, true),
    ] {
        let (world, mut batch) = (world.clone(), Batch::new());
        let port = RefCell::new(world.port(stream));
        all.push(Contender::new(name, move || {
            let before = |page| {
                only(&mut batch, Scope::All);
                world.software.submit(&batch).expect("nothing refuses");
                if known {
                    translate(&mut port.borrow_mut(), address(page + 1));
                }
            };
            each_region(before, |page| {
                translate(&mut port.borrow_mut(), address(page))
            })
        }));
    }
    all
}

fn hits(world: &Rc<Stages>) -> Vec<Contender<'static>> {
    let mut all = vec![Contender::new("loop", || {
        chain::dependent(LOOKUPS, HITS, |n| n)
    })];
    for (name, stream) in [("stage 1", ALONE), ("combined", NESTED)] {
        let mut port = world.port(stream);
        all.push(Contender::new(name, move || {
            (0..HITS).for_each(|page| {
                translate(&mut port, address(page));
            });
            chain::dependent(LOOKUPS, HITS, |page| translate(&mut port, address(page)))
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
    let (page, mut port) = (700, world.port(NESTED));
    assert_eq!(
        translate(&mut port, address(page)),
        world.both(address(page)),
        "the same page"
    );
    drop(port);
    let times = medians(&mut misses(&world), rounds, REGIONS as usize);
    let of = |at: usize| (times[at] - times[0]).max(0.0);
    let [reads, cold, neighbour, alone, beside] = [of(1), of(2), of(3), of(4), of(5)];
    goals.row(
        "miss, both stages of four levels",
        ns(cold),
        format!("its 24 reads {} ({:.1}x)", ns(reads), cold / reads),
        "3x",
        Some(cold <= 3.0 * reads),
    );
    for (what, neighbour, cold) in [
        ("miss beside a known page, both stages", neighbour, cold),
        ("miss beside a known page, stage 1 alone", beside, alone),
    ] {
        goals.row(
            what,
            ns(neighbour),
            format!("cold {} ({:.2}x)", ns(cold), neighbour / cold),
            "1/3",
            Some(3.0 * neighbour <= cold),
        );
    }
    let times = medians(&mut hits(&world), rounds, LOOKUPS);
    let [alone, both] = [times[1] - times[0], times[2] - times[0]];
    goals.row(
        "hit on an entry of both stages, guard and all",
        ns(both),
        format!("of stage 1 alone {} ({:.2}x)", ns(alone), both / alone),
        "1.05x",
        Some(both <= 1.05 * alone),
    );
}
