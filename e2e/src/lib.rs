//! An unmodified Linux guest drives the engine: `vcmdq boot`.
//!
//! ```text
//! QEMU (TCG) ─ guest RAM, a shared file ─┬─ registers: a page of it ─▶ vehicle ─▶ frame
//!     │                                  └─ rings, tables ────────────▶ engine
//!     ├─ vfio-user socket ─▶ nvme: all DMA through the translation core
//!     ├─ qtest socket ◀───── messages of interrupts
//!     └─ console ──────────▶ checks and their verdict
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | the whole run: parts, boots, verdict |
//! | [`parts`] | where QEMU, kernel, modules and busybox come from |
//! | [`guest`] | the initramfs and what its `/init` does |
//! | [`devicetree`] | QEMU's devicetree with an SMMU in it |
//! | [`acpi`] | a table of ACPI with which QEMU's own SMMU can nest |
//! | [`qemu`] | the process, its console and its qtest socket |
//! | [`vehicle`] | the registers as a polled page of guest RAM |
//! | [`mock`] | the iommufd backend inside a kernel with the mock IOMMU: `vcmdq mock` |
//! | [`nvme`] | the controller model, served over vfio-user |
//!
//! This is a test vehicle: no VMM links it.
#![deny(unsafe_code)]

pub mod acpi;
pub mod boot;
pub mod devicetree;
pub mod guest;
pub mod mock;
pub mod nvme;
pub mod parts;
pub mod qemu;
pub mod vehicle;
