//! A guest in the same process: its memory, its frame, and queues that one thread writes.

use dispatch::Backend;
use dispatch::backend::Software;
use smmu_core::Gpa;
use smmu_core::guest_memory::GuestMemory;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::TlbSettings;
use std::hint::spin_loop;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use vcmdq::metrics::RingMetrics;
use vcmdq::stepping::PageRegisters;
use vcmdq::testing::QueueRegisters;
use vcmdq::{DoorbellMode, Engine, Frame, HeapPage, Passage, Ring, RingSettings, VmMemory};
use vcmdq_benches::rig::frame_without_rings;
use vcmdq_benches::streams::sync_to;
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Behind the first 64 KiB, which a VMM keeps for itself.
const FIRST: u64 = 0x1_0000;

/// How the guest's PROD gets to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// A doorbell call, as of an exit handler.
    Call,
    /// A page that the worker polls.
    Page,
    /// A page that is there while the guest is busy, and traps otherwise.
    Adaptive,
}

/// A page that the guest's stores reach while it is mapped. There is no hypervisor between this
/// guest and its page, so mapping and taking away are a flag that its producer looks at.
#[derive(Default)]
struct Mapping {
    page: Arc<HeapPage>,
    /// Held for each store: when the page is gone, every store has happened.
    mapped: Mutex<bool>,
}

impl Mapping {
    fn set(&self, mapped: bool) -> io::Result<()> {
        *self.mapped.lock().unwrap_or_else(PoisonError::into_inner) = mapped;
        Ok(())
    }
}

impl Passage for Mapping {
    fn open(&self) -> io::Result<()> {
        self.set(true)
    }

    fn close(&self) -> io::Result<()> {
        self.set(false)
    }
}

/// The registers behind it: a store to PROD goes to the page or exits.
struct Mapped {
    mapping: Arc<Mapping>,
    page: PageRegisters,
    ring: Arc<Ring>,
}

impl QueueRegisters for Mapped {
    fn write_prod(&self, raw: u32) {
        let mapped = (self.mapping.mapped.lock()).unwrap_or_else(PoisonError::into_inner);
        if *mapped {
            return self.page.write_prod(raw);
        }
        drop(mapped);
        self.ring.doorbell(raw);
    }

    fn read_cons(&self) -> u32 {
        self.page.read_cons()
    }

    fn read_gerror(&self) -> u32 {
        self.page.read_gerror()
    }

    fn read_gerrorn(&self) -> u32 {
        self.page.read_gerrorn()
    }

    fn write_gerrorn(&self, raw: u32) {
        self.ring.acknowledge(raw);
    }
}

/// One guest.
pub(crate) struct Vm {
    /// Kept as long as its rings are to be served.
    _frame: Frame,
    pub(crate) queues: Vec<Queue>,
}

/// A translation cache of 4 Ki entries: many guests have to fit side by side.
pub(crate) fn small_software() -> Arc<Software> {
    Arc::new(Software::new(TlbSettings {
        log2_entries: 12,
        log2_asids: 12,
    }))
}

impl Vm {
    /// With so many queues of `1 << log2size` entries, enabled.
    ///
    /// # Errors
    ///
    /// What cannot be had, for the reader.
    pub(crate) fn new(
        engine: &Engine,
        backend: Arc<dyn Backend>,
        (count, log2size): (usize, u8),
        door: Door,
    ) -> Result<Self, String> {
        let bytes = RawCommand::BYTES << log2size;
        let size = FIRST + count as u64 * bytes;
        let size = size.next_multiple_of(4096) as usize;
        let map = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), size)]);
        let map = map.map_err(|error| format!("{size} bytes of guest memory: {error}"))?;
        let memory: Arc<dyn GuestMemory> = Arc::new(VmMemory::new(map));
        let frame = frame_without_rings(engine, memory.clone(), backend);
        let queue = |number| {
            let base = Gpa(FIRST + number as u64 * bytes);
            Queue::new(&frame, memory.clone(), (base, log2size), door)
        };
        let queues = (0..count).map(queue).collect::<Result<_, _>>()?;
        Ok(Self {
            _frame: frame,
            queues,
        })
    }
}

/// One queue and what its producer knows of it.
pub(crate) struct Queue {
    /// The engine's, if it is one of an engine.
    pub(crate) ring: Option<Arc<Ring>>,
    registers: Arc<dyn QueueRegisters>,
    memory: Arc<dyn GuestMemory>,
    base: Gpa,
    geometry: Geometry,
    prod: QueueIndex,
    /// As last seen.
    cons: QueueIndex,
}

/// A SYNC that has been published: its own slot, whose first word becomes zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending(Gpa);

