//! A hostile guest driver (law 8): no panic, no hang, no growth, and after a reset a clean boot.
//!
//! `VCMDQ_SOAK_STEPS` sets how many steps are taken; `cargo xtask soak` takes a million.

mod dma_world;
mod registers_world;

use dma_world::{PAGE, cfgi_ste, lenient, tlbi};
use registers_world::driver::{Driver, EVENT_WORD};
use registers_world::hostile::Hostile;
use registers_world::{Machine, Vmm};
use smmu_core::Capabilities;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use vcmdq::testing::Numbers;
use vcmdq::{Engine, Settings, StdThreads};

const VA: u64 = 0x4000_0000;
const PA: u64 = 0x40_0000;

fn steps() -> u64 {
    let set = std::env::var("VCMDQ_SOAK_STEPS");
    set.ok().and_then(|n| n.parse().ok()).unwrap_or(50_000)
}

fn forgetful() -> Vmm {
    Vmm {
        forgets: true,
        deaf: true,
        ..Vmm::default()
    }
}

/// After whatever has happened: reset, a clean boot, CFGI, TLBI, SYNC by its word, DMA, an event
/// and its message.
fn clean_boot(machine: &Machine) {
    machine.registers.reset();
    machine.frame.resume();
    let start = Instant::now();
    while !machine.registers.is_settled() {
        let waited = start.elapsed().as_secs();
        assert!(waited < 60, "nobody is at work any more");
        machine.pump();
    }
    let guest = &machine.guest;
    // What a firmware does: memory that nobody has scribbled over.
    guest.forget_pages();
    for at in (0..0x20_0000).step_by(8) {
        guest.set(at, 0);
    }
    let mut driver = Driver::new(machine);
    driver.boot().unwrap();
    let space = guest.space(1);
    guest.map(&space, VA, PA, PAGE);
    guest.attach(1, &space);
    driver.send(&[cfgi_ste(1)]).unwrap();
    guest.set(PA, 0x0102_0304);
    let mut device = machine.device(1);
    let mut bytes = [0; 4];
    device.read(VA, &mut bytes).unwrap();
    assert_eq!(u32::from_le_bytes(bytes), 0x0102_0304);
    guest.unmap(&space, VA, 3);
    driver.send(&[tlbi(1, VA)]).unwrap();
    assert!(device.read(VA, &mut bytes).is_err());
    let event = driver.take_event().expect("F_TRANSLATION");
    assert_eq!(event.0[0] & 0xFF, 0x10);
    assert_eq!(guest.get(EVENT_WORD & !7) >> 32, EVENT_WORD);
    let errors = machine.frame.events().queue().gerror() ^ machine.frame.events().queue().gerrorn();
    assert_eq!(errors, 0);
}

#[test]
fn law8_hostile_driver_step_by_step() {
    for (seed, caps) in [(1, Capabilities::default()), (2, lenient())] {
        let engine = Engine::without_workers(Settings::default()).unwrap();
        let machine = Machine::with(engine, caps, Some(Mutex::default()), forgetful());
        let mut hostile = Hostile::new(&machine, seed);
        for step in 0..steps() / 2 {
            hostile.step();
            match hostile.dice.below(4096) {
                0 => machine.registers.reset(),
                1 => machine.frame.update_memory(machine.guest.memory.clone()),
                2 => drop((machine.frame.save(), machine.registers.save())),
                3 => machine.frame.resume(),
                4 => clean_boot(&machine),
                n if n % 4 == 0 => machine.pump(),
                _ => {}
            }
            if step % 4096 == 0 {
                machine.frame.resume();
            }
        }
        clean_boot(&machine);
    }
}

/// Bytes that the process has in memory; nothing where that cannot be known.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm
        .split(' ')
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|n| n * 4096)
}

#[test]
fn law8_hostile_driver_on_many_vcpus() {
    let settings = Settings {
        workers: 2,
        ..Settings::default()
    };
    let engine = Engine::start(settings, Arc::new(StdThreads)).unwrap();
    let machine = Machine::with(engine, lenient(), None, forgetful());
    let running = AtomicBool::new(true);
    let (vcpus, steps) = (3, steps());
    // The first half is allowed to allocate what it needs.
    for half in 0..2 {
        let before = resident();
        std::thread::scope(|scope| {
            let (machine, running) = (&machine, &running);
            running.store(true, Ordering::Relaxed);
            let control = scope.spawn(move || {
                let mut dice = Numbers::new(99);
                while running.load(Ordering::Relaxed) {
                    match dice.below(3) {
                        0 => machine.registers.reset(),
                        1 => machine.frame.update_memory(machine.guest.memory.clone()),
                        _ => {
                            machine.frame.pause();
                            machine.frame.resume();
                        }
                    }
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            });
            let guests: Vec<_> = (0..vcpus)
                .map(|vcpu| {
                    scope.spawn(move || {
                        let mut hostile = Hostile::new(machine, 100 * half + vcpu);
                        (0..steps / 2 / vcpus.max(1)).for_each(|_| hostile.step());
                    })
                })
                .collect();
            let dead = guests
                .into_iter()
                .map(|guest| guest.join())
                .filter(Result::is_err);
            let dead = dead.count();
            running.store(false, Ordering::Relaxed);
            control.join().unwrap();
            assert_eq!(dead, 0, "a vCPU has panicked");
        });
        if let (1, Some(before), Some(now)) = (half, before, resident()) {
            let grown = now.saturating_sub(before);
            assert!(
                grown < 64 << 20,
                "{grown} bytes more than after the first half"
            );
        }
    }
    clean_boot(&machine);
    machine.engine.stop();
}
