//! A guest that does everything wrong with a CMDQV (law 8), its page 0 trapped or mapped: no panic,
//! no hang, no growth, and after a reset a clean start.
//!
//! `VCMDQ_SOAK_STEPS` sets how many steps are taken; `cargo xtask soak` takes a million.

mod cmdqv_world;
mod common;

use cmdqv_world::*;
use common::{STREAM, illegal, tlbi};
use dispatch::backend::Software;
use smmu_core::Gpa;
use smmu_core::command::{AtcInv, Command};
use smmu_core::encode::encode;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::offset;
use smmu_core::tlb::TlbSettings;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vcmdq::cmdqv::{CmdqvSettings, FRAME_BYTES};
use vcmdq::testing::Numbers;
use vcmdq::testing::commands::sync;
use vcmdq::{
    Binding, Engine, FrameSettings, Placement, RingPage, Seams, Settings, StdThreads, Threads,
};

const LOG2_QUEUES: u8 = 2;
const QUEUES: u64 = 1 << LOG2_QUEUES;
const RAM: u64 = 0x20_0000;

fn steps() -> u64 {
    let set = std::env::var("VCMDQ_SOAK_STEPS");
    set.ok().and_then(|n| n.parse().ok()).unwrap_or(40_000)
}

/// A world that writes nothing down, however long it runs.
fn forgetful(engine: Engine, mapped: bool) -> World {
    let mut world = World::of(engine, 0, false);
    world.page = mapped.then(Arc::default);
    let settings = FrameSettings {
        caps: caps(),
        ..FrameSettings::default()
    };
    let seams = Seams::new(world.memory.clone());
    world.frame = world.engine.add_frame(settings, seams);
    let software = Arc::new(Software::new(TlbSettings {
        log2_entries: 10,
        log2_asids: 8,
    }));
    let placement = Placement::default();
    let instance = world.frame.add_instance(software.clone(), placement);
    let binding = Binding {
        instance,
        placement,
    };
    world.frame.bind(STREAM, binding).unwrap();
    world.core = Some(software);
    let page = world.page.clone().map(|page| page as Arc<dyn RingPage>);
    let log2_queues = LOG2_QUEUES;
    let settings = CmdqvSettings { log2_queues, page };
    world.cmdqv = world.frame.add_cmdqv(settings).unwrap();
    world
}

/// Words with few bits, with many, with all.
fn value(dice: &mut Numbers) -> u64 {
    match dice.below(6) {
        0 => dice.word(),
        1 => dice.word() & dice.word() & dice.word(),
        2 => 1 << dice.below(64),
        3 => u64::MAX,
        4 => dice.below(16),
        _ => 1,
    }
}

struct Hostile<'w> {
    world: &'w World,
    dice: Numbers,
}

