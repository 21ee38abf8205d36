//! The streams of an instance as its backend knows them.

use crate::backend::HostStreams;
use crate::instance::HostInstance;
use crate::streams::NestedStreams;
use smmu_core::StreamId;
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicBool, Ordering};
use vcmdq_sync::weak::{Site, full_fence, order};

/// Whether a stream's device may read contexts of the guest's.
///
/// | who attaches it to a stage 1 | a backend with a CFGI_CD |
/// |---|---|
/// | 1. says so | 1. the guest has written the CD |
/// | 2. fence | 2. fence |
/// | 3. attaches: the host reads CDs from now on | 3. asks |
///
/// So if the answer is "no", the host reads the CD only behind the guest's store. Model:
/// `loom-tests/tests/host_contexts.rs`.
#[derive(Debug, Default)]
pub struct ReadsContexts(AtomicBool);

impl ReadsContexts {
    /// It will.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
        // Pairs with the fence in `get`.
        full_fence(Site::HostContexts);
    }

    /// It does not any more: it is attached to something else, and the host has forgotten what it read.
    pub fn end(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether it may.
    pub fn get(&self) -> bool {
        // Pairs with the fence in `begin`.
        full_fence(Site::HostContexts);
        self.0.load(Ordering::Acquire)
    }
}

/// Whether a stream has failed closed by itself, so that nothing of it has to be invalidated.
///
/// Said when it aborts, by whoever holds its lock; taken back before anything else is attached. Model:
/// `loom-tests/tests/host_closed.rs`.
#[derive(Debug, Default)]
pub struct FailedClosed(AtomicBool);

impl FailedClosed {
    /// It aborts, until it is said that it does not.
    pub fn set(&self, closed: bool) {
        // Release pairs with the acquire in `get`: who sees it lets a SYNC complete.
        self.0
            .store(closed, order(Site::HostClosed, Ordering::Release));
    }

    /// Whether it does.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// See the [module](self).
struct OfInstance {
    streams: Arc<NestedStreams>,
    instance: Arc<HostInstance>,
}

impl NestedStreams {
    /// For the settings of an instance's backend.
    #[must_use]
    pub fn of_instance(self: &Arc<Self>, instance: &Arc<HostInstance>) -> Arc<dyn HostStreams> {
        Arc::new(OfInstance {
            streams: self.clone(),
            instance: instance.clone(),
        })
    }
}

impl HostStreams for OfInstance {
    fn reads_contexts(&self, stream: StreamId) -> bool {
        let plugged = self.streams.plugged(stream);
        plugged.is_some_and(|plugged| plugged.reads.get())
    }

    fn aborts(&self, stream: StreamId) -> bool {
        let plugged = self.streams.plugged(stream);
        plugged.is_some_and(|plugged| plugged.closed.get())
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        self.streams.fail_closed(&self.instance, stream);
    }
}
