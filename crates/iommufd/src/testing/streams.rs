//! Streams that only remember what was done to them.

use crate::backend::HostStreams;
use smmu_core::StreamId;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// All of them translate until told otherwise.
#[derive(Debug, Default)]
pub struct FakeStreams {
    closed: Mutex<Vec<Option<StreamId>>>,
    idle: Mutex<BTreeSet<u32>>,
}

impl FakeStreams {
    /// What failed closed, in order.
    pub fn closed(&self) -> Vec<Option<StreamId>> {
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The stream does not translate from now on.
    pub fn idle(&self, stream: StreamId) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(stream.0);
    }
}

impl HostStreams for FakeStreams {
    fn reads_contexts(&self, stream: StreamId) -> bool {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        !idle.contains(&stream.0)
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.push(stream);
    }
}
