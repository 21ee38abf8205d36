//! The stream table entry: 512 bits (IHI 0070, 5.2).

use bitfield_struct::bitfield;

/// An STE as eight words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ste(pub [u64; 8]);

const _: () = assert!(size_of::<Ste>() == Ste::BYTES as usize);

impl Ste {
    /// Size in guest memory.
    pub const BYTES: u64 = 64;

    /// Word 0: Config and stage 1's table.
    #[must_use]
    pub fn dw0(&self) -> SteWord0 {
        self.0[0].into()
    }

    /// Word 1: attributes.
    #[must_use]
    pub fn dw1(&self) -> SteWord1 {
        self.0[1].into()
    }

    /// Word 2: stage 2.
    #[must_use]
    pub fn dw2(&self) -> SteWord2 {
        self.0[2].into()
    }

    /// Word 3: stage 2's table.
    #[must_use]
    pub fn dw3(&self) -> SteWord3 {
        self.0[3].into()
    }

    /// Word 4: Secure stage 2, MPAM.
    #[must_use]
    pub fn dw4(&self) -> SteWord4 {
        self.0[4].into()
    }

    /// Word 5: MPAM.
    #[must_use]
    pub fn dw5(&self) -> SteWord5 {
        self.0[5].into()
    }

    /// Word 6: Secure stage 2's table.
    #[must_use]
    pub fn dw6(&self) -> SteWord6 {
        self.0[6].into()
    }

    /// Word 7: stage 2 permission overlays.
    #[must_use]
    pub fn s2poi(&self) -> u64 {
        self.0[7]
    }
}

/// Values of STE.Config. Those with bit 2 clear abort silently.
pub mod config {
    /// Abort.
    pub const ABORT: u8 = 0b000;
    /// Both stages bypassed.
    pub const BYPASS: u8 = 0b100;
    /// Stage 1.
    pub const STAGE1: u8 = 0b101;
    /// Stage 2.
    pub const STAGE2: u8 = 0b110;
    /// Both stages.
    pub const NESTED: u8 = 0b111;
}

/// STE word 0.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SteWord0 {
    /// \[0\] valid.
    pub v: bool,
    /// \[3:1\] which stages translate.
    #[bits(3)]
    pub config: u8,
    /// \[5:4\] CD table: 0 linear, 1 two-level of 64 CDs, 2 two-level of 1024 CDs.
    #[bits(2)]
    pub s1fmt: u8,
    /// \[55:6\] CD table address bits.
    #[bits(50)]
    pub s1contextptr: u64,
    #[bits(3)]
    __: u8,
    /// \[63:59\] log2 of the number of CDs.
    #[bits(5)]
    pub s1cdmax: u8,
}

/// STE word 1.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SteWord1 {
    /// \[1:0\] traffic without SubstreamID: 0 terminate, 1 bypass stage 1, 2 CD 0.
    #[bits(2)]
    pub s1dss: u8,
    /// \[3:2\] inner cacheability of CD fetches.
    #[bits(2)]
    pub s1cir: u8,
    /// \[5:4\] outer cacheability of CD fetches.
    #[bits(2)]
    pub s1cor: u8,
    /// \[7:6\] shareability of CD fetches.
    #[bits(2)]
    pub s1csh: u8,
    /// \[11:8\] stage 2 hardware-use bits.
    #[bits(4)]
    pub s2hwu: u8,
    /// \[12\] destructive read enable.
    pub dre: bool,
    /// \[16:13\] contiguous hint.
    #[bits(4)]
    pub cont: u8,
    /// \[17\] directed cache prefetch.
    pub dcp: bool,
    /// \[18\] PRI auto responses carry a PASID.
    pub ppar: bool,
    /// \[19\] events may merge.
    pub mev: bool,
    /// \[23:20\] software's.
    #[bits(4)]
    pub sw: u8,
    /// \[24\] stage 1 permission indirection.
    pub s1pie: bool,
    /// \[25\] stage 2 forces write-back.
    pub s2fwb: bool,
    /// \[26\] MPAM from the CD.
    pub s1mpam: bool,
    /// \[27\] stage 1 must not stall.
    pub s1stalld: bool,
    /// \[29:28\] ATS: 0 refused, 1 full, 2 split stage, 3 full with DPT.
    #[bits(2)]
    pub eats: u8,
    /// \[31:30\] StreamWorld: 0 NS-EL1, 2 EL2.
    #[bits(2)]
    pub strw: u8,
    /// \[35:32\] memory type override.
    #[bits(4)]
    pub mem_attr: u8,
    /// \[36\] override the memory type.
    pub mtcfg: bool,
    /// \[40:37\] allocation hints override.
    #[bits(4)]
    pub alloccfg: u8,
    #[bits(3)]
    __: u8,
    /// \[45:44\] shareability override, 1 for incoming.
    #[bits(2)]
    pub shcfg: u8,
    /// \[47:46\] NS override.
    #[bits(2)]
    pub nscfg: u8,
    /// \[49:48\] privilege override: 2 unprivileged, 3 privileged.
    #[bits(2)]
    pub privcfg: u8,
    /// \[51:50\] instruction override: 2 data, 3 instruction.
    #[bits(2)]
    pub instcfg: u8,
    /// \[63:52\] implementation defined.
    #[bits(12)]
    pub impdef: u16,
}

