//! Registers of the Tegra241 CMDQV frame, as Linux's driver and QEMU use them in guest mode
//! (one VINTF, HYP_OWN=0). NVIDIA publishes no manual; the driver is the reference.

use super::command::{RawCommand, SyncWord0, opcode};
use bitfield_struct::bitfield;

/// Where the registers lie, in bytes from the start of the frame.
pub mod offset {
    #![expect(missing_docs, reason = "the driver's own names")]

    pub const CONFIG: u64 = 0x0;
    pub const PARAM: u64 = 0x4;
    pub const STATUS: u64 = 0x8;
    /// Two 32-bit words, one bit for each VINTF.
    pub const VINTF_ERR_MAP: u64 = 0x14;
    /// Two 32-bit words, 1 for masked.
    pub const VINTF_INT_MASK: u64 = 0x1C;
    /// Four 32-bit words, one bit for each VCMDQ.
    pub const CMDQ_ERR_MAP: u64 = 0x24;
    pub const CMDQ_ALLOC: u64 = 0x200;
    pub const CMDQ_ALLOC_STRIDE: u64 = 4;

    pub const VINTF: u64 = 0x1000;
    pub const VINTF_STRIDE: u64 = 0x100;
    /// From here on relative to the VINTF.
    pub const VINTF_CONFIG: u64 = 0x0;
    pub const VINTF_STATUS: u64 = 0x4;
    pub const VINTF_SID_MATCH: u64 = 0x40;
    pub const VINTF_SID_REPLACE: u64 = 0x80;
    /// Two 64-bit words, one bit for each logical VCMDQ.
    pub const VINTF_LVCMDQ_ERR_MAP: u64 = 0xC0;

    /// Global view of the queues' pages 0: pointers and status.
    pub const VCMDQ_PAGE0: u64 = 0x1_0000;
    /// Global view of the queues' pages 1: addresses.
    pub const VCMDQ_PAGE1: u64 = 0x2_0000;
    /// Logical view: page 0 of VINTF 0; page 1 lies [`VINTF_PAGE_BYTES`] further.
    pub const VINTF_PAGES: u64 = 0x3_0000;
    pub const VINTF_PAGE_BYTES: u64 = 0x1_0000;
    /// Distance of the logical views of two VINTFs.
    pub const VINTF_PAGES_STRIDE: u64 = 0x2_0000;
    /// Distance of two queues in every one of these pages.
    pub const VCMDQ_STRIDE: u64 = 0x80;

    /// Page 0, relative to the queue. CONS comes first: the reverse of the SMMU's own order.
    pub const VCMDQ_CONS: u64 = 0x0;
    pub const VCMDQ_PROD: u64 = 0x4;
    pub const VCMDQ_CONFIG: u64 = 0x8;
    pub const VCMDQ_STATUS: u64 = 0xC;
    pub const VCMDQ_GERROR: u64 = 0x10;
    pub const VCMDQ_GERRORN: u64 = 0x14;
    /// Page 1, relative to the queue; 64 bits.
    pub const VCMDQ_BASE: u64 = 0x0;
    /// Page 1; 64 bits.
    pub const VCMDQ_CONS_INDX_BASE: u64 = 0x8;
}

/// CONFIG.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Config {
    /// \[0\] on.
    pub en: bool,
    /// \[3:1\] offset per command.
    #[bits(3)]
    pub per_cmd_offset: u8,
    /// \[11:4\] clocks per batch.
    #[bits(8)]
    pub max_clk_batch: u8,
    /// \[19:12\] commands per batch.
    #[bits(8)]
    pub max_cmd_batch: u8,
    /// \[20\] CONS is copied to memory.
    pub cons_dram_en: bool,
    #[bits(11)]
    __: u16,
}

/// PARAM.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Param {
    /// \[3:0\] version, 1.
    #[bits(4)]
    pub ver: u8,
    /// \[7:4\] log2 of the number of VCMDQs.
    #[bits(4)]
    pub num_vcmdq_log2: u8,
    /// \[11:8\] log2 of the number of VINTFs.
    #[bits(4)]
    pub num_vintf_log2: u8,
    /// \[15:12\] log2 of the number of SID_MATCH pairs of a VINTF.
    #[bits(4)]
    pub num_sid_per_vm_log2: u8,
    #[bits(16)]
    __: u16,
}

