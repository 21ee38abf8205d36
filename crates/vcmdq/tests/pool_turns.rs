//! Rings and frames come and go (law 5), and each has its turn (law 8).

mod pool_world;

use pool_world::*;
use smmu_core::Gpa;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vcmdq::testing::commands::sync;
use vcmdq::{DoorbellMode, Engine, RemoveError, RingError, RingSettings, Settings};

/// Who was called, one after the other, when a worker goes round for so many calls.
fn turns(engine: &Engine, guests: &[Guest], log: &Log, calls: usize) -> Vec<usize> {
    let full = 1 << LOG2SIZE;
    for guest in guests {
        for ring in 0..guest.rings.len() {
            guest.publish(ring, full);
        }
    }
    let mut worker = engine.stepped_worker(0);
    log.lock().unwrap().clear();
    while log.lock().unwrap().len() < calls {
        worker.turn();
    }
    log.lock()
        .unwrap()
        .iter()
        .map(|(guest, _)| *guest)
        .collect()
}

/// The first guest has eight rings, the second one; all are full and served in small portions. Each
/// guest has as many turns as the other.
fn eight_against_one(paged: bool) {
    let settings = Settings {
        slice: Duration::from_nanos(1),
        spin: Duration::ZERO,
        doze: Duration::from_micros(1),
        ..Settings::default()
    };
    let engine = Engine::without_workers(settings).unwrap();
    let log = Log::default();
    let mut guests = [
        Guest::new(&engine, 0, 8, &log),
        Guest::new(&engine, 1, 1, &log),
    ];
    (0..8).for_each(|_| _ = guests[0].add(paged, tlbi()));
    guests[1].add(paged, tlbi());
    let turns = turns(&engine, &guests, &log, 36);
    let of = |guest| turns.iter().filter(|called| **called == guest).count();
    let (eight, one) = (of(0), of(1));
    assert!(eight.abs_diff(one) <= 3, "{eight} turns against {one}");
}

#[test]
fn law8_a_guest_with_eight_rings_has_as_many_turns_as_one_with_a_single_ring() {
    eight_against_one(false);
}

#[test]
fn law8_a_guest_with_eight_pages_has_as_many_turns_as_one_with_a_single_page() {
    eight_against_one(true);
}

#[test]
fn law8_pages_of_several_guests_are_looked_at_by_several_workers() {
    let settings = Settings {
        workers: 2,
        ..Settings::default()
    };
    let engine = engine(settings);
    let log = Log::default();
    let mut guests: Vec<Guest> = (0..4).map(|n| Guest::new(&engine, n, 2, &log)).collect();
    for guest in &mut guests {
        (0..2).for_each(|_| _ = guest.add(true, tlbi()));
    }
    for n in 1..50 {
        guests.iter().for_each(|guest| guest.round_trip(0, n));
        guests.iter().for_each(|guest| guest.round_trip(1, n));
    }
    engine.stop();
    let log = log.lock().unwrap();
    let threads: BTreeSet<&String> = log.iter().map(|(_, thread)| thread).collect();
    assert_eq!(threads.len(), 2, "{threads:?}");
}

#[test]
fn law5_a_guest_that_goes_leaves_nothing_behind_and_takes_nothing_along() {
    let settings = Settings {
        workers: 2,
        spin: Duration::from_micros(5),
        max_rings: 6,
        ..Settings::default()
    };
    let engine = engine(settings);
    let log = Log::default();
    let mut resident = Guest::new(&engine, 0, 2, &log);
    let (trapped, paged) = (resident.add(false, sync()), resident.add(true, sync()));
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let (resident, stop) = (&resident, &stop);
        let _at_the_end = stop.guard();
        for ring in [trapped, paged] {
            scope.spawn(move || {
                let mut n = 0;
                while !stop.is_set() {
                    n += 1;
                    resident.round_trip(ring, n);
                }
                assert!(n > 1);
            });
        }
        // Each takes all the room that is left.
        for n in 0..40u32 {
            let mut guest = Guest::new(&engine, 1, 4, &log);
            (0..4).for_each(|ring| _ = guest.add(ring % 2 == 1, tlbi()));
            let full = guest.frame.add_ring(DoorbellMode::Trap).unwrap_err();
            assert_eq!(full, RingError::Full(6));
            guest.round_trip((n % 4) as usize, 1);
            // Gone in the middle of its work.
            (0..4).for_each(|ring| guest.publish(ring, 900));
            let Guest {
                memory,
                frame,
                rings,
                ..
            } = guest;
            drop(frame);
            memory.goes();
            for (ring, page) in &rings {
                ring.doorbell(5);
                if let Some(page) = page {
                    use vcmdq::RingPage;
                    page.words()[1].store(7, Ordering::Release);
                }
                ring.acknowledge(0);
                ring.enable();
                ring.disable();
            }
            let cons: Vec<u32> = rings.iter().map(|(ring, _)| ring.cons()).collect();
            std::thread::sleep(Duration::from_micros(u64::from(n) * 20));
            let later: Vec<u32> = rings.iter().map(|(ring, _)| ring.cons()).collect();
            assert_eq!((cons, memory.late()), (later, 0));
            assert_eq!(Arc::strong_count(&memory), 1, "and nobody keeps it");
        }
    });
    engine.stop();
}

#[test]
fn law5_a_ring_that_is_removed_waits_for_its_slice_and_its_place_is_anothers() {
    let engine = engine(Settings {
        max_rings: 1,
        ..Settings::default()
    });
    let log = Log::default();
    let mut guest = Guest::new(&engine, 0, 2, &log);
    guest.add(false, tlbi());
    guest.script.hold(true);
    guest.publish(0, 1);
    wait_for("the call", || guest.script.is_inside());
    let gone = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            guest.frame.remove_ring(&guest.rings[0].0).unwrap();
            assert!(!guest.script.is_inside(), "nobody is");
            gone.store(true, Ordering::SeqCst);
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!gone.load(Ordering::SeqCst), "the slice is under way");
        guest.script.hold(false);
    });
    let old = guest.rings[0].0.clone();
    let removed = guest.frame.remove_ring(&old);
    assert_eq!(removed, Err(RemoveError::NotOfFrame));
    let next = guest.add(false, tlbi());
    for n in 1..200 {
        // Rings for whoever has its number by now.
        old.doorbell(n);
        guest.round_trip(next, n);
    }
    assert_eq!(old.cons(), 1);
    engine.stop();
}

#[test]
fn a_ring_behind_registers_is_not_removed_from_under_them() {
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let log = Log::default();
    let frame = Arc::new(Guest::new(&engine, 0, 1, &log).frame);
    let cmdqv = frame
        .add_cmdqv(vcmdq::cmdqv::CmdqvSettings::default())
        .unwrap();
    let registers = vcmdq::registers::RegisterFrame::new(frame.clone()).unwrap();
    for ring in [&cmdqv.rings()[3], registers.ring()] {
        assert_eq!(frame.remove_ring(ring), Err(RemoveError::OfRegisters));
    }
    drop((frame, registers));
    // The CMDQV's registers may outlive the frame.
    cmdqv.write(0xB0, 4, 1);
    cmdqv.reset();
    let place = RingSettings {
        base: Gpa(0),
        log2size: 4,
    };
    assert_eq!(cmdqv.rings()[0].configure(place), Ok(()));
}
