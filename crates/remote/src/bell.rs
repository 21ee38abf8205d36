//! How workers tell the thread that serves a device.

use dispatch::backend::software::Notifier;
use rustix::event::{EventfdFlags, eventfd};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicBool, Ordering};

/// Told how long a SYNC has waited.
type Late = dyn Fn(Duration) + Send + Sync;

struct Shared {
    event: OwnedFd,
    stop: AtomicBool,
    overdue: Option<Box<Late>>,
}

impl Shared {
    fn ring(&self) {
        // The only error is a count that is full: then it is readable, which is what it is for.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
}

/// An eventfd that workers write when something has to be given back.
#[derive(Clone)]
pub struct Bell(Arc<Shared>);

/// Ends [`Service::run`](crate::Service::run). Any thread; never blocks.
#[derive(Clone)]
pub struct Stop(Arc<Shared>);

impl Bell {
    /// `overdue` is called from a worker when the device's answer has kept a SYNC waiting for longer
    /// than the instance's first limit: it must not block. Fails if there is no file descriptor left.
    pub fn new(overdue: Option<Box<Late>>) -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Self(Arc::new(Shared {
            event: eventfd(0, flags)?,
            stop: AtomicBool::new(false),
            overdue,
        })))
    }

    /// For whoever ends the service.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop(self.0.clone())
    }

    /// Before looking what there is to do: what comes later rings again.
    pub(crate) fn silence(&self) {
        // An error says that nobody has rung.
        let _ = rustix::io::read(&self.0.event, &mut [0; 8]);
    }

    pub(crate) fn must_stop(&self) -> bool {
        self.0.stop.load(Ordering::Acquire)
    }
}

impl AsFd for Bell {
    /// Readable when it has been rung.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

impl Notifier for Bell {
    fn told(&self) {
        self.0.ring();
    }

    fn overdue(&self, waited: Duration) {
        if let Some(overdue) = &self.0.overdue {
            overdue(waited);
        }
    }
}

impl Stop {
    /// Has the service take everything back, and end. It waits for the device's answers.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.0.ring();
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bell").field(&self.0.event).finish()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.0.event).finish()
    }
}
