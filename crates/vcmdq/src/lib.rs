//! A software-emulated SMMUv3 virtual command queue that a VMM links.
//!
//! ```text
//! guest driver ──commands──▶ ring (guest memory)
//!              ──PROD─────▶ doorbell ──▶ worker
//! worker:   fetch ▶ decode ▶ first pass ▶ coalesce ▶ dispatch ──▶ backend
//! SYNC:     ▶ backend done, no DMA uses what was removed ▶ complete: CONS, message, interrupt
//! ```
//!
//! | type | what |
//! |---|---|
//! | [`Engine`] | the workers; one for a process |
//! | [`Frame`] | one guest-visible SMMU: capabilities, streams, rings |
//! | [`Instance`] | what stands behind a frame for one stage 2 and one host VMID: a [`dispatch::Backend`] |
//! | [`registers::RegisterFrame`] | its SMMUv3 registers, for the VMM's MMIO handler |
//! | [`Ring`] | one command queue: a doorbell in front, CONS and errors behind |
//! | [`cmdqv`] | more rings for the guest: the registers of a Tegra241 CMDQV |
//! | [`dma`], [`events`] | what device models translate by, and what becomes of their faults |
//! | [`snapshot`] | what is saved of a frame, and restored |
//! | [`seams`] | what the VMM gives: memory, interrupts, streams, threads, a clock |
//!
//! A vCPU's exit handler calls [`Ring::doorbell`], which publishes PROD, wakes a worker if one
//! is needed, and returns. It takes no lock and waits for nobody.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use dispatch::backend::Software;
//! use smmu_core::command::{Command, Signal};
//! use smmu_core::Gpa;
//! use vcmdq::testing::HeapMemory;
//! use vcmdq::*;
//!
//! let memory = Arc::new(HeapMemory::new(1 << 16));
//! let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
//! let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
//! let instance = frame.add_instance(Arc::new(Software::default()), Placement::default());
//! frame.bind(0x10.into(), Binding { instance, placement: Placement::default() })?;
//!
//! let ring = frame.add_ring(DoorbellMode::Trap)?;
//! ring.configure(RingSettings { base: Gpa(0x1000), log2size: 8 })?;
//! ring.enable();
//!
//! let sync = smmu_core::encode::encode(&Command::Sync(Signal::None));
//! smmu_core::guest_memory::store_u64(&*memory, Gpa(0x1000), sync.dw0, vcmdq_sync::atomic::Ordering::Relaxed)?;
//! ring.doorbell(1);
//! while ring.cons() != 1 {
//!     std::thread::yield_now();
//! }
//! engine.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! More, each a program whose header says what it prints (`cargo run -p vcmdq --example …`):
//!
//! | example | shows |
//! |---|---|
//! | `smallest-vmm` | every call of a VMM: a guest boots, a device translates, munmap, TLBI, SYNC, stop |
//! | `two-instances` | emulated and assigned devices behind one frame; a [`dispatch::Backend`] of one's own |
//! | `virtio-device` | a device model over `virtio-queue`, its rings and buffers translated |
//! | `physical-iommu` | the software SMMU behind the interface that Cloud Hypervisor's SMMUv3 calls |
//!
//! # Memory
//!
//! A ring holds about 1.3 KiB, a frame 0.6 KiB and its stream table 56 bytes a stream, a
//! worker 175 KiB, and nearly as much a thread that makes one instance's calls; an instance with the
//! default translation cache 3.1 MiB (see [`smmu_core::tlb::TlbSettings`]). Nothing is allocated
//! after start-up on the way of a command, but for the report of a backend that fails.
#![deny(unsafe_code)]

mod budget;
pub mod cmdqv;
mod commit;
mod complete;
mod consumer;
pub mod dma;
mod doorbell;
mod effect;
mod engine;
mod error;
pub mod events;
mod fan_out;
mod fetch;
mod first_pass;
mod frame;
mod gerror;
mod instance;
mod lateness;
mod looks;
pub mod metrics;
mod no_memory;
mod observed;
#[cfg(all(feature = "pinning", not(loom)))]
mod pinning;
mod polled;
mod ready;
pub mod registers;
mod ring;
mod ring_control;
mod ring_page;
mod rings;
pub mod seams;
mod settings;
pub mod snapshot;
mod staged;
mod stages;
#[cfg(any(test, feature = "testing"))]
pub mod stepping;
mod streams;
mod submit;
pub mod tap;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod traffic;
#[cfg(all(feature = "vm-memory", not(loom)))]
mod vm_memory;
mod window;
mod worker;

#[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
pub use doorbell::guest_prod::GuestProd;
pub use engine::Engine;
pub use error::{
    BindError, ConfigureError, InstanceError, RemoveError, RestoreError, RingError, StartError,
};
pub use frame::Frame;
pub use gerror::{CommandError, ErrorLatch, gerror_bits};
pub use instance::{Instance, InstanceId, Placement};
#[cfg(all(feature = "pinning", not(loom)))]
pub use pinning::{PinError, PinnedThreads};
pub use ring::{DoorbellMode, Ring};
pub use ring_page::{HeapPage, RingPage};
pub use seams::{CoalescedZone, Interrupts, Line, Passage, Seams, StdThreads, StreamHost, Threads};
pub use settings::{FrameSettings, RingSettings, Settings};
pub use streams::Binding;
pub use tap::Tap;
#[cfg(all(feature = "vm-memory", not(loom)))]
pub use vm_memory::VmMemory;
