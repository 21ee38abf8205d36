//! The CMDQV's registers as plain data (law 10). Its rings are saved with the frame's others.

use super::config_page::{accepted_config, accepted_vintf};
use super::group::MAX_QUEUES;
use super::registers::{Registers, SIDS};
use smmu_core::spec::vcmdq::CmdqAlloc;
use vcmdq_sync::atomic::Ordering;

pub(crate) use super::registers::Shared;

/// A CMDQV, but for its rings. With the feature `serde`, in any of its formats. Whether page 0 was
/// trapped or memory is not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CmdqvState {
    /// CONFIG.
    pub config: u32,
    /// VINTF_INT_MASK, both words.
    pub int_mask: [u32; 2],
    /// CONFIG of VINTF 0.
    pub vintf_config: u32,
    /// SID_MATCH, 16 of them.
    pub sid_match: Vec<u32>,
    /// SID_REPLACE, 16 of them.
    pub sid_replace: Vec<u32>,
    /// The queues, by number.
    pub queues: Vec<QueueState>,
}

/// What a VCMDQ has beside its ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QueueState {
    /// CMDQ_ALLOC of this global number.
    pub alloc: u32,
    /// BASE as written; what the ring goes by is in its own state.
    pub base: u64,
    /// CONS_INDX_BASE.
    pub cons_indx_base: u64,
    /// CONS as the guest sees it, and while the queue is off may have written it.
    pub cons: u32,
    /// STATUS.EN_OK.
    pub runs: bool,
    /// BASE was unusable at the last enable.
    pub refused: bool,
}

/// A saved CMDQV does not fit this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmdqvStateError {
    /// One frame has a CMDQV, the other none.
    #[error("the saved frame {}, this one {}", has(*saved), has(*here))]
    Presence {
        /// Saved.
        saved: bool,
        /// Here.
        here: bool,
    },
    /// Another number of queues.
    #[error("the saved CMDQV has {saved} queues, this one {here}")]
    Queues {
        /// Saved.
        saved: usize,
        /// Here.
        here: usize,
    },
    /// A value that no engine writes.
    #[error("{0} is not a value that a CMDQV can have")]
    Malformed(&'static str),
}

fn has(cmdqv: bool) -> &'static str {
    if cmdqv { "has a CMDQV" } else { "has none" }
}

/// Whether a saved CMDQV, or none, can be put back into what a frame has.
pub(crate) fn validate(
    here: Option<&Shared>,
    saved: Option<&CmdqvState>,
) -> Result<(), CmdqvStateError> {
    let (Some(shared), Some(state)) = (here, saved) else {
        let (saved, here) = (saved.is_some(), here.is_some());
        return if saved == here {
            Ok(())
        } else {
            Err(CmdqvStateError::Presence { saved, here })
        };
    };
    let (saved, here) = (state.queues.len(), shared.queues());
    if saved != here {
        return Err(CmdqvStateError::Queues { saved, here });
    }
    let bad = |what| Err(CmdqvStateError::Malformed(what));
    if state.sid_match.len() != SIDS || state.sid_replace.len() != SIDS {
        return bad("the number of SID_MATCH pairs");
    }
    if accepted_config(state.config).into_bits() != state.config {
        return bad("CONFIG");
    }
    if accepted_vintf(state.vintf_config).into_bits() != state.vintf_config {
        return bad("VINTF_CONFIG");
    }
    if state.queues.iter().any(|q| q.runs && q.refused) {
        return bad("EN_OK of an unusable BASE");
    }
    Ok(())
}

impl Shared {
    /// The rings are paused.
    pub(crate) fn save(&self) -> CmdqvState {
        let registers = self.control();
        let queue = |queue: usize| {
            let ring = &self.rings[queue];
            let (runs, refused) = ring.with_consumer(|c| (c.armed, c.refused.is_some()));
            QueueState {
                alloc: registers.alloc[queue].into_bits(),
                base: self.group.lanes[queue].base(),
                cons_indx_base: registers.cons_indx_base[queue],
                cons: if runs { ring.cons() } else { ring.shown_cons() },
                runs,
                refused,
            }
        };
        CmdqvState {
            config: registers.config.into_bits(),
            int_mask: registers.int_mask,
            vintf_config: registers.vintf.into_bits(),
            sid_match: registers.sid_match.to_vec(),
            sid_replace: registers.sid_replace.to_vec(),
            queues: (0..self.queues()).map(queue).collect(),
        }
    }

    /// Puts a validated state into a paused CMDQV whose rings have been restored.
    pub(crate) fn restore(&self, state: &CmdqvState) {
        let mut registers = self.control();
        *registers = Registers {
            config: accepted_config(state.config),
            int_mask: state.int_mask,
            vintf: accepted_vintf(state.vintf_config),
            ..Registers::default()
        };
        registers.sid_match.copy_from_slice(&state.sid_match);
        registers.sid_replace.copy_from_slice(&state.sid_replace);
        for (queue, saved) in state.queues.iter().enumerate().take(MAX_QUEUES) {
            registers.alloc[queue] = CmdqAlloc::from_bits(saved.alloc);
            registers.cons_indx_base[queue] = saved.cons_indx_base;
            self.group.lanes[queue].set_base(saved.base);
            let ring = &self.rings[queue];
            ring.with_consumer(|consumer| {
                consumer.armed = saved.runs;
                consumer.refused = saved.refused.then_some(saved.base);
                if !saved.runs {
                    self.group.lanes[queue].set_place(0);
                    ring.write_shown_cons(saved.cons);
                }
            });
        }
        let masked = registers.int_mask[0] & 1 != 0;
        self.group.masked.store(masked, Ordering::Release);
        self.regate(&registers);
    }
}
