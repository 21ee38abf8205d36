//! A stream's address space as vm-memory's guest memory, so that device models that exist already
//! (virtio-queue, vhost-user back ends) can sit behind the SMMU unchanged.
//!
//! # Where the guard is
//!
//! Users of the trait collect the slices that the iterator yields and use them after it is gone
//! (virtio-queue's `Reader` and `Writer` do), so a guard in the iterator alone would be closed too
//! early. Here each slice carries its guard, in the place where vm-memory has the handle of its dirty
//! bitmap, and the guard closes when the last copy of the slice is dropped. The same handle
//! reports writes by guest-physical address.
//!
//! vm-memory's own `IommuMemory` does neither: its lookup ends with the iterator, and it logs writes
//! by I/O virtual address. So this is no `Iommu` for it, but a `GuestMemory` in its place.
//!
//! # Which map
//!
//! The one by which the translation was made, slice by slice: after
//! [`Frame::update_memory`](crate::Frame::update_memory) the next slice is of the new map, and the
//! call itself has waited for the slices of the old one (law 9). A handle that nobody uses
//! keeps the old map mapped until its next access.
//!
//! # What the trait cannot express
//!
//! A stalled access is waited for, at most [`StreamMemory::set_stall_limit`]. "Reads are zero, writes
//! are ignored" and outputs that are no RAM are errors: a slice is memory. So is a frame whose guest
//! memory is no `VmMemory` of the same map ([`DmaError::OtherMap`](super::DmaError)). An address without
//! translation is an [`IOError`](vm_memory::GuestMemoryError::IOError) that holds a
//! [`DmaError`](super::DmaError).
//!
//! | file | what |
//! |---|---|
//! | `stream.rs` | [`StreamMemory`]: translation, stalls |
//! | `ports.rs` | ports that are kept for the next slices |
//! | `slice.rs` | [`HeldSlice`]: a slice's guard and dirty log |
//! | `walk.rs` | vm-memory's trait: slice by slice |

mod ports;
mod slice;
mod stream;
mod walk;

pub use slice::HeldSlice;
pub use stream::StreamMemory;
