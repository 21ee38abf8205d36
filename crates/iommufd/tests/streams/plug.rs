//! Devices that come and go, are renumbered, and fail closed.

use crate::attach::{S1STALLD, of, translating};
use crate::host::world::*;
use crate::host::*;
use rustix::io::Errno;
use smmu_core::StreamId;
use vcmdq::BindError;
use vcmdq_iommufd::{Attachment, HwInfoError, Lack, PlugError, RebindError, UnplugError, Vste};

#[test]
fn law1_a_device_behind_another_smmu_is_refused_with_an_error_that_says_so() {
    let world = World::new();
    let error = world.plug(1, 201).unwrap_err();
    assert_eq!(
        error,
        PlugError::OtherSmmu {
            stream: StreamId(1)
        }
    );
    assert!(
        error.to_string().contains("another physical SMMU"),
        "{error}"
    );
    assert!(
        world.host.take_history(201).is_empty(),
        "its attachment is untouched"
    );
    assert!(world.host.vdevices().is_empty());
    assert!(world.streams.stream(StreamId(1)).is_none());
}

#[test]
fn law1_a_binding_with_another_placement_leaves_the_device_without_a_table() {
    let mut world = World::new();
    world.binding.placement.smmu = 7;
    let error = world.plug(1, 101).unwrap_err();
    assert!(matches!(
        error,
        PlugError::Bind(BindError::OtherSmmu { .. })
    ));
    assert_eq!(world.host.seen(101), Seen::Nothing);
    assert!(world.host.vdevices().is_empty());
}

#[test]
fn a_stream_whose_smmu_has_less_is_refused_by_name() {
    let world = World::new();
    world.host.state().devices.get_mut(&102).unwrap().idr[3] &= !(1 << 10);
    let error = world.plug(1, 102).unwrap_err();
    assert!(matches!(
        error,
        PlugError::Lacks {
            lack: Lack::Less { .. },
            ..
        }
    ));
    assert!(error.to_string().contains("IDR3.RIL"), "{error}");
    assert!(world.host.vdevices().is_empty());
}

#[test]
fn every_refusal_of_the_kernel_has_its_name() {
    let stream = StreamId(1);
    let error = Errno::NOMEM;
    for (errno, call, expected) in [
        (
            Errno::EXIST,
            Call::Vdevice,
            PlugError::VdeviceTaken { stream },
        ),
        (
            Errno::OPNOTSUPP,
            Call::Vdevice,
            PlugError::SeveralStreams { stream },
        ),
        (
            Errno::NOENT,
            Call::Vdevice,
            PlugError::Gone {
                stream,
                error: Errno::NOENT,
            },
        ),
        (
            Errno::NODEV,
            Call::Attach,
            PlugError::Gone {
                stream,
                error: Errno::NODEV,
            },
        ),
        (
            Errno::NODEV,
            Call::HwInfo,
            PlugError::HwInfo(HwInfoError::Call(Errno::NODEV)),
        ),
        (error, Call::Vdevice, PlugError::Host { stream, error }),
        (error, Call::Attach, PlugError::Host { stream, error }),
    ] {
        let world = World::new();
        let objects = world.host.objects();
        world.host.state().fail_all = Some((call, errno));
        assert_eq!(world.plug(1, 101), Err(expected));
        world.host.state().fail_all = None;
        assert_eq!(
            world.host.objects(),
            objects,
            "{call:?}: nothing is left behind"
        );
        world.plug(1, 101).unwrap();
    }
}

#[test]
fn row33_a_stream_is_one_device_and_a_device_one_stream() {
    let stream = StreamId(1);
    let world = World::new();
    world.plug(1, 101).unwrap();
    assert_eq!(world.plug(1, 102), Err(PlugError::Taken(stream)));
    assert_eq!(
        world.plug(2, 101),
        Err(PlugError::DeviceTaken {
            device: 101,
            stream
        })
    );
    assert_eq!(
        world.host.seen(101),
        of(ABORT),
        "the first one is as before"
    );
}

/// Not before the host has initialised its vdevice.
#[test]
fn row33_a_stream_is_the_frames_when_the_host_knows_it() {
    let world = World::new();
    world.host.state().fail_all = Some((Call::Vdevice, Errno::NOMEM));
    world.plug(1, 101).unwrap_err();
    let stream = StreamId(1);
    let unbound = world.frame.unbind(stream);
    assert_eq!(
        unbound,
        Err(BindError::NotBound(stream)),
        "no backend hears of it"
    );
    assert_eq!(world.host.seen(101), Seen::Nothing);
    world.host.state().fail_all = None;
    world.plug(1, 101).unwrap();
    let seen = (world.host.vdevices(), world.host.seen(101));
    assert_eq!(seen, (vec![(1, 101)], of(ABORT)));
}

#[test]
fn a_device_that_is_plugged_in_late_goes_by_what_was_said_before() {
    let world = World::new();
    world.write_ste(2, &stage1(0x4000));
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    // The frame of these tests has no registers: what a worker would tell comes from here.
    world.plug(2, 102).unwrap();
    world.traffic(&[2], &world.enabled());
    assert_eq!(world.host.seen(102), translating(0x4000));
}

#[test]
fn an_unplugged_stream_leaves_nothing_behind() {
    let world = World::new();
    let objects = world.host.objects();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    assert_eq!(
        (world.host.objects(), world.host.seen(101)),
        (objects, Seen::Nothing)
    );
    let again = world.streams.unplug(&world.frame, StreamId(1));
    assert_eq!(again, Err(UnplugError::NotPlugged(StreamId(1))));
    world.configure(1, &stage1(0x4000));
    assert_eq!(world.host.seen(101), Seen::Nothing, "told too late");
    world.plug(1, 101).unwrap();
    assert_eq!(world.host.seen(101), of(ABORT));
}

