//! A guest that ran on a hardware vCMDQ goes on here.
//!
//! What a VMM knows of such a guest is what the hardware's registers read as when its VINTF has
//! been stopped: page 0 of each logical VCMDQ, and BASE, CMDQ_ALLOC and VINTF_CONFIG, which it
//! trapped. BASE is the guest's own address, not the physical one that the host programmed.

use super::config_page::{accepted_config, accepted_vintf};
use super::group::MAX_QUEUES;
use super::lane::{BaseError, check};
use super::registers::{CmdqvFrame, SIDS};
use super::state::{CmdqvState, QueueState};
use crate::gerror::CommandError;
use crate::snapshot::RingState;
use smmu_core::queue_index::{BeyondRing, Geometry, MAX_LOG2SIZE};
use smmu_core::spec::vcmdq::{CERROR_ILL_ACCESS, CmdqAlloc, VcmdqBase, VintfConfig};

/// A hardware VINTF 0 as its guest saw it, as plain register values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HardwareVintf {
    /// CONFIG of the CMDQV.
    pub config: u32,
    /// VINTF_INT_MASK, first word.
    pub int_mask: u32,
    /// VINTF_CONFIG.
    pub vintf_config: u32,
    /// SID_MATCH, up to 16; missing ones are zero.
    pub sid_match: Vec<u32>,
    /// SID_REPLACE, likewise.
    pub sid_replace: Vec<u32>,
    /// The logical VCMDQs by number; as many as the frame has.
    pub queues: Vec<HardwareQueue>,
}

/// One logical VCMDQ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HardwareQueue {
    /// CMDQ_ALLOC of this global number.
    pub alloc: u32,
    /// BASE as the guest wrote it.
    pub base: u64,
    /// CONS_INDX_BASE.
    pub cons_indx_base: u64,
    /// CONS, with ERR.
    pub cons: u32,
    /// PROD.
    pub prod: u32,
    /// CONFIG.
    pub config: u32,
    /// STATUS.
    pub status: u32,
    /// GERROR.
    pub gerror: u32,
    /// GERRORN.
    pub gerrorn: u32,
}

/// The hardware's state cannot be taken over. Nothing has been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The frame runs.
    #[error("the frame is not paused: pause it before importing")]
    Running,
    /// Another number of queues.
    #[error("the hardware's VINTF has {theirs} queues, this one {here}")]
    Queues {
        /// The hardware's.
        theirs: usize,
        /// Here.
        here: usize,
    },
    /// More pairs than a VINTF has.
    #[error("{0} SID_MATCH or SID_REPLACE registers: there are 16")]
    Sids(usize),
    /// HYP_OWN is set.
    #[error("HYP_OWN is set: that is a host's own VINTF, not a guest's")]
    HypervisorOwned,
    /// A queue is allocated to a VINTF or a number that a guest does not have.
    #[error("queue {queue} is allocated to VINTF {vintf}, number {logical}")]
    Allocation {
        /// Global number.
        queue: usize,
        /// VINTF.
        vintf: u8,
        /// Number inside it.
        logical: u8,
    },
    /// The queue runs on a BASE that cannot be.
    #[error("queue {queue}: {cause}")]
    Base {
        /// Its number.
        queue: usize,
        /// What is wrong.
        #[source]
        cause: BaseError,
    },
    /// PROD and CONS are further apart than the queue is long.
    #[error("queue {queue}: {cause}")]
    Pointers {
        /// Its number.
        queue: usize,
        /// What is wrong.
        #[source]
        cause: BeyondRing,
    },
    /// CONS.ERR is no code of a VCMDQ.
    #[error("queue {queue}: CONS.ERR is {error}")]
    Error {
        /// Its number.
        queue: usize,
        /// The code.
        error: u8,
    },
}

