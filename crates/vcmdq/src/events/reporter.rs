//! The events of a frame, for those whom the frame itself knows.

use super::sink::EventSink;
use crate::frame::{Frame, FrameShared};
use std::fmt;
use std::sync::{Arc, Weak};

/// A way to a frame's events that keeps the frame alive only while it is used: for a
/// [`StreamHost`](crate::StreamHost), which the frame holds, and for threads that outlive it. From any thread,
/// also inside a callback of a [`StreamHost`](crate::StreamHost).
#[derive(Clone)]
pub struct EventReporter(Weak<FrameShared>);

impl EventReporter {
    /// Shows the events to `use_them`, if the frame is still there.
    pub fn with<R>(&self, use_them: impl FnOnce(&EventSink) -> R) -> Option<R> {
        self.0.upgrade().map(|shared| use_them(&shared.events))
    }
}

impl fmt::Debug for EventReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReporter").finish_non_exhaustive()
    }
}

/// Events from outside.
impl Frame {
    /// A way to the frame's [`events`](Self::events) that does not keep the frame alive.
    #[must_use]
    pub fn event_reporter(&self) -> EventReporter {
        EventReporter(Arc::downgrade(self.shared()))
    }
}
