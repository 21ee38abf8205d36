//! Which words of the register pages are the guest's and which the engine's.

use smmu_core::spec::register::offset::*;
use smmu_core::spec::vcmdq::offset as cmdqv;
use smmu_core::{Gpa, GuestMemory};
use std::sync::atomic::Ordering;

/// Who writes a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The guest; the engine shows there what has become of it.
    Guest,
    /// As above, and whoever changes it waits for an acknowledgement before it writes anything that
    /// depends on it. Looked at before the others, passed on behind them.
    Switch,
    /// The engine alone.
    Engine,
    /// Nobody: it says what the frame is.
    Nobody,
}

impl Writer {
    pub(super) fn is_guest(self) -> bool {
        matches!(self, Self::Guest | Self::Switch)
    }
}

/// A register of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register {
    /// From the beginning of the frame.
    pub(super) at: u64,
    /// 4 or 8.
    pub(super) width: u8,
    pub(super) writer: Writer,
}

const fn word(at: u64, writer: Writer) -> Register {
    Register {
        at,
        width: 4,
        writer,
    }
}

const fn long(at: u64, writer: Writer) -> Register {
    Register {
        at,
        width: 8,
        writer,
    }
}

/// The SMMU's registers, in the order in which changes are passed on: PROD behind what says where
/// the queue lies, switches last.
pub(super) fn smmu() -> Vec<Register> {
    use Writer::{Engine, Guest, Nobody, Switch};
    let constant = (IDR0..=AIDR).step_by(4);
    let mut all: Vec<_> = constant.map(|at| word(at, Nobody)).collect();
    all.extend((0..12).map(|part| word(ID_REGS + 4 * part, Nobody)));
    all.extend([
        word(CR1, Guest),
        word(CR2, Guest),
        word(GBPA, Guest),
        long(GERROR_IRQ_CFG0, Guest),
        word(GERROR_IRQ_CFG1, Guest),
        word(GERROR_IRQ_CFG2, Guest),
        long(EVENTQ_IRQ_CFG0, Guest),
        word(EVENTQ_IRQ_CFG1, Guest),
        word(EVENTQ_IRQ_CFG2, Guest),
        long(STRTAB_BASE, Guest),
        word(STRTAB_BASE_CFG, Guest),
        long(CMDQ_BASE, Guest),
        word(CMDQ_CONS, Guest),
        long(EVENTQ_BASE, Guest),
        word(EVENTQ_PROD, Guest),
        word(EVENTQ_CONS, Guest),
        word(CMDQ_PROD, Guest),
        word(GERRORN, Switch),
        word(IRQ_CTRL, Switch),
        word(CR0, Switch),
        word(GERROR, Engine),
        word(IRQ_CTRLACK, Engine),
        word(CR0ACK, Engine),
    ]);
    all
}

/// A CMDQV's registers, as far as Linux uses them in a guest: its own page, and page 1 of the logical
/// view of `queues` queues. The engine itself looks at page 0.
pub(super) fn cmdqv(queues: u64) -> Vec<Register> {
    use Writer::{Engine, Guest, Nobody, Switch};
    let vintf = |at| cmdqv::VINTF + at;
    let mut all = vec![
        word(cmdqv::PARAM, Nobody),
        word(cmdqv::VINTF_INT_MASK, Guest),
        word(cmdqv::VINTF_INT_MASK + 4, Guest),
    ];
    let alloc = |queue| word(cmdqv::CMDQ_ALLOC + cmdqv::CMDQ_ALLOC_STRIDE * queue, Guest);
    all.extend((0..queues).map(alloc));
    for queue in 0..queues {
        let page0 = cmdqv::VINTF_PAGES + cmdqv::VCMDQ_STRIDE * queue;
        let page1 = page0 + cmdqv::VINTF_PAGE_BYTES;
        all.extend([
            long(page1 + cmdqv::VCMDQ_BASE, Guest),
            long(page1 + cmdqv::VCMDQ_CONS_INDX_BASE, Guest),
        ]);
    }
    all.extend([
        word(vintf(cmdqv::VINTF_CONFIG), Switch),
        word(cmdqv::CONFIG, Switch),
        word(vintf(cmdqv::VINTF_STATUS), Engine),
        word(vintf(cmdqv::VINTF_LVCMDQ_ERR_MAP), Engine),
        word(cmdqv::VINTF_ERR_MAP, Engine),
        word(cmdqv::CMDQ_ERR_MAP, Engine),
        word(cmdqv::STATUS, Engine),
    ]);
    all
}

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
        let at = self.at(register);
        let (store, keep) = (Ordering::Release, Ordering::Relaxed);
        if register.width == 8 {
            let (old, new) = (old.to_le(), new.to_le());
            let words = self.memory.words(at, 1).ok();
            return words.is_some_and(|w| w[0].compare_exchange(old, new, store, keep).is_ok());
        }
        let (old, new) = ((old as u32).to_le(), (new as u32).to_le());
        let words = self.memory.words32(at, 1);
        words.is_some_and(|w| w[0].compare_exchange(old, new, store, keep).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut all: Vec<Register>, end: u64) {
        all.sort_by_key(|register| register.at);
        for pair in all.windows(2) {
            let end = pair[0].at + u64::from(pair[0].width);
            assert!(end <= pair[1].at, "{pair:?}");
        }
        let last = all.last().expect("registers");
        assert!(last.at + u64::from(last.width) <= end);
        let aligned = |register: &Register| register.at % u64::from(register.width) == 0;
        assert!(all.iter().all(aligned));
    }

    #[test]
    fn every_register_is_there_once_and_lies_inside() {
        sorted(smmu(), FRAME_BYTES);
        for queues in [1, 4, 16] {
            sorted(cmdqv(queues), vcmdq::cmdqv::FRAME_BYTES);
        }
    }

    #[test]
    fn what_decides_comes_last() {
        let all = smmu();
        let place = |at| all.iter().position(|register| register.at == at);
        assert!(place(CMDQ_BASE) < place(CMDQ_PROD));
        assert!(place(STRTAB_BASE) < place(CR0) && place(CMDQ_PROD) < place(CR0));
        assert!(place(GERROR_IRQ_CFG0) < place(IRQ_CTRL));
        // What is acknowledged is shown behind what the acknowledgement stands for.
        assert!(place(CMDQ_CONS) < place(CR0ACK) && place(GERROR) < place(CR0ACK));
    }
}
