//! Coalesced MMIO: KVM queues writes of PROD in a ring of its own, one for each VM.

use super::layout::{doorbell, vcpu_of};
use super::memory::Vm;
use kvm_ioctls::{IoEventAddress, VcpuFd};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use vcmdq::{CoalescedZone, Ring};

/// A register of 32 bits.
const WIDTH: u32 = 4;

/// The VM's ring of queued writes, and whose they are.
pub(crate) struct Writes(Mutex<Queue>);

struct Queue {
    /// Every vCPU's descriptor maps the VM's one ring. This vCPU never runs, so that its descriptor
    /// is free for whoever drains.
    mapped: VcpuFd,
    /// Not owners: a ring owns its zone.
    rings: Vec<Weak<Ring>>,
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes").finish_non_exhaustive()
    }
}

impl Writes {
    /// The ring as a vCPU that nobody runs maps it.
    ///
    /// # Errors
    ///
    /// If KVM has none.
    pub(crate) fn new(mut vcpu: VcpuFd) -> Result<Self, kvm_ioctls::Error> {
        vcpu.map_coalesced_mmio_ring()?;
        Ok(Self(Mutex::new(Queue {
            mapped: vcpu,
            rings: Vec::new(),
        })))
    }

    /// From now on each vCPU's writes are for its ring of these; what is still queued is nobody's.
    pub(crate) fn serve(&self, rings: &[Arc<Ring>]) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.rings.clear();
        queue.drain();
        queue.rings.extend(rings.iter().map(Arc::downgrade));
    }

    fn drain(&self) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.drain();
    }
}

impl Queue {
    fn drain(&mut self) {
        // The ring is mapped, so there is no other error.
        while let Ok(Some(entry)) = self.mapped.coalesced_mmio_read() {
            let ring = vcpu_of(entry.phys_addr).and_then(|vcpu| self.rings.get(vcpu));
            let [a, b, c, d, ..] = entry.data;
            if let Some(ring) = ring.and_then(Weak::upgrade) {
                ring.coalesced(u32::from_le_bytes([a, b, c, d]));
            }
        }
    }
}

/// One vCPU's PROD.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) vm: Arc<Vm>,
    pub(crate) writes: Arc<Writes>,
    pub(crate) vcpu: usize,
}

impl CoalescedZone for Zone {
    fn open(&self) -> io::Result<()> {
        let at = IoEventAddress::Mmio(doorbell(self.vcpu));
        Ok(self.vm.fd().register_coalesced_mmio(at, WIDTH)?)
    }

    fn close(&self) -> io::Result<()> {
        let at = IoEventAddress::Mmio(doorbell(self.vcpu));
        Ok(self.vm.fd().unregister_coalesced_mmio(at, WIDTH)?)
    }

    fn drain(&self) {
        self.writes.drain();
    }
}
