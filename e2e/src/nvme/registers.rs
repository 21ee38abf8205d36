//! The controller's registers (Base Specification, 3.1.3), in BAR 0.

/// Bytes of BAR 0: registers, and doorbells from [`DOORBELLS`] on.
pub(super) const BAR_BYTES: u64 = 0x4000;
/// Where the doorbells begin; four bytes each, submission before completion.
pub(super) const DOORBELLS: u64 = 0x1000;
/// Entries of the largest queue.
pub(super) const LARGEST_QUEUE: u32 = 256;

/// MQES, CQR, TO = 10 s, CSS = NVM; MPSMIN = MPSMAX = 4 KiB, DSTRD = 4 bytes.
const CAP: u64 = (LARGEST_QUEUE as u64 - 1) | 1 << 16 | 20 << 24 | 1 << 37;
/// 1.4.0
const VERSION: u32 = 0x0001_0400;

/// CC: enable, and shutdown notification.
const CC_ENABLE: u32 = 1;
const CC_SHUTDOWN: u32 = 3 << 14;
/// CSTS: ready, fatal, shutdown complete.
const CSTS_READY: u32 = 1;
const CSTS_FATAL: u32 = 2;
const CSTS_SHUT_DOWN: u32 = 2 << 2;

/// What a write asks for beyond itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// CC.EN has become 1: the admin queues are to be set up.
    Enable,
    /// CC.EN has become 0: everything is to be forgotten.
    Disable,
    /// A shutdown is asked for.
    ShutDown,
    /// The interrupt mask has changed.
    Mask,
    /// A tail of a submission queue.
    Tail(u16, u32),
    /// A head of a completion queue.
    Head(u16, u32),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Registers {
    interrupt_mask: u32,
    configuration: u32,
    status: u32,
    admin_sizes: u32,
    admin_submission: u64,
    admin_completion: u64,
}

impl Registers {
    /// Reads `into.len()` bytes; what is not there is zero.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) {
        for (byte, at) in into.iter_mut().zip(offset..) {
            let word = self.word(at & !3);
            *byte = word.to_le_bytes()[(at & 3) as usize];
        }
    }

    fn word(&self, offset: u64) -> u32 {
        match offset {
            0x00 => CAP as u32,
            0x04 => (CAP >> 32) as u32,
            0x08 => VERSION,
            0x0C | 0x10 => self.interrupt_mask,
            0x14 => self.configuration,
            0x1C => self.status,
            0x24 => self.admin_sizes,
            0x28 => self.admin_submission as u32,
            0x2C => (self.admin_submission >> 32) as u32,
            0x30 => self.admin_completion as u32,
            0x34 => (self.admin_completion >> 32) as u32,
            _ => 0,
        }
    }

    /// Writes four bytes, or two times four.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> [Effect; 2] {
        let mut effects = [Effect::Nothing; 2];
        for ((index, word), effect) in data.chunks_exact(4).enumerate().zip(&mut effects) {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            *effect = self.write_word(offset + 4 * index as u64, word);
        }
        effects
    }

    fn write_word(&mut self, offset: u64, value: u32) -> Effect {
        let low = |old: u64| old & !0xFFFF_FFFF | u64::from(value);
        let high = |old: u64| old & 0xFFFF_FFFF | u64::from(value) << 32;
        match offset {
            0x0C => self.interrupt_mask |= value,
            0x10 => self.interrupt_mask &= !value,
            0x14 => return self.configure(value),
            0x24 => self.admin_sizes = value & 0x0FFF_0FFF,
            0x28 => self.admin_submission = low(self.admin_submission) & !0xFFF,
            0x2C => self.admin_submission = high(self.admin_submission),
            0x30 => self.admin_completion = low(self.admin_completion) & !0xFFF,
            0x34 => self.admin_completion = high(self.admin_completion),
            DOORBELLS..BAR_BYTES => return doorbell((offset - DOORBELLS) / 4, value),
            _ => return Effect::Nothing,
        }
        if offset <= 0x10 {
            Effect::Mask
        } else {
            Effect::Nothing
        }
    }

    fn configure(&mut self, value: u32) -> Effect {
        let old = std::mem::replace(&mut self.configuration, value);
        match (old & CC_ENABLE, value & CC_ENABLE) {
            (0, 1) => Effect::Enable,
            (1, 0) => Effect::Disable,
            _ if value & CC_SHUTDOWN != 0 && old & CC_SHUTDOWN == 0 => Effect::ShutDown,
            _ => Effect::Nothing,
        }
    }

    pub(super) fn set_ready(&mut self, ready: bool) {
        self.status = if ready { CSTS_READY } else { 0 };
    }

    pub(super) fn set_fatal(&mut self) {
        self.status |= CSTS_FATAL;
    }

    pub(super) fn set_shut_down(&mut self) {
        self.status |= CSTS_SHUT_DOWN;
    }

    /// Whether INTx of vector 0 is masked.
    pub(super) fn is_masked(&self) -> bool {
        self.interrupt_mask & 1 != 0
    }

    /// Address and entries of the admin submission queue.
    pub(super) fn admin_submission(&self) -> (u64, u32) {
        (self.admin_submission, (self.admin_sizes & 0xFFF) + 1)
    }

    /// Address and entries of the admin completion queue.
    pub(super) fn admin_completion(&self) -> (u64, u32) {
        (self.admin_completion, (self.admin_sizes >> 16) + 1)
    }
}

