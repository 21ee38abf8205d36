//! The fault injector and the recorder do what they are told: tests that rely on them rely on this.

use dispatch::backend::Software;
use dispatch::backend::faulty::{At, Fault, Faulty};
use dispatch::backend::recorder::Recorder;
use dispatch::{Backend, Batch, Cause, Invalidation, Rejected, Scope, Stage};
use smmu_core::tlb::{Entry, PageClass, Space, TlbSettings};
use smmu_core::{Asid, StreamId, Vmid};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Tried = Recorder<Faulty<Recorder<Software>>>;

fn tried() -> Tried {
    let software = Software::new(TlbSettings {
        log2_entries: 8,
        log2_asids: 6,
    });
    Recorder::new(Faulty::new(Recorder::new(software)))
}

fn asid(n: u16) -> Invalidation {
    Invalidation {
        vmid: Vmid(0),
        stage: Stage::One,
        scope: Scope::Context(Asid(n)),
    }
}

fn device(stream: u32) -> Invalidation {
    let scope = Scope::DeviceTlb {
        stream: StreamId(stream),
        pasid: None,
        global: false,
        addr: 0,
        size: 52,
    };
    Invalidation { scope, ..asid(0) }
}

/// What is said to these requests, and which of them were executed.
fn ask(backend: &Tried, requests: &[Invalidation]) -> (Result<(), (usize, Cause)>, usize) {
    let mut batch = Batch::new();
    for (origin, request) in (0..).zip(requests) {
        batch.push(*request, origin);
    }
    let said = backend.submit(&batch);
    let executed = backend.inner().inner().take();
    let all: Vec<_> = executed.iter().flat_map(|batch| batch.requests()).collect();
    assert_eq!(all, requests[..all.len()], "in order");
    let said = said.map_err(|Rejected { accepted, cause }| (accepted, cause));
    (said, all.len())
}

#[test]
fn a_request_is_counted_over_all_calls_and_fails_wherever_it_comes_again() {
    let backend = tried();
    let fault = Fault::new(At::Nth(3), Cause::Unsupported);
    backend.inner().inject(fault);
    let all = [0, 1, 2, 3, 4].map(asid);
    assert_eq!(ask(&backend, &all[..2]), (Ok(()), 2));
    let refused = |at| Err((at, Cause::Unsupported));
    assert_eq!(ask(&backend, &all[2..]), (refused(1), 1));
    assert_eq!(ask(&backend, &all[3..4]), (refused(0), 0), "alone");
    assert_eq!(ask(&backend, &all[4..]), (Ok(()), 1));
    assert_eq!(ask(&backend, &all), (refused(3), 3));
    backend.inner().heal();
    assert_eq!(ask(&backend, &all), (Ok(()), 5));
}

#[test]
fn a_fault_strikes_so_often_and_says_what_it_is_told_to() {
    let backend = tried();
    let fault = Fault::new(At::Any, Cause::Again).times(2).saying(9);
    backend.inner().inject(fault);
    let all = [0, 1].map(asid);
    let refused = (Err((9, Cause::Again)), 0);
    assert_eq!(ask(&backend, &all), refused);
    assert_eq!(ask(&backend, &[]), (Ok(()), 0), "nothing to fail at");
    assert_eq!(ask(&backend, &all), refused);
    assert_eq!(ask(&backend, &all), (Ok(()), 2));
}

#[test]
fn of_several_faults_the_first_in_the_batch_strikes_and_the_others_still_count() {
    let backend = tried();
    let stream = Fault::new(At::Stream(StreamId(7)), Cause::Gone);
    backend.inner().inject(stream);
    let third = Fault::new(At::Nth(2), Cause::TimedOut).times(1);
    backend.inner().inject(third);
    let all = [device(6), device(7), device(8)];
    assert_eq!(ask(&backend, &all), (Err((1, Cause::Gone)), 1));
    assert_eq!(ask(&backend, &all[..1]), (Ok(()), 1), "another stream");
    // It was in the first call already.
    assert_eq!(ask(&backend, &all[2..]), (Err((0, Cause::TimedOut)), 0));
    assert_eq!(ask(&backend, &all[2..]), (Ok(()), 1));
    assert_eq!(ask(&backend, &all[1..]), (Err((0, Cause::Gone)), 0));
}

