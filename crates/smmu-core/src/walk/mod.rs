//! Walks of VMSAv8-64 tables (IHI 0070, 3.4 and Arm ARM D8): an address in, a [`Leaf`] or a
//! [`Fault`] out.
//!
//! A walk reads at most five descriptors, each once. It writes one only where the context has the
//! hardware update access flags or dirty state, and starts anew if that was changed meanwhile
//! (`update.rs`). Where it is given a [`WalkCache`] it starts from the last table that is known (`tables.rs`).
//! The contiguous hint is ignored, as an implementation may. Faults come in the order that
//! the architecture gives them: address range, abort of the descriptor, invalid descriptor,
//! output size, access flag, permission.

mod descend;
mod geometry;
mod leaf;
mod permissions;
mod stage1;
mod stage2;
mod tables;
mod update;

pub(crate) use geometry::{start_level, start_table_bytes};
pub use leaf::Leaf;
pub use permissions::Permissions;
pub use stage1::{bypass_stage1, translate, translate_from};
pub use stage2::Stage2;
pub use tables::{StageTables, WalkCache};

use crate::fault::Fault;
use crate::ids::Gpa;
use crate::spec::event::Class;

/// What turns intermediate physical addresses into guest-physical ones: the guest's own
/// stage 2, or nothing.
pub trait IpaSpace {
    /// Where `ipa` lies; `class` says what is being fetched there, for the fault record.
    fn physical(&self, ipa: u64, class: Class) -> Result<Gpa, Fault> {
        self.located(ipa, class).map(|(at, _)| at)
    }

    /// The same, and log2 of the size of the aligned piece around it that lies in memory in one piece.
    fn located(&self, ipa: u64, class: Class) -> Result<(Gpa, u32), Fault>;

    /// Where the descriptor of stage 1 at `ipa` lies, which is going to be written: to stage 2 that is
    /// a write.
    fn for_update(&self, ipa: u64) -> Result<Gpa, Fault>;
}

/// Without a stage 2, intermediate addresses are guest-physical ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoStage2;

impl IpaSpace for NoStage2 {
    #[inline]
    fn located(&self, ipa: u64, _class: Class) -> Result<(Gpa, u32), Fault> {
        Ok((Gpa(ipa), u64::BITS))
    }

    #[inline]
    fn for_update(&self, ipa: u64) -> Result<Gpa, Fault> {
        Ok(Gpa(ipa))
    }
}
