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
//! # A frame in front of a host
//!
//! ```no_run
//! use std::sync::Arc;
//! use vcmdq::testing::HeapMemory;
//! use vcmdq::{Binding, Engine, FrameSettings, Placement, Seams, Settings, StdThreads};
//! use vcmdq_iommufd::*;
//!
//! # fn vmm(ioas: u32, device: Device) -> Result<(), Box<dyn std::error::Error>> {
//! // The VMM has an IOAS that maps the guest's memory, and has bound a device to the iommufd.
//! let iommufd = Arc::new(IommuFd::new()?);
//! let host = HostFeatures::of_device(&*iommufd, device.id)?;
//! let caps = Offer::new(44).capabilities(&host)?;
//!
//! let memory = Arc::new(HeapMemory::new(1 << 30));
//! let streams = NestedStreams::new(memory.clone());
//! let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
//! let seams = Seams { streams: streams.clone(), ..Seams::new(memory) };
//! let frame = engine.add_frame(FrameSettings { caps, ..Default::default() }, seams);
//! streams.connect(&frame);
//!
//! let smmu = ArmSmmuv3::new(host.ranges);
//! let instance = HostInstance::new(iommufd.clone(), Arc::new(smmu), device.id, ioas, &caps)?;
//! let settings = IommufdSettings::new(streams.of_instance(&instance));
//! let backend = IommufdBackend::new(iommufd, instance.target(), smmu, settings);
//! let placement = Placement::default();
//! let behind = frame.add_instance(Arc::new(backend), placement);
//!
//! // Hot-plug, now or later. The event loop polls `instance` and calls `streams.drain(&instance)`.
//! let binding = Binding { instance: behind, placement };
//! streams.plug(&frame, 0x10.into(), device, &instance, binding)?;
//! # Ok(())
//! # }
//! ```
//!
//! A whole program for a device of VFIO's: `examples/assigned-device.rs`.
//!
//! # What becomes of a stream when something goes wrong
//!
//! | what | the stream | who hears of it |
//! |---|---|---|
//! | its SMMU has less than the frame advertises, or is another one than the instance's | is not plugged in | the VMM: [`PlugError`], with the name of what is lacking |
//! | its STE is invalid | aborts | the guest: C_BAD_STE; [`StreamMetrics::invalid`] |
//! | the host refuses the vSTE | aborts | the guest: C_BAD_STE; [`StreamMetrics::refused`] |
//! | the host has no memory, also after four tries | aborts, until its STE is told anew | [`StreamMetrics::failed`] |
//! | the device has gone | has no page table | [`StreamObserver::gone`] |
//! | an invalidation that names it was not carried out | aborts until it is unplugged, or the stage 2 is replaced | [`StreamObserver::failed_closed`] |
//! | one that names none | like all of the instance, until the stage 2 is replaced or the backend reopened | the same |
//! | the device can neither abort nor be detached | is as it was | [`StreamObserver::stuck`]: the VMM resets the device |
//!
//! # Out of fail-closed
//!
//! Nothing opens an instance again by itself: whether its SMMU can be relied on again is the VMM's to know. A
//! stage 2 that is replaced ([`NestedStreams::replace_stage2`]) begins with nothing cached. Otherwise, on a control
//! thread and in this order:
//!
//! ```no_run
//! # use dispatch::Cause;
//! # use smmu_core::StreamId;
//! # use vcmdq_iommufd::{HostInstance, IommufdBackend, NestedStreams};
//! /// When `StreamObserver::failed_closed` has told of the instance, and of no stream.
//! fn open_again(
//!     backend: &IommufdBackend,
//!     streams: &NestedStreams,
//!     instance: &HostInstance,
//! ) -> Result<Vec<StreamId>, Cause> {
//!     // Everything cached is removed, and batches are sent again. If it fails, all is as it was.
//!     backend.reopen()?;
//!     // Streams are attached to what the guest says now; whom the host could not attach is named.
//!     Ok(streams.reopened(instance))
//! }
//! ```
//!
//! PRI is never offered in front of a host: Linux's SMMUv3 driver denies page requests.
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
#[cfg_attr(
    not(any(test, feature = "testing")),
    expect(unreachable_pub, reason = "`testing` shows it to the models")
)]
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
