//! What a SYNC waits for (law 3), what exchanging the map waits for (law 9), and what happens when
//! the wait is long.

mod dma_world;

use dispatch::backend::software::{Denied, Overdue, Port};
use dispatch::{Backend, WaiterId};
use dma_world::*;
use smmu_core::access::{Access, Operation};
use smmu_core::command::{Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::guard::Use;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa, StreamId, SubstreamId, Vmid};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::dma::{Device, DmaError};
use vcmdq::events::Resumption;
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;

const VA: u64 = 0x40_0000;
const DATA: u64 = 0x40_0000;

fn access(address: u64) -> Access {
    Access {
        address,
        operation: Operation::Read,
        privileged: false,
    }
}

fn open(port: &mut Port, address: u64) -> dispatch::backend::software::Guarded<'_> {
    port.translate(None, access(address), 8, |_| ()).unwrap()
}

/// Streams 1 and 2, ASIDs 1 and 2, both with a page at `VA`, and one above it that is global.
fn two_spaces() -> World {
    let world = World::new();
    for asid in [1, 2] {
        let space = world.guest.space(asid);
        let at = DATA + u64::from(asid) * 0x1_0000;
        world.guest.map(&space, VA, at, PAGE);
        world
            .guest
            .map(&space, VA + 0x1000, DATA, PAGE & !NOT_GLOBAL);
        world.guest.map_block(&space, VA + (2 << 20), 2 << 20, PAGE);
        world.guest.attach(asid.into(), &space);
    }
    world
}

/// Whether a SYNC behind `commands` waits for a guard that stream 1 has open at `va`; if so, it
/// must complete as soon as the guard is closed, without another doorbell.
fn waits_for(world: &mut World, va: u64, commands: &[RawCommand]) -> bool {
    let mut port = world.core.port(StreamId(1)).unwrap();
    let guard = open(&mut port, va);
    let first = world.prod;
    world.send(commands);
    world.send(&[sync()]);
    let waits = !world.done();
    if waits {
        let at = (first + commands.len() as u32) % (2 << LOG2SIZE);
        assert_eq!(world.ring.cons(), at, "CONS stands at the SYNC");
        assert!(!world.serve(), "nobody rings while the guard is open");
    }
    drop(guard);
    assert_eq!(world.serve(), waits, "the last guard wakes the ring");
    assert!(world.done());
    waits
}

fn cfgi_all() -> RawCommand {
    encode(&Command::Cfgi(smmu_core::command::Cfgi::All))
}

fn nh_all() -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhAll { vmid: Vmid(0) }))
}

fn vaa(va: u64) -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhVaa {
        vmid: Vmid(0),
        range: range(va, 1, true),
    }))
}

#[test]
fn law3_a_sync_waits_for_a_guard_that_uses_what_was_removed() {
    let mut world = two_spaces();
    for round in 0..3 {
        // The first round walks, the second finds what is cached and removes it again.
        for removal in [tlbi(1, VA), tlbi_asid(1), nh_all(), vaa(VA)] {
            assert!(waits_for(&mut world, VA + 8 * round, &[removal]));
        }
    }
    assert!(
        !waits_for(&mut world, VA, &[]),
        "a SYNC alone waits for nobody"
    );
}

#[test]
fn law3_a_sync_does_not_wait_for_guards_of_another_asid() {
    let mut world = two_spaces();
    for removal in [
        tlbi(2, VA),
        tlbi_asid(2),
        tlbi(1, VA + 0x3000),
        vaa(VA + 0x3000),
    ] {
        assert!(!waits_for(&mut world, VA, &[removal]));
    }
}

/// Also the first access after the configuration or the substream has changed, for which it is not
/// known at first what it is going to use.
#[test]
fn law3_a_guard_says_exactly_what_it_uses_from_the_first_access_on() {
    let mut world = two_spaces();
    let mut port = world.core.port(StreamId(1)).unwrap();
    for _ in 0..3 {
        let guard = open(&mut port, VA);
        world.send(&[tlbi(1, VA + 0x1000), tlbi(2, VA), tlbi_asid(2), sync()]);
        assert!(world.done());
        world.send(&[tlbi(1, VA), sync()]);
        assert!(!world.done());
        drop(guard);
        assert!(world.serve() && world.done());
        world.send(&[cfgi_ste(1), sync()]);
    }
}

#[test]
fn law3_cfgi_and_sync_wait_for_users_of_the_old_configuration() {
    let mut world = two_spaces();
    for change in [cfgi_ste(1), cfgi_cd(1, 0), cfgi_all()] {
        assert!(waits_for(&mut world, VA, &[change]));
    }
    assert!(!waits_for(&mut world, VA, &[cfgi_ste(2), cfgi_cd(2, 0)]));
    // A stream that bypasses has no translation that could go, but a configuration.
    world.guest.bypass(1);
    world.send(&[cfgi_ste(1), sync()]);
    assert!(waits_for(&mut world, DATA, &[cfgi_ste(1)]));
    assert!(!waits_for(&mut world, DATA, &[tlbi(1, DATA)]));
}

