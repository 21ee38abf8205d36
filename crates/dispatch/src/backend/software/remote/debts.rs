//! Which rings wait for how many answers of a device.

use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Rings whose numbers differ by a multiple of this share a place, as they share a mark on guards.
#[cfg(not(loom))]
const RINGS: usize = 64;
#[cfg(loom)]
const RINGS: usize = 4;
/// The place of every ring's next SYNC, and of whoever exchanges registers or memory.
const EVERYBODY: usize = RINGS;
const PLACES: usize = RINGS + 1;

/// Who waits for an answer: a bit for each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asking(u128);

impl Asking {
    pub(super) const EVERYBODY: Self = Self(1 << EVERYBODY);

    pub(super) fn rings(rings: impl Iterator<Item = u32>) -> Self {
        Self(rings.fold(0, |bits, ring| bits | 1 << (ring as usize % RINGS)))
    }

    fn places(self) -> impl Iterator<Item = usize> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let place = bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            (place < PLACES).then_some(place)
        })
    }
}

/// Answers that are due, counted by one thread. In 64 bits: a guest that never waits adds to them as long as
/// it likes.
#[derive(Debug)]
pub(super) struct Debts([u64; PLACES]);

impl Default for Debts {
    fn default() -> Self {
        Self([0; PLACES])
    }
}

impl Debts {
    pub(super) fn add(&mut self, asking: Asking) {
        for place in asking.places() {
            self.0[place] += 1;
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (mine, others) in self.0.iter_mut().zip(other.0) {
            *mine += others;
        }
    }

    pub(super) fn are_none(&self) -> bool {
        self.0.iter().all(|&due| due == 0)
    }
}

/// The same, shared. Every change is an addition or a subtraction of what one thread has counted.
#[derive(Debug)]
pub(super) struct SharedDebts([AtomicU64; PLACES]);

impl Default for SharedDebts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl SharedDebts {
    /// Before what is asked for is handed over, so that nobody settles it before it is noted.
    pub(super) fn note(&self, asking: Asking) {
        for place in asking.places() {
            self.0[place].fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn settle(&self, debts: &Debts, order: Ordering) {
        for (shared, &due) in self.0.iter().zip(&debts.0) {
            if due != 0 {
                shared.fetch_sub(due, order);
            }
        }
    }

    /// Takes what others have noted here.
    pub(super) fn take(&self) -> Debts {
        let take = |place: usize| match self.0[place].load(Ordering::Relaxed) {
            0 => 0,
            // Acquire: what was removed before it was noted is seen by who acts on it.
            _ => self.0[place].swap(0, Ordering::Acquire),
        };
        Debts(std::array::from_fn(take))
    }

    /// Whether a ring, or with `None` who waits for everything, has nothing due. Acquire pairs with
    /// the release in [`settle`](Self::settle): what the device did before it answered is seen.
    pub(super) fn are_settled_for(&self, ring: Option<u32>) -> bool {
        let none = |place: usize| self.0[place].load(Ordering::Acquire) == 0;
        none(EVERYBODY) && ring.is_none_or(|ring| none(ring as usize % RINGS))
    }
}
