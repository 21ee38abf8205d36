//! The context descriptor: 512 bits (IHI 0070, 5.4).

use bitfield_struct::bitfield;

/// A CD as eight words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cd(pub [u64; 8]);

const _: () = assert!(size_of::<Cd>() == Cd::BYTES as usize);

impl Cd {
    /// Size in guest memory.
    pub const BYTES: u64 = 64;

    /// Word 0: sizes, modes, ASID.
    #[must_use]
    pub fn dw0(&self) -> CdWord0 {
        self.0[0].into()
    }

    /// Word 1: the lower half's table.
    #[must_use]
    pub fn dw1(&self) -> CdWord1 {
        self.0[1].into()
    }

    /// Word 2: the upper half's table.
    #[must_use]
    pub fn dw2(&self) -> CdWord2 {
        self.0[2].into()
    }

    /// Word 3: MAIR, eight attribute bytes.
    #[must_use]
    pub fn mair(&self) -> u64 {
        self.0[3]
    }

    /// Word 4: AMAIR.
    #[must_use]
    pub fn amair(&self) -> u64 {
        self.0[4]
    }

    /// Word 5: MPAM.
    #[must_use]
    pub fn dw5(&self) -> CdWord5 {
        self.0[5].into()
    }

    /// Word 6: PIIU, unprivileged permission indirection.
    #[must_use]
    pub fn piiu(&self) -> u64 {
        self.0[6]
    }

    /// Word 7: PIIP, privileged permission indirection.
    #[must_use]
    pub fn piip(&self) -> u64 {
        self.0[7]
    }
}

/// CD word 0.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CdWord0 {
    /// \[5:0\] lower half: 64 less the address bits.
    #[bits(6)]
    pub t0sz: u8,
    /// \[7:6\] lower half: granule, 0 4 KiB, 1 64 KiB, 2 16 KiB.
    #[bits(2)]
    pub tg0: u8,
    /// \[9:8\] lower half: inner cacheability of walks.
    #[bits(2)]
    pub ir0: u8,
    /// \[11:10\] lower half: outer cacheability of walks.
    #[bits(2)]
    pub or0: u8,
    /// \[13:12\] lower half: shareability of walks.
    #[bits(2)]
    pub sh0: u8,
    /// \[14\] lower half: no walks.
    pub epd0: bool,
    /// \[15\] big-endian tables.
    pub endi: bool,
    /// \[21:16\] upper half: 64 less the address bits.
    #[bits(6)]
    pub t1sz: u8,
    /// \[23:22\] upper half: granule, 1 16 KiB, 2 4 KiB, 3 64 KiB.
    #[bits(2)]
    pub tg1: u8,
    /// \[25:24\] upper half: inner cacheability of walks.
    #[bits(2)]
    pub ir1: u8,
    /// \[27:26\] upper half: outer cacheability of walks.
    #[bits(2)]
    pub or1: u8,
    /// \[29:28\] upper half: shareability of walks.
    #[bits(2)]
    pub sh1: u8,
    /// \[30\] upper half: no walks.
    pub epd1: bool,
    /// \[31\] valid.
    pub v: bool,
    /// \[34:32\] output size code.
    #[bits(3)]
    pub ips: u8,
    /// \[35\] access flag faults disabled.
    pub affd: bool,
    /// \[36\] writable is never executable.
    pub wxn: bool,
    /// \[37\] AArch32 only.
    pub uwxn: bool,
    /// \[38\] lower half: the top byte is ignored.
    pub tbi0: bool,
    /// \[39\] upper half: the top byte is ignored.
    pub tbi1: bool,
    /// \[40\] no privileged access to unprivileged data.
    pub pan: bool,
    /// \[41\] AArch64 tables.
    pub aa64: bool,
    /// \[42\] hardware update of dirty state.
    pub hd: bool,
    /// \[43\] hardware update of the access flag.
    pub ha: bool,
    /// \[44\] faults stall.
    pub s: bool,
    /// \[45\] faults are recorded.
    pub r: bool,
    /// \[46\] faults abort; otherwise reads are zero and writes ignored.
    pub a: bool,
    /// \[47\] ASID set: not shared with the processors.
    pub aset: bool,
    /// \[63:48\] ASID.
    #[bits(16)]
    pub asid: u16,
}

/// CD word 1.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CdWord1 {
    /// \[0\] NS of the first fetch.
    pub nscfg0: bool,
    /// \[1\] hierarchical attributes disabled.
    pub had0: bool,
    /// \[2\] no unprivileged access.
    pub e0pd0: bool,
    /// \[3\] table access flags.
    pub haft: bool,
    /// \[55:4\] table address bits.
    #[bits(52)]
    pub ttb0: u64,
    #[bits(2)]
    __: u8,
    /// \[58\] protected attributes.
    pub pnch: bool,
    /// \[59\] PAN looks at execution as well.
    pub epan: bool,
    /// \[63:60\] hardware-use bits.
    #[bits(4)]
    pub hwu0: u8,
}

/// CD word 2.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CdWord2 {
    /// \[0\] NS of the first fetch.
    pub nscfg1: bool,
    /// \[1\] hierarchical attributes disabled.
    pub had1: bool,
    /// \[2\] no unprivileged access.
    pub e0pd1: bool,
    /// \[3\] attribute index extension.
    pub aie: bool,
    /// \[55:4\] table address bits.
    #[bits(52)]
    pub ttb1: u64,
    #[bits(2)]
    __: u8,
    /// \[58\] 52-bit addresses with 4 KiB and 16 KiB granules.
    pub ds: bool,
    /// \[59\] permission indirection.
    pub pie: bool,
    /// \[63:60\] hardware-use bits.
    #[bits(4)]
    pub hwu1: u8,
}

/// CD word 5.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CdWord5 {
    /// \[31:0\] implementation defined.
    #[bits(32)]
    pub impdef: u32,
    /// \[47:32\] MPAM partition.
    #[bits(16)]
    pub partid: u16,
    /// \[55:48\] MPAM monitoring group.
    #[bits(8)]
    pub pmg: u8,
    #[bits(8)]
    __: u8,
}
