//! Errors that stop a queue, and their acknowledgement (IHI 0070, 7.1 and 7.5).
//!
//! GERROR and GERRORN hold one bit for each error; the error is active while they differ. The
//! engine toggles a bit of GERROR only while it is inactive; the guest acknowledges by making
//! GERRORN equal. The truth is kept here: what a guest can write elsewhere is a copy.

use vcmdq_sync::atomic::{AtomicU32, Ordering};

/// Bits of GERROR that the engine raises.
pub mod gerror_bits {
    /// A command queue has stopped at a command.
    pub const CMDQ_ERR: u32 = 1 << 0;
    /// The event queue lies where there is no memory.
    pub const EVENTQ_ABT_ERR: u32 = 1 << 2;
    /// A SYNC's message went nowhere.
    pub const MSI_CMDQ_ABT_ERR: u32 = 1 << 4;
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
#[derive(Debug, Default)]
pub struct ErrorLatch {
    gerror: AtomicU32,
    gerrorn: AtomicU32,
}

impl ErrorLatch {
    /// Nothing active.
    #[must_use]
    pub fn new() -> Self {
        Self {
            gerror: AtomicU32::new(0),
            gerrorn: AtomicU32::new(0),
        }
    }

    pub(crate) fn restore(&self, gerror: u32, gerrorn: u32) {
        self.gerror.store(gerror, Ordering::Release);
        self.gerrorn.store(gerrorn, Ordering::Release);
    }

    /// GERROR. Acquire: a reader that sees a toggled bit sees the CONS that goes with it.
    #[must_use]
    pub fn gerror(&self) -> u32 {
        self.gerror.load(Ordering::Acquire)
    }

    /// GERRORN, as last written.
    #[must_use]
    pub fn gerrorn(&self) -> u32 {
        self.gerrorn.load(Ordering::Acquire)
    }

    /// Whether any of `bits` is active. Acquire pairs with the Release in `acknowledge`: what
    /// the guest rewrote before it acknowledged is seen behind it.
    #[must_use]
    #[inline]
    pub fn is_active(&self, bits: u32) -> bool {
        (self.gerror.load(Ordering::Relaxed) ^ self.gerrorn.load(Ordering::Acquire)) & bits != 0
    }

    /// Activates errors; those that are active already stay as they are. Returns whether any has
    /// become active, which is when the interrupt pulses.
    pub(crate) fn raise(&self, bits: u32) -> bool {
        let active = self.gerror.load(Ordering::Relaxed) ^ self.gerrorn.load(Ordering::Acquire);
        let news = bits & !active;
        // Release pairs with the guest's look at GERROR: CONS and ERR are there before.
        self.gerror.fetch_xor(news, Ordering::Release);
        news != 0
    }

    /// The guest writes GERRORN. Toggling a bit that is not active is unpredictable in the
    /// architecture and ignored here.
    pub(crate) fn acknowledge(&self, gerrorn: u32) {
        let old = self.gerrorn.load(Ordering::Relaxed);
        let active = self.gerror.load(Ordering::Acquire) ^ old;
        // Release pairs with `is_active`.
        self.gerrorn
            .store(old ^ ((old ^ gerrorn) & active), Ordering::Release);
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
