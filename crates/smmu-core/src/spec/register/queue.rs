//! Registers that say where tables and queues lie (IHI 0070, 6.3.24 to 6.3.39).

use bitfield_struct::bitfield;

/// STRTAB_BASE.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct StrtabBase {
    #[bits(6)]
    __: u8,
    /// \[55:6\] address bits; aligned down to the table's size.
    #[bits(50)]
    pub addr_bits: u64,
    #[bits(6)]
    __: u8,
    /// \[62\] read-allocate hint.
    pub ra: bool,
    #[bits(1)]
    __: u8,
}

impl StrtabBase {
    /// The address as written, before it is aligned to the table's size.
    #[must_use]
    pub const fn addr(self) -> u64 {
        self.addr_bits() << 6
    }
}

/// STRTAB_BASE_CFG.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct StrtabBaseCfg {
    /// \[5:0\] log2 of the number of streams.
    #[bits(6)]
    pub log2size: u8,
    /// \[10:6\] StreamID bits of the second level: 6, 8 or 10; anything else is 6.
    #[bits(5)]
    pub split: u8,
    #[bits(5)]
    __: u8,
    /// \[17:16\] 0 linear, 1 two-level; anything else is 0.
    #[bits(2)]
    pub fmt: u8,
    #[bits(14)]
    __: u16,
}

/// CMDQ_BASE, EVENTQ_BASE and PRIQ_BASE: one layout.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueBase {
    /// \[4:0\] log2 of the number of entries.
    #[bits(5)]
    pub log2size: u8,
    /// \[55:5\] address bits; aligned down to the queue's size.
    #[bits(51)]
    pub addr_bits: u64,
    #[bits(6)]
    __: u8,
    /// \[62\] allocation hint: RA of the command queue, WA of the others.
    pub allocate: bool,
    #[bits(1)]
    __: u8,
}

impl QueueBase {
    /// The address that a queue of `2^log2size` entries of `entry_bytes` has: the hardware
    /// aligns it down to the queue's size, at least 32 bytes. `log2size` is the effective one.
    #[must_use]
    pub fn addr(self, log2size: u8, entry_bytes: u64) -> u64 {
        let bytes = (entry_bytes << log2size.min(crate::queue_index::MAX_LOG2SIZE)).max(32);
        (self.addr_bits() << 5) & !(bytes - 1)
    }
}

/// CMDQ_PROD.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CmdqProd {
    /// \[19:0\] index and wrap bit.
    #[bits(20)]
    pub wr: u32,
    #[bits(12)]
    __: u16,
}

/// CMDQ_CONS.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CmdqCons {
    /// \[19:0\] index and wrap bit.
    #[bits(20)]
    pub rd: u32,
    #[bits(4)]
    __: u8,
    /// \[30:24\] reason, one of [`cerror`], while GERROR.CMDQ_ERR is active.
    #[bits(7)]
    pub err: u8,
    #[bits(1)]
    __: u8,
}

/// EVENTQ_PROD and PRIQ_PROD.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct OutputProd {
    /// \[19:0\] index and wrap bit.
    #[bits(20)]
    pub wr: u32,
    #[bits(11)]
    __: u16,
    /// \[31\] overflow; active where it differs from OVACKFLG.
    pub ovflg: bool,
}

/// EVENTQ_CONS and PRIQ_CONS.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct OutputCons {
    /// \[19:0\] index and wrap bit.
    #[bits(20)]
    pub rd: u32,
    #[bits(11)]
    __: u16,
    /// \[31\] acknowledges the overflow.
    pub ovackflg: bool,
}

/// Values of CMDQ_CONS.ERR (7.1).
pub mod cerror {
    /// No error.
    pub const NONE: u8 = 0;
    /// Illegal command.
    pub const ILL: u8 = 1;
    /// External abort on fetching the command.
    pub const ABT: u8 = 2;
    /// A SYNC found that an ATC_INV before it had failed.
    pub const ATC_INV_SYNC: u8 = 3;
}
