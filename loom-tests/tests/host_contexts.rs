//! A stream that is being attached to the guest's stage 1 in the host, while the guest changes one of its context
//! descriptors.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use loom_tests::{model, twin};
use vcmdq_iommufd::testing::ReadsContexts;
use vcmdq_sync::weak::Site;

/// One worker attaches: from then on the host reads the descriptor. Another one has a CFGI_CD, behind the
/// guest's store. Either the host has read what the guest has stored, or it is told to forget.
fn the_host_hears_of_a_context_that_it_may_have_read() {
    let reads = Arc::new(ReadsContexts::default());
    let context = Arc::new(AtomicU64::new(0));
    let attaching = {
        let (reads, context) = (reads.clone(), context.clone());
        thread::spawn(move || {
            reads.begin();
            context.load(Ordering::Relaxed)
        })
    };
    context.store(1, Ordering::Relaxed);
    let hears = reads.get();
    let read = attaching.join().expect("the worker that attaches");
    assert!(
        hears || read == 1,
        "the host keeps a context that it hears nothing of"
    );
}

#[test]
fn law7_the_host_hears_of_contexts() {
    model(
        "host contexts",
        3,
        the_host_hears_of_a_context_that_it_may_have_read,
    );
}

#[test]
fn contexts_without_fences_are_found_out() {
    twin(
        "host contexts",
        Site::HostContexts,
        3,
        the_host_hears_of_a_context_that_it_may_have_read,
    );
}
