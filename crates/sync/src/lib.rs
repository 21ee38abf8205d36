//! Atomics, cells and threads of the engine: `core`/`std` in a product build,
//! [loom] when the compiler is called with `--cfg loom`.
//!
//! This is the only crate that knows which of the two it is. Every other crate of
//! the workspace names its atomics through here, so that what loom explores is the
//! product's own code and not a copy of it.
//!
//! Small primitives live here as well:
//!
//! * [`claim::ClaimCell`]: data that one thread at a time works on, handed over by
//!   compare-and-swap, with a promise that a request made meanwhile is not lost;
//! * [`queue::Queue`]: a bounded queue for many threads (`std` only);
//! * [`snapshot::Snapshot`]: a pointer that readers follow without waiting and that
//!   a writer exchanges, waiting until nobody uses the old value (`std` only);
//! * [`broken!`]: the switches with which tests are shown to notice a broken law;
//! * [`wide`]: 16 bytes of shared memory loaded as a whole, where the host can.
//!
//! [loom]: https://docs.rs/loom
#![cfg_attr(not(any(feature = "std", loom, break_laws)), no_std)]

mod cell;
pub mod claim;
pub mod faults;
#[cfg(any(feature = "std", loom))]
pub mod queue;
#[cfg(any(feature = "std", loom))]
pub mod snapshot;
#[cfg(any(feature = "std", loom))]
pub mod thread;
pub mod weak;
pub mod wide;

pub use crossbeam_utils::CachePadded;

/// Atomic integers, orderings and fences.
pub mod atomic {
    #[cfg(not(loom))]
    pub use core::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    #[cfg(loom)]
    pub use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

/// Hints to the processor while it waits.
pub mod hint {
    #[cfg(not(loom))]
    pub use core::hint::spin_loop;
    #[cfg(loom)]
    pub use loom::hint::spin_loop;
}

/// Shared ownership and, for control paths only, locks.
#[cfg(any(feature = "std", loom))]
pub mod sync {
    #[cfg(loom)]
    pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    #[cfg(not(loom))]
    pub use std::sync::{Arc, Condvar, Mutex, MutexGuard};
}
