//! Where a worker sleeps: a token that another thread leaves, or events of the kernel besides.

use std::time::Duration;
use vcmdq_sync::thread::Parker;

#[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
use super::events::Events;

/// One round's bed. [`Parker`]'s rules hold: a wake-up before the worker sleeps is not lost.
///
/// When the first eventfd is added, the bed becomes one of the kernel's, for good. Who wakes leaves
/// the token first and then looks for the kernel's bed; who sleeps looks for the kernel's bed first
/// and then takes the token. Both reach the token through its mutex, so either the token is found
/// or the wake-up comes through the kernel.
#[derive(Debug, Default)]
pub(crate) struct Bed {
    parker: Parker,
    #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
    events: std::sync::OnceLock<Events>,
}

impl Bed {
    /// Sleeps until woken, for `limit` at most; it may wake early. Calls `fired` for each ring
    /// whose eventfd has been signalled.
    pub(crate) fn park(&self, limit: Option<Duration>, fired: impl FnMut(u32)) {
        #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
        if let Some(events) = self.events.get() {
            return events.park(&self.parker, limit, fired);
        }
        let _ = fired;
        self.parker.park(limit);
    }

    /// Wakes the sleeper, or keeps it from falling asleep.
    pub(crate) fn unpark(&self) {
        self.parker.unpark();
        #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
        if let Some(events) = self.events.get() {
            events.wake();
        }
    }

    /// From now on the sleeper wakes for `fd`, too, which stands for `ring`.
    #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
    pub(crate) fn watch(
        &self,
        ring: u32,
        fd: &vmm_sys_util::eventfd::EventFd,
    ) -> std::io::Result<()> {
        let events = match self.events.get() {
            Some(events) => events,
            None => {
                let fresh = Events::new()?;
                // Another thread may have been faster: then that one's is used.
                self.events.get_or_init(|| fresh)
            }
        };
        events.add(ring, fd)?;
        // Whoever sleeps on the token alone is to come over.
        self.unpark();
        Ok(())
    }

    /// The opposite of [`watch`](Self::watch). An event that was taken before is told nevertheless.
    #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
    pub(crate) fn unwatch(&self, fd: &vmm_sys_util::eventfd::EventFd) {
        if let Some(events) = self.events.get() {
            events.remove(fd);
        }
    }
}
