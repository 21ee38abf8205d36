//! A differential test: random stream tables, contexts and page tables in memory that the engine
//! and QEMU's SMMUv3 share, the same accesses through both, every answer and event record compared.
//!
//! ```text
//! world ──words──▶ RAM ◀──walks── engine ─▶ outcome ─┐
//!   │               ▲                               ├─▶ agree, known, or DIFFERENCE
//!   └──accesses──▶ QEMU (qtest) ─▶ landing, records ─┘
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`world`] | random structures, most of them nearly right |
//! | [`slate`] | the memory of both |
//! | [`ours`] | the engine, with its caches and without |
//! | [`machine`], [`qtest`], [`theirs`] | QEMU: `iommu-testdev` writes, `edu` reads |
//! | [`known`] | where QEMU is known to differ, as predicates |
//! | [`run`], [`report`], `words` | the comparison, its counts, and what is said of them |
//!
//! This is a test vehicle: no VMM links it.
#![deny(unsafe_code)]

pub mod known;
pub mod layout;
pub mod machine;
pub mod ours;
pub mod qtest;
pub mod report;
pub mod run;
pub mod slate;
pub mod theirs;
pub mod trace;
mod words;
pub mod world;
