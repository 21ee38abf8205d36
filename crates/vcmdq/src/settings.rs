//! What can be set, and what cannot work.

use crate::error::StartError;
use crate::window::SHORT_WINDOW;
use smmu_core::{Capabilities, Gpa};
use std::time::Duration;

/// Settings of an [`Engine`](crate::Engine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Threads that consume rings, 1 to 64.
    pub workers: usize,
    /// How long a worker goes on looking for work before it sleeps. A doorbell that finds the
    /// worker awake costs no system call; one that finds it asleep a wake-up (tens of
    /// microseconds on many hosts). A guest whose doorbell traps rings no sooner than an exit after
    /// its last SYNC: with less than an exit to user space costs on the host (some 2 µs, under nested
    /// virtualization 25 to 40 µs), each of its doorbells wakes a worker. A thread that makes one
    /// instance's calls does the same, and so does who waits for those calls.
    pub spin: Duration,
    /// How long of that time it keeps its processor to itself. After it, every look is followed by a
    /// `sched_yield`: where vCPUs and workers share processors, the vCPU that the worker is
    /// waiting for gets its turn.
    pub yield_after: Duration,
    /// How long a worker that serves rings with a shared page sleeps at most: nobody wakes it
    /// when a guest stores into such a page. Zero is "never sleeps".
    pub doze: Duration,
    /// Rings that the engine has room for, 1 to 4096.
    pub max_rings: usize,
    /// How long a worker works on one ring before it looks at the others, by an estimate of what the
    /// commands cost ([`dispatch::Costs`]; no clock is read). The last command, or the last callback
    /// about a stream, may exceed it. A backend whose calls may block gets whole windows.
    pub slice: Duration,
    /// From which time between its PROD and its completion on a SYNC counts as late in
    /// [`Lateness`](crate::metrics::Lateness), with its cause. `None`, the default, measures
    /// nothing. Otherwise a window costs some four readings of the clock more, a doorbell and an
    /// idle look one.
    pub late_after: Option<Duration>,
    /// How many commands, 1 to 256, a trapped doorbell may consume itself instead of waking a
    /// worker; `None`, the default: it never does. It does so only while a worker sleeps, if
    /// nobody else works on the ring and no backend of the frame may block, and it waits for
    /// nobody; what is left is a worker's. The doorbell then calls [`Interrupts`] on the vCPU's
    /// thread, and [`StreamHost::failed_closed`] if an invalidation could not be carried out:
    /// it must not be called with a lock held that these take.
    ///
    /// [`Interrupts`]: crate::Interrupts
    /// [`StreamHost::failed_closed`]: crate::StreamHost::failed_closed
    pub inline: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            spin: Duration::from_micros(50),
            yield_after: Duration::from_micros(2),
            doze: Duration::from_micros(100),
            max_rings: 1024,
            slice: Duration::from_micros(2),
            late_after: None,
            inline: None,
        }
    }
}

impl Settings {
    pub(crate) fn validate(&self) -> Result<(), StartError> {
        if !(1..=64).contains(&self.workers) {
            return Err(StartError::Workers(self.workers));
        }
        if !(1..=4096).contains(&self.max_rings) {
            return Err(StartError::Rings(self.max_rings));
        }
        if self.slice.is_zero() {
            return Err(StartError::Slice);
        }
        let spins = !self.spin.is_zero() && self.yield_after >= self.spin;
        let cores = vcmdq_sync::thread::available_parallelism().map_or(usize::MAX, usize::from);
        if spins && self.workers > cores {
            let workers = self.workers;
            return Err(StartError::Spinning { workers, cores });
        }
        if let Some(limit) = self.inline {
            if !(1..=SHORT_WINDOW).contains(&limit) {
                return Err(StartError::Inline(limit));
            }
        }
        Ok(())
    }
}

/// Settings of a [`Frame`](crate::Frame).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameSettings {
    /// What the frame advertises; decides which commands are legal.
    pub caps: Capabilities,
    /// The DeviceID with which the frame's own messages are sent, if the VMM's interrupt
    /// controller wants one.
    pub device_id: u32,
}

/// Where a ring lies: what the guest writes into CMDQ_BASE (IHI 0070, 6.3.26).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSettings {
    /// First entry. Aligned down to the size of the ring, at least 32 bytes.
    pub base: Gpa,
    /// log2 of the number of entries; capped by IDR1.CMDQS.
    pub log2size: u8,
}
