//! Reset, in any state.

use super::bank::{Bank, Written};
use super::frame::RegisterFrame;

impl RegisterFrame {
    /// Every register as it was when the frame was made; both queues disabled, traffic by GBPA,
    /// stalled accesses ended. Returns at once, whatever is under way; [`is_settled`] tells when
    /// nothing goes on by what was there before. From any thread, not inside a callback of the
    /// engine.
    ///
    /// A guest may run before that: its driver waits for CR0ACK. But a VMM that is going to write
    /// the guest's memory itself waits first: a SYNC that was just completing may still write
    /// its message, an access its data. Counters are kept.
    ///
    /// [`is_settled`]: Self::is_settled
    pub fn reset(&self) {
        let mut guard = self.bank();
        let bank = &mut *guard;
        self.ring.reset();
        self.shared.events.disable();
        bank.written = Written::default();
        bank.gbpa_update = false;
        bank.eventq_reset = true;
        bank.priq_reset = self.shared.pages.is_some();
        self.switch_priq(bank);
        self.change_traffic(bank);
        self.change_routes(bank);
        self.shared.gate.latch.restore(0, 0);
        self.advance(bank);
    }

    /// Whether every handshake is done: CR0ACK, IRQ_CTRLACK and GBPA.Update show what was written,
    /// and after a reset nothing goes on by what was there before. Never waits.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let mut bank = self.bank();
        self.advance(&mut bank);
        !bank.traffic_busy && bank.leaving.is_empty() && self.queues_are_settled(&bank)
    }

    fn queues_are_settled(&self, bank: &Bank) -> bool {
        !(bank.eventq_reset || bank.priq_reset) && self.cr0ack(bank) == bank.written.cr0
    }
}