#[test]
fn law3_a_global_entry_is_waited_for_by_every_asid() {
    let mut world = two_spaces();
    let global = VA + 0x1000;
    // By address, whatever ASID is named; by ASID not: global entries stay (law 7).
    assert!(waits_for(&mut world, global, &[tlbi(2, global)]));
    assert!(waits_for(&mut world, global, &[tlbi(1, global)]));
    assert!(!waits_for(&mut world, global, &[tlbi_asid(2)]));
    assert!(!waits_for(&mut world, global, &[tlbi(2, VA)]));
}

#[test]
fn law3_a_block_is_waited_for_whatever_address_of_it_is_removed() {
    let mut world = two_spaces();
    let block = VA + (2 << 20);
    for at in [block, block + 0x1_5000, block + 0x1F_F000] {
        assert!(waits_for(&mut world, block + 0x8000, &[tlbi(1, at)]));
    }
    assert!(!waits_for(
        &mut world,
        block + 0x8000,
        &[tlbi(1, block + (2 << 20))]
    ));
}

/// The page that ends at the last address below the top byte; the access is longer than it.
#[test]
fn law3_a_long_access_at_the_top_is_waited_for() {
    let mut world = World::new();
    let space = world.guest.space(1);
    let top = 0x00FF_FFFF_FFFF_F000;
    world.guest.map(&space, top | 0xFF << 56, DATA, PAGE);
    let cd = world.guest.attach(1, &space);
    world.guest.cd(cd, &space, CD | CD_TBI);
    let mut port = world.core.port(StreamId(1)).unwrap();
    for _ in 0..2 {
        let guard = port
            .translate(None, access(top + 8), 0x10_0000, |_| ())
            .unwrap();
        world.send(&[tlbi(1, top), sync()]);
        assert!(!world.done());
        drop(guard);
        assert!(world.serve() && world.done());
    }
}

/// What is not translated uses no translation, not even of page 0 and ASID 0.
#[test]
fn law3_a_bypassed_access_is_waited_for_by_its_configuration_only() {
    let mut world = World::new();
    world.guest.bypass(1);
    // Once, so that the port knows.
    let mut port = world.core.port(StreamId(1)).unwrap();
    drop(open(&mut port, 0x100));
    for commands in [[tlbi(0, 0)], [tlbi_asid(0)], [vaa(0)], [cfgi_ste(1)]] {
        let guard = open(&mut port, 0x100);
        world.send(&commands);
        world.send(&[sync()]);
        let waits = !world.done();
        drop(guard);
        world.serve();
        assert!(world.done());
        assert_eq!(waits, commands == [cfgi_ste(1)], "{commands:x?}");
    }
}

/// Row 17 of the peers' bugs: SMMUEN reaches every stream, also those that have kept what they read.
#[test]
fn law9_peers_row17_smmuen_re_drives_all_streams() {
    let world = two_spaces();
    let mut devices = [1, 2].map(|stream| world.device(stream));
    let mut outcomes = || {
        let mut one = |device: &mut Device| device.read(VA, &mut [0; 8]).is_ok();
        devices.each_mut().map(&mut one)
    };
    assert_eq!(outcomes(), [true; 2]);
    world.core.set_up(None);
    assert_eq!(outcomes(), [false; 2]);
    world.guest.ste(2, [0, 0]);
    world.core.set_up(Some(setup(lenient())));
    assert_eq!(outcomes(), [true, false], "read anew, not as kept before");
}

#[test]
fn law3_several_guards_are_all_waited_for() {
    let mut world = two_spaces();
    let guards: Vec<_> = (0..5)
        .map(|_| {
            let port = world.core.port(StreamId(1)).unwrap();
            port.translate_owned(None, access(VA), 8, |_| ()).unwrap()
        })
        .collect();
    world.send(&[tlbi(1, VA), sync()]);
    for guard in guards {
        assert!(!world.done());
        drop(guard);
        world.serve();
    }
    assert!(world.done());
}