/// STATUS.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Status {
    /// \[0\] follows CONFIG.EN.
    pub enabled: bool,
    #[bits(31)]
    __: u32,
}

/// CMDQ_ALLOC: to which VINTF a VCMDQ belongs. Software reads it back and modifies it.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CmdqAlloc {
    /// \[0\] belongs.
    pub alloc: bool,
    /// \[7:1\] number inside the VINTF.
    #[bits(7)]
    pub lvcmdq: u8,
    #[bits(7)]
    __: u8,
    /// \[20:15\] VINTF.
    #[bits(6)]
    pub vintf: u8,
    #[bits(11)]
    __: u16,
}

/// VINTF_CONFIG.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct VintfConfig {
    /// \[0\] on.
    pub en: bool,
    /// \[16:1\] VMID.
    #[bits(16)]
    pub vmid: u16,
    /// \[17\] owned by a hypervisor; reads as 0 in a guest, which tells Linux where it is.
    pub hyp_own: bool,
    #[bits(14)]
    __: u16,
}

/// VINTF_STATUS.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct VintfStatus {
    /// \[0\] follows VINTF_CONFIG.EN.
    pub en_ok: bool,
    /// \[3:1\] 1: a VCMDQ has an error.
    #[bits(3)]
    pub status: u8,
    #[bits(12)]
    __: u16,
    /// \[23:16\] number of logical VCMDQs.
    #[bits(8)]
    pub num_lvcmdq: u8,
    #[bits(8)]
    __: u8,
}

/// SID_MATCH.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SidMatch {
    /// \[0\] on.
    pub en: bool,
    /// \[20:1\] the guest's StreamID.
    #[bits(20)]
    pub virt_sid: u32,
    #[bits(11)]
    __: u16,
}

/// SID_REPLACE.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SidReplace {
    /// \[19:0\] the host's StreamID.
    #[bits(20)]
    pub phys_sid: u32,
    #[bits(12)]
    __: u16,
}

/// CONFIG of a VCMDQ.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct VcmdqConfig {
    /// \[0\] on.
    pub en: bool,
    #[bits(31)]
    __: u32,
}

/// STATUS of a VCMDQ.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct VcmdqStatus {
    /// \[0\] on, and BASE is usable.
    pub en_ok: bool,
    #[bits(31)]
    __: u32,
}

/// GERROR and GERRORN of a VCMDQ. CONS has the layout of the SMMU's CMDQ_CONS.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct VcmdqGerror {
    /// \[0\] stopped at a bad command.
    pub cmdq_err: bool,
    /// \[1\] abort on the copy of CONS.
    pub cons_dram_wr_abt: bool,
    /// \[2\] BASE is unusable.
    pub init_err: bool,
    #[bits(29)]
    __: u32,
}

/// BASE of a VCMDQ.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct VcmdqBase {
    /// \[4:0\] log2 of the number of entries.
    #[bits(5)]
    pub log2size: u8,
    /// \[47:5\] address bits.
    #[bits(43)]
    pub addr_bits: u64,
    #[bits(16)]
    __: u16,
}

impl VcmdqBase {
    /// The address as written.
    #[must_use]
    pub const fn addr(self) -> u64 {
        self.addr_bits() << 5
    }
}

/// Whether a command may come through a VCMDQ of a guest's VINTF: invalidations of stage 1,
/// ATC_INV, and SYNC without a signal (a VCMDQ sends neither message nor event). Linux sends
/// NH_ASID, NH_VA, ATC_INV and SYNC. It is legal only if [`decode`](crate::decode::decode) agrees.
#[inline]
#[must_use]
pub fn accepts(raw: RawCommand) -> bool {
    match raw.opcode() {
        opcode::TLBI_NH_ALL
        | opcode::TLBI_NH_ASID
        | opcode::TLBI_NH_VA
        | opcode::TLBI_NH_VAA
        | opcode::ATC_INV => true,
        opcode::SYNC => SyncWord0::from_bits(raw.dw0).cs() == 0,
        _ => false,
    }
}

/// CONS.ERR: a VCMDQ's own code beside [`cerror`](super::register::cerror), access denied.
pub const CERROR_ILL_ACCESS: u8 = 4;