fn doorbell(index: u64, value: u32) -> Effect {
    // The BAR has room for less than 2^16 of them.
    let queue = (index / 2) as u16;
    match index % 2 {
        0 => Effect::Tail(queue, value),
        _ => Effect::Head(queue, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(registers: &Registers, offset: u64) -> u32 {
        let mut word = [0; 4];
        registers.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    #[test]
    fn the_enable_bit_is_an_effect_when_it_changes() {
        let mut registers = Registers::default();
        let write = |r: &mut Registers, value: u32| r.write(0x14, &value.to_le_bytes())[0];
        assert_eq!(write(&mut registers, 0x0046_0001), Effect::Enable);
        assert_eq!(write(&mut registers, 0x0046_0001), Effect::Nothing);
        assert_eq!(write(&mut registers, 0x0046_4001), Effect::ShutDown);
        assert_eq!(write(&mut registers, 0x0046_0000), Effect::Disable);
    }

    #[test]
    fn addresses_are_written_whole_or_in_halves() {
        let mut registers = Registers::default();
        registers.write(0x28, &0x1_2345_6FFFu64.to_le_bytes());
        registers.write(0x34, &7u32.to_le_bytes());
        registers.write(0x24, &0x001F_003Fu32.to_le_bytes());
        assert_eq!(registers.admin_submission(), (0x1_2345_6000, 64));
        assert_eq!(registers.admin_completion(), (7 << 32, 32));
        assert_eq!(read(&registers, 0x2C), 1);
    }

    #[test]
    fn doorbells_alternate() {
        let mut registers = Registers::default();
        let ring = |r: &mut Registers, at| r.write(at, &5u32.to_le_bytes())[0];
        assert_eq!(ring(&mut registers, 0x1000), Effect::Tail(0, 5));
        assert_eq!(ring(&mut registers, 0x100C), Effect::Head(1, 5));
        assert_eq!(ring(&mut registers, 0x4000), Effect::Nothing);
    }

    #[test]
    fn masks_are_set_and_cleared_by_ones() {
        let mut registers = Registers::default();
        assert_eq!(registers.write(0x0C, &3u32.to_le_bytes())[0], Effect::Mask);
        assert!(registers.is_masked());
        registers.write(0x10, &1u32.to_le_bytes());
        assert!(!registers.is_masked());
        assert_eq!(read(&registers, 0x0C), 2);
    }
}
