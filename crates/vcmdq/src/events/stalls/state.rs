//! Stalled transactions as plain data (law 10).
//!
//! A stalled transaction is half here and half in the device model, which saves the tag with
//! its request. After a restore the entry waits for the device: it takes verdicts at once, and
//! [`Stalls::adopt`] gives the device its handle back.

use super::entry::Contents;
use super::{Resumption, StalledAccess, Stalls};
use smmu_core::spec::event::EventRecord;
use smmu_core::{Stag, StreamId};
use std::sync::Arc;
use vcmdq_sync::atomic::Ordering;

/// One stalled transaction. With the feature `serde`, in any of its formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StallState {
    /// StreamID.
    pub stream: u32,
    /// Its tag.
    pub stag: u16,
    /// Its event record.
    pub record: [u64; 4],
    /// Whether the record has been written.
    pub recorded: bool,
    /// 0: none yet, 1 retry, 2 abort, 3 RAZ/WI.
    pub verdict: u8,
}

/// Saved stalls could not be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StallsRestoreError {
    /// Transactions are stalled here.
    #[error("transactions are stalled: reset the devices behind the frame first")]
    InUse,
    /// The saved frame allowed stalls and this one does not, or more of them.
    #[error("there is no room for the saved stalls; create the frame with the same IDRs")]
    NoRoom,
    /// A value that no engine writes.
    #[error("stall {0:#x}: {1} is not a value that it can have")]
    Malformed(u16, &'static str),
}

fn code(verdict: Option<Resumption>) -> u8 {
    match verdict {
        None => 0,
        Some(Resumption::Retry) => 1,
        Some(Resumption::Abort) => 2,
        Some(Resumption::RazWi) => 3,
    }
}

fn verdict(code: u8) -> Option<Resumption> {
    [Resumption::Retry, Resumption::Abort, Resumption::RazWi]
        .into_iter()
        .find(|verdict| self::code(Some(*verdict)) == code)
}

impl Stalls {
    /// Every transaction that is stalled, or has its verdict and has not been given back. Of a
    /// paused frame whose devices have stopped.
    #[must_use]
    pub fn save(&self) -> Vec<StallState> {
        let entries = self.entries.iter().enumerate();
        let state = |(index, entry): (usize, &super::Entry)| {
            let contents = entry.contents()?;
            Some(StallState {
                stream: contents.stream.0,
                stag: self.stag(index, contents.generation).0,
                record: entry.record().0,
                recorded: contents.recorded,
                verdict: code(contents.verdict),
            })
        };
        entries.filter_map(state).collect()
    }

    /// Whether [`restore`](Self::restore) would take these.
    pub fn check(&self, states: &[StallState]) -> Result<(), StallsRestoreError> {
        if self.in_use() != 0 {
            return Err(StallsRestoreError::InUse);
        }
        let mut seen = vec![false; self.entries.len()];
        for state in states {
            let malformed = |what| Err(StallsRestoreError::Malformed(state.stag, what));
            let Some(seen) = seen.get_mut(self.index(Stag(state.stag))) else {
                return Err(StallsRestoreError::NoRoom);
            };
            if std::mem::replace(seen, true) {
                return malformed("STAG");
            }
            let record = EventRecord(state.record);
            if record.dw1().stag() != state.stag || record.dw0().stream() != state.stream {
                return malformed("the record");
            }
            if state.verdict > 3 || (state.verdict != 0 && !state.recorded) {
                return malformed("the verdict");
            }
        }
        Ok(())
    }

    /// Puts saved transactions into an empty table, while no device runs. Nothing is changed if it
    /// is refused. Records that had not been written follow with
    /// [`retry_records`](Self::retry_records).
    pub fn restore(&self, states: &[StallState]) -> Result<(), StallsRestoreError> {
        self.check(states)?;
        for state in states {
            let entry = &self.entries[self.index(Stag(state.stag))];
            let contents = Contents {
                stream: StreamId(state.stream),
                generation: u32::from(state.stag) >> self.index_bits,
                verdict: verdict(state.verdict),
                recorded: state.recorded,
            };
            self.used.fetch_add(1, Ordering::Relaxed);
            let pending = u32::from(!state.recorded);
            self.pending.fetch_add(pending, Ordering::Relaxed);
            entry.restore(&contents, &EventRecord(state.record));
        }
        Ok(())
    }

    /// The handle of a restored transaction, for the device that waited for it. `None` if there is
    /// none, or somebody has it already.
    #[must_use]
    pub fn adopt(self: &Arc<Self>, stream: StreamId, stag: Stag) -> Option<StalledAccess> {
        let index = self.index(stag);
        let mine = |of, generation| of == stream && self.stag(index, generation) == stag;
        let adopted = self.entries.get(index)?.adopt(mine);
        adopted.then(|| StalledAccess::new(self.clone(), index, stag))
    }

    /// Gives up every restored transaction that no device has come for.
    pub fn abandon_orphans(&self) {
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.adopt(|_, _| true) {
                self.release(index);
            }
        }
    }
}
