//! What becomes of invalidations that a backend does not take (law 4).

use dispatch::backend::Software;
use dispatch::backend::faulty::{Faulty, Verdict};
use dispatch::backend::recorder::Recorder;
use dispatch::batch::Rings;
use dispatch::dispatch::{FailedClosed, Report, TRIES, dispatch};
use dispatch::{Batch, Cause, Invalidation, Scope, Stage};
use smmu_core::range::TlbiRange;
use smmu_core::tlb::{Entry, PageClass, Space, TlbSettings};
use smmu_core::{Asid, StreamId, Vmid};

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
