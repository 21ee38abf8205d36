//! What devices are attached to: by the guest's registers and STEs, and by what the host refuses.

use crate::host::world::*;
use crate::host::*;
use rustix::io::Errno;
use smmu_core::StreamId;
use smmu_core::command::Cfgi;
use smmu_core::spec::event::EventId;
use vcmdq::{BindError, StreamHost};
use vcmdq_iommufd::{Attachment, HwInfoError, Lack, PlugError, RebindError, UnplugError, Vste};

const S1STALLD: u64 = 1 << 27;

fn of(vste: [u64; 2]) -> Seen {
    Seen::Vste { ioas: IOAS, vste }
}

fn translating(contexts: u64) -> Seen {
    of([stage1(contexts)[0], S1STALLD])
}

#[test]
fn a_stream_aborts_until_the_guest_has_said_something() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    assert_eq!(world.host.seen(101), of(ABORT));
    assert_eq!(world.host.vdevices(), [(1, 101)]);
}

#[test]
fn smmuen_and_gbpa_decide_while_the_smmu_is_off() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.write_ste(1, &stage1(0x4000));
    for (traffic, seen) in [
        (world.disabled(false), of(BYPASS)),
        (world.disabled(true), of(ABORT)),
        (world.enabled(), translating(0x4000)),
        (world.disabled(true), of(ABORT)),
    ] {
        world.traffic(&[1], &traffic);
        assert_eq!(world.host.seen(101), seen);
    }
}

#[test]
fn a_new_ste_replaces_the_table_and_the_old_one_is_freed() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.host.take_history(101);
    let objects = world.host.objects();
    world.configure(1, &stage1(0x4000));
    world.configure(1, &stage1(0x8000));
    assert_eq!(world.host.objects(), objects + 1, "one nested table");
    world.configure(1, &BYPASS);
    world.configure(1, &ABORT);
    assert_eq!(world.host.objects(), objects);
    let history = world.host.take_history(101);
    let [first, second] = [translating(0x4000), translating(0x8000)];
    assert_eq!(history, [first, second, of(BYPASS), of(ABORT)]);
}

/// IHI 0070, 4.3.1: CFGI_STE is about the contexts of the stream, too, but a host whose own STE does not change
/// sends nothing.
#[test]
fn an_unchanged_ste_has_the_host_forget_the_contexts() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.host.take_history(101);
    world.cfgi(1);
    let commands = std::mem::take(&mut world.host.state().commands);
    assert_eq!(commands.len(), 1);
    let [dw0, _] = commands[0].1;
    assert_eq!(
        (dw0 & 0xFF, dw0 >> 32),
        (0x06, 1),
        "CFGI_CD_ALL of the vSID"
    );
    assert!(world.host.take_history(101).is_empty());
    world.host.fail_next(Call::Invalidate, Errno::IO);
    world.cfgi(1);
    assert_eq!(
        world.host.seen(101),
        of(ABORT),
        "the host may believe old contexts"
    );
    assert_eq!(world.streams.metrics().failed, 1);
}

/// Row 7: a CFGI_CD for a stream whose STE is not valid yet reaches a host that knows the vSID, and changes
/// no attachment.
#[test]
fn row7_contexts_before_the_ste_is_valid_are_no_error() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.host.take_history(101);
    let stream = StreamId(1);
    let substream = smmu_core::SubstreamId(0);
    let change = Cfgi::Cd {
        stream,
        substream,
        leaf: true,
    };
    world.streams.configuration_changed(stream, &change);
    assert!(world.host.take_history(101).is_empty());
    assert_eq!(
        world.host.vdevices(),
        [(1, 101)],
        "there before the stream is bound"
    );
    assert!(world.events().is_empty());
}

