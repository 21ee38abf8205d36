//! Devices in other processes behind the software SMMU: they get translations, and give them back
//! before a SYNC behind their invalidation completes (law 3).
//!
//! ```text
//!                    worker: TLBI ─▶ Notifier::told ─▶ Bell (eventfd)
//!                                                        │
//! device ──miss──▶ Link::next_miss ─▶ Service::turn ◀────┘
//! device ◀─update── Link::lend ◀─ Remote::lend            Remote::take ─▶ Link::revoke ──▶ device
//! device ──answer─▶ Link::revoke returns ─▶ Remote::answered ─▶ the ring's SYNC goes on
//! ```
//!
//! | file | what |
//! |---|---|
//! | `service.rs` | [`Service`]: one device; a thread of the VMM's runs it |
//! | `bell.rs` | [`Bell`]: how workers tell that thread |
//! | `link.rs` | [`Link`]: what a kind of device has to do, and when it counts as answered |
//! | `iotlb.rs` | `struct vhost_iotlb_msg` |
//! | `kernel.rs` | `KernelVhost`: the host kernel's vhost (feature `vhost-kern`) |
//! | `vhost_user.rs` | `VhostUser`: a vhost-user back end (feature `vhost-user`) |
//! | `vfio_user.rs` | `VfioUser`: DMA windows of a vfio-user server (feature `vfio-user`) |
//!
//! # What counts as an answer
//!
//! | device | an invalidation is answered when |
//! |---|---|
//! | kernel vhost | `write` of VHOST_IOTLB_INVALIDATE returns: the kernel has taken the device's and its queues' mutexes, which accesses hold |
//! | vhost-user | the reply to VHOST_USER_IOTLB_MSG says 0; it is demanded with NEED_REPLY, so a back end without REPLY_ACK is refused |
//! | vfio-user | the reply to VFIO_USER_DMA_UNMAP comes without the error flag |
//!
//! A refusal, a message that is none, or a connection that ends is *no* answer: [`Service::run`] returns
//! with the error, and SYNCs wait on by the rules of guards (first the VMM's log, then its
//! `Overdue` host is told) until [`RemoteHandle::gone`](dispatch::backend::software::RemoteHandle::gone)
//! says that the peer has no mapping any more. A closed socket does not prove that: a process can
//! close it and go on with what it has mapped. Its end does: wait for the process (or its pidfd), and for those
//! that it has passed guest memory on to.
//!
//! Pausing the engine does not stop these devices: whoever saves a guest stops them first.
//!
//! Works on Linux only; elsewhere the crate is empty.

#[cfg(target_os = "linux")]
mod bell;
#[cfg(all(
    target_os = "linux",
    any(feature = "vhost-kern", feature = "vhost-user")
))]
mod iotlb;
#[cfg(all(target_os = "linux", feature = "vhost-kern"))]
mod kernel;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod service;
#[cfg(all(target_os = "linux", feature = "vfio-user"))]
mod vfio_user;
#[cfg(all(target_os = "linux", feature = "vhost-user"))]
mod vhost_user;

#[cfg(target_os = "linux")]
pub use bell::{Bell, Stop};
#[cfg(all(target_os = "linux", feature = "vhost-kern"))]
pub use kernel::KernelVhost;
#[cfg(target_os = "linux")]
pub use link::{Link, LinkError, Miss};
#[cfg(target_os = "linux")]
pub use service::{Faulted, Service, Setup};
#[cfg(all(target_os = "linux", feature = "vfio-user"))]
pub use vfio_user::{FilePlace, Files, VfioUser};
#[cfg(all(target_os = "linux", feature = "vhost-user"))]
pub use vhost_user::{Negotiated, NotUsable, VhostUser};
