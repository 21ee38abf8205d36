//! The guest's memory, and who else is given it.
//!
//! One memory slot of KVM for each region. That of the queue pages comes and goes while the guest
//! runs: without it, a store to them exits.
#![expect(
    unsafe_code,
    reason = "the guest's memory is given to KVM and, as a page of atomic words, to the engine"
)]

use super::error::Error;
use super::layout::{
    CODE, LOW_END, QUEUE_PAGES, QUEUE_PAGES_BYTES, RESULT_BYTES, RESULTS, queue_page,
};
use super::x86_64;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use vcmdq::{Passage, RingPage};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

/// The guest's memory with room for so many results, and its code and tables in it.
///
/// # Errors
///
/// If the host has not that much memory.
pub(crate) fn new(results: usize) -> Result<GuestMemoryMmap, Error> {
    let len = (RESULT_BYTES * results).next_multiple_of(2 << 20);
    let memory = GuestMemoryMmap::from_ranges(&[
        (GuestAddress(0), LOW_END as usize),
        (GuestAddress(QUEUE_PAGES), QUEUE_PAGES_BYTES),
        (GuestAddress(RESULTS), len),
    ])?;
    memory.write_slice(x86_64::code(), GuestAddress(CODE))?;
    x86_64::write_tables(&memory)?;
    Ok(memory)
}

/// A VM and its memory, which lives as long.
#[derive(Debug)]
pub(crate) struct Vm {
    fd: VmFd,
    // Below: KVM uses it until the VM is closed.
    memory: GuestMemoryMmap,
}

impl Vm {
    /// Gives the VM its memory, all of it.
    ///
    /// # Errors
    ///
    /// What KVM says.
    pub(crate) fn new(fd: VmFd, memory: GuestMemoryMmap) -> Result<Arc<Self>, Error> {
        let vm = Self { fd, memory };
        let regions = vm.memory.iter().map(|region| region.start_addr());
        for (slot, start) in (0..).zip(regions) {
            vm.map(slot, start, true)?;
        }
        Ok(Arc::new(vm))
    }

    /// What KVM calls it.
    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Its memory, whether mapped or not.
    pub(crate) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Makes the region at `start` the RAM of a slot, or takes the slot away.
    fn map(&self, slot: u32, start: GuestAddress, present: bool) -> Result<(), Error> {
        let region = self.memory.find_region(start);
        let len = region.map_or(0, |region| if present { region.len() } else { 0 });
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: start.raw_value(),
            memory_size: len,
            userspace_addr: self.memory.get_host_address(start)? as u64,
        };
        // SAFETY: the range is one mapping of `memory`, which this value owns together with the VM
        // and drops after it; all of the VMM reaches it through atomics and volatile accesses.
        Ok(unsafe { self.fd.set_user_memory_region(region) }?)
    }
}

/// The slot of the queue pages.
const QUEUE_PAGES_SLOT: u32 = 1;

/// The queue pages as a way around the exit: a memory slot that is there or not.
#[derive(Debug)]
pub(crate) struct PagesSlot {
    vm: Arc<Vm>,
    present: Mutex<bool>,
}

impl PagesSlot {
    /// The slot of a VM, in which it is present.
    pub(crate) fn new(vm: Arc<Vm>) -> Self {
        Self {
            vm,
            present: Mutex::new(true),
        }
    }

    /// Brings the slot or takes it away. KVM waits until no vCPU uses what was, and refuses to
    /// take away what is not there.
    ///
    /// # Errors
    ///
    /// What KVM says.
    pub(crate) fn set(&self, present: bool) -> Result<(), Error> {
        let mut now = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != present {
            let start = GuestAddress(QUEUE_PAGES);
            self.vm.map(QUEUE_PAGES_SLOT, start, present)?;
            *now = present;
        }
        Ok(())
    }
}

impl Passage for PagesSlot {
    fn open(&self) -> io::Result<()> {
        self.set(true).map_err(io::Error::other)
    }

    fn close(&self) -> io::Result<()> {
        self.set(false).map_err(io::Error::other)
    }
}

/// A vCPU's queue page as the engine polls it.
#[derive(Debug)]
pub(crate) struct QueuePage {
    vm: Arc<Vm>,
    vcpu: usize,
}

impl QueuePage {
    /// The vCPU's page.
    pub(crate) fn new(vm: Arc<Vm>, vcpu: usize) -> Self {
        Self { vm, vcpu }
    }
}

impl RingPage for QueuePage {
    fn words(&self) -> &[AtomicU32] {
        let at = GuestAddress(queue_page(self.vcpu));
        let Ok(page) = self.vm.memory.get_slice(at, 4096) else {
            return &[];
        };
        let first = page.ptr_guard_mut().as_ptr().cast::<AtomicU32>();
        // SAFETY: `get_slice` has checked that 4096 bytes from `first` lie in one mapping, which
        // lives as long as `self`; mapping and page are aligned to pages; every bit pattern is an
        // AtomicU32, and the VMM clears the page only while no engine has it.
        unsafe { std::slice::from_raw_parts(first, 1024) }
    }
}
