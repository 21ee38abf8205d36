//! Errors that stop a queue, and their acknowledgement (IHI 0070, 7.1 and 7.5).
//!
//! GERROR and GERRORN hold one bit for each error; the error is active while they differ. The
//! engine toggles a bit of GERROR only while it is inactive; the guest acknowledges by making
//! GERRORN equal. The truth is kept here: what a guest can write elsewhere is a copy.

use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Bits of GERROR that the engine raises.
pub mod gerror_bits {
    /// A command queue has stopped at a command.
    pub const CMDQ_ERR: u32 = 1 << 0;
    /// The event queue lies where there is no memory.
    pub const EVENTQ_ABT_ERR: u32 = 1 << 2;
    /// The PRI queue lies where there is no memory.
    pub const PRIQ_ABT_ERR: u32 = 1 << 3;
    /// A SYNC's message went nowhere.
    pub const MSI_CMDQ_ABT_ERR: u32 = 1 << 4;
    /// The event queue's message went nowhere.
    pub const MSI_EVENTQ_ABT_ERR: u32 = 1 << 5;
    /// The PRI queue's message went nowhere.
    pub const MSI_PRIQ_ABT_ERR: u32 = 1 << 6;
    /// The message of a global error went nowhere.
    pub const MSI_GERROR_ABT_ERR: u32 = 1 << 7;
}

/// Why a queue has stopped: the codes of CMDQ_CONS.ERR (IHI 0070, 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CommandError {
    /// CERROR_ILL: the command at CONS is illegal.
    Illegal = 1,
    /// CERROR_ABT: the entry at CONS could not be read.
    Abort = 2,
    /// CERROR_ATC_INV: the SYNC at CONS found an ATC_INV that a device did not answer.
    AtcInvSync = 3,
}

impl CommandError {
    /// The error with this code, if it is one of ours.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Illegal, Self::Abort, Self::AtcInvSync]
            .into_iter()
            .find(|e| *e as u8 == code)
    }
}

/// GERROR and GERRORN of a frame's page 0, or of one VCMDQ.
///
/// Both lie in one word, so that each change is a function of both: two threads that raise the
/// same error toggle it once, and an acknowledgement beside them takes back nothing that it has
/// not seen.
#[derive(Debug, Default)]
pub struct ErrorLatch {
    /// GERROR in the low half, GERRORN in the high one.
    word: AtomicU64,
}

/// GERROR and GERRORN.
fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

fn join(gerror: u32, gerrorn: u32) -> u64 {
    u64::from(gerrorn) << 32 | u64::from(gerror)
}

impl ErrorLatch {
    /// Nothing active.
    #[must_use]
    pub fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
        }
    }

    pub(crate) fn restore(&self, gerror: u32, gerrorn: u32) {
        self.word.store(join(gerror, gerrorn), Ordering::Release);
    }

    fn load(&self) -> (u32, u32) {
        halves(self.word.load(Ordering::Acquire))
    }

    /// Changes the word by compare-and-swap; returns GERROR and GERRORN of before.
    fn change(&self, change: impl Fn(u32, u32) -> (u32, u32)) -> (u32, u32) {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            let (gerror, gerrorn) = halves(seen);
            let (toggled, acknowledged) = change(gerror, gerrorn);
            // Release pairs with the guest's look at GERROR (CONS and ERR are there before) and
            // with `is_active` (what the guest rewrote is there before).
            match self.word.compare_exchange(
                seen,
                join(toggled, acknowledged),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return (gerror, gerrorn),
                Err(now) => seen = now,
            }
        }
    }

    /// GERROR. Acquire: a reader that sees a toggled bit sees the CONS that goes with it.
    #[must_use]
    pub fn gerror(&self) -> u32 {
        self.load().0
    }

    /// GERRORN, as last written.
    #[must_use]
    pub fn gerrorn(&self) -> u32 {
        self.load().1
    }

    /// Whether any of `bits` is active. Acquire pairs with the Release in `acknowledge`: what
    /// the guest rewrote before it acknowledged is seen behind it.
    #[must_use]
    #[inline]
    pub fn is_active(&self, bits: u32) -> bool {
        let (gerror, gerrorn) = self.load();
        (gerror ^ gerrorn) & bits != 0
    }

    /// Activates errors; those that are active already stay as they are. Returns whether any has
    /// become active, which is when the interrupt pulses. From any thread.
    pub(crate) fn raise(&self, bits: u32) -> bool {
        let news = |gerror: u32, gerrorn: u32| bits & !(gerror ^ gerrorn);
        let (gerror, gerrorn) =
            self.change(|gerror, gerrorn| (gerror ^ news(gerror, gerrorn), gerrorn));
        news(gerror, gerrorn) != 0
    }

    /// The guest writes GERRORN. Toggling a bit that is not active is unpredictable in the
    /// architecture and ignored here. From any thread.
    pub(crate) fn acknowledge(&self, value: u32) {
        self.change(|gerror, old| (gerror, old ^ ((old ^ value) & (gerror ^ old))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gerror_bits::{CMDQ_ERR, MSI_CMDQ_ABT_ERR};

    #[test]
    fn a_bit_toggles_only_while_inactive() {
        let latch = ErrorLatch::new();
        assert!(latch.raise(CMDQ_ERR));
        assert!(!latch.raise(CMDQ_ERR), "active already");
        assert_eq!(latch.gerror(), CMDQ_ERR);
        latch.acknowledge(CMDQ_ERR);
        assert!(!latch.is_active(CMDQ_ERR));
        assert!(latch.raise(CMDQ_ERR));
        assert_eq!(latch.gerror(), 0, "the second error toggles it back");
    }

    #[test]
    fn acknowledging_what_is_not_active_is_ignored() {
        let latch = ErrorLatch::new();
        latch.acknowledge(u32::MAX);
        assert!(!latch.is_active(u32::MAX));
        latch.raise(MSI_CMDQ_ABT_ERR);
        latch.acknowledge(CMDQ_ERR);
        assert!(
            latch.is_active(MSI_CMDQ_ABT_ERR),
            "another bit acknowledges nothing"
        );
    }
}
