//! The bare ping-pong: a thread that polls PROD and answers, without reading a command.
//!
//! It says what this machine's caches and this guest cost at the moment; an engine's row is to be
//! compared with it, not with a figure of another day.

use super::guest::{QUEUE_PAGE, RING, RING_LOG2SIZE};
use super::vmm::Error;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory};

/// Zeroes the last entry's first word whenever PROD has moved, until `stop`.
///
/// # Errors
///
/// If the queue is not in RAM.
pub(crate) fn answer(memory: &GuestMemoryMmap, stop: &AtomicBool) -> Result<(), Error> {
    let ring = Geometry::capped(RING_LOG2SIZE, MAX_LOG2SIZE);
    let page = memory.get_slice(GuestAddress(QUEUE_PAGE), 8)?;
    let prod = page.get_atomic_ref::<AtomicU32>(4)?;
    let entries = memory.get_slice(GuestAddress(RING), 16 * ring.entries() as usize)?;
    let mut seen = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = prod.load(Ordering::Acquire);
        if now == seen {
            std::hint::spin_loop();
            continue;
        }
        seen = now;
        let last = ring.slot(ring.pointer(now.wrapping_sub(1))) as usize;
        entries
            .get_atomic_ref::<AtomicU32>(16 * last)?
            .store(0, Ordering::Release);
    }
    Ok(())
}
