//! What the host tells of the streams: events of vEVENTQs, and page faults that become stalled transactions.

use crate::host::world::*;
use crate::host::*;
use dispatch::Traffic;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use smmu_core::command::{Cfgi, Msi, ResumeAction};
use smmu_core::guest_memory::load_u64;
use smmu_core::spec::event::{EventId, EventRecord, EventWord0};
use smmu_core::{Gpa, Stag, StreamId};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use vcmdq::events::EventReporter;
use vcmdq::seams::NoTarget;
use vcmdq::testing::HeapMemory;
use vcmdq::{Interrupts, Line, StreamHost};
use vcmdq_iommufd::{HostInstanceError, NestedStreams, Offer};

const OVFLG: u32 = 1 << 31;
const LOST: u32 = 1;
/// What the kernel answers: the access is made again, or ends in an abort.
const RETRIED: u32 = 0;
const ENDED: u32 = 1;

fn event(stream: u32, address: u64) -> [u64; 4] {
    let first = EventWord0::new().with_id(0x10).with_stream(stream);
    [first.into_bits(), 0, address, 0]
}

pub(crate) fn is_readable(world: &World) -> bool {
    let mut file = [PollFd::new(&*world.instance, PollFlags::IN)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut file, Some(&now)).unwrap() != 0
}

fn drained(world: &World) -> Vec<u64> {
    assert!(!world.streams.drain(&world.instance).unwrap(), "all of it");
    world.events().iter().map(EventRecord::input_addr).collect()
}

#[test]
fn events_of_the_host_reach_the_guest_in_order() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    assert!(!is_readable(&world));
    for n in 0..3 {
        world.host.tell(0, n, Some(event(1, n.into())));
    }
    assert!(is_readable(&world));
    assert_eq!(drained(&world), [0, 1, 2]);
    assert_eq!(world.events()[2].dw0().stream(), 1, "the vSID");
    assert!(!is_readable(&world));
    assert_eq!(world.streams.metrics().events, 3);
}

/// An empty queue says so in one of several ways, and none of them is an event or an error.
#[test]
fn row26_a_read_that_brings_nothing_is_nothing() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    for _ in 0..3 {
        // EAGAIN.
        assert!(drained(&world).is_empty());
    }
    world.host.tell(0, 0, Some(event(1, 7)));
    assert_eq!(drained(&world), [7]);
    assert_eq!(drained(&world), [7], "told once");
    let metrics = world.streams.metrics();
    assert_eq!((metrics.events, metrics.stray, metrics.lost), (1, 0, 0));
}

#[test]
fn lost_events_become_an_overflow() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.host.tell(0, 0, Some(event(1, 0)));
    // One and two are missing.
    world.host.tell(0, 3, Some(event(1, 3)));
    assert_eq!(drained(&world), [0, 3]);
    assert_eq!(world.streams.metrics().lost, 2);
    let queue = world.frame.events().queue();
    assert_eq!(queue.prod() & OVFLG, OVFLG);
    world.frame.events().write_cons(OVFLG | 2);
    // Four and five, and nothing behind them.
    world.host.tell(LOST, 5, None);
    drained(&world);
    assert_eq!((world.streams.metrics().lost, queue.prod() & OVFLG), (4, 0));
    world.host.tell(0, 6, Some(event(1, 6)));
    drained(&world);
    assert_eq!(world.streams.metrics().lost, 4, "six follows five");
}

#[test]
fn the_numbers_of_events_wrap() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.host.tell(0, 0x7FFF_FFFF, Some(event(1, 1)));
    world.host.tell(0, 0, Some(event(1, 2)));
    assert_eq!(drained(&world), [1, 2]);
    assert_eq!(
        world.streams.metrics().lost,
        0x7FFF_FFFF,
        "before the first"
    );
}

#[test]
fn events_that_are_nobodys_are_dropped_and_counted() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    world.host.tell(0, 0, Some(event(9, 1)));
    let mut unknown = event(1, 2);
    unknown[0] |= 0xFF;
    world.host.tell(0, 1, Some(unknown));
    let mut stalled = event(1, 3);
    stalled[1] = 1 << 31;
    world.host.tell(0, 2, Some(stalled));
    assert!(drained(&world).is_empty());
    assert_eq!(world.streams.metrics().stray, 3);
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    world.host.tell(0, 3, Some(event(1, 4)));
    assert!(drained(&world).is_empty());
}

