//! What an input has led to.

use crate::naive::model::Answer;
use std::ops::BitOrAssign;

/// A set of things that have happened. Searches do not need it; that the seeds reach them is a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached(u64);

impl Reached {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// A page or block was found.
    pub const PAGE: Self = Self(1 << 40);
    /// Neither stage translates.
    pub const BYPASS: Self = Self(1 << 41);
    /// A stream aborts without a record.
    pub const ABORT: Self = Self(1 << 42);
    /// A fault of stage 2.
    pub const STAGE2: Self = Self(1 << 43);
    /// A structure was legal, and survived its encoding.
    pub const LEGAL: Self = Self(1 << 44);
    /// Everything that was published has been consumed.
    pub const CONSUMED: Self = Self(1 << 45);
    /// A queue has stopped at an illegal command.
    pub const ILLEGAL: Self = Self(1 << 46);
    /// A queue has stopped because it could not be read.
    pub const UNREADABLE: Self = Self(1 << 47);
    /// A PROD was not followed.
    pub const BAD_PROD: Self = Self(1 << 48);
    /// SMMUEN took effect.
    pub const ENABLED: Self = Self(1 << 49);
    /// A VCMDQ came on.
    pub const VCMDQ: Self = Self(1 << 50);
    /// An event was written.
    pub const EVENT: Self = Self(1 << 51);

    /// A descriptor was updated.
    pub const UPDATE: Self = Self(1 << 52);

    /// An ATS request was refused.
    pub const REFUSED: Self = Self(1 << 53);

    /// A queue had no room.
    pub const OVERFLOW: Self = Self(1 << 54);

    /// A SYNC waited for a device.
    pub const WAITED: Self = Self(1 << 55);

    /// A queue has stopped because a device did not answer.
    pub const UNANSWERED: Self = Self(1 << 56);

    /// The event with this number was found, 0 to 0x3f.
    #[must_use]
    pub const fn event(id: u8) -> Self {
        Self(1 << (id & 0x1f))
    }

    /// Everything of the two.
    #[must_use]
    pub const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether all of `what` is in it.
    #[must_use]
    pub const fn has(self, what: Self) -> bool {
        self.0 & what.0 == what.0
    }
}

impl BitOrAssign for Reached {
    fn bitor_assign(&mut self, more: Self) {
        *self = self.and(more);
    }
}

impl From<&Answer> for Reached {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::SilentAbort => Self::ABORT,
            Answer::Bypass(..) => Self::BYPASS,
            Answer::Page { .. } => Self::PAGE,
            Answer::Event([first, how, ..]) => {
                let event = Self::event(*first as u8);
                let stage2 = how >> 39 & 1 != 0;
                event.and(if stage2 { Self::STAGE2 } else { Self::NOTHING })
            }
        }
    }
}
