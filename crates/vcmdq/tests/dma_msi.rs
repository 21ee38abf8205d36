//! Interrupt routes that hold no guard and are told when they end.

mod dma_world;

use dispatch::Backend;
use dispatch::backend::software::Stale;
use dma_world::*;
use smmu_core::{Gpa, StreamId};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use vcmdq::dma::{DmaError, MsiRoute};
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;

const VA: u64 = 0x40_0000;

/// Counts how often it is told, and whether the SYNC was still incomplete.
#[derive(Default)]
struct Route {
    told: AtomicUsize,
    ring: Mutex<Option<Arc<vcmdq::Ring>>>,
    early: AtomicBool,
    own: Mutex<Option<MsiRoute>>,
}

impl Stale for Route {
    fn stale(&self) {
        self.told.fetch_add(1, Ordering::SeqCst);
        if let Some(ring) = &*self.ring.lock().unwrap() {
            self.early.store(ring.cons() == 0, Ordering::SeqCst);
        }
        // A VMM may give the route up from here.
        drop(self.own.lock().unwrap().take());
    }
}

fn world() -> (World, Space) {
    let world = World::new();
    let space = world.guest.space(1);
    world.guest.map(&space, VA, DOORBELL, PAGE);
    world
        .guest
        .map(&space, VA + 0x1000, DOORBELL, PAGE & !NOT_GLOBAL);
    world.guest.attach(1, &space);
    world.guest.attach(2, &world.guest.space(2));
    (world, space)
}

fn route(world: &World, va: u64) -> (MsiRoute, Arc<Route>) {
    let told = Arc::new(Route::default());
    let tell: Arc<dyn Stale> = told.clone();
    let route = world.device(1).translate_msi(va, 0x21, &tell).unwrap();
    (route.unwrap(), told)
}

#[test]
fn a_route_says_what_to_put_into_an_irqfd_and_holds_no_guard() {
    let (mut world, _) = world();
    let (route, told) = route(&world, VA + 0x40);
    let (at, data, id) = (route.at, route.data, route.device_id);
    assert_eq!((at, data, id), (Gpa(DOORBELL + 0x40), 0x21, 0x41));
    world.send(&[tlbi(1, VA), sync()]);
    assert!(world.done(), "nothing is waited for");
    assert!(route.is_stale());
    assert_eq!(told.told.load(Ordering::SeqCst), 1);
    world.send(&[tlbi(1, VA), sync()]);
    assert_eq!(told.told.load(Ordering::SeqCst), 1, "once is enough");
}

#[test]
fn law3_a_route_is_told_before_the_sync_completes() {
    let (mut world, _) = world();
    let (_route, told) = route(&world, VA);
    *told.ring.lock().unwrap() = Some(world.ring.clone());
    world.send(&[tlbi(1, VA), sync()]);
    assert!(world.done());
    assert!(told.early.load(Ordering::SeqCst));
}

#[test]
fn a_route_is_told_of_what_could_change_it_and_of_nothing_else() {
    type Change = fn(&mut World);
    let changes: [(&str, bool, u64, Change); 12] = [
        ("its page", true, 0, |w| {
            w.send(&[tlbi(1, VA), sync()]);
        }),
        ("its ASID", true, 0, |w| {
            w.send(&[tlbi_asid(1), sync()]);
        }),
        ("its STE", true, 0, |w| {
            w.send(&[cfgi_ste(1)]);
        }),
        ("its CD", true, 0, |w| {
            w.send(&[cfgi_cd(1, 0)]);
        }),
        ("the registers", true, 0, |w| w.core.set_up(None)),
        ("the map", true, 0, |w| {
            w.core.memory_changed(Arc::new(HeapMemory::new(RAM)));
        }),
        ("its stream", true, 0, |w| {
            w.core.fail_closed(Some(StreamId(1)));
        }),
        ("a global page", true, 0x1000, |w| {
            w.send(&[tlbi(2, VA + 0x1000), sync()]);
        }),
        ("another page", false, 0, |w| {
            w.send(&[tlbi(1, VA + 0x2000)]);
        }),
        ("another ASID", false, 0, |w| {
            w.send(&[tlbi_asid(2)]);
        }),
        ("another stream", false, 0, |w| {
            w.send(&[cfgi_ste(2)]);
        }),
        ("a SYNC", false, 0, |w| {
            w.send(&[sync()]);
        }),
    ];
    for (what, expected, offset, change) in changes {
        let (mut world, _) = world();
        let (route, told) = route(&world, VA + offset);
        change(&mut world);
        assert_eq!(route.is_stale(), expected, "{what}");
        assert_eq!(told.told.load(Ordering::SeqCst) == 1, expected, "{what}");
    }
}

#[test]
fn a_route_that_is_dropped_is_not_told() {
    let (mut world, _) = world();
    let (first, told) = route(&world, VA);
    let (_second, others) = route(&world, VA);
    drop(first);
    world.send(&[tlbi(1, VA), sync()]);
    assert_eq!(told.told.load(Ordering::SeqCst), 0);
    assert_eq!(others.told.load(Ordering::SeqCst), 1);
}

#[test]
fn a_route_may_be_dropped_by_whoever_is_told() {
    let (mut world, _) = world();
    let (route, told) = route(&world, VA);
    *told.own.lock().unwrap() = Some(route);
    world.send(&[tlbi(1, VA), sync()]);
    assert!(world.done());
    assert!(told.own.lock().unwrap().is_none());
}

#[test]
fn messages_that_go_nowhere_have_no_route() {
    let (world, _) = world();
    let tell: Arc<dyn Stale> = Arc::new(Route::default());
    let mut device = world.device(1);
    let missing = device.translate_msi(VA + 0x5000, 0, &tell).unwrap_err();
    assert!(matches!(missing, DmaError::Fault(_)));
    assert_eq!(world.faults.take().len(), 1);
    let odd = device.translate_msi(VA + 2, 0, &tell).unwrap_err();
    assert!(matches!(odd, DmaError::Misaligned(at, 4) if at == VA + 2));
}

/// Stops the device however the test ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A route is asked for while the page is remapped over and over: whenever a SYNC is done, no route
/// that is not stale shows what was removed before it.
#[test]
fn law3_no_route_survives_the_removal_of_its_page() {
    let (mut world, space) = world();
    let stop = AtomicBool::new(false);
    let routes: Mutex<Vec<(MsiRoute, Arc<Route>)>> = Mutex::default();
    let mut device = world.device(1);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let told = Arc::new(Route::default());
                let tell: Arc<dyn Stale> = told.clone();
                if let Ok(Some(route)) = device.translate_msi(VA, 0, &tell) {
                    routes.lock().unwrap().push((route, told));
                }
            }
        });
        for round in 0..2000u64 {
            let old = DOORBELL + (round % 256) * 0x1000;
            world.guest.map(&space, VA, old, PAGE);
            std::thread::yield_now();
            world.guest.unmap(&space, VA, 3);
            world.send(&[tlbi(1, VA), sync()]);
            while !world.done() {
                world.serve();
            }
            for (route, told) in routes.lock().unwrap().drain(..) {
                assert!(route.is_stale(), "{route:?} in round {round}");
                assert!(told.told.load(Ordering::SeqCst) > 0);
            }
        }
    });
}