impl Hostile<'_> {
    /// One trick.
    fn step(&mut self) {
        match self.dice.below(16) {
            0..=2 => self.store_into_page_0(),
            3..=4 => self.forge_prod(),
            5..=8 => self.write_commands(),
            9 => self.move_a_queue(),
            10 => self.flip_a_switch(),
            11 => self.allocate(),
            12 => self.acknowledge(),
            13 => self.access_anywhere(),
            14 => self.start_a_queue(),
            _ => self.read_what_must_hold(),
        }
    }

    fn queue(&mut self) -> usize {
        self.dice.below(QUEUES) as usize
    }

    fn store_into_page_0(&mut self) {
        let (queue, word) = (self.queue(), self.dice.below(8));
        let value = value(&mut self.dice) as u32;
        self.world.queue_write(queue, word * 4, value);
    }

    fn forge_prod(&mut self) {
        let queue = self.queue();
        let cons = self.world.ring(queue).cons() & 0xF_FFFF;
        let ahead = self.dice.of(&[1, 2, 3, 60, 255, 256, 257, 600, 0xF_FFFF]);
        self.world.publish(queue, cons.wrapping_add(ahead));
    }

    fn command(&mut self) -> RawCommand {
        match self.dice.below(8) {
            0 => RawCommand {
                dw0: self.dice.word(),
                dw1: self.dice.word(),
            },
            1 => illegal(),
            2 => encode(&Command::AtcInv(AtcInv {
                stream: (self.dice.below(32) as u32).into(),
                substream: None,
                global: false,
                addr: 0,
                size: 52,
            })),
            3..=5 => tlbi(self.dice.below(64)),
            _ => sync(),
        }
    }

    fn write_commands(&mut self) {
        let (queue, first) = (self.queue(), self.dice.below(256) as u32);
        let count = self.dice.of(&[1, 4, 64]);
        let commands: Vec<_> = (0..count).map(|_| self.command()).collect();
        self.world.put(queue, first, &commands);
    }

    fn move_a_queue(&mut self) {
        let page1 = self.dice.of(&[LOGICAL1, offset::VCMDQ_PAGE1]);
        let at = page1 + self.dice.below(QUEUES + 1) * 0x80;
        let address = match self.dice.below(4) {
            0 => self.dice.word(),
            1 => self.dice.below(RAM),
            _ => base(self.dice.below(QUEUES) as usize).0,
        };
        let size = self.dice.of(&[0, 1, 8, 8, 8, 16, 19, 31]);
        let (width, value) = (self.dice.of(&[8, 8, 4]), address & !0x1F | size);
        self.world.cmdqv.write(at, width, value);
    }

    fn flip_a_switch(&mut self) {
        let at = self
            .dice
            .of(&[offset::CONFIG, offset::VINTF, offset::VINTF_INT_MASK]);
        let value = if self.dice.below(4) == 0 {
            value(&mut self.dice) as u32
        } else {
            1
        };
        self.world.write(at, value);
    }

    fn allocate(&mut self) {
        let at = offset::CMDQ_ALLOC + self.dice.below(QUEUES + 1) * 4;
        let value = match self.dice.below(4) {
            0 => value(&mut self.dice) as u32,
            _ => 1 | (self.dice.below(QUEUES) as u32) << 1,
        };
        self.world.write(at, value);
    }

    fn acknowledge(&mut self) {
        let queue = self.queue();
        let gerror = self.world.queue_read(queue, offset::VCMDQ_GERROR);
        self.world.queue_write(queue, offset::VCMDQ_GERRORN, gerror);
    }

    /// What a driver would do, so that queues do run now and then.
    fn start_a_queue(&mut self) {
        let queue = self.queue();
        let at = LOGICAL1 + queue as u64 * 0x80;
        let value = base(queue).0 | u64::from(LOG2SIZE);
        self.world.cmdqv.write(at, 8, value);
        self.world.queue_write(queue, offset::VCMDQ_CONFIG, 1);
    }

    fn access_anywhere(&mut self) {
        let at = match self.dice.below(3) {
            0 => self.dice.word(),
            1 => self.dice.below(FRAME_BYTES + 16),
            _ => self.dice.below(0x1200),
        };
        let (width, value) = (self.dice.of(&[4, 4, 8, 1, 0, 16]), value(&mut self.dice));
        self.world.cmdqv.write(at, width, value);
        let read = self.world.cmdqv.read(at, width);
        assert!(width == 8 || read <= u64::from(u32::MAX));
    }

    fn read_what_must_hold(&mut self) {
        assert_eq!(self.world.read(offset::VINTF) & 1 << 17, 0, "HYP_OWN");
        assert_eq!(self.world.read(offset::PARAM) >> 8 & 0xF, 0);
        let queue = self.queue() as u64;
        let trapped = LOGICAL0 + queue * 0x80;
        assert_eq!(self.world.read(trapped + offset::VCMDQ_CONS) >> 31, 0);
        assert!(self.world.read(trapped + offset::VCMDQ_STATUS) <= 1);
    }
}

/// What a VMM may do at any time.
fn control(world: &World, dice: &mut Numbers) {
    match dice.below(4) {
        0 => world.cmdqv.reset(),
        1 => world.frame.update_memory(world.memory.clone()),
        2 => drop(world.frame.save()),
        _ => world.frame.pause(),
    }
    world.frame.resume();
}

