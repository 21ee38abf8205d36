//! What becomes of invalidations that a backend does not take (law 4).

use dispatch::backend::Software;
use dispatch::backend::faulty::{Faulty, Verdict};
use dispatch::backend::recorder::Recorder;
use dispatch::batch::Rings;
use dispatch::dispatch::{FailedClosed, Report, TRIES, dispatch};
use dispatch::{
    Backend, BackendCapabilities, Barrier, Batch, Cause, Invalidation, Rejected, Scope, Stage,
    WaiterId, Wake,
};
use smmu_core::range::TlbiRange;
use smmu_core::tlb::{Entry, PageClass, Space, TlbSettings};
use smmu_core::{Asid, StreamId, Vmid};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const STREAM: StreamId = StreamId(8);

fn small() -> Software {
    Software::new(TlbSettings {
        log2_entries: 8,
        log2_asids: 6,
    })
}

fn entry(n: u64) -> Entry {
    let space = Space::Asid(Asid(1));
    Entry {
        vmid: Vmid(0),
        space,
        va: n << 12,
        class: PageClass::Page4K,
        payload: [n, 0],
    }
}

fn batch(pages: impl IntoIterator<Item = u64>) -> Batch {
    let mut batch = Batch::new();
    batch.restart(Vmid(0));
    for (origin, n) in pages.into_iter().enumerate() {
        let range = TlbiRange {
            addr: n << 12,
            bytes: 4096,
            granule: None,
            ttl: 0,
            leaf: true,
        };
        let scope = Scope::Addresses {
            asid: Some(Asid(1)),
            range,
        };
        batch.push(
            Invalidation {
                vmid: Vmid(0),
                stage: Stage::One,
                scope,
            },
            origin as u32,
        );
    }
    batch
}

fn filled(backend: &Software) {
    for n in 0..8 {
        let entry = entry(n);
        assert!(backend.fill(&entry, &backend.ticket(Vmid(0), Asid(1))));
    }
}

fn left(backend: &Software) -> Vec<u64> {
    (0..8)
        .filter(|n| backend.lookup(STREAM, Vmid(0), Asid(1), n << 12).is_some())
        .collect()
}

fn refuse(take: usize, say: usize, cause: Cause) -> Verdict {
    Verdict::Refuse { take, say, cause }
}

#[test]
fn law4_a_partly_accepted_batch_is_finished() {
    let backend = Faulty::new(small());
    filled(backend.inner());
    backend.script([refuse(2, 2, Cause::Again)]);
    let mut report = Report::default();
    dispatch(&backend, &mut batch([0, 1, 2, 3]), &mut report);
    assert_eq!(left(backend.inner()), [4, 5, 6, 7]);
    assert_eq!((report.retries, report.widened), (1, 0));
    assert!(report.failed_closed.is_empty());
}

/// Row 30 of the peers' bugs: a count that says "all" beside an error is not believed.
#[test]
fn law4_a_lying_count_is_not_believed() {
    let backend = Faulty::new(small());
    filled(backend.inner());
    backend.script([refuse(0, 4, Cause::Again)]);
    dispatch(&backend, &mut batch([0, 1, 2, 3]), &mut Report::default());
    assert_eq!(left(backend.inner()), [4, 5, 6, 7]);
}

#[test]
fn law4_what_cannot_be_carried_out_is_widened() {
    let backend = Faulty::new(small());
    filled(backend.inner());
    backend.script([
        refuse(1, 1, Cause::Unsupported),
        refuse(0, 0, Cause::Unsupported),
    ]);
    let mut report = Report::default();
    dispatch(&backend, &mut batch([0, 1]), &mut report);
    assert_eq!(report.widened, 1);
    assert!(report.failed_closed.is_empty());
    assert!(
        left(backend.inner()).is_empty(),
        "the VMID's entries went instead"
    );
}

#[test]
fn law4_what_cannot_be_done_at_all_fails_closed() {
    let backend = Recorder::new(Faulty::new(small()));
    filled(backend.inner().inner());
    backend
        .inner()
        .script((0..1 + 2 * TRIES as usize).map(|_| refuse(0, 0, Cause::TimedOut)));
    let mut report = Report {
        member: 7,
        ..Report::default()
    };
    dispatch(&backend, &mut batch([0]), &mut report);
    let closed = FailedClosed {
        member: 7,
        stream: None,
        cause: Cause::TimedOut,
        rings: Rings::MAX,
    };
    assert_eq!(report.failed_closed, [closed]);
    assert_eq!(backend.closed(), [None]);
    assert!(
        left(backend.inner().inner()).is_empty(),
        "closed streams use nothing"
    );
    assert!(backend.inner().inner().is_closed(STREAM));
}

