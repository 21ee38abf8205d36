//! Registers of the Non-secure programming interface (IHI 0070, chapter 6): identification
//! here, the rest in the files below.

use bitfield_struct::bitfield;

mod control;
pub mod offset;
mod queue;

pub use control::{Aidr, Cr0, Cr1, Cr2, Gbpa, Gerror, Iidr, IrqCfg0, IrqCfg2, IrqCtrl};
pub use queue::{
    CmdqCons, CmdqProd, OutputCons, OutputProd, QueueBase, StrtabBase, StrtabBaseCfg, cerror,
};

/// IDR0: what the SMMU can do (6.3.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Idr0 {
    /// \[0\] stage 2.
    pub s2p: bool,
    /// \[1\] stage 1.
    pub s1p: bool,
    /// \[3:2\] translation table formats; bit 3 is AArch64.
    #[bits(2)]
    pub ttf: u8,
    /// \[4\] coherent access.
    pub cohacc: bool,
    /// \[5\] broadcast TLB maintenance.
    pub btm: bool,
    /// \[7:6\] hardware update of access flag and dirty state.
    #[bits(2)]
    pub httu: u8,
    /// \[8\] dormant hint.
    pub dormhint: bool,
    /// \[9\] EL2 stage 1 contexts.
    pub hyp: bool,
    /// \[10\] PCIe ATS.
    pub ats: bool,
    /// \[11\] split-stage ATS not supported.
    pub ns1ats: bool,
    /// \[12\] 16-bit ASIDs.
    pub asid16: bool,
    /// \[13\] message signalled interrupts.
    pub msi: bool,
    /// \[14\] WFE wake-up events.
    pub sev: bool,
    /// \[15\] address translation operations.
    pub atos: bool,
    /// \[16\] page request interface.
    pub pri: bool,
    /// \[17\] VMID wildcard matching.
    pub vmw: bool,
    /// \[18\] 16-bit VMIDs.
    pub vmid16: bool,
    /// \[19\] two-level CD tables.
    pub cd2l: bool,
    /// \[20\] virtual ATOS page.
    pub vatos: bool,
    /// \[22:21\] table endianness: 0 mixed, 2 little, 3 big.
    #[bits(2)]
    pub ttendian: u8,
    /// \[23\] ATS error recording.
    pub atsrecerr: bool,
    /// \[25:24\] 0 stall and terminate, 1 terminate only, 2 stall only.
    #[bits(2)]
    pub stall_model: u8,
    /// \[26\] terminated transactions abort; CD.A must be 1.
    pub term_model: bool,
    /// \[28:27\] 0 linear stream tables, 1 two-level too.
    #[bits(2)]
    pub st_level: u8,
    #[bits(3)]
    __: u8,
}

/// IDR1: sizes (6.3.2).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Idr1 {
    /// \[5:0\] StreamID bits.
    #[bits(6)]
    pub sidsize: u8,
    /// \[10:6\] SubstreamID bits.
    #[bits(5)]
    pub ssidsize: u8,
    /// \[15:11\] log2 of the largest PRI queue.
    #[bits(5)]
    pub priqs: u8,
    /// \[20:16\] log2 of the largest event queue.
    #[bits(5)]
    pub eventqs: u8,
    /// \[25:21\] log2 of the largest command queue.
    #[bits(5)]
    pub cmdqs: u8,
    /// \[26\] incoming permission attributes can be overridden.
    pub attr_perms_ovr: bool,
    /// \[27\] incoming memory types can be overridden.
    pub attr_types_ovr: bool,
    /// \[28\] base addresses are relative.
    pub rel: bool,
    /// \[29\] queues at fixed addresses.
    pub queues_preset: bool,
    /// \[30\] tables at fixed addresses.
    pub tables_preset: bool,
    /// \[31\] enhanced command queues.
    pub ecmdq: bool,
}

/// IDR3: translation features (6.3.4).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Idr3 {
    #[bits(2)]
    __: u8,
    /// \[2\] hierarchical attribute disable.
    pub had: bool,
    /// \[3\] page-based hardware attributes.
    pub pbha: bool,
    /// \[4\] stage 2 execute-never by privilege.
    pub xnx: bool,
    /// \[5\] PRI responses carry a PASID.
    pub pps: bool,
    #[bits(1)]
    __: u8,
    /// \[7\] MPAM.
    pub mpam: bool,
    /// \[8\] stage 2 forces write-back.
    pub fwb: bool,
    /// \[9\] small translation tables.
    pub stt: bool,
    /// \[10\] range invalidation, level hints.
    pub ril: bool,
    /// \[12:11\] break-before-make level.
    #[bits(2)]
    pub bbml: u8,
    /// \[13\] E0PD.
    pub e0pd: bool,
    /// \[14\] walks of Device memory.
    pub ptwnnc: bool,
    /// \[15\] device permission table.
    pub dpt: bool,
    #[bits(16)]
    __: u16,
}

/// IDR5: address sizes and granules (6.3.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Idr5 {
    /// \[2:0\] output address size, as a code.
    #[bits(3)]
    pub oas: u8,
    #[bits(1)]
    __: u8,
    /// \[4\] 4 KiB granule.
    pub gran4k: bool,
    /// \[5\] 16 KiB granule.
    pub gran16k: bool,
    /// \[6\] 64 KiB granule.
    pub gran64k: bool,
    /// \[7\] 52-bit addresses with 4 KiB and 16 KiB granules.
    pub ds: bool,
    /// \[8\] 128-bit descriptors.
    pub d128: bool,
    #[bits(1)]
    __: u8,
    /// \[11:10\] 0: 48-bit, 1: 52-bit input addresses.
    #[bits(2)]
    pub vax: u8,
    #[bits(4)]
    __: u8,
    /// \[31:16\] stalled transactions that can be outstanding.
    #[bits(16)]
    pub stall_max: u16,
}