/// The guest removes a page, waits for the SYNC, maps it anew and resumes: in one ring, while the
/// access waits. A guard that the access kept would stop the SYNC, and so the RESUME behind it.
#[test]
fn law3_a_stalled_access_holds_no_guard() {
    let mut world = World::new();
    let space = world.guest.space(1);
    let cd = world.guest.attach(1, &space);
    world.guest.cd(cd, &space, CD | CD_STALL);
    let mut device = world.device(1);
    let stopped = device.write(VA, &[7; 8]).unwrap_err();
    let DmaError::Stalled(stalled) = stopped.cause else {
        panic!("{stopped:?}");
    };
    assert_eq!(world.faults.sink.queue().prod(), 1, "the guest sees it");
    world.send(&[tlbi(1, VA), cfgi_cd(1, 0), sync()]);
    assert!(world.done());
    assert_eq!(stalled.poll(), None);
    world.guest.map(&space, VA, DATA, PAGE);
    let retry = smmu_core::command::ResumeAction::Retry;
    let sink = &world.faults.sink;
    sink.resume_access(StreamId(1), stalled.stag(), retry);
    assert_eq!(stalled.wait(), Resumption::Retry);
    device.write(VA, &[7; 8]).unwrap();
    assert_eq!(world.guest.bytes(DATA, 8), [7; 8]);
}

#[test]
fn law3_an_event_is_visible_before_the_sync_that_waits_for_its_access() {
    let mut world = two_spaces();
    let mut port = world.core.port(StreamId(1)).unwrap();
    let (core, faults) = (world.core.clone(), world.faults.clone());
    let mut seen = None;
    let denied = port.translate(None, access(VA + 0x5000), 8, |failed| {
        // The worker comes by just now: the access's guard is still open.
        world.send(&[tlbi(1, VA + 0x5000), sync()]);
        let before = world.done();
        assert!(matches!(
            faults.sink.fault(failed),
            vcmdq::events::Answer::Abort
        ));
        seen = Some((before, faults.sink.queue().prod()));
    });
    assert!(matches!(denied, Err(Denied::Fault(_))));
    assert_eq!(seen, Some((false, 1)));
    assert!(world.serve() && world.done());
    drop(core);
}

/// Whoever waits for guards on a control path is heard from again only when they are gone.
fn must_wait<T: Send + 'static>(
    control: impl FnOnce() -> T + Send + 'static,
    then: impl FnOnce(),
) -> T {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || tell.send(control()));
    let early = told.recv_timeout(Duration::from_millis(50));
    assert!(early.is_err(), "it did not wait");
    then();
    let result = told.recv_timeout(SOON).expect("it waits for ever");
    thread.join().unwrap().unwrap();
    result
}

#[test]
fn law9_update_memory_waits_for_guards() {
    let world = two_spaces();
    let mut device = world.device(1);
    device.write(VA, &[1; 8]).unwrap();
    let held = device.hold(Operation::Write, VA, 8).unwrap().unwrap();
    let new = Arc::new(HeapMemory::new(RAM));
    // The new map has the same guest in it, but for the data.
    for at in (0..0x4_0000).step_by(8) {
        let value = world.guest.get(at);
        smmu_core::guest_memory::store_u64(
            &*new,
            Gpa(at),
            value,
            std::sync::atomic::Ordering::Relaxed,
        )
        .unwrap();
    }
    let old = world.guest.memory.clone();
    let replaced = new.clone();
    let frame = Arc::new(world.frame);
    let control = frame.clone();
    must_wait(
        move || control.update_memory(replaced),
        || {
            assert_eq!(held.write(0, &[2; 8]).unwrap(), 8);
            drop(held);
        },
    );
    device.write(VA, &[3; 8]).unwrap();
    let word = |memory: &HeapMemory| {
        let at = Gpa(DATA + 0x1_0000);
        smmu_core::guest_memory::load_u64(memory, at, std::sync::atomic::Ordering::Relaxed)
    };
    let bytes = |n: u8| u64::from_le_bytes([n; 8]);
    assert_eq!(
        word(&old),
        Ok(bytes(2)),
        "nothing touches the old map any more"
    );
    assert_eq!(word(&new), Ok(bytes(3)));
    drop(frame);
}

#[test]
fn law9_a_change_of_registers_waits_for_guards() {
    let world = two_spaces();
    let mut device = world.device(1);
    let held = device.hold(Operation::Read, VA, 8).unwrap().unwrap();
    let core = world.core.clone();
    must_wait(move || core.set_up(None), || drop(held));
    let after = device.read(VA, &mut [0]).unwrap_err();
    assert!(matches!(after.cause, DmaError::Aborted));
}

/// An access that goes by the new registers may take as long as it likes, and a SYNC may wait for it.
#[test]
fn law9_a_change_of_registers_waits_for_no_later_guard() {
    let mut world = two_spaces();
    let [mut earlier, mut later] = [1, 2].map(|stream| world.device(stream));
    let before = earlier.hold(Operation::Read, VA, 8).unwrap().unwrap();
    let core = world.core.clone();
    let mut after = None;
    must_wait(
        move || core.set_up(Some(setup(lenient()))),
        || {
            after = later.hold(Operation::Read, VA, 8).unwrap();
            world.send(&[tlbi(2, VA), sync()]);
            drop(before);
        },
    );
    assert!(!world.done(), "the later access goes on");
    drop(after);
    assert!(world.serve() && world.done());
}

