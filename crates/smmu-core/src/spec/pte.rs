//! Descriptors of 64 bits: first levels of the stream and CD tables (IHI 0070, 5.1 and
//! 5.3), and translation table descriptors of VMSAv8-64.

use bitfield_struct::bitfield;

/// Size of every descriptor here.
pub const BYTES: u64 = 8;

/// First-level stream table descriptor (5.1).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct L1Std {
    /// \[4:0\] 0 invalid; 1 to 11: 2^(span-1) STEs; the rest is reserved and invalid.
    #[bits(5)]
    pub span: u8,
    #[bits(1)]
    __: u8,
    /// \[55:6\] second-level table address bits, aligned down to the table's size.
    #[bits(50)]
    pub l2ptr: u64,
    #[bits(8)]
    __: u8,
}

/// First-level context descriptor table descriptor (5.3).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct L1Cd {
    /// \[0\] valid.
    pub v: bool,
    #[bits(11)]
    __: u16,
    /// \[55:12\] second-level table address bits.
    #[bits(44)]
    pub l2ptr: u64,
    #[bits(8)]
    __: u8,
}

/// Bits \[1:0\] of every translation table descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DescriptorKind {
    /// x0: no translation.
    Invalid,
    /// 01: a block above the last level, reserved in the last one.
    Block,
    /// 11: a table above the last level, a page in the last one.
    TableOrPage,
}

impl DescriptorKind {
    /// Of a descriptor.
    #[must_use]
    #[inline]
    pub fn of(descriptor: u64) -> Self {
        match descriptor & 3 {
            1 => Self::Block,
            3 => Self::TableOrPage,
            _ => Self::Invalid,
        }
    }
}

/// A table descriptor.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct TableDescriptor {
    /// \[0\] valid.
    pub valid: bool,
    /// \[1\] a table.
    pub table: bool,
    #[bits(10)]
    __: u16,
    /// \[47:12\] next table's address bits; with 64 KiB and 52 bits, \[15:12\] are bits 51 to 48.
    #[bits(36)]
    pub next: u64,
    /// \[49:48\] address bits \[49:48\] with 4 KiB or 16 KiB and 52 bits.
    #[bits(2)]
    pub next_49_48: u8,
    #[bits(9)]
    __: u16,
    /// \[59\] nothing below is executable with privilege.
    pub pxn_table: bool,
    /// \[60\] nothing below is executable (without privilege, where there are two levels).
    pub xn_table: bool,
    /// \[61\] nothing below is accessible without privilege.
    pub ap_table_no_unprivileged: bool,
    /// \[62\] nothing below is writable.
    pub ap_table_read_only: bool,
    /// \[63\] Secure tables only.
    pub ns_table: bool,
}

/// A block or page descriptor of stage 1.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct LeafDescriptor {
    /// \[0\] valid.
    pub valid: bool,
    /// \[1\] a page.
    pub page: bool,
    /// \[4:2\] which byte of MAIR.
    #[bits(3)]
    pub attr_index: u8,
    /// \[5\] Secure only.
    pub ns: bool,
    /// \[6\] AP\[1\]: unprivileged access.
    pub unprivileged: bool,
    /// \[7\] AP\[2\]: read-only.
    pub read_only: bool,
    /// \[9:8\] shareability; address bits \[51:50\] with 4 KiB or 16 KiB and 52 bits.
    #[bits(2)]
    pub sh: u8,
    /// \[10\] access flag.
    pub af: bool,
    /// \[11\] not global: belongs to an ASID.
    pub ng: bool,
    /// \[47:12\] output address bits, as in a table descriptor.
    #[bits(36)]
    pub output: u64,
    /// \[49:48\] address bits \[49:48\] with 4 KiB or 16 KiB and 52 bits.
    #[bits(2)]
    pub output_49_48: u8,
    /// \[50\] guarded page.
    pub gp: bool,
    /// \[51\] writes may make it writable.
    pub dbm: bool,
    /// \[52\] neighbours map neighbouring memory: a hint.
    pub contiguous: bool,
    /// \[53\] not executable with privilege.
    pub pxn: bool,
    /// \[54\] not executable without privilege.
    pub uxn: bool,
    #[bits(9)]
    __: u16,
}

/// A block or page descriptor of stage 2, where it differs from stage 1's.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Stage2LeafDescriptor {
    /// \[0\] valid.
    pub valid: bool,
    /// \[1\] a page.
    pub page: bool,
    /// \[5:2\] memory attributes.
    #[bits(4)]
    pub mem_attr: u8,
    /// \[6\] S2AP\[0\]: readable.
    pub readable: bool,
    /// \[7\] S2AP\[1\]: writable.
    pub writable: bool,
    /// \[9:8\] shareability.
    #[bits(2)]
    pub sh: u8,
    /// \[10\] access flag.
    pub af: bool,
    #[bits(1)]
    __: u8,
    /// \[47:12\] output address bits.
    #[bits(36)]
    pub output: u64,
    /// \[49:48\] address bits \[49:48\] with 4 KiB or 16 KiB and 52 bits.
    #[bits(2)]
    pub output_49_48: u8,
    #[bits(1)]
    __: u8,
    /// \[51\] writes may make it writable.
    pub dbm: bool,
    /// \[52\] a hint.
    pub contiguous: bool,
    /// \[54:53\] execute-never: 0 none, 1 privileged, 2 both, 3 unprivileged; without IDR3.XNX
    /// bit 54 alone says "both".
    #[bits(2)]
    pub xn: u8,
    #[bits(9)]
    __: u16,
}
