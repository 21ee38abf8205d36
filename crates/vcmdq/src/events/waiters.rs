//! Rings whose SYNC waits until records are visible (law 3).
//!
//! | ring | thread that moves PROD |
//! |---|---|
//! | 1. notes itself | 1. moves PROD |
//! | 2. fence SeqCst | 2. fence SeqCst |
//! | 3. looks at PROD once more | 3. takes the notes and wakes those rings |
//!
//! The fences are totally ordered, so whoever is second sees what the first one wrote: the ring
//! sees the new PROD, or the thread sees the note. A ring that is woken too early asks again.

use dispatch::{WaiterId, Wake};
use std::sync::{Arc, OnceLock};
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// One bit for each ring that an engine can have, so that no two share one; a power of two.
const WORDS: usize = if cfg!(loom) { 1 } else { 64 };

/// See the [module](self).
pub(super) struct Waiters {
    /// Which of the words may hold something.
    summary: AtomicU64,
    rings: [AtomicU64; WORDS],
    wake: OnceLock<Arc<dyn Wake>>,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            summary: AtomicU64::new(0),
            rings: std::array::from_fn(|_| AtomicU64::new(0)),
            wake: OnceLock::new(),
        }
    }
}

impl Waiters {
    /// Who is told; the first one that is set, as a queue belongs to one engine.
    pub(super) fn attach(&self, wake: Arc<dyn Wake>) {
        let _first_wins = self.wake.set(wake);
    }

    /// Step 1 of a ring; a full fence follows.
    pub(super) fn note(&self, waiter: WaiterId) {
        let (word, bit) = ((waiter.0 as usize / 64) & (WORDS - 1), waiter.0 % 64);
        self.rings[word].fetch_or(1 << bit, Ordering::AcqRel);
        self.summary.fetch_or(1 << word, Ordering::AcqRel);
    }

    /// Step 3 of a thread that has moved PROD; a full fence came before.
    #[inline]
    pub(super) fn wake(&self) {
        if self.summary.load(Ordering::Relaxed) != 0 {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_all(&self) {
        let summary = self.summary.swap(0, Ordering::AcqRel);
        for (index, word) in (0u32..).zip(&self.rings) {
            let mut bits = match summary >> index & 1 {
                0 => 0,
                _ => word.swap(0, Ordering::AcqRel),
            };
            while bits != 0 {
                if let Some(wake) = self.wake.get() {
                    wake.wake(WaiterId(index * 64 + bits.trailing_zeros()));
                }
                bits &= bits - 1;
            }
        }
    }
}
