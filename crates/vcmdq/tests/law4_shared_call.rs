//! Rings that share a call to the backend: everything that law 4 says holds for each by itself.

mod common;
mod shared_world;

use common::*;
use dispatch::Cause;
use dispatch::backend::faulty::Verdict;
use dispatch::dispatch::TRIES;
use shared_world::*;
use smmu_core::command::{Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::{Gpa, Vmid};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::tap::{Fetched, Tap};
use vcmdq::testing::commands::{sync, sync_to};
use vcmdq::{Binding, DoorbellMode, FrameSettings, Line, Placement, RingSettings, Seams};

#[test]
fn law4_rings_that_wait_at_the_same_time_share_a_call() {
    let mut shared = Shared::new(8);
    for ring in 0..8 {
        shared.cache(10 * ring as u64);
        shared.send(ring, &[tlbi(10 * ring as u64), sync()]);
    }
    shared.serve();
    let metrics = shared.metrics();
    assert_eq!((metrics.calls, metrics.requests, metrics.syncs), (1, 8, 8));
    assert_eq!((metrics.shared_calls, metrics.shared_windows), (1, 8));
    for ring in 0..8 {
        assert_eq!(shared.cons(ring), 2);
        assert!(!shared.cached(10 * ring as u64));
    }
    // Alone, nothing is shared.
    shared.send(3, &[tlbi(1), sync()]);
    shared.serve();
    let metrics = shared.metrics();
    assert_eq!((metrics.calls, metrics.shared_calls), (2, 1));
}

/// Many CPUs, one queue: the window is the group.
#[test]
fn law4_syncs_of_one_ring_that_wait_at_the_same_time_share_a_call() {
    let mut shared = Shared::new(1);
    let all: Vec<_> = (0..8).flat_map(|cpu| [tlbi(10 * cpu), sync()]).collect();
    shared.send(0, &all);
    shared.serve();
    let metrics = shared.metrics();
    assert_eq!((metrics.calls, metrics.syncs, metrics.windows), (1, 8, 1));
}

#[test]
fn law4_shared_call_charges_a_device_that_is_silent_to_the_ring_that_asked() {
    let mut shared = Shared::new(3);
    (0..4).for_each(|page| shared.cache(page));
    shared.send(0, &[tlbi(0), sync_to(Gpa(0x100), 1)]);
    shared.send(1, &[tlbi(1), atc_inv(), sync(), tlbi(2)]);
    shared.send(2, &[atc_inv(), tlbi(3), sync_to(Gpa(0x108), 2)]);
    shared.rig.backend.take();
    let faulty = shared.rig.backend.inner();
    faulty.script([Verdict::Pass, refuse(0, 0, Cause::DeviceTimedOut)]);
    shared.serve();
    assert_eq!((shared.cons(0), shared.cons(2)), (2, 3));
    assert_eq!((shared.error(1), shared.cons(1)), (3, 2), "at its own SYNC");
    assert!((0..4).all(|page| !shared.cached(page)));
    let stopped = |ring: usize| shared.rings[ring].metrics().atc_timeouts;
    assert_eq!((stopped(0), stopped(1), stopped(2)), (0, 1, 0));
    let batches = shared.rig.backend.take();
    let again = batches.last().expect("calls");
    assert_eq!(
        (batches.len(), again.len()),
        (3, 1),
        "the other ring's ATC_INV"
    );
    assert_eq!(again.origin(0), 6);
    // And the acknowledgement brings that ring on.
    shared.rings[1].acknowledge(shared.rings[1].gerror());
    shared.serve();
    assert_eq!((shared.error(1), shared.cons(1)), (0, 4));
}

/// The same device is asked by two rings and answers neither.
#[test]
fn law4_shared_call_charges_a_device_that_is_silent_to_every_ring_that_asked() {
    let mut shared = Shared::new(3);
    shared.send(0, &[atc_inv(), sync()]);
    shared.send(1, &[tlbi(1), sync()]);
    shared.send(2, &[sync(), atc_inv(), sync()]);
    let silent = refuse(0, 0, Cause::DeviceTimedOut);
    shared
        .rig
        .backend
        .inner()
        .script([Verdict::Pass, silent, silent]);
    shared.serve();
    let state = |ring| (shared.error(ring), shared.cons(ring));
    assert_eq!([state(0), state(1), state(2)], [(3, 1), (0, 2), (3, 2)]);
}

/// A request that serves two rings is nobody's alone.
#[test]
fn law4_shared_call_charges_a_merged_request_to_both() {
    let mut shared = Shared::new(3);
    shared.send(0, &[tlbi(1), sync()]);
    shared.send(1, &[tlbi(2), sync()]);
    shared.send(2, &[tlbi(9), sync()]);
    // Pages 1 and 2 are one range.
    let silent = refuse(0, 0, Cause::DeviceTimedOut);
    shared.rig.backend.inner().script([silent]);
    shared.serve();
    let state = |ring| (shared.error(ring), shared.cons(ring));
    assert_eq!([state(0), state(1), state(2)], [(3, 1), (3, 1), (0, 2)]);
}

/// What a wider request of another ring stands for is its own ring's all the same, and stands where it
/// stood.
#[test]
fn law4_shared_call_charges_a_request_that_is_covered_where_it_was_made() {
    let everything = encode(&Command::Tlbi(Tlbi::NhAll { vmid: Vmid(0) }));
    let silent = refuse(0, 0, Cause::DeviceTimedOut);
    for wide_first in [false, true] {
        let mut shared = Shared::new(2);
        let (narrow, wide) = if wide_first { (1, 0) } else { (0, 1) };
        shared.send(narrow, &[tlbi(1), sync()]);
        shared.send(wide, &[everything, sync()]);
        shared.rig.backend.inner().script([silent]);
        shared.serve();
        let state = |ring| (shared.error(ring), shared.cons(ring));
        assert_eq!([state(0), state(1)], [(3, 1), (3, 1)]);
    }
    let mut alone = Shared::new(1);
    alone.send(0, &[tlbi(1), sync(), everything, sync()]);
    alone.rig.backend.inner().script([silent]);
    alone.serve();
    assert_eq!((alone.error(0), alone.cons(0)), (3, 1));
}

#[test]
fn law4_shared_call_that_is_accepted_in_part_is_finished_for_everybody() {
    for (take, say) in [(0, 0), (1, 1), (2, 2), (3, 0), (0, 4), (0, 9)] {
        let mut shared = Shared::new(4);
        let page = |ring: usize| 10 * ring as u64;
        for ring in 0..4 {
            shared.cache(page(ring));
            shared.send(ring, &[tlbi(page(ring)), sync()]);
        }
        let verdicts = [refuse(take, say, Cause::Again), refuse(0, 0, Cause::Again)];
        shared.rig.backend.inner().script(verdicts);
        shared.serve();
        for ring in 0..4 {
            assert_eq!((shared.error(ring), shared.cons(ring)), (0, 2));
            assert!(!shared.cached(page(ring)), "ring {ring}, {take} of {say}");
        }
    }
}

#[test]
fn law4_shared_call_that_fails_closed_is_counted_once_and_the_others_go_on() {
    let mut shared = Shared::new(3);
    for ring in 0..3 {
        shared.send(ring, &[tlbi(10 * ring as u64), sync()]);
    }
    // The first of what the batch holds passes, the second is refused in every form.
    let never = (0..2 * TRIES).map(|_| refuse(0, 0, Cause::Again));
    let verdicts = [refuse(1, 1, Cause::Again)].into_iter().chain(never);
    shared.rig.backend.inner().script(verdicts);
    shared.serve();
    let closed = |ring: usize| shared.rings[ring].metrics().failed_closed;
    assert_eq!([closed(0), closed(1), closed(2)], [0, 1, 0]);
    assert!((0..3).all(|ring| (shared.error(ring), shared.cons(ring)) == (0, 2)));
    assert_eq!(
        shared.rig.outside.take(),
        [Told::FailedClosed(None, Cause::Again)]
    );
    assert_eq!(shared.rig.backend.closed(), [None]);
}

#[test]
fn law4_shared_call_with_an_illegal_command_stops_its_ring_only() {
    let mut shared = Shared::new(3);
    (0..8).for_each(|page| shared.cache(page));
    shared.send(0, &[tlbi(0), sync()]);
    shared.send(1, &[tlbi(1), sync(), tlbi(2), illegal(), tlbi(3), sync()]);
    shared.send(2, &[tlbi(4), sync(), tlbi(5)]);
    shared.serve();
    let state = |ring| (shared.error(ring), shared.cons(ring));
    assert_eq!([state(0), state(1), state(2)], [(0, 2), (1, 3), (0, 3)]);
    let left: Vec<u64> = (0..8).filter(|page| shared.cached(*page)).collect();
    assert_eq!(left, [3, 6, 7], "nothing behind the error, all before it");
    assert_eq!(shared.rig.outside.take(), [Told::Pulse(Line::Gerror)]);
    assert_eq!(shared.metrics().calls, 1);
}

/// Effects take place behind all that their own ring has before them, and one that fills the window anew
/// takes nothing from the others.
#[test]
fn law4_shared_call_leaves_each_rings_effects_in_its_order() {
    let mut shared = Shared::new(3);
    (0..3).for_each(|page| shared.cache(page));
    let all = encode(&Command::Cfgi(smmu_core::command::Cfgi::All));
    shared.send(0, &[tlbi(0), all, tlbi(1), sync()]);
    shared.send(1, &[all, sync_to(Gpa(0x100), 5)]);
    shared.send(2, &[tlbi(2), sync_to(Gpa(0x108), 6)]);
    shared.serve();
    assert_eq!([0, 1, 2].map(|ring| shared.cons(ring)), [4, 2, 2]);
    assert_eq!(word(&*shared.rig.memory, Gpa(0x100)), 5);
    assert_eq!(word(&*shared.rig.memory, Gpa(0x108)), 6);
    assert_eq!(shared.metrics().effects, 2);
    assert!((0..3).all(|page| !shared.cached(page)));
}

/// Own words first, other messages behind their ring's CONS, wires behind that.
#[test]
fn law4_shared_call_orders_messages_and_cons_for_each_ring() {
    let mut shared = Shared::new(2);
    let far = Gpa(0x800_0000);
    let wire = encode(&Command::Sync(Signal::Irq { msi: None }));
    let own = Gpa(base(0).0 + 16);
    shared.send(0, &[tlbi(0), sync_to(own, 0), wire]);
    shared.send(1, &[tlbi(1), sync_to(far, 3), tlbi(2)]);
    drop(shared.rig.memory.take_dirty());
    shared.serve();
    assert_eq!(word(&*shared.rig.memory, own), 0);
    assert!(shared.rig.memory.take_dirty().contains(&base(0)));
    let far = smmu_core::command::Msi { addr: far, data: 3 };
    assert_eq!(
        shared.rig.outside.take(),
        [Told::Pulse(Line::CommandSync), Told::Message(far)]
    );
    assert_eq!([shared.cons(0), shared.cons(1)], [3, 3]);
}

/// A SYNC waits for the accesses that its own ring's invalidations concern, and for no others.
#[test]
fn law3_shared_call_makes_only_that_ring_wait_whose_page_is_in_use() {
    let mut shared = Shared::new(3);
    let mut port = shared.translate();
    let guard = port.translate(None, read(0), 8, |_| ()).expect("mapped");
    shared.send(0, &[tlbi(BLOCK_PAGES), sync()]);
    shared.send(1, &[tlbi(0), sync(), tlbi(3 * BLOCK_PAGES), sync()]);
    shared.send(2, &[tlbi(2 * BLOCK_PAGES), sync()]);
    shared.serve();
    let cons = |shared: &Shared| [0, 1, 2].map(|ring| shared.cons(ring));
    assert_eq!(cons(&shared), [2, 1, 2], "one is in use");
    assert_eq!(shared.metrics().shared_calls, 2, "one for each instance");
    // It is asked for alone, and the others are not held up by it.
    shared.send(0, &[tlbi(BLOCK_PAGES), sync()]);
    shared.serve();
    assert_eq!(cons(&shared), [4, 1, 2]);
    drop(guard);
    assert_eq!(shared.rig.engine.take_ready(), Some(1), "it is woken");
    shared.serve();
    assert_eq!(cons(&shared), [4, 4, 2]);
}

/// One request of two rings concerns an access: both wait.
#[test]
fn law3_shared_call_makes_both_rings_of_a_merged_request_wait() {
    let mut shared = Shared::new(3);
    let mut port = shared.translate();
    let guard = port.translate(None, read(0), 8, |_| ()).expect("mapped");
    shared.send(0, &[tlbi(0), sync()]);
    shared.send(1, &[tlbi(1), sync()]);
    shared.send(2, &[tlbi(2 * BLOCK_PAGES), sync()]);
    shared.serve();
    let cons = |shared: &Shared| [0, 1, 2].map(|ring| shared.cons(ring));
    assert_eq!((cons(&shared), shared.metrics().requests), ([1, 1, 2], 4));
    drop(guard);
    shared.serve();
    assert_eq!(cons(&shared), [2, 2, 2]);
}

/// A ring that floods has its part of the window and no more.
#[test]
fn law8_shared_window_has_room_for_everybody() {
    let mut shared = Shared::of(16, 10);
    let flood: Vec<_> = (0..1000).map(|n| tlbi(7 * n)).collect();
    (1..16).for_each(|ring| shared.send(ring, &flood));
    shared.send(0, &[tlbi(0), sync()]);
    shared.slice(Duration::from_micros(1));
    shared.serve();
    assert_eq!(shared.cons(0), 2);
    for ring in 1..16 {
        assert!((1..=64).contains(&shared.cons(ring)), "ring {ring}");
    }
    // What is left is announced, and done in the end.
    shared.serve_all();
    assert!((1..16).all(|ring| shared.cons(ring) == 1000));
}

/// More rings than share a call, and rings of another frame, which share none.
#[test]
fn law4_rings_that_cannot_share_a_call_are_served_all_the_same() {
    let mut shared = Shared::of(20, 4);
    for ring in 0..20 {
        shared.send(ring, &[tlbi(10 * ring as u64), sync()]);
    }
    shared.serve();
    assert!((0..20).all(|ring| shared.cons(ring) == 2));
    assert_eq!(shared.metrics().calls, 2);

    let seams = Seams::new(shared.rig.memory.clone());
    let stranger = shared.rig.engine.add_frame(FrameSettings::default(), seams);
    let backend = backend();
    stranger.add_instance(backend.clone(), Placement::default());
    let ring = stranger.add_ring(DoorbellMode::Trap).unwrap();
    let place = RingSettings {
        base: base(20),
        log2size: 4,
    };
    ring.configure(place).unwrap();
    ring.enable();
    shared.rings.push(ring);
    shared.prods.push(0);
    shared.send(0, &[tlbi(0), sync()]);
    shared.send(20, &[tlbi(1), sync()]);
    shared.serve_all();
    assert_eq!((shared.cons(0), shared.cons(20)), (4, 2));
    assert_eq!(backend.take().len(), 1, "its own backend, its own call");
}

/// A stream is bound, another is not; who named which is known.
#[test]
fn law2_shared_call_counts_unbound_streams_where_they_were_named() {
    let mut shared = Shared::new(2);
    let instance = shared.rig.instance;
    let placement = Placement::default();
    let binding = Binding {
        instance,
        placement,
    };
    shared
        .rig
        .frame
        .bind(smmu_core::StreamId(0x11), binding)
        .unwrap();
    shared.send(0, &[atc_inv_of(0x11), sync()]);
    shared.send(1, &[atc_inv_of(0x12), atc_inv_of(0x10), sync()]);
    shared.serve();
    let unbound = |ring: usize| shared.rings[ring].metrics().unbound;
    assert_eq!([unbound(0), unbound(1)], [0, 1]);
    assert_eq!([shared.cons(0), shared.cons(1)], [2, 3]);
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Tap for Notes {
    fn published(&self, prod: u32) {
        self.0.lock().unwrap().push(format!("prod {prod}"));
    }

    fn fetched(&self, window: &Fetched<'_>) {
        let (first, count) = (window.first, window.commands.len());
        self.0.lock().unwrap().push(format!("{count} from {first}"));
    }

    fn completed(&self, index: u32) {
        self.0.lock().unwrap().push(format!("sync {index}"));
    }

    fn consumed(&self, cons: u32) {
        self.0.lock().unwrap().push(format!("cons {cons}"));
    }
}

/// Who watches a ring is told of that ring, with its own places.
#[test]
fn tap_of_a_ring_that_shares_calls_sees_that_ring() {
    let mut shared = Shared::new(3);
    let notes: Vec<Arc<Notes>> = (0..3).map(|_| Arc::default()).collect();
    for (ring, notes) in shared.rings.iter().zip(&notes) {
        ring.set_tap(Some(notes.clone()));
    }
    shared.send(0, &[tlbi(0), sync()]);
    shared.send(1, &[tlbi(1), tlbi(2), sync(), tlbi(3), sync()]);
    shared.send(2, &[sync(), tlbi(5)]);
    shared.serve();
    let told = |ring: usize| notes[ring].0.lock().unwrap().join(", ");
    assert_eq!(told(0), "prod 2, 2 from 0, sync 1, cons 2");
    assert_eq!(told(1), "prod 5, 5 from 0, sync 2, sync 4, cons 5");
    assert_eq!(told(2), "prod 2, 2 from 0, sync 0, cons 2");
}

/// Every SYNC of a shared call is measured, and those that wait for an access only when they are done.
#[test]
fn lateness_of_rings_that_share_calls_is_measured_for_each() {
    let mut shared = Shared::measured(3);
    let mut port = shared.translate();
    let guard = port.translate(None, read(0), 8, |_| ()).expect("mapped");
    shared.send(0, &[tlbi(0), sync(), tlbi(1), sync()]);
    shared.send(1, &[tlbi(2 * BLOCK_PAGES), sync(), sync()]);
    shared.send(2, &[sync()]);
    shared.serve();
    let measured = |shared: &Shared| {
        let of = |ring: usize| shared.rings[ring].metrics().lateness().measured;
        [of(0), of(1), of(2)]
    };
    assert_eq!(measured(&shared), [0, 2, 1]);
    drop(guard);
    shared.serve_all();
    assert_eq!(measured(&shared), [2, 2, 1]);
}

/// A thread that unwinds in a shared call: nothing is lost, and all of it is read again (law 6).
#[test]
fn law6_shared_call_that_unwinds_is_done_again() {
    let mut shared = Shared::panicking(2);
    (0..3).for_each(|page| shared.cache(page));
    shared.send(0, &[tlbi(0), sync()]);
    shared.send(1, &[tlbi(1), sync()]);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared.serve()));
    assert!(unwound.is_err(), "the backend has panicked");
    assert_eq!([shared.cons(0), shared.cons(1)], [0, 0]);
    shared.rig.write(0, tlbi(2));
    shared.serve_all();
    assert_eq!([shared.cons(0), shared.cons(1)], [2, 2]);
    assert!(!shared.cached(1) && !shared.cached(2));
}