impl Queue {
    fn new(
        frame: &Frame,
        memory: Arc<dyn GuestMemory>,
        (base, log2size): (Gpa, u8),
        door: Door,
    ) -> Result<Self, String> {
        let mapping = Arc::new(Mapping::default());
        let page = mapping.page.clone();
        let mode = match door {
            Door::Call => DoorbellMode::Trap,
            Door::Page => DoorbellMode::SharedPage(page.clone()),
            Door::Adaptive => DoorbellMode::Adaptive {
                page: page.clone(),
                passage: mapping.clone(),
            },
        };
        let ring = frame.add_ring(mode).map_err(|error| error.to_string())?;
        let place = RingSettings { base, log2size };
        ring.configure(place).map_err(|error| error.to_string())?;
        let registers: Arc<dyn QueueRegisters> = match door {
            Door::Call => {
                ring.enable();
                ring.clone()
            }
            Door::Page => {
                let page = PageRegisters(page);
                page.enable();
                Arc::new(page)
            }
            Door::Adaptive => {
                ring.enable();
                Arc::new(Mapped {
                    mapping,
                    page: PageRegisters(page),
                    ring: ring.clone(),
                })
            }
        };
        Ok(Self {
            ring: Some(ring),
            ..Self::over(registers, memory, (base, log2size))
        })
    }

    /// An empty queue whose registers are somebody else's.
    pub(crate) fn over(
        registers: Arc<dyn QueueRegisters>,
        memory: Arc<dyn GuestMemory>,
        (base, log2size): (Gpa, u8),
    ) -> Self {
        let geometry = Geometry::capped(log2size, MAX_LOG2SIZE);
        Self {
            ring: None,
            registers,
            memory,
            base,
            geometry,
            prod: geometry.pointer(0),
            cons: geometry.pointer(0),
        }
    }

    /// What the engine has counted.
    pub(crate) fn metrics(&self) -> RingMetrics {
        let ring = self.ring.as_ref();
        ring.map(|ring| ring.metrics()).unwrap_or_default()
    }

    /// Looks at CONS.
    ///
    /// # Panics
    ///
    /// If the ring has stopped with an error: what is measured is legal.
    fn look(&mut self) {
        let cons = self.registers.read_cons();
        assert_eq!(cons >> 24, 0, "the ring has stopped");
        self.cons = self.geometry.pointer(cons);
    }

    /// Whether `count` commands fit; looks at CONS if that is not known.
    pub(crate) fn has_room(&mut self, count: u32) -> bool {
        let room = |queue: &Self| {
            let used = queue.geometry.published(queue.cons, queue.prod);
            used.map_or(0, |used| queue.geometry.entries() - used)
        };
        if room(self) < count {
            self.look();
        }
        room(self) >= count
    }

    /// Whether everything is consumed.
    pub(crate) fn is_done(&mut self) -> bool {
        if self.cons != self.prod {
            self.look();
        }
        self.cons == self.prod
    }

    /// Stores commands into the slots behind PROD, which must be free, and publishes them.
    pub(crate) fn publish(&mut self, commands: &[RawCommand]) {
        let mut rest = commands;
        while !rest.is_empty() {
            let run = rest.len().min(self.geometry.until_wrap(self.prod) as usize);
            let (here, behind) = rest.split_at(run);
            let words = self.memory.words(self.slot(), 2 * run);
            for (entry, command) in words.expect("the ring is RAM").chunks_exact(2).zip(here) {
                entry[0].store(command.dw0.to_le(), Ordering::Relaxed);
                entry[1].store(command.dw1.to_le(), Ordering::Relaxed);
            }
            self.prod = self.geometry.advance(self.prod, run as u32);
            rest = behind;
        }
        self.registers.write_prod(self.prod.raw());
    }

    /// Publishes what lies in the next slots since they were written last.
    pub(crate) fn publish_again(&mut self, count: u32) {
        self.prod = self.geometry.advance(self.prod, count);
        self.registers.write_prod(self.prod.raw());
    }

    /// The same for one command and a SYNC with a message to its own slot.
    pub(crate) fn publish_with_sync(&mut self, command: RawCommand) -> Pending {
        self.store(command);
        let at = self.slot();
        self.store(sync_to(at));
        self.registers.write_prod(self.prod.raw());
        Pending(at)
    }

    /// Whether that SYNC is done. Its slot must not have been written again.
    pub(crate) fn has_synced(&self, pending: Pending) -> bool {
        let words = self.memory.words(pending.0, 1).expect("the ring is RAM");
        u64::from_le(words[0].load(Ordering::Acquire)) as u32 == 0
    }

    fn slot(&self) -> Gpa {
        Gpa(self.base.0 + u64::from(self.geometry.slot(self.prod)) * RawCommand::BYTES)
    }

    fn store(&mut self, command: RawCommand) {
        let words = self.memory.words(self.slot(), 2).expect("the ring is RAM");
        words[0].store(command.dw0.to_le(), Ordering::Relaxed);
        words[1].store(command.dw1.to_le(), Ordering::Relaxed);
        self.prod = self.geometry.advance(self.prod, 1);
    }

    /// Spins until everything is consumed.
    pub(crate) fn wait(&mut self) {
        while !self.is_done() {
            spin_loop();
        }
    }
}
