//! What the newest requests name, in a form in which all of them are compared at once: whether one
//! can take a page in is then one branch, not one for each that cannot.

use crate::packed::{Packed, key};

/// How many of the newest requests a new one is compared with. Producers on several CPUs
/// interleave; each works through its own range.
pub(crate) const LOOK_BACK: usize = 4;
/// No request has this identity.
const NOBODY: u64 = u64::MAX;

/// The newest requests, each in the slot that its place has modulo their number. Of those that are no
/// range of 4 KiB pages nothing is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recent {
    identity: [u64; LOOK_BACK],
    /// Pages, the last one inclusive.
    first: [u64; LOOK_BACK],
    last: [u64; LOOK_BACK],
}

impl Recent {
    pub(crate) const NONE: Self = Self {
        identity: [NOBODY; LOOK_BACK],
        first: [0; LOOK_BACK],
        last: [0; LOOK_BACK],
    };

    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.identity = [NOBODY; LOOK_BACK];
    }

    /// A page has become the request at `at`.
    #[inline(always)]
    pub(crate) fn keep_page(&mut self, at: usize, identity: u64, page: u64) {
        let slot = at % LOOK_BACK;
        self.identity[slot] = identity;
        self.first[slot] = page;
        self.last[slot] = page;
    }

    /// The request at `at` has changed, or is new.
    #[inline]
    pub(crate) fn follow(&mut self, at: usize, kept: &Packed) {
        let slot = at % LOOK_BACK;
        if kept.key & (key::KIND | key::GRANULE) == key::ADDRESSES | key::K4 {
            self.identity[slot] = kept.key & key::IDENTITY;
            self.first[slot] = kept.addr >> 12;
            self.last[slot] = kept.last() >> 12;
        } else {
            self.identity[slot] = NOBODY;
        }
    }

    /// The slot of a request of the same identity that holds the page or a neighbour of it.
    #[inline(always)]
    pub(crate) fn takes(&self, identity: u64, page: u64) -> Option<usize> {
        let known = self
            .identity
            .iter()
            .fold(false, |known, own| known | (*own == identity));
        if !known {
            return None;
        }
        let mut found = LOOK_BACK;
        for slot in 0..LOOK_BACK {
            // Pages are 52 bits wide: nothing wraps that should not.
            let (first, last) = (self.first[slot], self.last[slot]);
            let touches = (page + 1).wrapping_sub(first) <= last - first + 2;
            if touches & (self.identity[slot] == identity) {
                found = slot;
            }
        }
        (found < LOOK_BACK).then_some(found)
    }

    /// Takes a neighbouring page in; the pages of the request at `slot` now.
    #[inline(always)]
    pub(crate) fn take(&mut self, slot: usize, page: u64) -> (u64, u64) {
        self.first[slot] = self.first[slot].min(page);
        self.last[slot] = self.last[slot].max(page);
        (self.first[slot], self.last[slot])
    }
}
