//! What the host tells of an instance's streams: events and page faults, from its files to the frame.

use crate::events::Heard;
use crate::faults::FaultCounts;
use crate::instance::HostInstance;
use crate::streams::{NestedStreams, locked};
use crate::viommu::Viommu;
use smmu_core::StreamId;
use smmu_core::spec::event::EventRecord;
use std::io;
use std::sync::PoisonError;

/// Portions in which every event that a vIOMMU has room for has been read.
const WHOLE_QUEUE: usize = 16;

/// For the VMM's event loop, or a thread of its own.
impl NestedStreams {
    /// Reads what the host has to say about an instance's streams and tells the guest. Returns whether
    /// there may be more: it reads a bounded number of records, and the instance's file stays readable then.
    /// Never waits for anything to come.
    ///
    /// An event of a stream that is not plugged in (any more) is dropped and counted. A guest that keeps
    /// its queue full loses events as on any SMMU (OVFLG), and so it does if the host had no room
    /// (LOST_EVENTS). The host writes an event when its interrupt handler sees it: a SYNC that has completed is
    /// no proof that events of accesses before it have arrived here.
    pub fn drain(&self, instance: &HostInstance) -> io::Result<bool> {
        let _turn = instance
            .reading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let events = self.drain_events(instance, &instance.viommu());
        let faults = self.drain_faults(instance);
        Ok(events? | faults?)
    }

    /// All that a vIOMMU has to say whose streams have left it: no more than it has room for.
    pub(crate) fn hear_out(&self, instance: &HostInstance, old: &Viommu) {
        for _ in 0..WHOLE_QUEUE {
            match self.drain_events(instance, old) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "events of a replaced vIOMMU could not be read");
                    return;
                }
            }
        }
    }

    fn drain_events(&self, instance: &HostInstance, viommu: &Viommu) -> io::Result<bool> {
        let Some(file) = viommu.events() else {
            return Ok(false);
        };
        file.drain(&*instance.flavour, |heard| match heard {
            Heard::Event(record) => self.tell(instance, &record),
            Heard::Lost(count) => {
                self.counters.lost.add(count);
                self.with_events(|events| events.queue().lost(count));
            }
            Heard::Malformed => self.counters.stray.add(1),
        })
    }

    fn tell(&self, instance: &HostInstance, record: &EventRecord) {
        let stream = StreamId(record.dw0().stream());
        let known = self
            .plugged(stream)
            .is_some_and(|plugged| std::ptr::eq(&*plugged.instance, instance));
        // Stalled accesses come by the fault queue: a tag from here would be nobody's.
        if !known || record.id().is_none() || record.dw1().stall() {
            self.counters.stray.add(1);
            return;
        }
        self.counters.events.add(1);
        self.with_events(|events| _ = events.record(record));
    }

    fn drain_faults(&self, instance: &HostInstance) -> io::Result<bool> {
        let Some(faults) = instance.faults() else {
            return Ok(false);
        };
        let of_device = |device: u32| {
            let mut own = self.of(instance).into_iter();
            own.find_map(|plugged| {
                let stream = locked(&plugged.stream);
                let stalls = stream.device.id == device && stream.may_stall();
                stalls.then_some(stream.id)
            })
        };
        let mut counts = FaultCounts::default();
        let more = self.with_events(|events| faults.drain(events, of_device, &mut counts));
        self.counters.faults(counts);
        more.unwrap_or(Ok(false))
    }
}
