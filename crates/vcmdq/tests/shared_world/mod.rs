//! Several rings of one frame, served together.

use crate::common::*;
use dispatch::backend::Software;
use dispatch::backend::faulty::Verdict;
use dispatch::backend::software::Port;
use dispatch::{BackendCapabilities, Barrier, Batch, Cause, Rejected, WaiterId, Wake};
use smmu_core::access::{Access, Operation};
use smmu_core::config::StreamTable;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::TlbSettings;
use smmu_core::translate::Setup;
use smmu_core::{Gpa, StreamId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vcmdq::metrics::RingMetrics;
use vcmdq::stepping::Stepper;
use vcmdq::testing::commands;
use vcmdq::{DoorbellMode, Placement, Ring, RingSettings, Settings};

/// 4 KiB pages of a block of 2 MiB.
pub(crate) const BLOCK_PAGES: u64 = 512;

/// Where a ring of up to 1024 entries lies.
pub(crate) fn base(ring: usize) -> Gpa {
    Gpa(BASE.0 + 0x4000 * ring as u64)
}

pub(crate) fn atc_inv() -> RawCommand {
    atc_inv_of(STREAM.0)
}

pub(crate) fn atc_inv_of(stream: u32) -> RawCommand {
    commands::atc_inv(StreamId(stream), 0)
}

pub(crate) fn refuse(take: usize, say: usize, cause: Cause) -> Verdict {
    Verdict::Refuse { take, say, cause }
}

pub(crate) fn read(address: u64) -> Access {
    Access {
        address,
        operation: Operation::Read,
        privileged: false,
    }
}

/// Panics at the first call.
struct Panicking {
    inner: Arc<Backend>,
    armed: AtomicBool,
}

impl dispatch::Backend for Panicking {
    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        assert!(!self.armed.swap(false, Ordering::SeqCst), "on purpose");
        self.inner.submit(batch)
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
        self.inner.barrier(waiter)
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        self.inner.attach(wake);
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        self.inner.fail_closed(stream);
    }
}

pub(crate) struct Shared {
    pub(crate) rig: Rig,
    pub(crate) rings: Vec<Arc<Ring>>,
    pub(crate) prods: Vec<u32>,
    log2size: u8,
}

impl Shared {
    /// Rings of 64 entries.
    pub(crate) fn new(rings: usize) -> Self {
        Self::of(rings, 6)
    }

    pub(crate) fn of(rings: usize, log2size: u8) -> Self {
        Self::with(rings, log2size, |rig| rig)
    }

    /// Before the backend is one that panics at its first call.
    pub(crate) fn panicking(rings: usize) -> Self {
        Self::with(rings, 6, |rig| {
            let panicking = Panicking {
                inner: backend(),
                armed: AtomicBool::new(true),
            };
            rig.frame
                .add_instance(Arc::new(panicking), Placement::default());
            rig
        })
    }

    /// SYNCs that take longer than a second are late.
    pub(crate) fn measured(rings: usize) -> Self {
        let settings = Settings {
            late_after: Some(Duration::from_secs(1)),
            ..Settings::default()
        };
        let rig = Rig::set(settings, all_features(), 6, DoorbellMode::Trap, false);
        Self::around(rings, 6, rig)
    }

    fn with(rings: usize, log2size: u8, change: impl FnOnce(Rig) -> Rig) -> Self {
        Self::around(rings, log2size, change(Rig::new()))
    }

    fn around(rings: usize, log2size: u8, mut rig: Rig) -> Self {
        rig.log2size = log2size;
        let end = base(rings + 1).0;
        let memory = vcmdq::testing::HeapMemory::with_regions(&[(Gpa(0), end)]);
        rig.memory = Arc::new(memory);
        rig.frame.update_memory(rig.memory.clone());
        rig.ring.disable();
        let added = (1..rings).map(|_| rig.frame.add_ring(DoorbellMode::Trap).unwrap());
        let all: Vec<_> = [rig.ring.clone()].into_iter().chain(added).collect();
        for (index, ring) in all.iter().enumerate() {
            let base = base(index);
            ring.configure(RingSettings { base, log2size }).unwrap();
            ring.enable();
        }
        Self {
            prods: vec![0; all.len()],
            rings: all,
            rig,
            log2size,
        }
    }

