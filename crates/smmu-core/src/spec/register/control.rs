//! Registers that switch things on and say what went wrong (IHI 0070, 6.3.9 to 6.3.22).

use bitfield_struct::bitfield;

/// CR0 and CR0ACK.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Cr0 {
    /// \[0\] translation.
    pub smmuen: bool,
    /// \[1\] PRI queue.
    pub priqen: bool,
    /// \[2\] event queue.
    pub eventqen: bool,
    /// \[3\] command queue.
    pub cmdqen: bool,
    /// \[4\] translated ATS traffic is checked.
    pub atschk: bool,
    #[bits(1)]
    __: u8,
    /// \[8:6\] VMID wildcard of invalidations.
    #[bits(3)]
    pub vmw: u8,
    #[bits(1)]
    __: u8,
    /// \[10\] walks of the device permission table.
    pub dpt_walk_en: bool,
    #[bits(21)]
    __: u32,
}

/// CR1: how the SMMU accesses queues and tables.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Cr1 {
    /// \[1:0\] inner cacheability of queues: 0 none, 1 write-back, 2 write-through.
    #[bits(2)]
    pub queue_ic: u8,
    /// \[3:2\] outer cacheability of queues.
    #[bits(2)]
    pub queue_oc: u8,
    /// \[5:4\] shareability of queues: 0 none, 2 outer, 3 inner.
    #[bits(2)]
    pub queue_sh: u8,
    /// \[7:6\] inner cacheability of tables.
    #[bits(2)]
    pub table_ic: u8,
    /// \[9:8\] outer cacheability of tables.
    #[bits(2)]
    pub table_oc: u8,
    /// \[11:10\] shareability of tables.
    #[bits(2)]
    pub table_sh: u8,
    #[bits(20)]
    __: u32,
}

/// CR2.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Cr2 {
    /// \[0\] EL2 streams are EL2-E2H.
    pub e2h: bool,
    /// \[1\] C_BAD_STREAMID is recorded.
    pub recinvsid: bool,
    /// \[2\] broadcast invalidation is ignored.
    pub ptm: bool,
    /// \[3\] configuration errors of ATS requests are recorded.
    pub rec_cfg_ats: bool,
    #[bits(28)]
    __: u32,
}

/// GBPA: what happens to traffic while SMMUEN is 0.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Gbpa {
    /// \[3:0\] memory attributes.
    #[bits(4)]
    pub mem_attr: u8,
    /// \[4\] replace the memory attributes.
    pub mtcfg: bool,
    #[bits(3)]
    __: u8,
    /// \[11:8\] allocation hints.
    #[bits(4)]
    pub alloccfg: u8,
    /// \[13:12\] shareability, 1 for incoming.
    #[bits(2)]
    pub shcfg: u8,
    #[bits(2)]
    __: u8,
    /// \[17:16\] privilege.
    #[bits(2)]
    pub privcfg: u8,
    /// \[19:18\] instruction or data.
    #[bits(2)]
    pub instcfg: u8,
    /// \[20\] terminate everything.
    pub abort: bool,
    #[bits(10)]
    __: u16,
    /// \[31\] a write takes effect only with this bit; it reads as 1 until it has.
    pub update: bool,
}

impl Gbpa {
    /// The value out of reset: incoming shareability, bypass.
    pub const RESET: Self = Self::new().with_shcfg(1);
}

/// IRQ_CTRL and IRQ_CTRLACK.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IrqCtrl {
    /// \[0\] global errors.
    pub gerror_irqen: bool,
    /// \[1\] PRI queue; RES0 without PRI.
    pub priq_irqen: bool,
    /// \[2\] event queue.
    pub eventq_irqen: bool,
    #[bits(29)]
    __: u32,
}

/// GERROR and GERRORN. An error is active where the two differ.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Gerror {
    /// \[0\] the command queue has stopped at a bad command.
    pub cmdq_err: bool,
    #[bits(1)]
    __: u8,
    /// \[2\] abort on a write to the event queue.
    pub eventq_abt_err: bool,
    /// \[3\] abort on a write to the PRI queue.
    pub priq_abt_err: bool,
    /// \[4\] abort on the message of a SYNC.
    pub msi_cmdq_abt_err: bool,
    /// \[5\] abort on the message of the event queue.
    pub msi_eventq_abt_err: bool,
    /// \[6\] abort on the message of the PRI queue.
    pub msi_priq_abt_err: bool,
    /// \[7\] abort on the message of a global error.
    pub msi_gerror_abt_err: bool,
    /// \[8\] service failure.
    pub sfm_err: bool,
    /// \[9\] an enhanced command queue has stopped.
    pub cmdqp_err: bool,
    /// \[10\] device permission table.
    pub dpt_err: bool,
    #[bits(21)]
    __: u32,
}

/// GERROR_IRQ_CFG0, EVENTQ_IRQ_CFG0, PRIQ_IRQ_CFG0: where the message goes.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IrqCfg0 {
    #[bits(2)]
    __: u8,
    /// \[55:2\] address of a 32-bit word; zero for "no message".
    #[bits(54)]
    pub addr_word: u64,
    #[bits(8)]
    __: u8,
}

/// GERROR_IRQ_CFG2, EVENTQ_IRQ_CFG2, PRIQ_IRQ_CFG2: how the message is written.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IrqCfg2 {
    /// \[3:0\] memory attributes.
    #[bits(4)]
    pub mem_attr: u8,
    /// \[5:4\] shareability.
    #[bits(2)]
    pub sh: u8,
    #[bits(25)]
    __: u32,
    /// \[31\] PRI queue only: interrupt on a request with Last=1 and not on "no longer empty".
    pub lo: bool,
}

/// AIDR: version of the architecture.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Aidr {
    /// \[3:0\] minor: SMMUv3.n.
    #[bits(4)]
    pub arch_minor: u8,
    /// \[7:4\] major, zero for SMMUv3.
    #[bits(4)]
    pub arch_major: u8,
    #[bits(24)]
    __: u32,
}

/// IIDR: the implementation.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Iidr {
    /// \[11:0\] JEP106 code.
    #[bits(12)]
    pub implementer: u16,
    /// \[15:12\] revision.
    #[bits(4)]
    pub revision: u8,
    /// \[19:16\] variant.
    #[bits(4)]
    pub variant: u8,
    /// \[31:20\] product.
    #[bits(12)]
    pub product_id: u16,
}
