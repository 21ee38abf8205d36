//! A page that guest and engine share, shaped like page 0 of an NVIDIA VCMDQ.
//!
//! | word | offset | name | written by |
//! |---|---|---|---|
//! | 0 | 0x00 | CONS: RD\[19:0\], ERR\[30:24\] | engine |
//! | 1 | 0x04 | PROD: WR\[19:0\] | guest |
//! | 2 | 0x08 | CONFIG: EN | guest |
//! | 3 | 0x0C | STATUS: EN_OK | engine |
//! | 4 | 0x10 | GERROR | engine |
//! | 5 | 0x14 | GERRORN | guest |
//!
//! The guest can write all of it. What the engine writes there are copies of its private
//! state, never read back (law 8).

use vcmdq_sync::atomic::{AtomicU32, Ordering};

pub(crate) const WORDS: usize = 6;
/// Distance of two queues in a VINTF's page 0.
pub(crate) const QUEUE_WORDS: usize = 32;
pub(crate) const CONS: usize = 0;
pub(crate) const PROD: usize = 1;
pub(crate) const CONFIG: usize = 2;
pub(crate) const STATUS: usize = 3;
pub(crate) const GERROR: usize = 4;
pub(crate) const GERRORN: usize = 5;

/// Memory that is mapped into the guest as a queue's page 0. A worker polls it.
///
/// Guest and engine must see each other's stores: on x86 any shared mapping does; on Arm the
/// guest maps the page as Device memory and the host needs FEAT_S2FWB to make that coherent.
pub trait RingPage: Send + Sync {
    /// The 32-bit words of the queue's window; at least 6.
    fn words(&self) -> &[AtomicU32];

    /// Whether guest and engine see each other's stores on this host; a page for which that is not
    /// true is refused. An Arm host needs FEAT_S2FWB for that, which only the VMM can find out: so
    /// there the default is no.
    fn is_coherent(&self) -> bool {
        !cfg!(any(target_arch = "aarch64", target_arch = "arm"))
    }
}

/// A page on the heap, for tests and for guests in the same process.
#[derive(Debug)]
#[repr(align(4096))]
pub struct HeapPage([AtomicU32; 32]);

impl Default for HeapPage {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl RingPage for HeapPage {
    fn words(&self) -> &[AtomicU32] {
        &self.0
    }

    fn is_coherent(&self) -> bool {
        true
    }
}

/// The engine's access to the words, in the order that each needs.
#[derive(Clone, Copy)]
pub(crate) struct PageView<'a>(&'a [AtomicU32]);

/// What a guest has written last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestWords {
    pub(crate) prod: u32,
    pub(crate) config: u32,
    pub(crate) gerrorn: u32,
}

impl<'a> PageView<'a> {
    pub(crate) fn new(page: &'a dyn RingPage) -> Self {
        Self(page.words())
    }

    /// One queue of a VINTF's page 0.
    pub(crate) fn of_queue(page: &'a dyn RingPage, queue: usize) -> Self {
        Self(&page.words()[queue * QUEUE_WORDS..][..QUEUE_WORDS])
    }

    /// The word that holds PROD.
    pub(crate) fn prod_word(self) -> &'a AtomicU32 {
        &self.0[PROD]
    }

    /// Whether the page's words begin at this address.
    pub(crate) fn begins_at(self, first: *const AtomicU32) -> bool {
        std::ptr::eq(self.0.as_ptr(), first)
    }

    /// Any word, as the guest sees it.
    pub(crate) fn load(self, word: usize) -> u32 {
        u32::from_le(self.0[word].load(Ordering::Acquire))
    }

    /// Any word, as if the guest had stored it.
    pub(crate) fn store(self, word: usize, value: u32) {
        self.0[word].store(value.to_le(), Ordering::Release);
    }

    /// Every word zero.
    pub(crate) fn clear(self) {
        (0..WORDS).for_each(|word| self.store(word, 0));
    }

    /// CONS as the page shows it: what a guest has written counts while the queue is off.
    pub(crate) fn shown_cons(self) -> u32 {
        self.load(CONS)
    }

    /// PROD's Acquire pairs with the guest's release: the entries are there. GERRORN's does with
    /// what the guest rewrote before it acknowledged.
    #[inline]
    pub(crate) fn guest(self) -> GuestWords {
        GuestWords {
            gerrorn: u32::from_le(self.0[GERRORN].load(Ordering::Acquire)),
            config: u32::from_le(self.0[CONFIG].load(Ordering::Acquire)),
            prod: u32::from_le(self.0[PROD].load(Ordering::Acquire)),
        }
    }

    /// Release: whoever sees CONS sees what the commands before it did.
    #[inline]
    pub(crate) fn publish_cons(self, cons: u32) {
        self.0[CONS].store(cons.to_le(), Ordering::Release);
    }

    pub(crate) fn publish_prod(self, prod: u32) {
        self.0[PROD].store(prod.to_le(), Ordering::Release);
    }

    /// Words that the guest writes, put back as it had written them.
    pub(crate) fn restore_guest_words(self, config: u32, gerrorn: u32) {
        self.0[CONFIG].store(config.to_le(), Ordering::Release);
        self.0[GERRORN].store(gerrorn.to_le(), Ordering::Release);
    }

    pub(crate) fn publish_status(self, enabled: bool) {
        self.0[STATUS].store(u32::from(enabled).to_le(), Ordering::Release);
    }

    pub(crate) fn publish_gerror(self, gerror: u32) {
        self.0[GERROR].store(gerror.to_le(), Ordering::Release);
    }
}