/// What stands before a fault is really executed.
#[test]
fn what_is_accepted_has_taken_effect() {
    let backend = tried();
    let software = backend.inner().inner().inner();
    for n in 0..4 {
        let entry = Entry {
            vmid: Vmid(0),
            space: Space::Asid(Asid(n)),
            va: 0x1000,
            class: PageClass::Page4K,
            payload: [0; 2],
        };
        assert!(software.fill(&entry, &software.ticket(Vmid(0), Asid(n))));
    }
    let fault = Fault::new(At::Nth(2), Cause::Again);
    backend.inner().inject(fault);
    let said = ask(&backend, &[0, 1, 2, 3].map(asid));
    assert_eq!(said, (Err((2, Cause::Again)), 2));
    let cached = |n: &u16| {
        let found = software.lookup(StreamId(0), Vmid(0), Asid(*n), 0x1000);
        found.is_some()
    };
    assert_eq!((0..4).filter(cached).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_call_takes_what_it_is_delayed_by_and_begins_with_the_hook() {
    let backend = tried();
    let delay = Duration::from_millis(2);
    let hooked = Arc::new(AtomicU64::new(0));
    let count = hooked.clone();
    backend.inner().delay(delay);
    backend.inner().hook(move |batch| {
        count.fetch_add(batch.len() as u64, Ordering::SeqCst);
    });
    assert_eq!(ask(&backend, &[asid(1), asid(2)]), (Ok(()), 2));
    assert_eq!(hooked.load(Ordering::SeqCst), 2);
    let [call] = &backend.take_calls()[..] else {
        panic!("one call");
    };
    // From below only: how much longer it takes is the machine's matter.
    assert!(call.ended - call.began >= delay);
    assert_eq!((call.batch.len(), call.result), (2, Ok(())));
    backend.inner().heal();
    assert_eq!(ask(&backend, &[asid(1)]), (Ok(()), 1));
    assert_eq!(hooked.load(Ordering::SeqCst), 2, "no more");
}

#[test]
fn a_recorder_tells_calls_in_the_order_in_which_they_began_and_which_overlapped() {
    let ticks = Arc::new(AtomicU64::new(0));
    let clock = move || Duration::from_nanos(ticks.fetch_add(1, Ordering::SeqCst));
    let faulty = Faulty::blocking(Software::default());
    let backend = Arc::new(Recorder::with_clock(faulty, clock));
    assert!(backend.capabilities().may_block);
    let again = Arc::downgrade(&backend);
    let first = std::sync::atomic::AtomicBool::new(true);
    // The first call makes the second one before it returns.
    backend.inner().hook(move |_| {
        if first.swap(false, Ordering::SeqCst) {
            let mut batch = Batch::new();
            batch.push(asid(2), 0);
            let backend = again.upgrade().expect("it is being called");
            backend.submit(&batch).expect("passes");
        }
    });
    let mut batch = Batch::new();
    batch.push(asid(1), 0);
    backend.submit(&batch).expect("passes");
    backend.submit(&batch).expect("passes");
    let calls = backend.take_calls();
    let order: Vec<_> = calls.iter().map(|call| call.batch.request(0)).collect();
    assert_eq!(order, [asid(1), asid(2), asid(1)]);
    assert!(calls[0].overlaps(&calls[1]) && calls[1].overlaps(&calls[0]));
    assert!(!calls[2].overlaps(&calls[0]) && !calls[1].overlaps(&calls[2]));
    assert!(backend.take_calls().is_empty());
}
