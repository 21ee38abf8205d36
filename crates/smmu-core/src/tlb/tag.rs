//! An entry's tag: one word that a lookup compares and an invalidation reads.
//!
//! ```text
//! 63 62 61      60..45 44..41 40..0
//! state global  ASID   class  page number: VA[55:12] less the bits that must repeat bit 55
//! ```
//!
//! Entries of stage 2 alone are global ones with an ASID that is not zero.
//!
//! The VMID is not in it: it is compared where the payload lies. An invalidation by
//! address that does not look there removes the same address of another VMID too, which
//! law 7 allows.

use super::{PageClass, Space};
use crate::ids::Asid;

const PAGE_BITS: u32 = 41;
pub(super) const PAGE_MASK: u64 = (1 << PAGE_BITS) - 1;
const CLASS_AT: u32 = 41;
const ASID_AT: u32 = 45;
const GLOBAL: u64 = 1 << 61;
const STATE_AT: u32 = 62;
/// Above everything else.
pub(super) const STATE_BITS: u32 = 64 - STATE_AT;

/// What the slot of a tag is doing, in its two top bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum State {
    /// Nothing there. The whole word is zero.
    Empty = 0,
    /// Being filled: no lookup may use it, an invalidation can still take it away.
    Filling = 1,
    /// There.
    Valid = 2,
}

/// The identity of an entry, without its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    #[inline]
    pub(super) fn of(space: Space, va: u64, class: PageClass) -> Self {
        Self::of_space(space).tag(class, page_number(va, class))
    }

    /// What all tags of a space have in common.
    #[inline(always)]
    pub(super) fn of_space(space: Space) -> SpaceBits {
        SpaceBits(match space {
            Space::Asid(asid) => u64::from(asid.0) << ASID_AT,
            Space::Global => GLOBAL,
            Space::Stage2 => GLOBAL | 1 << ASID_AT,
        })
    }

    /// Of a word of the table.
    pub(super) fn of_word(word: u64) -> Self {
        Self(word & ((1 << STATE_AT) - 1))
    }

    #[inline]
    pub(super) fn with(self, state: State) -> u64 {
        self.0 | (state as u64) << STATE_AT
    }

    #[inline]
    pub(super) fn page(self) -> u64 {
        self.0 & PAGE_MASK
    }

    #[inline]
    pub(super) fn class(self) -> PageClass {
        PageClass::from_code((self.0 >> CLASS_AT & 0xF) as u32)
    }

    #[inline]
    pub(super) fn space(self) -> Space {
        match (self.0 & GLOBAL != 0, (self.0 >> ASID_AT) as u16) {
            (false, asid) => Space::Asid(Asid(asid)),
            (true, 0) => Space::Global,
            (true, _) => Space::Stage2,
        }
    }
}

/// The part of a tag that names the space.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpaceBits(u64);

impl SpaceBits {
    #[inline(always)]
    pub(super) fn tag(self, class: PageClass, page: u64) -> Tag {
        Tag(self.kind(class) | page)
    }

    /// Everything but page number and state, as [`Matcher`] compares it.
    #[inline(always)]
    pub(super) fn kind(self, class: PageClass) -> u64 {
        self.0 | (class as u64) << CLASS_AT
    }
}

/// The number of the page or block of `class` that holds `va`. The top byte does not count
/// (IHI 0070, 3.4.1: it is ignored or checked before), bits 55 to 52 repeat each other.
#[inline(always)]
pub(super) fn page_number(va: u64, class: PageClass) -> u64 {
    (va & ((1 << 53) - 1)) >> class.shift()
}

/// Which tags an invalidation takes: those whose kind, less what `mask` leaves out, is `kind`,
/// and whose page lies in `first..=first + more`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matcher {
    pub(super) kind: u64,
    pub(super) mask: u64,
    pub(super) first: u64,
    pub(super) more: u64,
}

impl Matcher {
    /// Kind bits that must agree: class, ASID and the global bit.
    pub(super) const EXACT: u64 = ((1 << STATE_AT) - 1) & !PAGE_MASK;
    /// The same without the ASID.
    pub(super) const ANY_ASID: u64 = Self::EXACT & !(0xFFFF << ASID_AT);

    /// Whether a word of the table is to be taken away, valid or just being filled.
    #[inline]
    pub(super) fn takes(&self, word: u64) -> bool {
        // No short circuit: one branch for each word, not three.
        (word >> STATE_AT != State::Empty as u64)
            & (word & self.mask == self.kind)
            & ((word & PAGE_MASK).wrapping_sub(self.first) <= self.more)
    }
}
