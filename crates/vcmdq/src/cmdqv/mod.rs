//! The Tegra241 CMDQV frame: a software vCMDQ exactly as a guest of the hardware sees it.
//!
//! One VINTF (number 0, in guest mode: HYP_OWN reads as 0) with up to 16 logical VCMDQs, each a
//! [`Ring`](crate::Ring) of the SMMU's [`Frame`](crate::Frame). Linux's `tegra241-cmdqv` driver
//! puts its TLBI and ATC_INV into them, one ring for each CPU; CFGI and the rest go on through the
//! SMMU's own queue. NVIDIA publishes no manual: the driver is the reference, as for QEMU.
//!
//! # Pages
//!
//! The frame has [`FRAME_BYTES`] bytes, which is what the devicetree variant
//! (`nvidia,tegra264-cmdqv`) gets as its `reg`. Pages have 64 KiB:
//!
//! | offset | page | access |
//! |---|---|---|
//! | 0x00000 | CMDQV: CONFIG, PARAM, STATUS, error maps, CMDQ_ALLOC; from 0x1000 on VINTF 0 | traps |
//! | 0x10000 | page 0 of the VCMDQs by their global numbers; the same registers as at 0x30000 | traps |
//! | 0x20000 | page 1 by global numbers; the same registers as at 0x40000 | traps |
//! | 0x30000 | page 0 of VINTF 0's logical VCMDQs: PROD, CONS, CONFIG, STATUS, GERROR, GERRORN | traps, or is memory that the VMM maps into the guest ([`CmdqvSettings::page`]) |
//! | 0x40000 | page 1 of the logical VCMDQs: BASE, CONS_INDX_BASE | traps |
//!
//! Each VCMDQ has a window of 0x80 bytes in pages 0 and 1. Other offsets read as zero.
//!
//! # What differs from the hardware
//!
//! * SID_MATCH and SID_REPLACE are storage: what a vSID means is what the VMM has bound
//!   ([`Frame::bind`](crate::Frame::bind)), and the VMID of the guest is not used (law 2).
//! * CONS is not copied to memory: CONFIG.CONS_DRAM_EN reads as 0, CONS_INDX_BASE is storage.
//! * A queue with BASE zero, not aligned to its size, too large or outside guest memory does not
//!   come on: GERROR.INIT_ERR, and STATUS.EN_OK stays 0 until CONFIG.EN or BASE is written anew.
//! * The error maps show the queues whose GERROR and GERRORN differ, so an acknowledgement clears
//!   its bit at once. Nothing else writes them.
//!
//! # Laws
//!
//! A SYNC covers what every ring of the VINTF had published (law 3; `cover.rs` has the protocol).
//! Of what lies in a shared page, PROD, CONFIG and GERRORN are the guest's words, and CONS is while
//! the queue is off; everything else there is a copy (law 8). The state is part of
//! [`Frame::save`](crate::Frame::save) (law 10), and moves between a trapped and a mapped page.

mod config_page;
pub(crate) mod cover;
pub(crate) mod group;
mod import;
mod lane;
mod page;
mod queue_pages;
mod registers;
pub(crate) mod state;

pub use group::MAX_QUEUES;
pub use import::{HardwareQueue, HardwareVintf, ImportError};
pub use lane::BaseError;
pub use page::{HeapVintfPage, VINTF_PAGE_WORDS};
pub use registers::{CmdqvError, CmdqvFrame, CmdqvSettings, FRAME_BYTES};
pub use state::{CmdqvState, CmdqvStateError, QueueState};
