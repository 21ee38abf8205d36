//! Another stage 2 (law 9): nothing uses the old one when the call returns.

use crate::host::world::*;
use crate::host::*;
use crate::told::is_readable;
use rustix::io::Errno;
use smmu_core::StreamId;
use smmu_core::spec::event::{EventRecord, EventWord0};
use vcmdq_iommufd::ViommuError;

/// Two streams that translate.
fn running() -> World {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.plug(2, 102).unwrap();
    world.traffic(&[1, 2], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.configure(2, &BYPASS);
    world
}

fn on(ioas: u32, seen: Seen) -> bool {
    matches!(seen, Seen::Vste { ioas: found, .. } if found == ioas)
}

fn config(seen: Seen) -> u64 {
    match seen {
        Seen::Vste { vste, .. } => vste[0] >> 1 & 7,
        Seen::Nothing => panic!("detached"),
    }
}

#[test]
fn law9_every_stream_is_on_the_new_stage_2_and_nothing_on_the_old_one() {
    let world = running();
    let (objects, before) = (world.host.objects(), world.instance.target().id());
    for device in [101, 102] {
        world.host.take_history(device);
    }
    let replaced = world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS)
        .unwrap();
    assert!(replaced.left_closed.is_empty());
    for (device, then) in [(101, 5), (102, 4)] {
        let seen = world.host.seen(device);
        assert!(on(OTHER_IOAS, seen), "{seen:?}");
        assert_eq!(config(seen), then, "as the guest says");
    }
    assert!(world.host.ioas_is_free(IOAS), "can be destroyed");
    assert_eq!(world.host.objects(), objects, "nothing is left behind");
    assert_eq!(world.host.vdevices(), [(1, 101), (2, 102)]);
    assert_ne!(
        world.instance.target().id(),
        before,
        "invalidations go to the new one"
    );
    let metrics = world.streams.metrics();
    assert_eq!((metrics.replaced, metrics.longest_gap), (1, replaced.gap));
    assert!(!replaced.gap.is_zero());
}

#[test]
fn law9_streams_abort_meanwhile_and_are_never_detached() {
    let world = running();
    world.host.take_history(101);
    world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS)
        .unwrap();
    // The old abort table, the new one, the guest's.
    let history = world.host.take_history(101);
    let seen: Vec<_> = history
        .iter()
        .map(|seen| (on(IOAS, *seen), config(*seen)))
        .collect();
    assert_eq!(seen, [(true, 0), (false, 0), (false, 5)]);
}

#[test]
fn law9_what_cannot_be_had_changes_nothing() {
    let world = running();
    let objects = world.host.objects();
    for (call, error) in [
        (Call::Parent, Errno::INVAL),
        (Call::Viommu, Errno::OPNOTSUPP),
        (Call::Nested, Errno::INVAL),
        (Call::Veventq, Errno::INVAL),
    ] {
        world.host.fail_next(call, error);
        let refused = world
            .streams
            .replace_stage2(&world.instance, 101, OTHER_IOAS);
        match (call, refused.unwrap_err()) {
            (Call::Parent, ViommuError::Parent(found))
            | (Call::Viommu, ViommuError::Viommu(found))
            | (Call::Nested, ViommuError::Fixed(found))
            | (Call::Veventq, ViommuError::Events(found)) => assert_eq!(found, error),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.host.objects(), objects);
        assert_eq!(config(world.host.seen(101)), 5);
        assert!(world.host.ioas_is_free(OTHER_IOAS));
    }
    assert_eq!(world.streams.metrics().replaced, 0);
}

/// Nobody would hear of the streams' events.
#[test]
fn law9_a_vevent_queue_that_cannot_be_watched_changes_nothing() {
    let world = running();
    let objects = world.host.objects();
    world.host.state().unwatchable = true;
    let refused = world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS);
    assert_eq!(refused, Err(ViommuError::Events(Errno::PERM)));
    assert_eq!(world.host.objects(), objects);
    assert_eq!(config(world.host.seen(101)), 5);
    assert!(world.host.ioas_is_free(OTHER_IOAS));
    world.host.state().unwatchable = false;
    let replaced = world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS);
    assert!(replaced.unwrap().left_closed.is_empty());
}

