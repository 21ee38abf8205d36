//! A bed of the kernel's: an epoll instance with the eventfds of rings, and one to wake by.
//!
//! All are edge-triggered and never read: each signal is one event, however many came before, and
//! the kernel keeps it until the worker asks. So a signal that comes while the worker is awake is
//! found when it would sleep, no signal is lost, and none costs a `read`. The counter of an eventfd
//! that is only ever signalled by KVM saturates without blocking anybody.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;
use vcmdq_sync::thread::Parker;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What the own eventfd stands for; rings have small numbers.
const OWN: u64 = u64::MAX;
/// Events taken in one call; the others come with the next.
const ROOM: usize = 64;

pub(super) struct Events {
    epoll: Epoll,
    own: EventFd,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn new() -> io::Result<Self> {
        let (epoll, own) = (Epoll::new()?, EventFd::new(EFD_NONBLOCK)?);
        let events = Self { epoll, own };
        events.ctl(ControlOperation::Add, OWN, &events.own)?;
        Ok(events)
    }

    pub(super) fn add(&self, ring: u32, fd: &EventFd) -> io::Result<()> {
        self.ctl(ControlOperation::Add, ring.into(), fd)
    }

    pub(super) fn remove(&self, fd: &EventFd) {
        if let Err(error) = self.ctl(ControlOperation::Delete, OWN, fd) {
            tracing::error!(%error, "epoll_ctl");
        }
    }

    fn ctl(&self, operation: ControlOperation, what: u64, fd: &EventFd) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, what);
        self.epoll.ctl(operation, fd.as_raw_fd(), event)
    }

    pub(super) fn wake(&self) {
        // Only a full counter refuses, after 2^64 wake-ups; the event is there nevertheless.
        let _ = self.own.write(1);
    }

    /// See [`Bed::park`](super::bed::Bed::park). The kernel counts milliseconds; a shorter limit is
    /// slept on the token, and an eventfd that is signalled meanwhile is found at its end.
    pub(super) fn park(&self, parker: &Parker, limit: Option<Duration>, fired: impl FnMut(u32)) {
        if parker.take() {
            return;
        }
        let timeout = match limit {
            None => -1,
            Some(limit) if limit < Duration::from_millis(1) => {
                parker.park(Some(limit));
                0
            }
            Some(limit) => i32::try_from(limit.as_millis()).unwrap_or(i32::MAX),
        };
        self.collect(timeout, fired);
        // Woken: what the token was left for will be looked for.
        let _ = parker.take();
    }

    fn collect(&self, timeout: i32, mut fired: impl FnMut(u32)) {
        let mut events = [EpollEvent::default(); ROOM];
        match self.epoll.wait(timeout, &mut events) {
            Ok(count) => {
                let whose = events[..count].iter().map(EpollEvent::data);
                whose
                    .filter_map(|what| u32::try_from(what).ok())
                    .for_each(&mut fired);
            }
            // A signal's handler has run: as good as a wake-up.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => tracing::error!(%error, "epoll_wait"),
        }
    }
}