#[test]
fn one_drain_reads_a_bounded_number() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    let mut told = 0;
    // The socket that stands for the queue takes some hundreds at a time.
    for n in 0..6 * 200 {
        world.host.tell(0, n, Some(event(1, n.into())));
        if n % 200 == 199 {
            while world.streams.drain(&world.instance).unwrap() {}
            told = world.streams.metrics().events;
        }
    }
    assert_eq!(
        told, 1200,
        "the guest's queue has counted what it had no room for"
    );
    let dropped = world.frame.events().queue().metrics().overflowed;
    assert_eq!(dropped, 1200 - 128);
}

fn stalling() -> World {
    let world = World::with(offer(2));
    world.plug(1, 101).unwrap();
    world.plug(2, 102).unwrap();
    world.traffic(&[1, 2], &world.enabled());
    world
}

/// The guest's RESUME, as the engine tells it.
fn resume(world: &World, stream: u32, stag: u16, action: ResumeAction) {
    let (stream, stag) = (StreamId(stream), Stag(stag));
    world.frame.events().resume_access(stream, stag, action);
    world.streams.resume(stream, stag, action);
}

#[test]
fn a_page_fault_is_a_stalled_transaction_and_resume_its_answer() {
    let world = stalling();
    world.host.page_fault(101, Some(5), 2 | 8, 0x7000, 77);
    world.host.page_fault(102, None, 1, 0x8000, 78);
    assert!(is_readable(&world));
    assert_eq!(drained(&world), [0x7000, 0x8000]);
    let [write, read] = world.events()[..] else {
        panic!("two events");
    };
    assert_eq!(
        (write.id(), write.dw1().stall()),
        (Some(EventId::Translation), true)
    );
    assert_eq!((write.dw0().ssv(), write.dw0().substream()), (true, 5));
    assert_eq!(
        (write.dw1().rnw(), write.dw1().pnu(), read.dw1().rnw()),
        (false, true, true)
    );
    assert!(world.host.answers().is_empty());
    assert_eq!(world.streams.pending_faults(&world.instance), 2);
    resume(&world, 2, write.dw1().stag(), ResumeAction::Retry);
    assert!(world.host.answers().is_empty(), "another stream's tag");
    resume(&world, 2, read.dw1().stag(), ResumeAction::Abort);
    resume(&world, 1, write.dw1().stag(), ResumeAction::Retry);
    assert_eq!(world.host.answers(), [(78, ENDED), (77, RETRIED)]);
    resume(&world, 1, write.dw1().stag(), ResumeAction::Retry);
    assert!(world.host.answers().is_empty(), "answered once");
    assert_eq!(
        world.frame.events().stalls().unwrap().in_use(),
        0,
        "tags are free again"
    );
}

/// A guest's driver that resumes a transaction as soon as it is interrupted, by what it reads in its queue.
#[derive(Default)]
struct Eager(OnceLock<(EventReporter, Weak<NestedStreams>, Arc<HeapMemory>)>);

impl Interrupts for Eager {
    fn pulse(&self, line: Line) {
        let (Line::EventQueue, Some((reporter, streams, memory))) = (line, self.0.get()) else {
            return;
        };
        let word = |at| load_u64(&**memory, Gpa(EVENTS.0 + at), Ordering::Acquire).unwrap();
        let (stream, stag) = (StreamId((word(0) >> 32) as u32), Stag(word(8) as u16));
        let action = ResumeAction::Retry;
        reporter.with(|events| events.resume_access(stream, stag, action));
        let streams = streams.upgrade().unwrap();
        streams.resume(stream, stag, action);
    }