/// STE word 2.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SteWord2 {
    /// \[15:0\] VMID.
    #[bits(16)]
    pub s2vmid: u16,
    /// \[31:16\] implementation defined.
    #[bits(16)]
    pub impdef: u16,
    /// \[37:32\] 64 less the IPA bits.
    #[bits(6)]
    pub s2t0sz: u8,
    /// \[39:38\] start level, coded by granule.
    #[bits(2)]
    pub s2sl0: u8,
    /// \[41:40\] inner cacheability of walks.
    #[bits(2)]
    pub s2ir0: u8,
    /// \[43:42\] outer cacheability of walks.
    #[bits(2)]
    pub s2or0: u8,
    /// \[45:44\] shareability of walks.
    #[bits(2)]
    pub s2sh0: u8,
    /// \[47:46\] granule: 0 4 KiB, 1 64 KiB, 2 16 KiB.
    #[bits(2)]
    pub s2tg: u8,
    /// \[50:48\] output size code.
    #[bits(3)]
    pub s2ps: u8,
    /// \[51\] AArch64 tables.
    pub s2aa64: bool,
    /// \[52\] big-endian tables.
    pub s2endi: bool,
    /// \[53\] access flag faults disabled.
    pub s2affd: bool,
    /// \[54\] stage 1 walks of Device memory fault.
    pub s2ptw: bool,
    /// \[55\] hardware update of dirty state.
    pub s2hd: bool,
    /// \[56\] hardware update of the access flag.
    pub s2ha: bool,
    /// \[57\] stage 2 faults stall.
    pub s2s: bool,
    /// \[58\] stage 2 faults are recorded.
    pub s2r: bool,
    /// \[59\] table access flags.
    pub s2haft: bool,
    /// \[60\] permission indirection.
    pub s2pie: bool,
    /// \[61\] permission overlays.
    pub s2poe: bool,
    /// \[63:62\] DPT VMID match.
    #[bits(2)]
    pub dpt_vmatch: u8,
}

/// STE word 3.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SteWord3 {
    /// \[0\] Secure streams only.
    pub s2nsw: bool,
    /// \[1\] Secure streams only.
    pub s2nsa: bool,
    /// \[2\] start level, high bit.
    pub s2sl0_2: bool,
    /// \[3\] 52-bit addresses with 4 KiB and 16 KiB granules.
    pub s2ds: bool,
    /// \[55:4\] table address bits.
    #[bits(52)]
    pub s2ttb: u64,
    #[bits(5)]
    __: u8,
    /// \[62:61\] start level of 128-bit descriptors.
    #[bits(2)]
    pub s2skl: u8,
    #[bits(1)]
    __: u8,
}

/// STE word 4.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SteWord4 {
    /// \[15:0\] implementation defined.
    #[bits(16)]
    pub impdef: u16,
    /// \[31:16\] MPAM partition.
    #[bits(16)]
    pub partid: u16,
    /// \[37:32\] Secure stage 2: 64 less the IPA bits.
    #[bits(6)]
    pub s_s2t0sz: u8,
    /// \[39:38\] Secure stage 2: start level.
    #[bits(2)]
    pub s_s2sl0: u8,
    #[bits(6)]
    __: u8,
    /// \[47:46\] Secure stage 2: granule.
    #[bits(2)]
    pub s_s2tg: u8,
    /// \[63:48\] memory encryption context.
    #[bits(16)]
    pub mecid: u16,
}

/// STE word 5.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SteWord5 {
    /// \[7:0\] MPAM monitoring group.
    #[bits(8)]
    pub pmg: u8,
    /// \[8\] MPAM space.
    pub mpam_ns: bool,
    /// \[9\] assured translation only.
    pub assured_only: bool,
    /// \[10\] TL0.
    pub tl0: bool,
    /// \[11\] TL1.
    pub tl1: bool,
    /// \[55:12\] VMS address bits.
    #[bits(44)]
    pub vmsptr: u64,
    #[bits(8)]
    __: u8,
}

/// STE word 6.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SteWord6 {
    /// \[0\] Secure stage 2 walks.
    pub s2sw: bool,
    /// \[1\] Secure stage 2 output.
    pub s2sa: bool,
    /// \[2\] Secure stage 2 start level, high bit.
    pub s_s2sl0_2: bool,
    #[bits(1)]
    __: u8,
    /// \[55:4\] Secure stage 2 table address bits.
    #[bits(52)]
    pub s_s2ttb: u64,
    #[bits(8)]
    __: u8,
}
