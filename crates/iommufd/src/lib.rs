//! The host kernel's IOMMU as a backend of the engine, through iommufd.
//!
//! ```text
//! batch ─▶ Encoder ─▶ entries ─▶ HWPT_INVALIDATE ─▶ host kernel ─▶ its SMMU
//! ```
//!
//! | file | what |
//! |---|---|
//! | `uapi.rs` | [`Iommufd`]: the calls that are made, as a seam; their arguments and type numbers |
//! | `ioctl.rs` | the same of a real `/dev/iommu` |
//!
//! Works on Linux only; elsewhere the crate is empty.

#[cfg(target_os = "linux")]
mod ioctl;
#[cfg(target_os = "linux")]
pub mod uapi;

#[cfg(target_os = "linux")]
pub use iommufd_ioctls::IommuFd;
#[cfg(target_os = "linux")]
pub use uapi::{Errno, Iommufd};