    /// Slices that are that long.
    pub(crate) fn slice(&mut self, slice: Duration) {
        self.rig.stepper = Stepper::with_slice(slice);
    }

    /// Publishes commands and serves nobody.
    pub(crate) fn send(&mut self, ring: usize, commands: &[RawCommand]) {
        let entries = 1 << self.log2size;
        for raw in commands {
            self.overwrite(ring, self.prods[ring], *raw);
            self.prods[ring] = (self.prods[ring] + 1) % (2 * entries);
        }
        self.rings[ring].doorbell(self.prods[ring]);
    }

    pub(crate) fn overwrite(&self, ring: usize, index: u32, raw: RawCommand) {
        let slot = u64::from(index % (1 << self.log2size));
        let at = base(ring).0 + 16 * slot;
        for (at, value) in [(at, raw.dw0), (at + 8, raw.dw1)] {
            store_u64(&*self.rig.memory, Gpa(at), value, Ordering::Relaxed).unwrap();
        }
    }

    /// Serves all rings together, once.
    pub(crate) fn serve(&mut self) {
        while self.rig.engine.take_ready().is_some() {}
        self.rig.stepper.serve_together(&self.rings);
    }

    /// Serves what is announced, ring by ring, until nothing is.
    pub(crate) fn serve_all(&mut self) {
        while let Some(index) = self.rig.engine.take_ready() {
            let ring = &self.rings[index as usize];
            self.rig.stepper.serve_together([ring]);
        }
    }

    pub(crate) fn cons(&self, ring: usize) -> u32 {
        self.rings[ring].cons() & 0xF_FFFF
    }

    pub(crate) fn error(&self, ring: usize) -> u32 {
        self.rings[ring].cons() >> 24
    }

    pub(crate) fn cache(&self, page: u64) {
        self.rig.cache(page);
    }

    pub(crate) fn cached(&self, page: u64) -> bool {
        self.rig.cached(page)
    }

    pub(crate) fn metrics(&self) -> RingMetrics {
        let mut sum = RingMetrics::default();
        self.rings.iter().for_each(|ring| sum.add(&ring.metrics()));
        sum
    }

    /// A second instance, in which the stream has four blocks of 2 MiB under ASID 1; and a way to
    /// use them.
    pub(crate) fn translate(&self) -> Port {
        let (ste, cd, table) = (u64::from(STREAM.0) * 64, 0x800, 0x1000);
        // T0SZ=39 (blocks from one table on), EPD1, V, IPS=48 bits, AA64, R, A, ASID 1.
        let cd_word = 0x0001_6205_C000_0027;
        // Everybody may read and write; not global.
        let block = |n: u64| n << 21 | 0xF45;
        let words = [(ste, 0xB | cd), (cd, cd_word), (cd + 8, table)];
        let blocks = (0..4).map(|n| (table + 8 * n, block(n)));
        for (at, value) in words.into_iter().chain(blocks) {
            store_u64(&*self.rig.memory, Gpa(at), value, Ordering::Relaxed).unwrap();
        }
        let core = Arc::new(Software::new(TlbSettings {
            log2_entries: 10,
            log2_asids: 8,
        }));
        self.rig
            .frame
            .add_instance(core.clone(), Placement::default());
        core.set_up(Some(Setup {
            streams: StreamTable {
                base: Gpa(0),
                log2size: 5,
                split: 6,
                two_level: false,
            },
            caps: all_features(),
            e2h: false,
            record_bad_stream_id: false,
        }));
        core.port(STREAM).unwrap()
    }
}