/// A driver that knows what it does finds everything as out of reset.
fn clean_start(world: &mut World) {
    world.frame.resume();
    world.cmdqv.reset();
    world.poll("the reset", |w| {
        !w.cmdqv.rings().iter().any(|r| r.is_enabled())
    });
    for at in (0x10_0000..RAM).step_by(8) {
        store_u64(&*world.memory, Gpa(at), 0, Ordering::Relaxed).unwrap();
    }
    world.reset();
    for queue in 0..world.queues() {
        world.round_trip(queue, 70 + queue as u64);
        assert_eq!(world.ring(queue).gerror(), 0);
    }
}

#[test]
fn law8_hostile_cmdqv_guest_step_by_step() {
    for mapped in [false, true] {
        let engine = Engine::without_workers(Settings::default()).unwrap();
        let mut world = forgetful(engine, mapped);
        let mut dice = Numbers::new(7 + u64::from(mapped));
        for _ in 0..steps() / 128 {
            let mut hostile = Hostile {
                world: &world,
                dice: Numbers::new(dice.word()),
            };
            let tricks = 1 + hostile.dice.below(64);
            (0..tricks).for_each(|_| hostile.step());
            world.serve_all();
            match dice.below(64) {
                0 => clean_start(&mut world),
                1..=4 => control(&world, &mut dice),
                _ => {}
            }
        }
        clean_start(&mut world);
        let metrics = world.ring(0).metrics();
        assert!(metrics.commands > 0 && metrics.illegal > 0 && metrics.bad_prods > 0);
    }
}

/// Counts the workers that die.
struct Watched(Arc<AtomicUsize>);

impl Threads for Watched {
    fn spawn(
        &self,
        name: String,
        body: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<JoinHandle<()>> {
        let dead = self.0.clone();
        let body = move || {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                dead.fetch_add(1, Ordering::Relaxed);
            }
        };
        StdThreads.spawn(name, Box::new(body))
    }
}

/// Bytes that the process has in memory; nothing where that cannot be known.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages = statm.split(' ').nth(1)?;
    pages.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// One thread scribbles over page 0 and memory, two vCPUs do random accesses, the VMM pauses, saves
/// and resets, and two workers serve all that.
fn many_threads(world: &World, seed: u64, steps: u64) {
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let running = &running;
        scope.spawn(move || {
            let dice = Numbers::new(seed);
            let mut hostile = Hostile { world, dice };
            while running.load(Ordering::Relaxed) {
                hostile.store_into_page_0();
                hostile.forge_prod();
                hostile.write_commands();
            }
        });
        scope.spawn(move || {
            let mut dice = Numbers::new(seed + 1);
            while running.load(Ordering::Relaxed) {
                control(world, &mut dice);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let vcpu = |seed| {
            scope.spawn(move || {
                let dice = Numbers::new(seed);
                let mut hostile = Hostile { world, dice };
                (0..steps / 2).for_each(|_| hostile.step());
            })
        };
        let vcpus = [vcpu(seed + 2), vcpu(seed + 3)];
        let dead = vcpus.map(|vcpu| vcpu.join().is_err());
        running.store(false, Ordering::Relaxed);
        assert_eq!(dead, [false; 2], "a vCPU has panicked");
    });
}

#[test]
fn law8_hostile_cmdqv_guest_on_many_threads() {
    for mapped in [true, false] {
        let dead = Arc::new(AtomicUsize::new(0));
        let settings = Settings {
            workers: 2,
            ..Settings::default()
        };
        let engine = Engine::start(settings, Arc::new(Watched(dead.clone()))).unwrap();
        let mut world = forgetful(engine, mapped);
        world.threaded = true;
        // The first half is allowed to allocate what it needs.
        many_threads(&world, 100, steps() / 4);
        let before = resident();
        many_threads(&world, 200, steps() / 4);
        if let (Some(before), Some(now)) = (before, resident()) {
            let grown = now.saturating_sub(before);
            assert!(grown < 32 << 20, "{grown} bytes more than after a half");
        }
        clean_start(&mut world);
        world.engine.stop();
        assert_eq!(dead.load(Ordering::Relaxed), 0, "a worker has panicked");
    }
}
