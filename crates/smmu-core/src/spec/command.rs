//! The 128-bit command (IHI 0070, chapter 4): opcodes and the fields of both words.

use bitfield_struct::bitfield;

/// One entry of a command queue, as two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawCommand {
    /// Word 0: opcode and most fields.
    pub dw0: u64,
    /// Word 1: addresses and what is not about streams.
    pub dw1: u64,
}

impl RawCommand {
    /// The size of an entry in guest memory.
    pub const BYTES: u64 = 16;

    /// The two words, in order.
    #[must_use]
    pub fn from_le_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self {
            dw0: both as u64,
            dw1: (both >> 64) as u64,
        }
    }

    /// The bytes as they lie in the ring.
    #[must_use]
    pub fn to_le_bytes(self) -> [u8; 16] {
        (u128::from(self.dw0) | u128::from(self.dw1) << 64).to_le_bytes()
    }

    /// The opcode byte.
    #[must_use]
    #[inline(always)]
    pub fn opcode(self) -> u8 {
        self.dw0 as u8
    }
}

/// Opcodes (4.1.2). What is not named here is reserved.
pub mod opcode {
    #![expect(missing_docs, reason = "the architecture's own names")]
    pub const PREFETCH_CONFIG: u8 = 0x01;
    pub const PREFETCH_ADDR: u8 = 0x02;
    pub const CFGI_STE: u8 = 0x03;
    pub const CFGI_STE_RANGE: u8 = 0x04;
    pub const CFGI_CD: u8 = 0x05;
    pub const CFGI_CD_ALL: u8 = 0x06;
    pub const CFGI_VMS_PIDM: u8 = 0x07;
    pub const TLBI_NH_ALL: u8 = 0x10;
    pub const TLBI_NH_ASID: u8 = 0x11;
    pub const TLBI_NH_VA: u8 = 0x12;
    pub const TLBI_NH_VAA: u8 = 0x13;
    pub const TLBI_EL3_ALL: u8 = 0x18;
    pub const TLBI_EL3_VA: u8 = 0x1A;
    pub const TLBI_EL2_ALL: u8 = 0x20;
    pub const TLBI_EL2_ASID: u8 = 0x21;
    pub const TLBI_EL2_VA: u8 = 0x22;
    pub const TLBI_EL2_VAA: u8 = 0x23;
    pub const TLBI_S12_VMALL: u8 = 0x28;
    pub const TLBI_S2_IPA: u8 = 0x2A;
    pub const TLBI_NSNH_ALL: u8 = 0x30;
    pub const ATC_INV: u8 = 0x40;
    pub const PRI_RESP: u8 = 0x41;
    pub const RESUME: u8 = 0x44;
    pub const STALL_TERM: u8 = 0x45;
    pub const SYNC: u8 = 0x46;
    pub const TLBI_S_EL2_ALL: u8 = 0x50;
    pub const TLBI_S_EL2_ASID: u8 = 0x51;
    pub const TLBI_S_EL2_VA: u8 = 0x52;
    pub const TLBI_S_EL2_VAA: u8 = 0x53;
    pub const TLBI_S_S12_VMALL: u8 = 0x58;
    pub const TLBI_S_S2_IPA: u8 = 0x5A;
    pub const TLBI_SNH_ALL: u8 = 0x60;
    pub const DPTI_ALL: u8 = 0x70;
    pub const DPTI_PA: u8 = 0x73;
    /// First of the implementation defined opcodes.
    pub const IMPDEF_FIRST: u8 = 0x80;
    /// Last of the implementation defined opcodes.
    pub const IMPDEF_LAST: u8 = 0x8F;

    /// The architecture's name of an opcode; `IMPDEF` and `RESERVED` where it has given none.
    #[must_use]
    pub fn name(opcode: u8) -> &'static str {
        match opcode {
            PREFETCH_CONFIG => "PREFETCH_CONFIG",
            PREFETCH_ADDR => "PREFETCH_ADDR",
            CFGI_STE => "CFGI_STE",
            CFGI_STE_RANGE => "CFGI_STE_RANGE",
            CFGI_CD => "CFGI_CD",
            CFGI_CD_ALL => "CFGI_CD_ALL",
            CFGI_VMS_PIDM => "CFGI_VMS_PIDM",
            TLBI_NH_ALL => "TLBI_NH_ALL",
            TLBI_NH_ASID => "TLBI_NH_ASID",
            TLBI_NH_VA => "TLBI_NH_VA",
            TLBI_NH_VAA => "TLBI_NH_VAA",
            TLBI_EL3_ALL => "TLBI_EL3_ALL",
            TLBI_EL3_VA => "TLBI_EL3_VA",
            TLBI_EL2_ALL => "TLBI_EL2_ALL",
            TLBI_EL2_ASID => "TLBI_EL2_ASID",
            TLBI_EL2_VA => "TLBI_EL2_VA",
            TLBI_EL2_VAA => "TLBI_EL2_VAA",
            TLBI_S12_VMALL => "TLBI_S12_VMALL",
            TLBI_S2_IPA => "TLBI_S2_IPA",
            TLBI_NSNH_ALL => "TLBI_NSNH_ALL",
            ATC_INV => "ATC_INV",
            PRI_RESP => "PRI_RESP",
            RESUME => "RESUME",
            STALL_TERM => "STALL_TERM",
            SYNC => "SYNC",
            TLBI_S_EL2_ALL => "TLBI_S_EL2_ALL",
            TLBI_S_EL2_ASID => "TLBI_S_EL2_ASID",
            TLBI_S_EL2_VA => "TLBI_S_EL2_VA",
            TLBI_S_EL2_VAA => "TLBI_S_EL2_VAA",
            TLBI_S_S12_VMALL => "TLBI_S_S12_VMALL",
            TLBI_S_S2_IPA => "TLBI_S_S2_IPA",
            TLBI_SNH_ALL => "TLBI_SNH_ALL",
            DPTI_ALL => "DPTI_ALL",
            DPTI_PA => "DPTI_PA",
            IMPDEF_FIRST..=IMPDEF_LAST => "IMPDEF",
            _ => "RESERVED",
        }
    }
}

