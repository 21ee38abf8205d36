//! What the driver does when the queue stops with an error: its GERROR interrupt handler.
//!
//! | CMDQ_CONS.ERR | what the driver does before it acknowledges |
//! |---|---|
//! | ILL, or a code that it does not know | overwrites the slot that CONS names with a SYNC |
//! | ABT | nothing: the command is fetched again |
//! | ATC_INV_SYNC | nothing: the SYNC is executed again |
//! | NONE | nothing |
//!
//! The handler runs on whichever producer sees the error first.

use super::queue::{GuestQueue, QueueError};
use super::registers::QueueRegisters;
use smmu_core::command::Command;
use smmu_core::encode::encode;
use smmu_core::spec::register::{CmdqCons, Gerror, cerror};
use vcmdq_sync::atomic::Ordering;

/// An error that has been served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// The command in this slot is now a SYNC.
    Overwritten {
        /// Which slot.
        slot: u32,
    },
    /// Acknowledged only: the same command is consumed again.
    Retried {
        /// CMDQ_CONS.ERR.
        err: u8,
    },
}

impl GuestQueue {
    /// Serves CMDQ_ERR if it is active and nobody else is serving it. What was done is `Some`.
    ///
    /// # Errors
    ///
    /// [`QueueError::Memory`] if the slot could not be overwritten; it is acknowledged then
    /// all the same, as by a driver that cannot know.
    pub fn serve_error(&self) -> Result<Option<Recovered>, QueueError> {
        if !is_active(&*self.registers) {
            return Ok(None);
        }
        // Acquire pairs with the Release below: whoever serves next sees the last one's slot.
        if self.serving.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        // Once more: the last one may have acknowledged between the look and the swap.
        let served = match is_active(&*self.registers) {
            true => self.serve().map(Some),
            false => Ok(None),
        };
        self.serving.store(false, Ordering::Release);
        served
    }

    fn serve(&self) -> Result<Recovered, QueueError> {
        let gerror = self.registers.read_gerror();
        let cons = CmdqCons::from_bits(self.registers.read_cons());
        let mut written = Ok(());
        let recovered = match cons.err() {
            err @ (cerror::NONE | cerror::ABT | cerror::ATC_INV_SYNC) => Recovered::Retried { err },
            _ => {
                let at = self.geometry.pointer(cons.rd());
                let sync = encode(&Command::Sync(self.settings.quiet));
                written = self.write_from(at, &[sync]);
                Recovered::Overwritten {
                    slot: self.geometry.slot(at),
                }
            }
        };
        self.registers.write_gerrorn(gerror);
        written.map(|()| recovered)
    }
}

fn is_active(registers: &dyn QueueRegisters) -> bool {
    let gerror = Gerror::from_bits(registers.read_gerror());
    let gerrorn = Gerror::from_bits(registers.read_gerrorn());
    gerror.cmdq_err() != gerrorn.cmdq_err()
}