#[test]
fn law9_a_stream_that_cannot_follow_aborts_and_the_others_go_on() {
    let world = running();
    world.host.fail_next(Call::Vdevice, Errno::INVAL);
    let replaced = world
        .streams
        .replace_stage2(&world.instance, 102, OTHER_IOAS)
        .unwrap();
    assert_eq!(replaced.left_closed, [StreamId(1)]);
    assert_eq!(config(world.host.seen(101)), 0);
    assert_eq!(config(world.host.seen(102)), 4);
    assert!(world.host.ioas_is_free(IOAS));
    world.configure(1, &stage1(0x4000));
    assert_eq!(config(world.host.seen(101)), 0, "until it is unplugged");
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    assert_eq!(config(world.host.seen(101)), 5);
}

#[test]
fn law9_a_device_that_has_gone_does_not_keep_the_old_stage_2() {
    let world = running();
    world.host.take_away(101);
    let replaced = world
        .streams
        .replace_stage2(&world.instance, 102, OTHER_IOAS)
        .unwrap();
    assert_eq!(replaced.left_closed, [StreamId(1)]);
    assert_eq!(config(world.host.seen(102)), 4);
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    assert!(world.host.ioas_is_free(IOAS));
}

#[test]
fn law9_what_had_failed_closed_goes_on_with_an_empty_tlb() {
    let world = running();
    world.streams.fail_closed(&world.instance, None);
    world
        .streams
        .fail_closed(&world.instance, Some(StreamId(2)));
    assert_eq!(config(world.host.seen(101)), 0);
    world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS)
        .unwrap();
    assert_eq!(config(world.host.seen(101)), 5);
    assert_eq!(config(world.host.seen(102)), 4);
}

#[test]
fn law9_events_of_the_old_vevent_queue_are_heard_and_the_file_stays_the_same() {
    let world = running();
    let event = |address| {
        let first = EventWord0::new().with_id(0x10).with_stream(1);
        Some([first.into_bits(), 0, address, 0])
    };
    world.host.tell(0, 0, event(1));
    world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS)
        .unwrap();
    // The new queue begins with zero again.
    world.host.tell(0, 0, event(2));
    let mut file = [rustix::event::PollFd::new(
        &*world.instance,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut file, Some(&now)), Ok(1));
    world.streams.drain(&world.instance).unwrap();
    let heard: Vec<u64> = world.events().iter().map(EventRecord::input_addr).collect();
    assert_eq!((heard, world.streams.metrics().lost), (vec![1, 2], 0));
}

/// Whoever waits for the instance's file would find it readable for ever.
#[test]
fn law9_a_stuck_device_leaves_no_events_behind_that_nobody_reads() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    // It aborts already. Four tries of the new abort table, then none at all.
    (0..4).for_each(|_| world.host.fail_next(Call::Attach, Errno::NOMEM));
    world.host.fail_next(Call::Detach, Errno::PERM);
    let replaced = world
        .streams
        .replace_stage2(&world.instance, 102, OTHER_IOAS);
    assert_eq!(replaced.unwrap().left_closed, [StreamId(1)]);
    assert_eq!(world.streams.metrics().stuck, 1);
    assert!(!world.host.ioas_is_free(IOAS), "it is stuck there");
    let event = EventWord0::new().with_id(0x10).with_stream(1);
    world
        .host
        .tell_first(0, 0, Some([event.into_bits(), 0, 1, 0]));
    assert!(!world.streams.drain(&world.instance).unwrap());
    assert!(!is_readable(&world));
    world.host.tell(0, 0, Some([event.into_bits(), 0, 2, 0]));
    assert!(is_readable(&world), "those of the new one are heard");
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    assert!(world.host.ioas_is_free(IOAS));
}
