//! The first column: a window of one ring.

use crate::world::*;
use dispatch::Cause;
use dispatch::backend::faulty::{At, Fault};
use vcmdq::Line;

/// Where in the host's blocks of 63 it happens.
const PLACES: [usize; 6] = [0, 1, 62, 63, 64, 99];
const ALL: usize = PAGES as usize;

/// A window of a hundred requests, and what came of it.
fn after(fault: Fault) -> World {
    let mut world = World::one_ring();
    world.members[0].inject(fault);
    world.window(0, 0..PAGES, &[]);
    world.serve();
    world.assert_done(0);
    world.assert_removed(0..PAGES);
    world
}

/// The calls behind the request that failed; none if it was the last.
fn rest(failed: usize) -> Option<Call> {
    (failed + 1 < ALL).then(|| done(ALL - failed - 1))
}

#[test]
fn law4_one_ring_conversion_error() {
    for k in PLACES {
        let mut world = after(Fault::new(At::Nth(k as u64), Cause::Unsupported));
        let mut calls = vec![
            refused(ALL, k, Cause::Unsupported),
            refused(1, 0, Cause::Unsupported),
            // Something wider in its place.
            done(1),
        ];
        calls.extend(rest(k));
        assert_eq!(world.members[0].calls(), calls);
        let metrics = world.metrics();
        assert_eq!((metrics.widened, metrics.failed_closed), (1, 0));
        assert_eq!((world.told(), world.members[0].closed()), (vec![], vec![]));
        world.assert_goes_on();
    }
}

#[test]
fn law4_one_ring_time_out() {
    let mut world = after(Fault::new(At::Any, Cause::TimedOut).times(LADDER));
    let mut calls = vec![refused(ALL, 0, Cause::TimedOut)];
    calls.extend([refused(1, 0, Cause::TimedOut); LADDER as usize - 1]);
    calls.push(done(ALL - 1));
    assert_eq!(world.members[0].calls(), calls);
    let told = Told::FailedClosed(world.members[0].id, None, Cause::TimedOut, vec![0]);
    assert_eq!(world.told(), [told], "before its SYNC");
    assert_eq!(world.members[0].closed(), [None]);
    assert_eq!(world.metrics().failed_closed, 1);
    world.assert_goes_on();
}

#[test]
fn law4_one_ring_time_out_that_passes() {
    for k in PLACES {
        let mut world = after(Fault::new(At::Nth(k as u64), Cause::TimedOut).times(2));
        let mut calls = vec![
            refused(ALL, k, Cause::TimedOut),
            refused(1, 0, Cause::TimedOut),
            done(1),
        ];
        calls.extend(rest(k));
        assert_eq!(world.members[0].calls(), calls);
        assert_eq!((world.told(), world.members[0].closed()), (vec![], vec![]));
        world.assert_goes_on();
    }
}

#[test]
fn law4_one_ring_out_of_memory() {
    // The host leaves its count as it was given: all of them.
    for k in PLACES {
        let fault = Fault::new(At::Nth(k as u64), Cause::Again).times(1);
        let mut world = after(fault.saying(ALL));
        // Nothing is certain, so all of it is done again.
        let calls = [refused(ALL, ALL, Cause::Again), done(1), done(ALL - 1)];
        assert_eq!(world.members[0].calls(), calls);
        assert_eq!((world.told(), world.members[0].closed()), (vec![], vec![]));
        assert_eq!(world.metrics().widened, 0);
        world.assert_goes_on();
    }
}

#[test]
fn law4_one_ring_interrupted() {
    for k in PLACES {
        let mut world = after(Fault::new(At::Nth(k as u64), Cause::Again).times(2));
        let mut calls = vec![
            refused(ALL, k, Cause::Again),
            refused(1, 0, Cause::Again),
            done(1),
        ];
        calls.extend(rest(k));
        assert_eq!(world.members[0].calls(), calls);
        assert_eq!((world.told(), world.members[0].closed()), (vec![], vec![]));
        assert_eq!(world.metrics().widened, 0);
        world.assert_goes_on();
    }
}

#[test]
fn law4_one_ring_gone() {
    let mut world = World::one_ring();
    let (gone, other) = (stream_of(0, 0), stream_of(0, 1));
    world.members[0].inject(Fault::new(At::Stream(gone), Cause::Gone));
    world.window(0, 0..PAGES, &[atc_inv(gone), atc_inv(other)]);
    world.serve();
    world.assert_done(0);
    world.assert_removed(0..PAGES);
    let gone_alone = refused(1, 0, Cause::Gone);
    let calls = [
        done(ALL),
        refused(2, 0, Cause::Gone),
        // Alone, and wider.
        gone_alone,
        gone_alone,
        done(1),
    ];
    assert_eq!(world.members[0].calls(), calls);
    let told = Told::FailedClosed(world.members[0].id, Some(gone), Cause::Gone, vec![0]);
    assert_eq!(world.told(), [told], "before its SYNC");
    assert_eq!(world.members[0].closed(), [Some(gone)]);
    world.assert_goes_on();
}

#[test]
fn law4_one_ring_atc_time_out() {
    let mut world = World::one_ring();
    let (silent, other) = (stream_of(0, 0), stream_of(0, 1));
    world.members[0].inject(Fault::new(At::Stream(silent), Cause::DeviceTimedOut));
    world.window(0, 0..PAGES, &[atc_inv(silent), atc_inv(other)]);
    world.serve();
    world.assert_removed(0..PAGES);
    let calls = [done(ALL), refused(2, 0, Cause::DeviceTimedOut), done(1)];
    assert_eq!(world.members[0].calls(), calls);
    assert_eq!(world.told(), [Told::Pulse(Line::Gerror)]);
    assert_eq!(world.members[0].closed(), []);
    world.assert_stopped_at_its_sync(0);
    world.assert_goes_on();
}
