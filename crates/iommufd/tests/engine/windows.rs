//! A window is one call, however much of what a call may hold is published.

use crate::world::*;
use smmu_core::spec::command::RawCommand;
use vcmdq::testing::commands::sync;
use vcmdq_iommufd::testing::Counting;

/// The most that a call may hold: sixteen of the driver's blocks.
const MOST: usize = 1008;

/// Pages that nobody makes one request of.
fn far(first: usize, count: usize) -> Vec<RawCommand> {
    (first..first + count)
        .map(|page| tlbi((page as u64) << 12))
        .collect()
}

#[test]
fn law4_1008_commands_and_the_sync_behind_them_are_one_call() {
    for count in [255, 256, 257, 504, MOST - 1, MOST] {
        let mut world = World::new(1, 1, Counting::Converted);
        world.send(0, &far(0, count));
        world.send(0, &[sync()]);
        world.serve();
        assert!(world.is_through(0), "{count}");
        assert_eq!(world.hosts[0].kernel.take_calls(), [count]);
        assert_eq!(world.hosts[0].executed().len(), count);
        assert_eq!((world.metrics().calls, world.metrics().syncs), (1, 1));
    }
}

/// What does not fit is a call of its own, and its SYNC waits for both.
#[test]
fn law4_one_command_more_is_one_call_more() {
    let mut world = World::new(1, 1, Counting::Converted);
    world.send(0, &far(0, MOST + 1));
    world.send(0, &[sync()]);
    world.serve();
    assert!(world.is_through(0));
    assert_eq!(world.hosts[0].kernel.take_calls(), [MOST, 1]);
    assert!((0..=MOST as u64).all(|page| world.hosts[0].is_safe(page << 12)));
}

/// Rings that share a call fill it together.
#[test]
fn law4_the_windows_of_rings_are_one_call_of_1008() {
    for rings in [2, 8, 16] {
        let mut world = World::new(rings, 1, Counting::Converted);
        let each = MOST / rings;
        for ring in 0..rings {
            let mut commands = far(ring * each, each);
            // Its SYNC has the place of one.
            commands.pop();
            commands.push(sync());
            world.send(ring, &commands);
        }
        world.serve();
        assert!((0..rings).all(|ring| world.is_through(ring)));
        assert_eq!(world.hosts[0].kernel.take_calls(), [MOST - rings]);
        let metrics = world.metrics();
        assert_eq!((metrics.calls, metrics.syncs), (1, rings as u64));
    }
}
