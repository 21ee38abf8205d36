//! One shared page for all queues of a VINTF.

use super::group::MAX_QUEUES;
use crate::ring_page::{QUEUE_WORDS, RingPage};
use std::fmt;
use std::sync::Arc;
use vcmdq_sync::atomic::AtomicU32;

/// 32-bit words of a VINTF's page 0, which has 64 KiB.
pub const VINTF_PAGE_WORDS: usize = 0x1_0000 / 4;

/// A queue's window in the page of its VINTF.
pub(super) struct PageWindow {
    page: Arc<dyn RingPage>,
    queue: usize,
}

impl PageWindow {
    /// The page has been found long enough.
    pub(super) fn new(page: Arc<dyn RingPage>, queue: usize) -> Self {
        Self { page, queue }
    }
}

impl RingPage for PageWindow {
    fn words(&self) -> &[AtomicU32] {
        &self.page.words()[self.queue * QUEUE_WORDS..][..QUEUE_WORDS]
    }

    fn is_coherent(&self) -> bool {
        self.page.is_coherent()
    }
}

/// A VINTF's page 0 on the heap, for tests and for guests in the same process. It holds the windows
/// of [`MAX_QUEUES`] queues; the rest of a real page's 64 KiB is never looked at.
pub struct HeapVintfPage(Box<Words>);

/// Aligned as a page that can be mapped alone.
#[repr(align(4096))]
struct Words([AtomicU32; MAX_QUEUES * QUEUE_WORDS]);

impl Default for HeapVintfPage {
    fn default() -> Self {
        let words = std::array::from_fn(|_| AtomicU32::new(0));
        Self(Box::new(Words(words)))
    }
}

impl fmt::Debug for HeapVintfPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeapVintfPage")
    }
}

impl RingPage for HeapVintfPage {
    fn words(&self) -> &[AtomicU32] {
        &self.0.0
    }

    fn is_coherent(&self) -> bool {
        true
    }
}
