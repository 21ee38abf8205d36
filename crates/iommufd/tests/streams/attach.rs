//! What devices are attached to: by the guest's registers and STEs, and by what the host refuses.

use crate::host::world::*;
use crate::host::*;
use rustix::io::Errno;
use smmu_core::StreamId;
use smmu_core::command::Cfgi;
use smmu_core::spec::event::EventId;
use vcmdq::StreamHost;

pub(crate) const S1STALLD: u64 = 1 << 27;

pub(crate) fn of(vste: [u64; 2]) -> Seen {
    Seen::Vste { ioas: IOAS, vste }
}

pub(crate) fn translating(contexts: u64) -> Seen {
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

/// A device has one vdevice at a time (iommufd: EEXIST): one that is left over is in the way of the next.
#[test]
fn a_vdevice_that_could_not_be_destroyed_does_not_keep_its_device_from_coming_back() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.host.state().fail_all = Some((Call::Destroy, Errno::BUSY));
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    world.host.state().fail_all = None;
    world.plug(2, 101).unwrap();
    world.traffic(&[2], &world.enabled());
    world.configure(2, &stage1(0x4000));
    assert_eq!(world.host.seen(101), of([stage1(0x4000)[0], S1STALLD]));
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
