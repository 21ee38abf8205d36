//! The host kernel's IOMMU as a backend of the engine, through iommufd.
//!
//! ```text
//! Batch ─▶ Encoder ─▶ entries ─▶ HWPT_INVALIDATE ─▶ host kernel ─▶ its SMMU
//!                                   │
//!            Rejected ◀── account ◀─┘ errno and a count that is not to be believed
//! ```
//!
//! | file | what |
//! |---|---|
//! | `uapi.rs` | [`Iommufd`]: the calls that are made, as a seam; their arguments and type numbers |
//! | `ioctl.rs` | the same of a real `/dev/iommu` |
//! | `encode/` | [`Encoder`]: Arm commands, VT-d pages |
//! | `join.rs` | one request fewer where that saves a block |
//! | `account.rs` | what has certainly been executed, on every kernel; the search for a culprit |
//! | `learnt.rs` | what calls cost here |
//! | `backend.rs` | [`IommufdBackend`]: these together |
//!
//! # What becomes of failures
//!
//! | the kernel says | the engine hears |
//! |---|---|
//! | -ENOMEM, -EINTR, -EAGAIN, -EBUSY | nothing: called again with half as much, sixteen times; then [`Cause::Again`](dispatch::Cause) |
//! | -ETIMEDOUT | [`Cause::TimedOut`](dispatch::Cause), from the block on that was not done |
//! | -ENODEV, -ENOENT, -ENXIO, -EBADF | [`Cause::Gone`](dispatch::Cause) |
//! | anything else, of one entry | of a request that names a stream `Gone` (its vdevice is), of others [`Cause::Unsupported`](dispatch::Cause): for that one alone |
//!
//! Each of them climbs the ladder of law 4; none is ever the guest's error. When an invalidation that names
//! no stream fails closed, all streams of the instance abort, and until [`IommufdBackend::reopen`] nothing
//! more is sent: a SYNC would wait for the time-out of a dead queue again and again.
//!
//! A device that does not answer an ATC_INV cannot be seen through iommufd up to Linux 7.2: the driver
//! logs it and the call succeeds.
//!
//! Works on Linux only; elsewhere the crate is empty.

#[cfg(target_os = "linux")]
mod account;
#[cfg(target_os = "linux")]
mod backend;
#[cfg(target_os = "linux")]
mod counters;
#[cfg(target_os = "linux")]
pub mod encode;
#[cfg(target_os = "linux")]
mod ioctl;
#[cfg(target_os = "linux")]
mod join;
#[cfg(target_os = "linux")]
mod learnt;
#[cfg(all(target_os = "linux", any(test, feature = "testing")))]
pub mod testing;
#[cfg(target_os = "linux")]
pub mod uapi;

#[cfg(target_os = "linux")]
pub use backend::{HostStreams, IommufdBackend, IommufdSettings};
#[cfg(target_os = "linux")]
pub use counters::IommufdMetrics;
#[cfg(target_os = "linux")]
pub use encode::{ArmSmmuv3, Encoder, VtdFirstStage};
#[cfg(target_os = "linux")]
pub use iommufd_ioctls::IommuFd;
#[cfg(target_os = "linux")]
pub use uapi::{Errno, Iommufd};
