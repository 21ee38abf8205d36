//! Doorbells that a ring cannot have, each refused with the reason.

use super::gate::Gate;
#[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
use super::guest_prod;
use crate::error::RingError;
use crate::ring::{DoorbellMode, Ring};
use crate::ring_page::{RingPage, WORDS};
use smmu_core::GuestMemory;
use std::sync::Arc;

/// What a page must be aligned to so that it can be mapped alone.
const PAGE: usize = 4096;

/// Whether a ring can have this doorbell beside those of the frame. `window`: its page is one of
/// several in a page that has been looked at.
pub(crate) fn check(
    mode: &DoorbellMode,
    rings: &[Arc<Ring>],
    memory: &dyn GuestMemory,
    window: bool,
) -> Result<(), RingError> {
    match mode {
        DoorbellMode::Trap => Ok(()),
        DoorbellMode::SharedPage(page) => check_page(&**page, rings),
        DoorbellMode::Adaptive { page, .. } => {
            check_page(&**page, rings)?;
            if window {
                return Ok(());
            }
            check_alignment(&**page)
        }
        DoorbellMode::Coalesced(_) => {
            let way = mode.way();
            let same = |gate: &Arc<Gate>| way.as_ref().is_some_and(|way| gate.is_of(way));
            let taken = rings
                .iter()
                .any(|ring| ring.gate.as_ref().is_some_and(same));
            free(!taken)
        }
        #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
        DoorbellMode::EventFd(prod) => {
            if prod.at.0 % 4 != 0 || guest_prod::load(memory, prod.at).is_none() {
                return Err(RingError::ProdNotMemory(prod.at));
            }
            free(!rings.iter().any(|ring| ring.guest_prod() == Some(prod.at)))
        }
    }?;
    let _ = memory;
    Ok(())
}

fn check_page(page: &dyn RingPage, rings: &[Arc<Ring>]) -> Result<(), RingError> {
    let words = page.words();
    if words.len() < WORDS {
        return Err(RingError::PageTooSmall(words.len()));
    }
    if !page.is_coherent() {
        return Err(RingError::PageNotCoherent);
    }
    let same = |ring: &Arc<Ring>| ring.page().is_some_and(|p| p.begins_at(words.as_ptr()));
    free(!rings.iter().any(same))
}

/// A page that is mapped and taken away begins where a page does.
pub(crate) fn check_alignment(page: &dyn RingPage) -> Result<(), RingError> {
    let at = page.words().as_ptr().addr();
    if at % PAGE != 0 {
        return Err(RingError::PageMisaligned(at));
    }
    Ok(())
}

fn free(free: bool) -> Result<(), RingError> {
    if free {
        Ok(())
    } else {
        Err(RingError::DoorbellTaken)
    }
}
