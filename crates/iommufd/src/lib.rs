//! The host kernel's IOMMU as a backend of the engine, through iommufd.
//!
//! ```text
//! Batch ─▶ Encoder ─▶ entries ─▶ HWPT_INVALIDATE ─▶ host kernel ─▶ its SMMU
//!                                   │
//!            Rejected ◀── account ◀─┘ errno and a count that is not to be believed
//!
//! STE ─▶ Wanted ─▶ nested page table ─▶ attach ─▶ the device
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
//! | `target.rs` | [`Target`]: which vIOMMU invalidations go to |
//! | `hw_info.rs`, `offer.rs` | what the host's SMMU has, and what a frame in front of it advertises |
//! | `device.rs`, `vfio.rs` | [`AttachDevice`]: the VMM's way to a device |
//! | `instance.rs`, `viommu.rs`, `object.rs` | [`HostInstance`]: stage 2, vIOMMU, abort and bypass tables |
//! | `streams.rs`, `observer.rs`, `joint.rs` | [`NestedStreams`]: the frame's `StreamHost`; who is told; the backend's view of it |
//! | `vste.rs`, `stream.rs` | from the guest's STE to the page table that a device is attached to |
//! | `plug.rs`, `replace.rs` | devices come and go, the stage 2 is replaced |
//! | `events.rs`, `faults.rs`, `drain.rs` | what the host tells of the streams: vEVENTQ, fault queue |
//! | `flavour.rs` | what differs between IOMMUs on the control path |
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

#![cfg(target_os = "linux")]

mod account;
mod backend;
mod counters;
mod device;
mod drain;
pub mod encode;
mod events;
mod faults;
pub mod flavour;
mod hw_info;
mod instance;
mod ioctl;
mod join;
mod joint;
mod learnt;
mod metrics;
mod object;
mod observer;
mod offer;
mod plug;
mod replace;
mod stream;
mod streams;
mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod uapi;
#[cfg(feature = "vfio")]
mod vfio;
mod viommu;
pub mod vste;

pub use backend::{HostStreams, IommufdBackend, IommufdSettings};
pub use counters::IommufdMetrics;
pub use device::{AttachDevice, Device};
pub use encode::{ArmSmmuv3, Encoder, VtdFirstStage};
pub use flavour::Flavour;
pub use hw_info::{FleetError, HostFeatures, HwInfoError, StallModel};
pub use instance::{HostInstance, HostInstanceError};
pub use iommufd_ioctls::IommuFd;
pub use metrics::StreamMetrics;
pub use observer::StreamObserver;
pub use offer::{Lack, Offer, OfferError, Profile, UnknownProfile, admits};
pub use plug::{PlugError, RebindError, UnplugError};
pub use replace::Replaced;
pub use stream::Attachment;
pub use streams::{NestedStreams, StreamState};
pub use target::Target;
pub use uapi::{Errno, Iommufd};
#[cfg(feature = "vfio")]
pub use vfio::VfioDevice;
pub use viommu::ViommuError;
pub use vste::Vste;
