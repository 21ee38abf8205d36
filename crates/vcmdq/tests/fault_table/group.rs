//! The third column: a window that concerns several instances, one of which fails. What the others do must
//! not depend on it.

use crate::world::*;
use dispatch::Cause;
use dispatch::backend::faulty::{At, Fault};
use vcmdq::Line;

const ALL: usize = PAGES as usize;
const MEMBERS: usize = 3;

/// A window of a hundred pages and an ATC_INV for every member, with a fault at each member in turn;
/// with a thread that makes the second one's calls, and without.
fn each(fault: impl Fn(usize) -> Fault, judge: impl Fn(&mut World, usize)) {
    for (member, threads) in (0..MEMBERS).flat_map(|m| [(m, false), (m, true)]) {
        let mut world = World::group(threads);
        world.members[member].inject(fault(member));
        let streams = (0..MEMBERS).map(|member| atc_inv(stream_of(member, 0)));
        world.window(0, 0..PAGES, &streams.collect::<Vec<_>>());
        world.serve();
        world.assert_removed(0..PAGES);
        for other in (0..MEMBERS).filter(|other| *other != member) {
            let other = &world.members[other];
            assert_eq!(
                other.calls(),
                [done(ALL), done(1)],
                "as if nothing was wrong"
            );
            assert_eq!(other.closed(), []);
        }
        judge(&mut world, member);
        world.assert_goes_on();
    }
}

fn nobody_was_told(world: &World, member: usize) {
    world.assert_done(0);
    assert_eq!(world.told(), []);
    assert_eq!(world.members[member].closed(), []);
}

#[test]
fn law4_group_conversion_error() {
    for k in [0, 62, 63, 99] {
        let fault = |_| Fault::new(At::Nth(k as u64), Cause::Unsupported);
        each(fault, |world, member| {
            nobody_was_told(world, member);
            let mut calls = vec![
                refused(ALL, k, Cause::Unsupported),
                refused(1, 0, Cause::Unsupported),
                done(1),
            ];
            calls.extend((k + 1 < ALL).then(|| done(ALL - k - 1)));
            calls.push(done(1));
            assert_eq!(world.members[member].calls(), calls);
            assert_eq!(world.metrics().widened, 1);
        });
    }
}

#[test]
fn law4_group_time_out() {
    let fault = |_| Fault::new(At::Any, Cause::TimedOut).times(LADDER);
    each(fault, |world, member| {
        world.assert_done(0);
        let own = &world.members[member];
        let mut calls = vec![refused(ALL, 0, Cause::TimedOut)];
        calls.extend([refused(1, 0, Cause::TimedOut); LADDER as usize - 1]);
        calls.extend([done(ALL - 1), done(1)]);
        assert_eq!(own.calls(), calls);
        assert_eq!(own.closed(), [None]);
        let told = Told::FailedClosed(own.id, None, Cause::TimedOut, vec![0]);
        assert_eq!(world.told(), [told]);
        assert_eq!(world.metrics().failed_closed, 1);
    });
}

#[test]
fn law4_group_out_of_memory() {
    let fault = |_| Fault::new(At::Nth(63), Cause::Again).times(1).saying(ALL);
    each(fault, |world, member| {
        nobody_was_told(world, member);
        let calls = [
            refused(ALL, ALL, Cause::Again),
            done(1),
            done(ALL - 1),
            done(1),
        ];
        assert_eq!(world.members[member].calls(), calls);
    });
}

#[test]
fn law4_group_interrupted() {
    let fault = |_| Fault::new(At::Nth(63), Cause::Again).times(2);
    each(fault, |world, member| {
        nobody_was_told(world, member);
        let calls = [
            refused(ALL, 63, Cause::Again),
            refused(1, 0, Cause::Again),
            done(1),
            done(ALL - 64),
            done(1),
        ];
        assert_eq!(world.members[member].calls(), calls);
    });
}

#[test]
fn law4_group_gone() {
    let fault = |member| Fault::new(At::Stream(stream_of(member, 0)), Cause::Gone);
    each(fault, |world, member| {
        world.assert_done(0);
        let (own, stream) = (&world.members[member], Some(stream_of(member, 0)));
        let gone = refused(1, 0, Cause::Gone);
        assert_eq!(own.calls(), [done(ALL), gone, gone, gone]);
        assert_eq!(own.closed(), [stream]);
        let told = Told::FailedClosed(own.id, stream, Cause::Gone, vec![0]);
        assert_eq!(world.told(), [told]);
    });
}

#[test]
fn law4_group_atc_time_out() {
    let fault = |member| Fault::new(At::Stream(stream_of(member, 0)), Cause::DeviceTimedOut);
    each(fault, |world, member| {
        let own = &world.members[member];
        assert_eq!(
            own.calls(),
            [done(ALL), refused(1, 0, Cause::DeviceTimedOut)]
        );
        assert_eq!(own.closed(), []);
        assert_eq!(world.told(), [Told::Pulse(Line::Gerror)]);
        world.assert_stopped_at_its_sync(0);
    });
}
