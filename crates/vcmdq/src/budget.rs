//! What a worker's work on a ring costs, roughly (law 8): commands are counted by what they cost, not
//! by their number. What backends cost is theirs to say ([`dispatch::Costs`]).
//!
//! Nanoseconds of a machine of today, as `cargo bench -p vcmdq-benches` shows them. They decide when a
//! worker looks at its other rings, nothing else.

use dispatch::Costs;
use std::time::Duration;

/// A window: fetch, barrier, CONS.
pub(crate) const WINDOW: u64 = 100;
/// An entry that is one range further on than the last one.
pub(crate) const ENTRY: u64 = 2;
/// On top of it for any other one: decoder, coalescer, or what a SYNC takes whose word lies in the
/// ring.
pub(crate) const COMMAND: u64 = 6;
/// A call of the VMM's, which may end in one of the host's.
pub(crate) const CALLBACK: u64 = 500;
/// A stream that is looked at because a command concerns it.
pub(crate) const STREAM: u64 = 20;

/// What is left of a slice, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget(u64);

impl Budget {
    pub(crate) fn of(slice: Duration) -> Self {
        Self(u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX))
    }

    #[inline]
    pub(crate) fn spend(&mut self, cost: u64) {
        self.0 = self.0.saturating_sub(cost);
    }

    /// The same without so much.
    #[inline]
    pub(crate) fn less(self, cost: u64) -> Self {
        Self(self.0.saturating_sub(cost))
    }

    #[inline]
    pub(crate) fn is_spent(self) -> bool {
        // law8b: a ring keeps its worker as long as it has commands.
        self.0 == 0 && !cfg!(break_law8b)
    }

    /// What a window may cost. A call that may block is made for whole windows: it is paid once for
    /// all of them, and meanwhile somebody else has the worker's other rings.
    #[inline]
    pub(crate) fn of_window(self, may_block: bool) -> u64 {
        // law8c: a window is as long as what is published, whatever its commands cost.
        if may_block || cfg!(break_law8b) || cfg!(break_law8c) {
            u64::MAX
        } else {
            self.0
        }
    }
}

/// Of backends that get the same requests.
pub(crate) fn sum(costs: impl Iterator<Item = Costs>) -> Costs {
    costs.reduce(Costs::and).unwrap_or(Costs::NOTHING)
}