impl CmdqvFrame {
    /// Takes over what a guest left on hardware. The frame must be paused; it goes on with
    /// [`Frame::resume`](crate::Frame::resume). Control call.
    ///
    /// A queue that stopped because it named what it may not (code 4) stops here with CERROR_ILL,
    /// which Linux recovers from in the same way.
    pub fn import(&self, hardware: &HardwareVintf) -> Result<(), ImportError> {
        let shared = &self.shared;
        if !shared.rings.iter().all(|ring| ring.is_paused()) {
            return Err(ImportError::Running);
        }
        let (theirs, here) = (hardware.queues.len(), shared.queues());
        if theirs != here {
            return Err(ImportError::Queues { theirs, here });
        }
        if VintfConfig::from_bits(hardware.vintf_config).hyp_own() {
            return Err(ImportError::HypervisorOwned);
        }
        let most = shared.rings.first().map_or(0, |ring| ring.cmdq_cap);
        let mut rings = Vec::with_capacity(here);
        for (index, queue) in hardware.queues.iter().enumerate() {
            check_allocation(index, queue, here)?;
            rings.push(ring_state(index, queue, most)?);
        }
        let state = CmdqvState {
            config: accepted_config(hardware.config).into_bits(),
            int_mask: [hardware.int_mask, 0],
            vintf_config: accepted_vintf(hardware.vintf_config).into_bits(),
            sid_match: sids(&hardware.sid_match)?,
            sid_replace: sids(&hardware.sid_replace)?,
            queues: hardware.queues.iter().map(queue_state).collect(),
        };
        for (ring, saved) in shared.rings.iter().zip(&rings) {
            saved.put(ring);
        }
        shared.restore(&state);
        Ok(())
    }
}

fn sids(registers: &[u32]) -> Result<Vec<u32>, ImportError> {
    if registers.len() > SIDS {
        return Err(ImportError::Sids(registers.len()));
    }
    let mut all = registers.to_vec();
    all.resize(SIDS, 0);
    Ok(all)
}

fn check_allocation(index: usize, queue: &HardwareQueue, here: usize) -> Result<(), ImportError> {
    let alloc = CmdqAlloc::from_bits(queue.alloc);
    let inside = alloc.vintf() == 0 && usize::from(alloc.lvcmdq()) < here.min(MAX_QUEUES);
    if alloc.alloc() && !inside {
        return Err(ImportError::Allocation {
            queue: index,
            vintf: alloc.vintf(),
            logical: alloc.lvcmdq(),
        });
    }
    Ok(())
}

fn runs(queue: &HardwareQueue) -> bool {
    queue.config & queue.status & 1 != 0
}

fn queue_state(queue: &HardwareQueue) -> QueueState {
    QueueState {
        alloc: queue.alloc,
        base: queue.base,
        cons_indx_base: queue.cons_indx_base,
        cons: queue.cons,
        runs: runs(queue),
        refused: false,
    }
}

fn ring_state(index: usize, queue: &HardwareQueue, most: u8) -> Result<RingState, ImportError> {
    let error = match (queue.cons >> 24) as u8 & 0x7F {
        CERROR_ILL_ACCESS => CommandError::Illegal as u8,
        error if error == 0 || CommandError::from_code(error).is_some() => error,
        error => {
            return Err(ImportError::Error {
                queue: index,
                error,
            });
        }
    };
    let mut state = RingState {
        prod: queue.prod & 0xF_FFFF,
        error,
        gerror: queue.gerror & 0b111,
        gerrorn: queue.gerrorn & 0b111,
        enabled: queue.config & 1 != 0,
        ..RingState::default()
    };
    // A queue that is off has no place and no pointers yet: they count when it comes on.
    if runs(queue) {
        let base = VcmdqBase::from_bits(queue.base);
        let entries = check(base, most.min(MAX_LOG2SIZE)).map_err(|cause| ImportError::Base {
            queue: index,
            cause,
        })?;
        let geometry: Geometry = entries.geometry();
        let (cons, prod) = (geometry.pointer(queue.cons), geometry.pointer(queue.prod));
        geometry
            .published(cons, prod)
            .map_err(|cause| ImportError::Pointers {
                queue: index,
                cause,
            })?;
        state.base = entries.base().0;
        state.log2size = geometry.log2size();
        state.cons = cons.raw();
    }
    Ok(state)
}
