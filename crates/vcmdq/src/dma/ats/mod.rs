//! Devices that keep translations of their own, as PCIe devices with ATS do (IHI 0070, 3.9).
//!
//! ```text
//! AtsDevice::read ─▶ Atc ─ miss ─▶ Port::request (grant held) ─▶ Atc::fill
//!                     └─ hit ─▶ Port::translated (guard open) ─▶ bytes
//! ATC_INV ─▶ worker ─▶ AtcTarget::invalidate ─▶ … ─▶ AtcAnswer::complete ─▶ the SYNC behind it
//! ```
//!
//! | file | what |
//! |---|---|
//! | `atc.rs` | [`Atc`]: a translation cache for one thread of a device |
//! | `device.rs` | [`AtsDevice`]: reads and writes by it |
//!
//! A device model with a cache of another kind implements
//! [`AtcTarget`](dispatch::backend::AtcTarget) and uses
//! [`Port::request`](dispatch::backend::software::Port::request) and
//! [`Port::translated`](dispatch::backend::software::Port::translated) itself.
//!
//! # What a guest can rely on
//!
//! When a SYNC behind an ATC_INV is complete, no access by a translation that it removed goes on or
//! begins: the cache has been emptied of it, and accesses under way have ended. If the device does
//! not answer within
//! [`SoftwareSettings::atc_timeout`](dispatch::backend::SoftwareSettings), the SYNC stops in
//! CERROR_ATC_INV.

mod atc;
mod device;

pub use atc::{Atc, AtcTicket, Hit};
pub use device::{AtsCounts, AtsDevice, AtsError, AtsIncomplete};