#[test]
fn law4_a_stream_that_failed_closed_aborts_and_its_guards_are_waited_for() {
    let mut world = two_spaces();
    let [mut one, mut two] = [1, 2].map(|stream| world.device(stream));
    one.read(VA, &mut [0]).unwrap();
    let held = one.hold(Operation::Read, VA, 8).unwrap().unwrap();
    world.core.fail_closed(Some(StreamId(1)));
    world.send(&[sync()]);
    assert!(!world.done());
    drop(held);
    assert!(world.serve() && world.done());
    let aborted = one.read(VA, &mut [0]).unwrap_err();
    assert!(matches!(aborted.cause, DmaError::Aborted));
    one.set_substream(Some(SubstreamId(1)));
    assert!(one.write(VA, &[0]).is_err());
    two.read(VA, &mut [0]).unwrap();
    world.core.fail_closed(None);
    two.read(VA, &mut [0]).unwrap_err();
    assert!(world.faults.take().is_empty());
}

/// Guards that are leaked, ports that are dropped with one open, ports that come back from owned
/// guards: no SYNC waits for ever, and the instance goes when its last user does.
#[test]
fn guards_and_ports_leave_nothing_behind() {
    let mut world = two_spaces();
    let users = Arc::strong_count(&world.core);
    let mut port = world.core.port(StreamId(1)).unwrap();
    for _ in 0..4 {
        let guard = port.translate_owned(None, access(VA), 8, |_| ()).unwrap();
        port = guard.close();
    }
    assert_eq!(Arc::strong_count(&world.core), users + 1);
    std::mem::forget(open(&mut port, VA));
    world.send(&[tlbi(1, VA), sync()]);
    assert!(!world.done());
    drop(port);
    assert!(world.serve() && world.done());
    assert_eq!(Arc::strong_count(&world.core), users);
    let all: Vec<_> = std::iter::from_fn(|| world.core.port(StreamId(1)).ok()).collect();
    assert_eq!(all.len(), small().guards, "every slot has come back");
}

#[derive(Default)]
struct Told(Mutex<Vec<(Use, Duration)>>);

impl Overdue for Told {
    fn overdue(&self, used: &Use, waited: Duration) {
        self.0.lock().unwrap().push((*used, waited));
    }
}

impl Told {
    fn take(&self) -> Vec<(StreamId, Option<Asid>, Duration)> {
        let told = std::mem::take(&mut *self.0.lock().unwrap());
        let short = |(used, waited): (Use, Duration)| (used.stream, used.asid, waited);
        told.into_iter().map(short).collect()
    }
}

#[test]
fn law3_an_overdue_guard_is_reported_to_the_device_then_to_the_vmm_and_the_sync_waits_on() {
    let mut world = two_spaces();
    let [one, two, host] = [(); 3].map(|()| Arc::new(Told::default()));
    let [mut first, mut second] = [1, 2].map(|stream| world.device(stream));
    first.on_overdue(one.clone());
    second.on_overdue(two.clone());
    world.core.set_overdue_host(host.clone());
    first.read(VA, &mut [0]).unwrap();
    let held = first.hold(Operation::Read, VA, 8).unwrap().unwrap();
    let other = second.hold(Operation::Read, VA, 8).unwrap().unwrap();
    world.send(&[tlbi(1, VA), sync()]);
    assert!(!world.done());
    let (ring, ms) = (WaiterId(0), Duration::from_millis);
    let overdue = |waited| world.core.overdue(ring, waited);
    assert_eq!(overdue(Duration::ZERO), Some(ms(100)));
    assert_eq!((one.take(), host.take()), (vec![], vec![]));
    assert_eq!(overdue(ms(100)), Some(ms(500)));
    let reported = |waited| vec![(StreamId(1), Some(Asid(1)), waited)];
    assert_eq!((one.take(), host.take()), (reported(ms(100)), vec![]));
    assert_eq!(overdue(ms(501)), None);
    assert_eq!(host.take(), reported(ms(501)));
    assert!(two.take().is_empty(), "nobody waits for the other stream");
    assert!(!world.done(), "telling does not complete it");
    // Whoever has gone is not told any more.
    one.take();
    drop(first);
    world.core.overdue(ring, ms(600));
    assert!(one.take().is_empty());
    drop(held);
    assert!(world.serve() && world.done());
    world.core.overdue(ring, ms(700));
    host.take();
    world.core.overdue(ring, ms(800));
    assert!(
        host.take().is_empty(),
        "nothing is open that anybody waits for"
    );
    drop(other);
}
