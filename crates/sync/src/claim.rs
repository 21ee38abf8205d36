//! Data that one thread at a time works on, without a lock.
//!
//! A ring is consumed by one worker at a time, and ownership moves between workers
//! and control threads. Whoever has a reason to work on the data calls
//! [`ClaimCell::enter`]. Either it becomes the owner, or the present owner is told
//! to go round again before it leaves: a reason is never lost and nobody waits.
//!
//! The word goes through three states by read-modify-write only:
//!
//! 1. `FREE → HELD`: the caller is the owner (acquire: it sees what the last owner
//!    wrote).
//! 2. `HELD → AGAIN` or `AGAIN → AGAIN`: somebody owns it; the owner will go round
//!    again (release: the owner then sees what made the caller come).
//! 3. `HELD → FREE` at the end of a round (release). If the word says `AGAIN`
//!    instead, the owner turns it into `HELD` (acquire) and does another round.
#![expect(
    unsafe_code,
    reason = "one cell shared between threads; the claim word proves exclusiveness"
)]

use crate::atomic::{AtomicU32, Ordering};
use crate::cell::UnsafeCell;
use crate::weak::{Site, order, taken};

const FREE: u32 = 0;
const HELD: u32 = 1;
const AGAIN: u32 = 2;

/// Data with a claim word in front of it. See the [module](self).
#[derive(Debug)]
pub struct ClaimCell<T> {
    word: AtomicU32,
    data: UnsafeCell<T>,
}

// SAFETY: `data` is reached only by the thread that moved `word` from FREE to HELD and
// has not moved it back; that is one thread at a time, so `T: Send` is enough.
unsafe impl<T: Send> Sync for ClaimCell<T> {}
// SAFETY: owning the cell is owning the data.
unsafe impl<T: Send> Send for ClaimCell<T> {}

impl<T> ClaimCell<T> {
    /// A free cell.
    pub fn new(data: T) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            data: UnsafeCell::new(data),
        }
    }

    /// Tries to become the owner. `None` means that the present owner has been told to
    /// go round again, so the caller may rely on its reason being seen.
    #[inline]
    pub fn enter(&self) -> Option<Claim<'_, T>> {
        let mut seen = FREE;
        loop {
            if seen != FREE && !taken(Site::ClaimAgain) {
                return None;
            }
            let next = if seen == FREE { HELD } else { AGAIN };
            // AcqRel: acquire pairs with the Release in `Claim::leave` (the data);
            // release pairs with the acquire there (the caller's reason).
            match self
                .word
                .compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if seen == FREE => return Some(Claim { cell: self }),
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }

    /// Becomes the owner if nobody is. Unlike [`enter`](Self::enter) it tells an owner nothing: for
    /// who has no reason of its own to have the data looked at.
    #[inline]
    pub fn try_enter(&self) -> Option<Claim<'_, T>> {
        // Acquire pairs with the Release in `Claim::leave`.
        let entered = self
            .word
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        // Not made before it is true: dropping it gives the data up.
        entered.is_ok().then(|| Claim { cell: self })
    }

    /// Whether somebody owns the data; a hint that may be late.
    #[inline]
    pub fn is_taken(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }

    /// Becomes the owner, spinning and yielding while somebody else is. For control
    /// paths only: it may take as long as the owner's present round.
    #[cfg(any(feature = "std", loom))]
    pub fn enter_blocking(&self) -> Claim<'_, T> {
        loop {
            if let Some(claim) = self.enter() {
                return claim;
            }
            crate::thread::yield_now();
        }
    }
}

/// Ownership of the data in a [`ClaimCell`].
///
/// Dropping it gives the data up *without* another round, even when one was asked for:
/// use [`Claim::leave`] where a reason must not be lost.
#[derive(Debug)]
pub struct Claim<'a, T> {
    cell: &'a ClaimCell<T>,
}

impl<'a, T> Claim<'a, T> {
    /// Works on the data.
    #[inline(always)]
    pub fn with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: a `Claim` exists only while the word is HELD or AGAIN by this owner, there
        // is one of them, and it is borrowed mutably for as long as the reference lives.
        self.cell.data.with_mut(|data| f(unsafe { &mut *data }))
    }

    /// Gives the data up, unless somebody came meanwhile: then the owner keeps it and must
    /// go round again.
    #[inline]
    pub fn leave(self) -> Result<(), Claim<'a, T>> {
        // Release pairs with the acquire in `enter`; without it the next owner could work on
        // data that this one has not finished writing. Model: `claim_hands_over`.
        let release = order(Site::ClaimLeave, Ordering::Release);
        match self
            .cell
            .word
            .compare_exchange(HELD, FREE, release, Ordering::Relaxed)
        {
            Ok(_) => {
                core::mem::forget(self);
                Ok(())
            }
            Err(_) => {
                // A read-modify-write, so that it reads the newest `enter`, whose release it
                // acquires. Nobody else moves the word away from AGAIN.
                self.cell.word.swap(HELD, Ordering::Acquire);
                Err(self)
            }
        }
    }
}

impl<T> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        self.cell.word.swap(FREE, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_only_tries_tells_the_owner_nothing_and_takes_nothing_away() {
        let cell = ClaimCell::new(1);
        let owner = cell.try_enter().expect("free");
        assert!(cell.try_enter().is_none() && cell.is_taken());
        assert!(cell.try_enter().is_none());
        owner.leave().expect("nobody came");
        assert!(!cell.is_taken());
    }

    #[test]
    fn a_second_reason_sends_the_owner_round_again() {
        let cell = ClaimCell::new(1);
        let mut owner = cell.enter().expect("free");
        assert!(cell.enter().is_none());
        owner.with(|n| *n += 1);
        let owner = owner.leave().expect_err("somebody came");
        owner.leave().expect("nobody came");
        assert_eq!(cell.enter().expect("free").with(|n| *n), 2);
    }
}
