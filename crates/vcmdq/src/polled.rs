//! A ring whose guest writes into a shared page: what has been seen of it, and what is new.

use crate::ring::{DoorbellMode, Ring};
use crate::ring_control::{ENABLED, PAUSED};
use crate::ring_page::{GuestWords, PageView};
use crate::snapshot::RingState;
use vcmdq_sync::atomic::{AtomicU32, Ordering};

/// What has been seen of a shared page: a poll that sees nothing else has nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    prod: AtomicU32,
    config: AtomicU32,
    gerrorn: AtomicU32,
}

impl Ring {
    #[inline]
    pub(crate) fn page(&self) -> Option<PageView<'_>> {
        match &self.mode {
            DoorbellMode::SharedPage(page) | DoorbellMode::Adaptive { page, .. } => {
                Some(PageView::new(&**page))
            }
            _ => None,
        }
    }

    /// Whether a worker looks for PROD itself.
    #[inline]
    pub(crate) fn is_polled(&self) -> bool {
        self.mode.is_polled()
    }

    /// Whether a guest has written something new into the shared page.
    #[inline]
    pub(crate) fn page_has_news(&self) -> bool {
        self.page().is_some_and(|page| page.guest() != self.seen())
    }

    fn seen(&self) -> GuestWords {
        GuestWords {
            prod: self.seen.prod.load(Ordering::Relaxed),
            config: self.seen.config.load(Ordering::Relaxed),
            gerrorn: self.seen.gerrorn.load(Ordering::Relaxed),
        }
    }

    /// Takes over what a guest has written into the shared page. Called by the owner of the claim.
    #[inline]
    pub(crate) fn look_at_page(&self) {
        if !self.has_settled_paused() {
            self.take_page();
        }
    }

    /// Whether the owner has brought a pause about. Called by the owner of the claim.
    #[inline]
    pub(crate) fn has_settled_paused(&self) -> bool {
        self.control.settled.load(Ordering::Relaxed) & PAUSED != 0
    }

    /// The same of a ring that may be paused: what nobody has read yet is part of its state.
    pub(crate) fn take_page(&self) {
        let Some(page) = self.page() else { return };
        let (now, seen) = (page.guest(), self.seen());
        if now == seen {
            return;
        }
        self.seen.prod.store(now.prod, Ordering::Relaxed);
        if now.gerrorn != seen.gerrorn {
            self.seen.gerrorn.store(now.gerrorn, Ordering::Relaxed);
            self.latch.acknowledge(now.gerrorn);
        }
        if now.config != seen.config {
            self.seen.config.store(now.config, Ordering::Relaxed);
            let change = if now.config & 1 != 0 {
                self.control.wanted.fetch_or(ENABLED, Ordering::AcqRel)
            } else {
                self.control.wanted.fetch_and(!ENABLED, Ordering::AcqRel)
            };
            tracing::trace!(ring = self.index, was = change, now = now.config, "CONFIG");
        }
    }

    /// Makes a shared page show a restored state.
    pub(crate) fn restore_page(&self, state: &RingState) {
        let Some(page) = self.page() else { return };
        page.publish_gerror(state.gerror);
        page.restore_guest_words(u32::from(state.enabled), state.gerrorn);
        self.seen
            .config
            .store(u32::from(state.enabled), Ordering::Relaxed);
        self.seen.gerrorn.store(state.gerrorn, Ordering::Relaxed);
    }

    /// The page as it is before a guest has written anything. In the claim.
    pub(crate) fn clear_page(&self) {
        let Some(page) = self.page() else { return };
        page.clear();
        for seen in [&self.seen.prod, &self.seen.config, &self.seen.gerrorn] {
            seen.store(0, Ordering::Relaxed);
        }
    }
}