#[test]
fn an_invalid_ste_aborts_and_the_guest_is_told() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    assert!(world.events().is_empty(), "V=0 says nothing");
    world.configure(1, &stage1(0x4000));
    // A CD table beyond IDR1.SSIDSIZE.
    world.configure(1, &[stage1(0x4000)[0] | 31 << 59, 0]);
    assert_eq!(world.host.seen(101), of(ABORT));
    let events = world.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].id(), Some(EventId::BadSte));
    assert_eq!(events[0].dw0().stream(), 1);
    // Config=110: no stage 2 is advertised.
    world.configure(1, &[1 | 6 << 1, 0]);
    assert_eq!(
        (world.events().len(), world.streams.metrics().invalid),
        (2, 2)
    );
}

#[test]
fn what_the_host_refuses_aborts_is_counted_and_the_guest_is_told() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.host.fail_next(Call::Nested, Errno::IO);
    world.configure(1, &stage1(0x8000));
    assert_eq!(world.host.seen(101), of(ABORT));
    assert_eq!(world.streams.metrics().refused, 1);
    assert_eq!(world.events()[0].id(), Some(EventId::BadSte));
    world.configure(1, &stage1(0x8000));
    assert_eq!(
        world.host.seen(101),
        translating(0x8000),
        "a better one is taken"
    );
}

#[test]
fn a_host_without_memory_is_asked_again_and_then_the_stream_aborts() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    for error in [Errno::NOMEM, Errno::INTR, Errno::AGAIN] {
        world.host.fail_next(Call::Nested, error);
    }
    world.configure(1, &stage1(0x4000));
    assert_eq!(world.host.seen(101), translating(0x4000));
    world.host.state().fail_all = Some((Call::Nested, Errno::NOMEM));
    world.configure(1, &stage1(0x8000));
    assert_eq!(world.host.seen(101), of(ABORT));
    assert_eq!(world.streams.metrics().failed, 1);
    assert!(world.events().is_empty(), "not the guest's fault");
}

#[test]
fn a_table_that_cannot_be_attached_is_freed() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    let objects = world.host.objects();
    world.host.fail_next(Call::Attach, Errno::BUSY);
    world.configure(1, &stage1(0x4000));
    assert_eq!(world.host.seen(101), of(ABORT));
    assert_eq!(world.host.objects(), objects);
}

#[test]
fn what_cannot_be_destroyed_at_once_is_later() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    let objects = world.host.objects();
    world.configure(1, &stage1(0x4000));
    world.host.state().fail_all = Some((Call::Destroy, Errno::BUSY));
    world.configure(1, &stage1(0x8000));
    world.host.state().fail_all = None;
    assert_eq!(world.host.objects(), objects + 2);
    world.configure(1, &stage1(0xC000));
    world.configure(1, &ABORT);
    assert_eq!(world.host.objects(), objects);
}

/// Only certain fields of a vSTE pass (peers' row 30 for STEs): what else an STE holds is not the host's to see.
#[test]
fn row30_reserved_and_foreign_bits_of_an_ste_do_not_reach_the_host() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    // Everything of word 1 but S1DSS=1, EATS=1 and no S1STALLD conflict; the rest of the STE is noise.
    let noise = !(3 | 3 << 28 | S1STALLD);
    world.configure(
        1,
        &[
            stage1(0x4000)[0],
            noise | 1 | 1 << 28,
            !0,
            !0,
            !0,
            !0,
            !0,
            !0,
        ],
    );
    assert_eq!(
        world.host.seen(101),
        of([stage1(0x4000)[0], 1 | 0xFC | S1STALLD | 1 << 28])
    );
    assert_eq!(world.streams.metrics().refused, 0);
}

#[test]
fn a_guest_with_stalls_decides_itself() {
    let world = World::with(offer(8));
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    assert_eq!(world.host.seen(101), of([stage1(0x4000)[0], 0]));
    world.configure(1, &[stage1(0x4000)[0], S1STALLD]);
    assert_eq!(world.host.seen(101), translating(0x4000));
}

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
fn a_stream_is_one_device_and_a_device_one_stream() {
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
