//! Where the registers lie (IHI 0070, 6.1 and 6.2). Offsets are in bytes from the start of
//! the frame, so those of page 1 include the page.
#![expect(missing_docs, reason = "the architecture's own names")]

/// Size of one register page.
pub const PAGE_BYTES: u64 = 0x1_0000;
/// Size of a frame without optional pages.
pub const FRAME_BYTES: u64 = 2 * PAGE_BYTES;

pub const IDR0: u64 = 0x00;
pub const IDR1: u64 = 0x04;
pub const IDR2: u64 = 0x08;
pub const IDR3: u64 = 0x0C;
pub const IDR4: u64 = 0x10;
pub const IDR5: u64 = 0x14;
pub const IIDR: u64 = 0x18;
pub const AIDR: u64 = 0x1C;
pub const CR0: u64 = 0x20;
pub const CR0ACK: u64 = 0x24;
pub const CR1: u64 = 0x28;
pub const CR2: u64 = 0x2C;
pub const STATUSR: u64 = 0x40;
pub const GBPA: u64 = 0x44;
pub const AGBPA: u64 = 0x48;
pub const IRQ_CTRL: u64 = 0x50;
pub const IRQ_CTRLACK: u64 = 0x54;
pub const GERROR: u64 = 0x60;
pub const GERRORN: u64 = 0x64;
/// 64 bits.
pub const GERROR_IRQ_CFG0: u64 = 0x68;
pub const GERROR_IRQ_CFG1: u64 = 0x70;
pub const GERROR_IRQ_CFG2: u64 = 0x74;
/// 64 bits.
pub const STRTAB_BASE: u64 = 0x80;
pub const STRTAB_BASE_CFG: u64 = 0x88;
/// 64 bits.
pub const CMDQ_BASE: u64 = 0x90;
pub const CMDQ_PROD: u64 = 0x98;
pub const CMDQ_CONS: u64 = 0x9C;
/// 64 bits.
pub const EVENTQ_BASE: u64 = 0xA0;
/// Page-0 alias of [`EVENTQ_PROD`]; RAZ/WI where there is none.
pub const EVENTQ_PROD_ALIAS: u64 = 0xA8;
/// Page-0 alias of [`EVENTQ_CONS`]; RAZ/WI where there is none.
pub const EVENTQ_CONS_ALIAS: u64 = 0xAC;
/// 64 bits.
pub const EVENTQ_IRQ_CFG0: u64 = 0xB0;
pub const EVENTQ_IRQ_CFG1: u64 = 0xB8;
pub const EVENTQ_IRQ_CFG2: u64 = 0xBC;
/// 64 bits.
pub const PRIQ_BASE: u64 = 0xC0;
/// Page-0 alias of [`PRIQ_PROD`]; RAZ/WI where there is none.
pub const PRIQ_PROD_ALIAS: u64 = 0xC8;
/// Page-0 alias of [`PRIQ_CONS`]; RAZ/WI where there is none.
pub const PRIQ_CONS_ALIAS: u64 = 0xCC;
/// 64 bits.
pub const PRIQ_IRQ_CFG0: u64 = 0xD0;
pub const PRIQ_IRQ_CFG1: u64 = 0xD8;
pub const PRIQ_IRQ_CFG2: u64 = 0xDC;
/// Only with IDR0.ATOS, as the next three.
pub const GATOS_CTRL: u64 = 0x100;
/// 64 bits.
pub const GATOS_SID: u64 = 0x108;
/// 64 bits.
pub const GATOS_ADDR: u64 = 0x110;
/// 64 bits.
pub const GATOS_PAR: u64 = 0x118;
/// Only with IDR0.VATOS.
pub const VATOS_SEL: u64 = 0x180;
/// First of twelve words that identify a component (PIDR4 to PIDR7, PIDR0 to PIDR3, CIDR0
/// to CIDR3), one byte each.
pub const ID_REGS: u64 = 0xFD0;

pub const EVENTQ_PROD: u64 = PAGE_BYTES + 0xA8;
pub const EVENTQ_CONS: u64 = PAGE_BYTES + 0xAC;
pub const PRIQ_PROD: u64 = PAGE_BYTES + 0xC8;
pub const PRIQ_CONS: u64 = PAGE_BYTES + 0xCC;