#[test]
fn law4_a_request_that_names_a_stream_closes_that_stream_only() {
    let backend = Recorder::new(Faulty::new(small()));
    backend
        .inner()
        .script((0..8).map(|_| refuse(0, 0, Cause::Gone)));
    let mut batch = Batch::new();
    batch.restart(Vmid(0));
    let scope = Scope::DeviceTlb {
        stream: STREAM,
        pasid: None,
        global: false,
        addr: 0x1000,
        size: 0,
    };
    batch.push(
        Invalidation {
            vmid: Vmid(0),
            stage: Stage::One,
            scope,
        },
        0,
    );
    dispatch(&backend, &mut batch, &mut Report::default());
    assert_eq!(backend.closed(), [Some(STREAM)]);
}

#[test]
fn law4_a_device_that_does_not_answer_is_charged_to_the_earliest_command() {
    let backend = Faulty::new(small());
    backend.script([refuse(1, 1, Cause::DeviceTimedOut)]);
    let mut report = Report::default();
    dispatch(&backend, &mut batch([3, 4, 5]), &mut report);
    assert_eq!(report.unanswered_of(0, 0, 3), Some(1));
    assert!(report.failed_closed.is_empty(), "its SYNC says so instead");
}

/// Refuses whatever names a stream, and does not remember that it has failed closed.
#[derive(Default)]
struct Dead {
    calls: AtomicU64,
    executed: AtomicU64,
    closed: Mutex<Vec<Option<StreamId>>>,
}

impl Backend for Dead {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::default()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let dead = |request: &Invalidation| request.stream().is_some_and(|s| s.0 & 1 == 0);
        let accepted = batch.requests().position(|request| dead(&request));
        let done = accepted.unwrap_or(batch.len());
        self.executed.fetch_add(done as u64, Ordering::Relaxed);
        let cause = Cause::TimedOut;
        accepted.map_or(Ok(()), |accepted| Err(Rejected { accepted, cause }))
    }

    fn barrier(&self, _: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _: Arc<dyn Wake>) {}

    fn fail_closed(&self, stream: Option<StreamId>) {
        self.closed.lock().unwrap().push(stream);
    }
}

fn device_tlb(stream: u32, page: u64) -> Invalidation {
    let scope = Scope::DeviceTlb {
        stream: StreamId(stream),
        pasid: None,
        global: false,
        addr: page << 12,
        size: 0,
    };
    let (vmid, stage) = (Vmid(0), Stage::One);
    Invalidation { vmid, stage, scope }
}

/// Each try of a call that times out is a second for the thread, and for the VMM that wants to pause it.
#[test]
fn law8_a_stream_that_has_failed_closed_climbs_the_ladder_once() {
    let backend = Dead::default();
    let mut batch = Batch::new();
    batch.set_waiters([WaiterId(0), WaiterId(1)]);
    for page in 0..100 {
        batch.push_for(1 << (page % 2), device_tlb(8, page), page as u32);
        batch.push_for(0b10, device_tlb(9, page), page as u32);
    }
    batch.push_for(0b01, device_tlb(10, 0), 100);
    let mut report = Report::default();
    dispatch(&backend, &mut batch, &mut report);
    let once = u64::from(2 * TRIES);
    // Each of the two dead streams once, and what is left of the batch behind that.
    assert_eq!(backend.calls.load(Ordering::Relaxed), 2 * once + 1);
    assert_eq!(report.calls, 2 * once + 1);
    let closed = [Some(StreamId(8)), Some(StreamId(10))];
    assert_eq!(*backend.closed.lock().unwrap(), closed);
    assert!(
        backend.executed.load(Ordering::Relaxed) >= 100,
        "others' go on"
    );
    // Nothing is left out silently, and each ring has its own.
    let of = |stream, rings: Rings| {
        let all = report.failed_closed.iter();
        let own =
            all.filter(|failed| failed.stream == Some(StreamId(stream)) && failed.rings == rings);
        own.count()
    };
    assert_eq!((of(8, 1), of(8, 2), of(10, 1)), (50, 50, 1));
    assert_eq!(report.failed_closed.len(), 101);
}
