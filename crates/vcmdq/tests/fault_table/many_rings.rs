//! The second column: one call for the windows of four rings.

use crate::world::*;
use dispatch::Cause;
use dispatch::backend::faulty::{At, Fault};
use std::ops::Range;
use vcmdq::Line;

const RINGS: usize = 4;
/// Requests of each ring.
const EACH: u64 = 20;
const ALL: usize = RINGS * EACH as usize;
/// The third ring's, behind the host's first block of 63 and before it.
const PLACES: [usize; 3] = [41, 59, 63];

fn pages(ring: usize) -> Range<u64> {
    let first = EACH * ring as u64;
    first..first + EACH
}

/// All rings wait at the same time. With `streams` each has an ATC_INV of its own, too.
fn served(fault: Fault, streams: bool) -> World {
    let mut world = World::many_rings();
    world.members[0].inject(fault);
    for ring in 0..RINGS {
        let own = [atc_inv(stream_of(0, ring))];
        let more = if streams { &own[..] } else { &[] };
        world.window(ring, pages(ring), more);
    }
    world.serve();
    world.assert_removed(0..EACH * RINGS as u64);
    let metrics = world.metrics();
    assert_eq!(metrics.shared_windows, RINGS as u64, "they share it");
    world
}

fn all_done(world: &World) {
    (0..RINGS).for_each(|ring| world.assert_done(ring));
}

fn nobody_was_told(world: &World) {
    assert_eq!((world.told(), world.members[0].closed()), (vec![], vec![]));
    assert_eq!(world.metrics().failed_closed, 0);
}

/// The ring that the failure was charged to.
fn charged(world: &World) -> Vec<u64> {
    let failed = world.rings.iter().map(|ring| ring.metrics().failed_closed);
    failed.collect()
}

#[test]
fn law4_many_rings_conversion_error() {
    for k in PLACES {
        let mut world = served(Fault::new(At::Nth(k as u64), Cause::Unsupported), false);
        all_done(&world);
        let calls = [
            refused(ALL, k, Cause::Unsupported),
            refused(1, 0, Cause::Unsupported),
            done(1),
            done(ALL - k - 1),
        ];
        assert_eq!(world.members[0].calls(), calls);
        assert_eq!(world.metrics().widened, 1);
        nobody_was_told(&world);
        world.assert_goes_on();
    }
}

#[test]
fn law4_many_rings_time_out() {
    let mut world = served(Fault::new(At::Any, Cause::TimedOut).times(LADDER), false);
    all_done(&world);
    let mut calls = vec![refused(ALL, 0, Cause::TimedOut)];
    calls.extend([refused(1, 0, Cause::TimedOut); LADDER as usize - 1]);
    calls.push(done(ALL - 1));
    assert_eq!(world.members[0].calls(), calls);
    let id = world.members[0].id;
    let told = Told::FailedClosed(id, None, Cause::TimedOut, vec![0; RINGS]);
    assert_eq!(world.told(), [told], "once, before any SYNC");
    assert_eq!(world.members[0].closed(), [None]);
    assert_eq!(charged(&world), [1, 0, 0, 0]);
    world.assert_goes_on();
}

#[test]
fn law4_many_rings_out_of_memory() {
    for k in PLACES {
        let fault = Fault::new(At::Nth(k as u64), Cause::Again).times(1);
        let mut world = served(fault.saying(ALL), false);
        all_done(&world);
        let calls = [refused(ALL, ALL, Cause::Again), done(1), done(ALL - 1)];
        assert_eq!(world.members[0].calls(), calls);
        nobody_was_told(&world);
        world.assert_goes_on();
    }
}

#[test]
fn law4_many_rings_interrupted() {
    for k in PLACES {
        let mut world = served(Fault::new(At::Nth(k as u64), Cause::Again).times(1), false);
        all_done(&world);
        let calls = [refused(ALL, k, Cause::Again), done(1), done(ALL - k - 1)];
        assert_eq!(world.members[0].calls(), calls);
        nobody_was_told(&world);
        world.assert_goes_on();
    }
}

#[test]
fn law4_many_rings_gone() {
    for ring in 0..RINGS {
        let gone = stream_of(0, ring);
        let mut world = served(Fault::new(At::Stream(gone), Cause::Gone), true);
        all_done(&world);
        let mut calls = vec![
            done(ALL),
            refused(RINGS, ring, Cause::Gone),
            refused(1, 0, Cause::Gone),
            refused(1, 0, Cause::Gone),
        ];
        calls.extend((ring + 1 < RINGS).then(|| done(RINGS - ring - 1)));
        assert_eq!(world.members[0].calls(), calls);
        let told = Told::FailedClosed(world.members[0].id, Some(gone), Cause::Gone, vec![0; RINGS]);
        assert_eq!(world.told(), [told]);
        assert_eq!(world.members[0].closed(), [Some(gone)]);
        let mut expected = [0; RINGS];
        expected[ring] = 1;
        assert_eq!(charged(&world), expected);
        world.assert_goes_on();
    }
}

#[test]
fn law4_many_rings_atc_time_out() {
    for ring in 0..RINGS {
        let silent = stream_of(0, ring);
        let mut world = served(Fault::new(At::Stream(silent), Cause::DeviceTimedOut), true);
        let others = (0..RINGS).filter(|other| *other != ring);
        others.for_each(|other| world.assert_done(other));
        let mut calls = vec![done(ALL), refused(RINGS, ring, Cause::DeviceTimedOut)];
        calls.extend((ring + 1 < RINGS).then(|| done(RINGS - ring - 1)));
        assert_eq!(world.members[0].calls(), calls);
        assert_eq!(world.told(), [Told::Pulse(Line::Gerror)]);
        assert_eq!(world.members[0].closed(), []);
        world.assert_stopped_at_its_sync(ring);
        world.assert_goes_on();
    }
}