#[test]
fn a_device_that_has_gone_is_counted_and_can_be_unplugged() {
    let world = World::new();
    let objects = world.host.objects();
    world.plug(1, 101).unwrap();
    world.plug(2, 102).unwrap();
    world.traffic(&[1, 2], &world.enabled());
    world.host.take_away(101);
    world.configure(1, &stage1(0x4000));
    world.configure(2, &stage1(0x4000));
    assert_eq!(world.streams.metrics().gone, 1);
    assert_eq!(world.host.seen(102), translating(0x4000), "others go on");
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    world.streams.unplug(&world.frame, StreamId(2)).unwrap();
    assert_eq!(world.host.objects(), objects);
}

#[test]
fn a_device_keeps_a_table_while_its_stream_is_renumbered() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.write_ste(5, &stage1(0x8000));
    world.host.take_history(101);
    world
        .streams
        .rebind(&world.frame, StreamId(1), StreamId(5), world.binding)
        .unwrap();
    world.traffic(&[5], &world.enabled());
    assert_eq!(world.host.vdevices(), [(5, 101)]);
    assert_eq!(world.host.seen(101), translating(0x8000));
    let history = world.host.take_history(101);
    assert!(
        history.iter().all(|seen| *seen != Seen::Nothing),
        "{history:?}"
    );
    assert!(world.streams.stream(StreamId(1)).is_none());
}

#[test]
fn a_renumbering_that_is_refused_leaves_the_stream_as_it_was() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.plug(2, 102).unwrap();
    let rebind = |to| {
        world
            .streams
            .rebind(&world.frame, StreamId(1), StreamId(to), world.binding)
    };
    assert_eq!(
        rebind(2),
        Err(RebindError::Plug(PlugError::Taken(StreamId(2))))
    );
    world.host.fail_next(Call::Vdevice, Errno::EXIST);
    let taken = PlugError::VdeviceTaken {
        stream: StreamId(3),
    };
    assert_eq!(rebind(3), Err(RebindError::Plug(taken)));
    assert!(matches!(
        rebind(1 << 20),
        Err(RebindError::Plug(PlugError::Bind(_)))
    ));
    assert_eq!(world.host.vdevices(), [(1, 101), (2, 102)]);
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    assert_eq!(world.host.seen(101), translating(0x4000));
}

#[test]
fn law4_a_stream_that_failed_closed_aborts_until_it_is_plugged_in_anew() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.plug(2, 102).unwrap();
    world.traffic(&[1, 2], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.configure(2, &stage1(0x4000));
    world
        .streams
        .fail_closed(&world.instance, Some(StreamId(1)));
    assert_eq!(world.host.seen(101), of(ABORT), "when it returns");
    assert_eq!(world.host.seen(102), translating(0x4000));
    world.configure(1, &stage1(0x8000));
    world.traffic(&[1], &world.disabled(false));
    assert_eq!(world.host.seen(101), of(ABORT), "whatever the guest says");
    assert!(world.streams.stream(StreamId(1)).unwrap().closed);
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    assert_eq!(world.host.seen(101), translating(0x8000));
}

#[test]
fn law4_an_instance_that_failed_closed_has_no_stream_that_translates() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.plug(2, 102).unwrap();
    world.traffic(&[1, 2], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.streams.fail_closed(&world.instance, None);
    world.configure(2, &stage1(0x4000));
    world.plug(3, 103).unwrap();
    world.traffic(&[3], &world.disabled(false));
    for device in [101, 102, 103] {
        assert_eq!(world.host.seen(device), of(ABORT));
    }
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    assert_eq!(world.host.seen(101), of(ABORT), "its TLB is as it was");
}

#[test]
fn a_stream_that_fails_closed_again_and_again_is_counted_once() {
    let world = World::new();
    for (stream, device) in [(1, 101), (2, 102)] {
        world.plug(stream, device).unwrap();
    }
    let closed = |stream: Option<u32>| {
        let stream = stream.map(StreamId);
        world.streams.fail_closed(&world.instance, stream);
        world.streams.metrics().closed
    };
    assert_eq!([closed(Some(1)), closed(Some(1))], [1, 1]);
    assert_eq!([closed(None), closed(None), closed(Some(2))], [2, 2, 2]);
}

#[test]
fn law4_a_device_that_cannot_be_made_to_abort_is_detached_or_named() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.host.state().fail_all = Some((Call::Attach, Errno::NOMEM));
    world
        .streams
        .fail_closed(&world.instance, Some(StreamId(1)));
    assert_eq!(world.host.seen(101), Seen::Nothing);
    let state = world.streams.stream(StreamId(1)).unwrap();
    assert_eq!((state.attached, state.closed), (Attachment::Nothing, true));
    assert_eq!(world.streams.metrics().stuck, 0);
    world.host.state().fail_all = None;

    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    // Four tries of the one, then the other.
    (0..4).for_each(|_| world.host.fail_next(Call::Attach, Errno::NOMEM));
    world.host.fail_next(Call::Detach, Errno::PERM);
    world
        .streams
        .fail_closed(&world.instance, Some(StreamId(1)));
    assert_eq!(world.streams.metrics().stuck, 1, "the VMM is told");
    let vste = Vste([stage1(0x4000)[0], S1STALLD]);
    let state = world.streams.stream(StreamId(1)).unwrap();
    assert_eq!(
        state.attached,
        Attachment::Stage1(vste),
        "and nothing untrue is said"
    );
}
