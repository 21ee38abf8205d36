//! The queue that all producer threads share, and what can go wrong with it.

use super::registers::QueueRegisters;
use super::reserve::Shadow;
use super::valid::ValidMap;
use super::wait::Waiters;
use smmu_core::command::{Command, Msi, Signal};
use smmu_core::encode::encode;
use smmu_core::guest_memory::{GuestMemory, MemoryError};
use smmu_core::ids::Gpa;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE, QueueIndex};
use smmu_core::spec::command::RawCommand;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many commands the driver collects before it inserts them. When more come, these leave
/// without a SYNC; the last piece leaves with one, so a piece takes up to one slot more.
pub const PIECE: usize = 64;

/// How producers learn that their SYNC is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// By the SYNC's message, which overwrites the SYNC's own first word with zero: the
    /// producer polls its slot, in RAM.
    Word,
    /// By CONS, which has passed the SYNC.
    Cons,
}

/// What a [`GuestQueue`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct QueueSettings {
    /// The first slot; a multiple of the queue's size in bytes.
    pub base: Gpa,
    /// log2 of the number of slots, as the hardware has capped it.
    pub log2size: u8,
    /// Where PROD and CONS stand, index and wrap bit; 0 after a reset.
    pub start: u32,
    /// How producers wait.
    pub completion: Completion,
    /// CS of a SYNC without a message: `Signal::Sev` on an SMMU's own queue, `Signal::None` on a
    /// VCMDQ.
    pub quiet: Signal,
    /// After so long without progress a producer gives up (Linux: 1 s).
    pub patience: Duration,
}

impl QueueSettings {
    /// An SMMU's own queue after a reset, waited for as Linux does where it can.
    #[must_use]
    pub fn new(base: Gpa, log2size: u8) -> Self {
        Self {
            base,
            log2size,
            start: 0,
            completion: Completion::Word,
            quiet: Signal::Sev,
            patience: Duration::from_secs(1),
        }
    }
}

/// Why a producer gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue's memory cannot be written.
    #[error("the queue's memory cannot be reached: {0}")]
    Memory(#[from] MemoryError),
    /// The queue stayed full.
    #[error("no {wanted} free slots within {waited:?}")]
    Full {
        /// How many were wanted.
        wanted: u32,
        /// How long there was no progress.
        waited: Duration,
    },
    /// A SYNC did not complete.
    #[error("the SYNC in slot {slot} did not complete within {waited:?}")]
    SyncTimedOut {
        /// Its slot.
        slot: u32,
        /// How long it was waited for.
        waited: Duration,
    },
    /// More commands in one piece than the queue has slots.
    #[error("{wanted} slots wanted of a queue of {entries}")]
    TooLong {
        /// How many slots the piece takes.
        wanted: usize,
        /// How many there are.
        entries: u32,
    },
}

/// A command queue as Linux's driver uses it. Shared by any number of producer threads.
pub struct GuestQueue {
    pub(super) settings: QueueSettings,
    pub(super) geometry: Geometry,
    pub(super) memory: Arc<dyn GuestMemory>,
    pub(super) registers: Arc<dyn QueueRegisters>,
    pub(super) shadow: Shadow,
    pub(super) valid: ValidMap,
    pub(super) waiters: Waiters,
    /// Somebody serves an error.
    pub(super) serving: AtomicBool,
    /// Written by owners, one at a time.
    pub(super) prod_writes: CachePadded<AtomicU64>,
}

impl fmt::Debug for GuestQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestQueue")
            .field("settings", &self.settings)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

impl GuestQueue {
    /// A queue in `memory` whose registers are `registers`. All of it must be backed.
    pub fn new(
        settings: QueueSettings,
        memory: Arc<dyn GuestMemory>,
        registers: Arc<dyn QueueRegisters>,
    ) -> Result<Self, QueueError> {
        let geometry = Geometry::capped(settings.log2size, MAX_LOG2SIZE);
        let start = geometry.pointer(settings.start);
        let mut checked = 0;
        while checked < 2 * geometry.entries() as usize {
            let at = Gpa(settings.base.0.saturating_add(8 * checked as u64));
            checked += memory
                .words(at, 2 * geometry.entries() as usize - checked)?
                .len();
        }
        Ok(Self {
            settings,
            geometry,
            memory,
            registers,
            shadow: Shadow::new(geometry, start),
            valid: ValidMap::new(geometry, start),
            waiters: Waiters::default(),
            serving: AtomicBool::new(false),
            prod_writes: CachePadded::new(AtomicU64::new(0)),
        })
    }

    /// Inserts `commands` in pieces of [`PIECE`], the last with a SYNC behind it, and waits for the
    /// SYNC. When it returns `Ok`, all of them are done.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`], [`QueueError::SyncTimedOut`] or [`QueueError::Memory`]. What has
    /// been inserted by then stays so.
    pub fn submit(&self, commands: &[RawCommand]) -> Result<(), QueueError> {
        // A queue of few slots has room for the last piece's SYNC only if the piece is shorter.
        let slots = self.geometry.entries() as usize;
        let (most, last) = (PIECE.min(slots), PIECE.min(slots - 1));
        let mut rest = commands;
        while rest.len() > last {
            let (piece, behind) = rest.split_at(most.min(rest.len()));
            self.insert(piece)?;
            rest = behind;
        }
        self.insert_and_sync(rest)?.wait()
    }

    /// The SYNC that belongs into the slot at `at`.
    pub(super) fn sync_for(&self, at: QueueIndex) -> RawCommand {
        let signal = match self.settings.completion {
            Completion::Word => Signal::Irq {
                msi: Some(Msi {
                    addr: self.slot_address(at),
                    data: 0,
                }),
            },
            Completion::Cons => self.settings.quiet,
        };
        encode(&Command::Sync(signal))
    }

    /// How often PROD has been written: fewer times than pieces were inserted when producers
    /// met.
    #[must_use]
    pub fn prod_writes(&self) -> u64 {
        self.prod_writes.load(Ordering::Relaxed)
    }

    /// The number of slots.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.geometry.entries()
    }
}
