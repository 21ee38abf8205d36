//! Which words of the register pages are the guest's, the engine's, or both's.

use smmu_core::spec::register::offset::*;
use smmu_core::{Gpa, GuestMemory};
use std::sync::atomic::Ordering;

/// Bytes of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register {
    /// From the beginning of page 0.
    pub(super) at: u64,
    /// 4 or 8.
    pub(super) width: u8,
}

const fn word(at: u64) -> Register {
    Register { at, width: 4 }
}

const fn long(at: u64) -> Register {
    Register { at, width: 8 }
}

/// Written by the guest, in the order in which changes are passed on: what decides whether
/// others may be written comes last, and so does PROD.
pub(super) const GUEST: [Register; 20] = [
    word(CR1),
    word(CR2),
    word(GBPA),
    long(GERROR_IRQ_CFG0),
    word(GERROR_IRQ_CFG1),
    word(GERROR_IRQ_CFG2),
    long(EVENTQ_IRQ_CFG0),
    word(EVENTQ_IRQ_CFG1),
    word(EVENTQ_IRQ_CFG2),
    long(STRTAB_BASE),
    word(STRTAB_BASE_CFG),
    long(CMDQ_BASE),
    word(CMDQ_CONS),
    long(EVENTQ_BASE),
    word(EVENTQ_PROD),
    word(EVENTQ_CONS),
    word(CMDQ_PROD),
    word(GERRORN),
    word(IRQ_CTRL),
    word(CR0),
];

/// Of those, the ones that are looked at first and passed on last: a guest that changes one of
/// them waits for its acknowledgement before it writes anything that depends on it.
pub(super) const FIRST: [u64; 3] = [CR0, IRQ_CTRL, GERRORN];

/// Of [`GUEST`], those that the engine writes too.
pub(super) const BOTH: [u64; 3] = [CMDQ_CONS, EVENTQ_PROD, GBPA];

/// Written by the engine alone.
pub(super) const ENGINE: [Register; 3] = [word(CR0ACK), word(IRQ_CTRLACK), word(GERROR)];

/// Written once.
pub(super) const CONSTANT: [Register; 20] = [
    word(IDR0),
    word(IDR1),
    word(IDR2),
    word(IDR3),
    word(IDR4),
    word(IDR5),
    word(IIDR),
    word(AIDR),
    word(ID_REGS),
    word(ID_REGS + 0x04),
    word(ID_REGS + 0x08),
    word(ID_REGS + 0x0C),
    word(ID_REGS + 0x10),
    word(ID_REGS + 0x14),
    word(ID_REGS + 0x18),
    word(ID_REGS + 0x1C),
    word(ID_REGS + 0x20),
    word(ID_REGS + 0x24),
    word(ID_REGS + 0x28),
    word(ID_REGS + 0x2C),
];

/// The pages in guest RAM.
pub(super) struct Window<'a> {
    pub(super) memory: &'a dyn GuestMemory,
    pub(super) base: Gpa,
}

impl Window<'_> {
    fn at(&self, register: Register) -> Gpa {
        Gpa(self.base.0 + register.at)
    }

    /// Acquire: what the guest wrote before is there. Zero outside of RAM, where no page is.
    pub(super) fn load(&self, register: Register) -> u64 {
        let at = self.at(register);
        if register.width == 8 {
            let words = self.memory.words(at, 1).ok();
            return words.map_or(0, |words| u64::from_le(words[0].load(Ordering::Acquire)));
        }
        let words = self.memory.words32(at, 1);
        let word = words.map_or(0, |words| words[0].load(Ordering::Acquire));
        u32::from_le(word).into()
    }

    /// Release: who sees it sees what it stands for.
    pub(super) fn store(&self, register: Register, value: u64) {
        let at = self.at(register);
        if register.width == 8 {
            if let Ok(words) = self.memory.words(at, 1) {
                words[0].store(value.to_le(), Ordering::Release);
            }
        } else if let Some(words) = self.memory.words32(at, 1) {
            words[0].store((value as u32).to_le(), Ordering::Release);
        }
    }

    /// The same for a word that the guest writes too: only if it still is `old`.
    pub(super) fn exchange(&self, register: Register, old: u64, new: u64) -> bool {
        let Some(words) = self.memory.words32(self.at(register), 1) else {
            return false;
        };
        let (old, new) = ((old as u32).to_le(), (new as u32).to_le());
        let result = words[0].compare_exchange(old, new, Ordering::Release, Ordering::Relaxed);
        result.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_has_one_list_and_lies_inside() {
        let mut all: Vec<_> = GUEST.iter().chain(&ENGINE).chain(&CONSTANT).collect();
        all.sort_by_key(|register| register.at);
        for pair in all.windows(2) {
            let end = pair[0].at + u64::from(pair[0].width);
            assert!(end <= pair[1].at, "{pair:?}");
        }
        assert!(
            all.iter()
                .all(|register| register.at + 8 <= FRAME_BYTES + 8)
        );
        assert!(
            FIRST
                .iter()
                .chain(&BOTH)
                .all(|at| GUEST.iter().any(|g| g.at == *at))
        );
    }

    #[test]
    fn what_decides_comes_last() {
        let place = |at| GUEST.iter().position(|register| register.at == at);
        assert!(place(CMDQ_BASE) < place(CMDQ_PROD));
        assert!(place(STRTAB_BASE) < place(CR0) && place(CMDQ_PROD) < place(CR0));
        assert!(place(GERROR_IRQ_CFG0) < place(IRQ_CTRL));
    }
}
