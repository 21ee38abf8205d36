//! Two stages of four levels each: a miss beside the memory reads that it needs, the miss of the page
//! next to it, and a hit beside one of stage 1 alone.

use super::chain;
use super::goals::{Goals, ns};
use super::world::only;
use crate::rig::guest_memory;
use crate::rounds::{Contender, medians};
use dispatch::backend::software::Port;
use dispatch::backend::{Backend, Software};
use dispatch::{Batch, Scope};
use smmu_core::access::{Access, Operation};
use smmu_core::config::StreamTable;
use smmu_core::guest_memory::{GuestMemory, load_u64, store_u64};
use smmu_core::translate::Setup;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::cell::RefCell;
use std::fmt;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Regions of 2 MiB, each with a last table of its own in both stages.
const REGIONS: u64 = 64;
/// Pages that hits look up.
const HITS: u64 = 255;
const LOOKUPS: usize = 20_000;

const CD: u64 = 0x1000;
/// Levels 0 to 2, and then a table for each region.
const FIRST: u64 = 0x2_0000;
/// The same, and before them level 3 of what tables and configuration lie in.
const SECOND: u64 = 0x10_0000;
const FIRST_ADDRESS: u64 = 1 << 32;
const FIRST_IPA: u64 = 1 << 30;
const OUTPUT: u64 = 0x8000_0000;
const LEAF: u64 = 0xf47;
const RIGHTS: u64 = 0x4ff;

/// One stream without stage 2, and one with.
const ALONE: StreamId = StreamId(1);
const NESTED: StreamId = StreamId(2);

struct World {
    software: Arc<Software>,
    memory: Arc<dyn GuestMemory>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

fn address(page: u64) -> u64 {
    FIRST_ADDRESS + (page << 12)
}

impl World {
    fn new() -> Self {
        let memory: Arc<dyn GuestMemory> = guest_memory();
        let mut caps = Capabilities::default();
        caps.idr0.set_s2p(true);
        let software = Arc::new(Software::default());
        software.memory_changed(memory.clone());
        software.set_up(Some(Setup {
            streams: StreamTable {
                base: Gpa(0),
                log2size: 2,
                split: 6,
                two_level: false,
            },
            caps,
            e2h: false,
            record_bad_stream_id: false,
        }));
        let world = Self { software, memory };
        world.write_tables();
        world
    }

    fn set(&self, at: u64, value: u64) {
        store_u64(&*self.memory, Gpa(at), value, Ordering::Relaxed).expect("the tables are RAM");
    }

    fn write_tables(&self) {
        // T0SZ=16, EPD1, V, IPS=48 bits, AA64, R, A, and an ASID for each stream.
        let cd = |asid: u64| 0x6205_c000_0010 | asid << 48;
        for (index, value) in [cd(1), FIRST, 0, 0xff44].into_iter().enumerate() {
            self.set(CD + 8 * index as u64, value);
            self.set(
                CD + 64 + 8 * index as u64,
                if index == 0 { cd(2) } else { value },
            );
        }
        self.set(64, 0xb | CD);
        // Config=111; VMID 1, T0SZ=16, SL0=2 (level 0), 4 KiB, S2PS=48 bits, AA64.
        self.set(2 * 64 + 16, 1 | 16 << 32 | 2 << 38 | 5 << 48 | 1 << 51);
        self.set(2 * 64 + 24, SECOND);
        self.set(2 * 64, 0xf | (CD + 64));
        let table = |base: u64, n: u64| base + 0x1000 * n;
        let level2 = |base: u64| table(base, 2);
        self.set(FIRST, table(FIRST, 1) | 3);
        self.set(
            table(FIRST, 1) + 8 * (FIRST_ADDRESS >> 30),
            level2(FIRST) | 3,
        );
        self.set(SECOND, table(SECOND, 1) | 3);
        // What the tables lie in, and what the pages lie in: a level 2 each.
        self.set(table(SECOND, 1), table(SECOND, 3) | 3);
        self.set(table(SECOND, 1) + 8, level2(SECOND) | 3);
        self.set(table(SECOND, 3), table(SECOND, 4) | 3);
        for page in 0..512 {
            self.set(table(SECOND, 4) + 8 * page, page << 12 | RIGHTS);
        }
        for region in 0..REGIONS {
            let (first, second) = (table(FIRST, 3 + region), table(SECOND, 5 + region));
            self.set(level2(FIRST) + 8 * region, first | 3);
            self.set(level2(SECOND) + 8 * region, second | 3);
            for index in 0..512 {
                let offset = (region * 512 + index) << 12;
                self.set(first + 8 * index, (FIRST_IPA + offset) | LEAF);
                self.set(second + 8 * index, (OUTPUT + offset) | RIGHTS);
            }
        }
    }

    fn port(&self, stream: StreamId) -> Port {
        self.software.port(stream).expect("a guard for each")
    }

    fn forget(&self, batch: &mut Batch) {
        only(batch, Scope::All);
        self.software.submit(batch).expect("nothing refuses");
    }

    fn read(&self, at: u64) -> u64 {
        load_u64(&*self.memory, Gpa(at), Ordering::Acquire).expect("RAM") & 0xffff_ffff_f000
    }

    /// The least that stage 2 can be: four reads, each of which needs the one before.
    fn second(&self, ipa: u64) -> u64 {
        let step = |table: u64, level: u32| self.read(table + 8 * (ipa >> (39 - 9 * level) & 511));
        (0..4).fold(SECOND, step) | ipa & 0xfff
    }

    /// The least that both can be: 24 reads.
    fn both(&self, address: u64) -> u64 {
        let step = |table: u64, level: u32| {
            let at = table + 8 * (address >> (39 - 9 * level) & 511);
            self.read(self.second(at))
        };
        self.second((0..4).fold(FIRST, step) | address & 0xfff)
    }
}

fn translate(port: &mut Port, page: u64) -> u64 {
    let access = Access {
        address: address(page),
        operation: Operation::Read,
        privileged: true,
    };
    let guard = port.translate(None, access, 64, |_| ());
    guard.expect("the page is mapped").output().address
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
fn misses(world: &Rc<World>) -> Vec<Contender<'static>> {
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
                world.forget(&mut batch);
                if known {
                    translate(&mut port.borrow_mut(), page + 1);
                }
            };
            each_region(before, |page| translate(&mut port.borrow_mut(), page))
        }));
    }
    all
}

fn hits(world: &Rc<World>) -> Vec<Contender<'static>> {
    let mut all = vec![Contender::new("loop", || {
        chain::dependent(LOOKUPS, HITS, |n| n)
    })];
    for (name, stream) in [("stage 1", ALONE), ("combined", NESTED)] {
        let mut port = world.port(stream);
        all.push(Contender::new(name, move || {
            (0..HITS).for_each(|page| {
                translate(&mut port, page);
            });
            chain::dependent(LOOKUPS, HITS, |page| translate(&mut port, page))
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
    let world = Rc::new(World::new());
    let (page, mut port) = (700, world.port(NESTED));
    assert_eq!(
        translate(&mut port, page),
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
