//! What a guard says.

use super::Interest;
use crate::ids::{Asid, StreamId, Vmid};
use crate::range::TlbiRange;

/// What the user of a translation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The device.
    pub stream: StreamId,
    /// Name space of the ASID.
    pub vmid: Vmid,
    /// Whose translations; `None` is "any", for a context that is not known yet.
    pub asid: Option<Asid>,
    /// It may use a global entry: then addresses of every ASID concern it.
    pub global: bool,
    /// First byte.
    pub first: u64,
    /// Last byte.
    pub last: u64,
}

/// The top byte does not count: it is ignored or was checked (as in the translation cache).
const ADDRESS: u64 = (1 << 56) - 1;

impl Use {
    /// Of a stream whose addresses are not translated: nothing that an invalidation of
    /// translations could match, but its configuration is used.
    #[must_use]
    pub fn untranslated(stream: StreamId, vmid: Vmid) -> Self {
        Self {
            stream,
            vmid,
            asid: Some(Asid(0)),
            global: false,
            first: 4,
            last: 0,
        }
    }

    /// Of a stream of which no more is known: any translation of any context.
    #[must_use]
    #[inline]
    pub fn anything(stream: StreamId, vmid: Vmid) -> Self {
        Self {
            stream,
            vmid,
            asid: None,
            global: true,
            first: 0,
            last: u64::MAX,
        }
    }

    /// While tables are read on the way to these addresses: whoever takes a table away may name any other
    /// address below it.
    #[must_use]
    #[inline]
    pub fn walked(&self) -> Self {
        if self.is_nothing() {
            return *self;
        }
        Self {
            first: 0,
            last: u64::MAX,
            ..*self
        }
    }

    /// Whether it says as much as [`walked`](Self::walked).
    #[must_use]
    #[inline]
    pub fn is_walked(&self) -> bool {
        self.is_nothing() || (self.first == 0 && self.last == u64::MAX)
    }

    /// What invalidations are to look at it for.
    #[must_use]
    #[inline(always)]
    pub fn interest(&self) -> Interest {
        let whose = self
            .asid
            .map_or(Interest::EVERYTHING, |asid| Interest::of(self.vmid, asid));
        if self.global {
            whose.and_globals()
        } else {
            whose
        }
    }

    /// Whether everything that `other` says is said here, too.
    #[must_use]
    #[inline]
    pub fn covers(&self, other: &Self) -> bool {
        self.stream == other.stream
            && self.vmid == other.vmid
            && (self.asid.is_none() || self.asid == other.asid)
            && (self.global || !other.global)
            && self.first <= other.first
            && other.last <= self.last
    }

    /// Whether an invalidation by address could match.
    #[must_use]
    pub fn touched_by(&self, vmid: Vmid, asid: Option<Asid>, range: &TlbiRange) -> bool {
        let whose = self.global || asid.is_none() || self.asid.is_none() || self.asid == asid;
        let (first, last) = (range.addr & ADDRESS, range.last() & ADDRESS);
        let overlap = first <= self.last & ADDRESS && self.first & ADDRESS <= last;
        self.vmid == vmid && !self.is_nothing() && whose && (overlap || last < first)
    }

    /// Whether it uses any of these addresses, whatever they are translated by.
    #[must_use]
    pub fn touches(&self, first: u64, last: u64) -> bool {
        !self.is_nothing() && first <= self.last && self.first <= last
    }

    /// No address: what [`untranslated`](Self::untranslated) says. A guard that is being changed may
    /// look so for a moment; whoever changes it looks up again behind a fence.
    #[must_use]
    #[inline]
    pub fn is_nothing(&self) -> bool {
        self.first > self.last
    }

    /// Whether an invalidation of an ASID could match; `globals` if it takes those, too.
    #[must_use]
    pub fn in_context(&self, vmid: Vmid, asid: Asid, globals: bool) -> bool {
        let own = self.asid.is_none() || self.asid == Some(asid);
        self.vmid == vmid && !self.is_nothing() && (own || globals && self.global)
    }
}
