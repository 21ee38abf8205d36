//! One piece of commands into the queue, and PROD for everybody who came meanwhile.

use super::queue::{GuestQueue, QueueError};
use super::reserve::Reservation;
use super::wait::{Patience, PendingSync};
use smmu_core::ids::Gpa;
use smmu_core::queue_index::QueueIndex;
use smmu_core::spec::command::RawCommand;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

impl GuestQueue {
    /// Inserts one piece without a SYNC and does not wait for it.
    ///
    /// # Errors
    ///
    /// [`QueueError::TooLong`] if the queue has fewer slots; [`QueueError::Full`] if it stayed
    /// full; [`QueueError::Memory`] if a slot could not be written (the slots are published all
    /// the same, or every other producer would wait for them for ever).
    pub fn insert(&self, commands: &[RawCommand]) -> Result<(), QueueError> {
        let taken = self.take(commands.len())?;
        let written = self.write_from(taken.start, commands);
        self.publish(&taken);
        written
    }

    /// Inserts one piece and a SYNC behind it. The same errors.
    pub fn insert_and_sync(&self, commands: &[RawCommand]) -> Result<PendingSync<'_>, QueueError> {
        let taken = self.take(commands.len() + 1)?;
        let at = self.geometry.advance(taken.start, commands.len() as u32);
        // Before anybody can consume the SYNC, so that its slot stays its own.
        let pending = PendingSync::new(self, at);
        let written = self
            .write_from(taken.start, commands)
            .and(self.write_from(at, &[self.sync_for(at)]));
        self.publish(&taken);
        written.map(|()| pending)
    }

    fn take(&self, wanted: usize) -> Result<Reservation, QueueError> {
        let entries = self.geometry.entries();
        match u32::try_from(wanted) {
            Ok(count) if count <= entries => self.reserve(count),
            _ => Err(QueueError::TooLong { wanted, entries }),
        }
    }

    /// Stores commands into the slots from `at` on, each as two 64-bit words.
    pub(super) fn write_from(
        &self,
        at: QueueIndex,
        commands: &[RawCommand],
    ) -> Result<(), QueueError> {
        let (mut at, mut rest) = (at, commands);
        while !rest.is_empty() {
            let count = rest.len().min(self.geometry.until_wrap(at) as usize);
            let (here, behind) = rest.split_at(count);
            self.write_straight(self.slot_address(at), here)?;
            at = self.geometry.advance(at, count as u32);
            rest = behind;
        }
        Ok(())
    }

    fn write_straight(&self, at: Gpa, commands: &[RawCommand]) -> Result<(), QueueError> {
        let mut values = commands
            .iter()
            .flat_map(|command| [command.dw0, command.dw1]);
        let (mut at, mut left) = (at, 2 * commands.len());
        while left > 0 {
            let run = self.memory.words(at, left)?;
            for (word, value) in run.iter().zip(&mut values) {
                // Relaxed: the valid bit publishes the slot to the owner, PROD to the consumer.
                word.store(u64::to_le(value), Ordering::Relaxed);
            }
            left -= run.len();
            at = Gpa(at.0 + 8 * run.len() as u64);
        }
        Ok(())
    }

    /// Says that the slots have been written and, as the owner, writes PROD for all of the
    /// gathered ones.
    fn publish(&self, taken: &Reservation) {
        self.valid.set_written(taken.start, taken.end);
        if !taken.owner {
            return;
        }
        wait_until(|| self.shadow.is_turn_of(taken.start));
        let end = self.shadow.stop_gathering();
        wait_until(|| self.valid.is_written(taken.start, end));
        self.registers.write_prod(end.raw());
        bump(&self.prod_writes);
        self.shadow.pass_turn(end);
    }
}

/// Waits for another producer, who is between two steps that cannot fail.
fn wait_until(mut done: impl FnMut() -> bool) {
    let mut patience = Patience::default();
    while !done() {
        patience.pause();
    }
}

/// Counts without a read-modify-write: there is one writer at a time.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