/// Word 0 of the commands that name a stream: PREFETCH_*, CFGI_*, ATC_INV, PRI_RESP,
/// RESUME, STALL_TERM.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct StreamWord0 {
    /// \[7:0\] opcode.
    #[bits(8)]
    pub opcode: u8,
    #[bits(1)]
    __: u8,
    /// \[9\] ATC_INV: Global.
    pub global: bool,
    /// \[10\] Secure stream; illegal on the Non-secure queue.
    pub ssec: bool,
    /// \[11\] SubstreamID valid.
    pub ssv: bool,
    /// \[31:12\] SubstreamID.
    #[bits(20)]
    pub substream: u32,
    /// \[63:32\] StreamID.
    #[bits(32)]
    pub stream: u32,
}

/// Word 1 of PREFETCH_ADDR and ATC_INV.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SpanWord1 {
    /// \[5:0\] log2 of the number of 4 KiB pages (PREFETCH_ADDR: \[4:0\]).
    #[bits(6)]
    pub size: u8,
    #[bits(6)]
    __: u8,
    /// \[63:12\] address bits.
    #[bits(52)]
    pub page: u64,
}

/// Word 1 of the CFGI commands.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CfgiWord1 {
    /// \[4:0\] CFGI_STE_RANGE: log2 of the number of streams, less one; 31 is CFGI_ALL.
    /// Bit 0 is Leaf of CFGI_STE and CFGI_CD.
    #[bits(5)]
    pub range: u8,
    #[bits(59)]
    __: u64,
}

/// Word 0 of the TLBI commands.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct TlbiWord0 {
    /// \[7:0\] opcode.
    #[bits(8)]
    pub opcode: u8,
    #[bits(4)]
    __: u8,
    /// \[16:12\] number of 2^SCALE granules, less one.
    #[bits(5)]
    pub num: u8,
    #[bits(3)]
    __: u8,
    /// \[25:20\] log2 of the unit in granules; bit 25 counts only with IDR5.DS.
    #[bits(6)]
    pub scale: u8,
    #[bits(6)]
    __: u8,
    /// \[47:32\] VMID.
    #[bits(16)]
    pub vmid: u16,
    /// \[63:48\] ASID.
    #[bits(16)]
    pub asid: u16,
}

/// Word 1 of the TLBI commands by address.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct TlbiWord1 {
    /// \[0\] only last-level entries.
    pub leaf: bool,
    #[bits(6)]
    __: u8,
    /// \[7\] TTL128 (not advertised: RES0).
    pub ttl128: bool,
    /// \[9:8\] level of the leaf entries, 0 for any.
    #[bits(2)]
    pub ttl: u8,
    /// \[11:10\] granule, 0 for unknown.
    #[bits(2)]
    pub tg: u8,
    /// \[63:12\] address bits.
    #[bits(52)]
    pub page: u64,
}

/// Word 1 of PRI_RESP.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PriRespWord1 {
    /// \[8:0\] page request group.
    #[bits(9)]
    pub group: u16,
    #[bits(3)]
    __: u8,
    /// \[13:12\] response: 0 failure, 1 invalid, 2 success, 3 illegal.
    #[bits(2)]
    pub response: u8,
    #[bits(50)]
    __: u64,
}

/// Word 0 of RESUME.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ResumeWord0 {
    /// \[7:0\] opcode.
    #[bits(8)]
    pub opcode: u8,
    #[bits(2)]
    __: u8,
    /// \[10\] Secure stream.
    pub ssec: bool,
    #[bits(1)]
    __: u8,
    /// \[12\] Ac: retry.
    pub retry: bool,
    /// \[13\] Ab: terminate with an abort.
    pub abort: bool,
    #[bits(18)]
    __: u32,
    /// \[63:32\] StreamID.
    #[bits(32)]
    pub stream: u32,
}

/// Word 0 of SYNC.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SyncWord0 {
    /// \[7:0\] opcode.
    #[bits(8)]
    pub opcode: u8,
    #[bits(4)]
    __: u8,
    /// \[13:12\] completion signal: 0 none, 1 interrupt, 2 event, 3 illegal.
    #[bits(2)]
    pub cs: u8,
    #[bits(8)]
    __: u8,
    /// \[23:22\] shareability of the MSI write.
    #[bits(2)]
    pub msh: u8,
    /// \[27:24\] attributes of the MSI write.
    #[bits(4)]
    pub msi_attr: u8,
    #[bits(4)]
    __: u8,
    /// \[63:32\] MSI data.
    #[bits(32)]
    pub msi_data: u32,
}

/// Word 1 of SYNC.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SyncWord1 {
    #[bits(2)]
    __: u8,
    /// \[55:2\] MSI address bits.
    #[bits(54)]
    pub msi_word: u64,
    #[bits(8)]
    __: u8,
}
