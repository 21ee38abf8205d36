//! Guard slots that a stream's memory has leased and keeps.

use crate::dma::device::Requester;
use dispatch::backend::Software;
use dispatch::backend::software::Port;
use smmu_core::guard::NoSlot;
use std::sync::Arc;
use vcmdq_sync::claim::ClaimCell;

/// Ports that are kept for the next slices; more slices than that lease a guard slot each time.
const SPARE: usize = 8;

/// Ports that nobody uses just now.
pub(super) struct Ports {
    core: Arc<Software>,
    spare: [ClaimCell<Option<Port>>; SPARE],
}

impl Ports {
    pub(super) fn new(core: &Arc<Software>) -> Self {
        Self {
            core: core.clone(),
            spare: std::array::from_fn(|_| ClaimCell::new(None)),
        }
    }

    pub(super) fn take(&self, who: &Requester) -> Result<Port, NoSlot> {
        let spare = |cell: &ClaimCell<Option<Port>>| cell.enter()?.with(Option::take);
        match self.spare.iter().find_map(spare) {
            Some(port) => Ok(port),
            None => self.core.port(who.stream),
        }
    }

    /// Keeps a port, or drops it if there are enough.
    pub(super) fn put(&self, port: Port) {
        let mut port = Some(port);
        for cell in &self.spare {
            // Whoever comes meanwhile goes to the next cell: a claim here is never asked for again.
            if let Some(mut claim) = cell.enter() {
                claim.with(|kept| {
                    if kept.is_none() {
                        *kept = port.take();
                    }
                });
            }
            if port.is_none() {
                return;
            }
        }
    }
}