    fn message(&self, _: u32, _: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

#[test]
fn a_guest_that_answers_before_the_cookie_is_noted_is_heard() {
    let guest = Arc::new(Eager::default());
    let world = World::interrupting(offer(2), guest.clone());
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    let streams = Arc::downgrade(&world.streams);
    let reporter = world.frame.event_reporter();
    assert!(
        guest
            .0
            .set((reporter, streams, world.memory.clone()))
            .is_ok()
    );
    world.host.page_fault(101, None, 1, 0x7000, 77);
    drained(&world);
    assert_eq!(world.host.answers(), [(77, RETRIED)]);
    assert_eq!(world.streams.pending_faults(&world.instance), 0);
}

/// A guest that switches its SMMU off as soon as it is interrupted.
#[derive(Default)]
struct Leaving(OnceLock<(Weak<NestedStreams>, Traffic)>);

impl Interrupts for Leaving {
    fn pulse(&self, line: Line) {
        if let (Line::EventQueue, Some((streams, off))) = (line, self.0.get()) {
            let streams = streams.upgrade().unwrap();
            streams.traffic_changed(StreamId(1), off);
        }
    }

    fn message(&self, _: u32, _: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

#[test]
fn a_fault_whose_stream_stops_before_its_cookie_is_noted_is_answered() {
    let guest = Arc::new(Leaving::default());
    let world = World::interrupting(offer(2), guest.clone());
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    let streams = Arc::downgrade(&world.streams);
    assert!(guest.0.set((streams, world.disabled(true))).is_ok());
    world.host.page_fault(101, None, 1, 0x7000, 77);
    drained(&world);
    assert_eq!(world.host.answers(), [(77, ENDED)]);
    assert_eq!(world.streams.pending_faults(&world.instance), 0);
}

#[test]
fn a_fault_that_finds_no_room_is_answered_at_once() {
    let world = stalling();
    for cookie in 0..3 {
        world
            .host
            .page_fault(101, None, 1, 0x1000 * u64::from(cookie), cookie);
    }
    drained(&world);
    assert_eq!(world.host.answers(), [(2, ENDED)]);
    let stalls: Vec<bool> = world.events().iter().map(|e| e.dw1().stall()).collect();
    assert_eq!(stalls, [true, true, false], "the guest is told of each");
    let metrics = world.streams.metrics();
    assert_eq!((metrics.stalled, metrics.unstalled), (2, 1));
}

#[test]
fn faults_end_with_stall_term_with_the_smmu_and_with_the_stream() {
    let world = stalling();
    let stall_term = |stream| {
        world.frame.events().terminate_stalls(StreamId(stream));
        world.streams.terminate_stalls(StreamId(stream));
    };
    world.host.page_fault(101, None, 1, 0, 1);
    world.host.page_fault(102, None, 1, 0, 2);
    drained(&world);
    stall_term(1);
    assert_eq!(world.host.answers(), [(1, ENDED)]);
    world.traffic(&[1, 2], &world.disabled(false));
    assert_eq!(world.host.answers(), [(2, ENDED)]);
    world.host.page_fault(102, None, 1, 0, 3);
    drained(&world);
    assert_eq!(
        world.host.answers(),
        [(3, ENDED)],
        "nothing stalls while SMMUEN is 0"
    );
    world.traffic(&[1, 2], &world.enabled());
    world.host.page_fault(102, None, 1, 0, 4);
    drained(&world);
    world.streams.unplug(&world.frame, StreamId(2)).unwrap();
    assert_eq!(world.host.answers(), [(4, ENDED)]);
    world.host.page_fault(102, None, 1, 0, 5);
    drained(&world);
    assert_eq!(world.host.answers(), [(5, ENDED)], "nobody's device");
    assert_eq!(world.streams.pending_faults(&world.instance), 0);
}

/// The kernel gives numbers of faults that have been answered again, at once.
#[test]
fn law4_an_answer_that_comes_behind_another_table_answers_nobody_elses_fault() {
    let world = stalling();
    world.configure(1, &stage1(0x4000));
    world.host.page_fault(101, None, 1, 0x7000, 1);
    drained(&world);
    let tag = |n: usize| world.events()[n].dw1().stag();
    world.configure(1, &stage1(0x8000));
    assert_eq!(world.host.answers(), [(1, ENDED)], "with its table");
    world.host.page_fault(102, None, 1, 0x9000, 1);
    drained(&world);
    resume(&world, 1, tag(0), ResumeAction::Abort);
    assert!(world.host.answers().is_empty(), "it has been answered");
    resume(&world, 2, tag(1), ResumeAction::Retry);
    assert_eq!(world.host.answers(), [(1, RETRIED)]);
    assert_eq!(world.streams.pending_faults(&world.instance), 0);
    // One that stays as it is keeps its stalled transactions.
    world.host.page_fault(101, None, 1, 0xA000, 1);
    drained(&world);
    world.cfgi(1);
    assert!(world.host.answers().is_empty());
    resume(&world, 1, tag(2), ResumeAction::Retry);
    assert_eq!(world.host.answers(), [(1, RETRIED)]);
}

/// So it does with those of a device that has gone.
#[test]
fn law4_an_answer_for_a_device_that_has_gone_answers_nobody_elses_fault() {
    let world = stalling();
    world.host.page_fault(101, None, 1, 0x7000, 1);
    drained(&world);
    world.host.take_away(101);
    world.host.page_fault(102, None, 1, 0x9000, 1);
    drained(&world);
    let tag = |n: usize| world.events()[n].dw1().stag();
    resume(&world, 1, tag(0), ResumeAction::Abort);
    assert!(world.host.answers().is_empty(), "nobody asks any more");
    resume(&world, 2, tag(1), ResumeAction::Retry);
    assert_eq!(world.host.answers(), [(1, RETRIED)]);
    assert_eq!(world.streams.pending_faults(&world.instance), 0);
}

/// A guest that changes the STE as soon as it is interrupted, once.
#[derive(Default)]
struct Changing(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Interrupts for Changing {
    fn pulse(&self, line: Line) {
        let change = self.0.lock().unwrap().take();
        if let (Line::EventQueue, Some(change)) = (line, change) {
            change();
        }
    }

    fn message(&self, _: u32, _: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

#[test]
fn law4_a_fault_whose_table_goes_before_its_cookie_is_noted_is_answered_once() {
    let guest = Arc::new(Changing::default());
    let world = World::interrupting(offer(2), guest.clone());
    for (stream, device) in [(1, 101), (2, 102)] {
        world.plug(stream, device).unwrap();
        world.traffic(&[stream], &world.enabled());
    }
    world.configure(1, &stage1(0x4000));
    world.write_ste(1, &stage1(0x8000));
    let (streams, stream) = (world.streams.clone(), StreamId(1));
    let change = move || {
        let change = Cfgi::Ste { stream, leaf: true };
        streams.configuration_changed(stream, &change);
    };
    *guest.0.lock().unwrap() = Some(Box::new(change));
    world.host.page_fault(101, None, 1, 0x7000, 1);
    drained(&world);
    assert_eq!(world.host.answers(), [(1, ENDED)]);
    world.host.page_fault(102, None, 1, 0x9000, 1);
    drained(&world);
    resume(
        &world,
        1,
        world.events()[0].dw1().stag(),
        ResumeAction::Abort,
    );
    assert!(world.host.answers().is_empty(), "another stream's");
    resume(
        &world,
        2,
        world.events()[1].dw1().stag(),
        ResumeAction::Retry,
    );
    assert_eq!(world.host.answers(), [(1, RETRIED)]);
}

#[test]
fn only_a_frame_with_stalls_has_a_fault_queue() {
    let world = World::new();
    assert!(world.frame.events().stalls().is_none());
    let host = FakeHost::new();
    host.state().fail_all = Some((Call::FaultQueue, Errno::NOTTY));
    let flavour = || std::sync::Arc::new(vcmdq_iommufd::ArmSmmuv3::new(true));
    let features = vcmdq_iommufd::HostFeatures::of_device(&*host, 101).unwrap();
    let made = |offer: Offer| {
        let caps = offer.capabilities(&features).unwrap();
        vcmdq_iommufd::HostInstance::new(host.clone(), flavour(), 101, IOAS, &caps).map(drop)
    };
    assert_eq!(made(offer(0)), Ok(()));
    assert_eq!(made(offer(4)), Err(HostInstanceError::Faults(Errno::NOTTY)));
    assert_eq!(host.objects(), 0, "nothing is left behind");
    host.state().fail_all = None;
    host.state().unwatchable = true;
    assert_eq!(made(offer(4)), Err(HostInstanceError::Watch(Errno::PERM)));
    assert_eq!(host.objects(), 0, "nor where the files cannot be watched");
    host.state().unwatchable = false;
    assert_eq!(made(offer(4)), Ok(()));
    assert_eq!(host.objects(), 0, "nor where all has gone well");
}
