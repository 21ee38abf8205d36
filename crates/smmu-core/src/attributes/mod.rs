//! Memory attributes: what a device sends, what the stages make of it, what comes out (IHI 0070, 13;
//! Arm ARM D8.6).
//!
//! | stage | memory type, shareability | allocation and transient hints |
//! |---|---|---|
//! | input | the device's, or what STE or GBPA say ([`InputOverride`]) | the same |
//! | stage 1 | MAIR and SH, whatever the input was | the input's and MAIR's, combined |
//! | stage 2, S2FWB=0 | the stronger of what came in and MemAttr, SH | as they came in |
//! | stage 2, S2FWB=1 | MemAttr says which one wins | as they came in |
//!
//! Nothing is combined before somebody asks: an entry of a cache holds what the descriptors say
//! ([`StageAttributes`]), which is the same for every device that uses it.
//!
//! Some fields have no effect here. CR1.{TABLE,QUEUE}_{SH,OC,IC}, STE.{S1CIR,S1COR,S1CSH,S2IR0,S2OR0}
//! and CD.{IR,OR,SH}x say how the SMMU reads tables and queues: it reads them through this process's own
//! mapping, which is coherent with the guest's cacheable one (IDR0.COHACC); STE.S2SH0 and CD.SHx count for
//! pages of 52-bit descriptors, which have no SH of their own. S2PTW is looked at, in
//! [`Stage2Config::pass`](crate::config::Stage2Config::pass). NSCFG is for Secure streams. What MSIs
//! carry (IRQ_CFG2, CMD_SYNC) means nothing to an interrupt controller that is called.

mod input;
mod memory;
mod stages;

pub use input::InputOverride;
pub use memory::{Cacheability, DeviceType, Hints, MemoryAttributes, MemoryType, Shareability};
pub use stages::StageAttributes;
