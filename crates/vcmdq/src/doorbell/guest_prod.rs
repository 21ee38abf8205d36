//! Rings whose PROD lies in guest memory, with an eventfd as doorbell.
//!
//! The guest stores PROD, then writes anything to an address that KVM has as an ioeventfd. That
//! swallows the written value, so it fits these rings only. The signal wakes the first worker
//! directly; while that is awake it looks at PROD itself. PROD's home is guest memory: `Ring::prod`
//! is how far the owner has seen it.

use crate::consumer::Consumer;
use crate::ring::Ring;
use smmu_core::guest_memory::load_u64;
use smmu_core::{Gpa, GuestMemory};
use vcmdq_sync::atomic::Ordering;

/// Where PROD lies, and how the guest says that it has changed.
#[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
#[derive(Clone)]
pub struct GuestProd {
    /// PROD: an aligned little-endian 32-bit word of guest memory, WR in bits 19:0. The guest
    /// sets it to zero before it enables the ring.
    pub at: Gpa,
    /// Signalled behind each store to PROD, or less often if the guest knows that the engine has
    /// not caught up. The engine never reads it, so its counter only grows; the VMM must not read
    /// it either.
    pub event: std::sync::Arc<vmm_sys_util::eventfd::EventFd>,
}

#[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
impl std::fmt::Debug for GuestProd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestProd")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// PROD as the guest has stored it. Acquire pairs with the guest's release: the entries are there.
/// `None` if there is no memory.
pub(crate) fn load(memory: &dyn GuestMemory, at: Gpa) -> Option<u32> {
    if let Some(words) = memory.words32(at, 1) {
        return words
            .first()
            .map(|w| u32::from_le(w.load(Ordering::Acquire)));
    }
    let both = load_u64(memory, Gpa(at.0 & !7), Ordering::Acquire).ok()?;
    Some((both >> (8 * (at.0 & 4))) as u32)
}

impl Ring {
    /// Where PROD lies, if in guest memory.
    #[inline]
    pub(crate) fn guest_prod(&self) -> Option<Gpa> {
        match &self.mode {
            #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
            crate::ring::DoorbellMode::EventFd(prod) => Some(prod.at),
            _ => None,
        }
    }
}

impl Consumer {
    /// Whether PROD in guest memory is another one than the owner has seen last.
    pub(crate) fn guest_prod_has_news(&self, ring: &Ring) -> bool {
        let now = ring.guest_prod().and_then(|at| load(&*self.memory, at));
        now.is_some_and(|prod| prod != ring.prod.load(Ordering::Relaxed))
    }

    /// Takes over what a guest has written where only the owner looks for it.
    #[inline]
    pub(crate) fn look_at_doorbell(&self, ring: &Ring) {
        ring.look_at_page();
        if ring.guest_prod().is_some() && !ring.has_settled_paused() {
            self.take_guest_prod(ring);
        }
    }

    /// Takes PROD over from guest memory, if it lies there. One that cannot be read counts as one
    /// that cannot be followed.
    pub(crate) fn take_guest_prod(&self, ring: &Ring) {
        let Some(at) = ring.guest_prod() else { return };
        match load(&*self.memory, at) {
            Some(prod) => ring.prod.store(prod, Ordering::Release),
            None => ring.counters.bad_prods.add(1),
        }
    }
}
