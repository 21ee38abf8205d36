//! A frame with a CMDQV, served by hand, and a driver that writes its registers in the order in
//! which Linux's `tegra241-cmdqv` does.

#![expect(dead_code, reason = "each test file uses a part of it")]

use crate::common::{Outside, STREAM, backend, fill, has, tlbi};
use dispatch::backend::Software;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::offset;
use smmu_core::{Capabilities, Gpa};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vcmdq::cmdqv::{CmdqvFrame, CmdqvSettings, HeapVintfPage};
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;
use vcmdq::{
    Binding, Engine, Frame, FrameSettings, InstanceId, Placement, Ring, RingPage, Seams, Settings,
};

pub(crate) const LOG2SIZE: u8 = 8;
pub(crate) const LOGICAL0: u64 = 0x3_0000;
pub(crate) const LOGICAL1: u64 = 0x4_0000;

pub(crate) fn base(queue: usize) -> Gpa {
    Gpa(0x10_0000 + (queue as u64) * (16 << LOG2SIZE))
}

pub(crate) struct World {
    pub(crate) memory: Arc<HeapMemory>,
    pub(crate) engine: Engine,
    pub(crate) frame: Frame,
    pub(crate) cmdqv: CmdqvFrame,
    pub(crate) backend: Arc<crate::common::Backend>,
    pub(crate) outside: Arc<Outside>,
    pub(crate) page: Option<Arc<HeapVintfPage>>,
    pub(crate) stepper: Stepper,
    pub(crate) instance: InstanceId,
    /// The engine has workers of its own.
    pub(crate) threaded: bool,
    /// What a test has put in place of the backend's.
    pub(crate) core: Option<Arc<Software>>,
}

pub(crate) fn caps() -> Capabilities {
    Capabilities::default().with_ats()
}

impl World {
    /// Without workers.
    pub(crate) fn new(log2_queues: u8, mapped: bool) -> Self {
        let engine = Engine::without_workers(Settings::default()).unwrap();
        Self::of(engine, log2_queues, mapped)
    }

    pub(crate) fn of(engine: Engine, log2_queues: u8, mapped: bool) -> Self {
        let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x20_0000)]));
        Self::with_memory(engine, log2_queues, mapped, memory)
    }

    pub(crate) fn with_memory(
        engine: Engine,
        log2_queues: u8,
        mapped: bool,
        memory: Arc<HeapMemory>,
    ) -> Self {
        let outside = Arc::new(Outside::default());
        let seams = Seams {
            memory: memory.clone(),
            interrupts: outside.clone(),
            streams: outside.clone(),
        };
        let settings = FrameSettings {
            caps: caps(),
            ..FrameSettings::default()
        };
        let frame = engine.add_frame(settings, seams);
        let backend = backend();
        let placement = Placement::default();
        let instance = frame.add_instance(backend.clone(), placement);
        let binding = Binding {
            instance,
            placement,
        };
        frame.bind(STREAM, binding).unwrap();
        let page = mapped.then(|| Arc::new(HeapVintfPage::default()));
        let cmdqv = frame
            .add_cmdqv(CmdqvSettings {
                log2_queues,
                page: page.clone().map(|page| page as Arc<dyn RingPage>),
            })
            .unwrap();
        Self {
            memory,
            engine,
            frame,
            cmdqv,
            backend,
            outside,
            page,
            stepper: Stepper::default(),
            instance,
            threaded: false,
            core: None,
        }
    }

    /// [`reset`](Self::reset) before an engine with workers.
    pub(crate) fn start(&mut self) {
        self.threaded = true;
        self.reset();
    }

    pub(crate) fn queues(&self) -> usize {
        self.cmdqv.rings().len()
    }

    pub(crate) fn ring(&self, queue: usize) -> &Arc<Ring> {
        &self.cmdqv.rings()[queue]
    }

    /// Serves one ring as a worker that looks at it would.
    pub(crate) fn serve(&mut self, queue: usize) {
        let ring = self.cmdqv.rings()[queue].clone();
        self.stepper.serve(&ring);
    }

    /// Serves whatever has work, in a few rounds: some rings wake others.
    pub(crate) fn serve_all(&mut self) {
        for _ in 0..4 {
            while self.engine.take_ready().is_some() {}
            (0..self.queues()).for_each(|queue| self.serve(queue));
        }
    }

    pub(crate) fn read(&self, at: u64) -> u32 {
        self.cmdqv.read(at, 4) as u32
    }

    pub(crate) fn write(&self, at: u64, value: u32) {
        self.cmdqv.write(at, 4, u64::from(value));
    }

    /// The guest reads page 0 of a queue: memory if it is mapped.
    pub(crate) fn queue_read(&self, queue: usize, register: u64) -> u32 {
        match &self.page {
            Some(page) => {
                let word = &page.words()[queue * 32 + register as usize / 4];
                u32::from_le(word.load(Ordering::Acquire))
            }
            None => self.read(LOGICAL0 + queue as u64 * 0x80 + register),
        }
    }

    pub(crate) fn queue_write(&self, queue: usize, register: u64, value: u32) {
        match &self.page {
            Some(page) => {
                let word = &page.words()[queue * 32 + register as usize / 4];
                word.store(value.to_le(), Ordering::Release);
            }
            None => self.write(LOGICAL0 + queue as u64 * 0x80 + register, value),
        }
    }

    /// Polls as Linux does, and has the engine work meanwhile.
    pub(crate) fn poll(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..8 {
            if done(self) {
                return;
            }
            if !self.threaded {
                self.serve_all();
            }
        }
        // Workers, if there are any, have a generous while.
        let start = std::time::Instant::now();
        while self.threaded && !done(self) && start.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        assert!(done(self), "{what} does not follow: {:#?}", self.cmdqv);
    }

    /// `tegra241_vcmdq_hw_deinit`.
    pub(crate) fn deinit_queue(&mut self, queue: usize) {
        self.queue_write(queue, offset::VCMDQ_CONFIG, 0);
        self.poll("EN_OK=0", |w| {
            w.queue_read(queue, offset::VCMDQ_STATUS) & 1 == 0
        });
        self.queue_write(queue, offset::VCMDQ_PROD, 0);
        self.queue_write(queue, offset::VCMDQ_CONS, 0);
        let page1 = LOGICAL1 + queue as u64 * 0x80;
        self.cmdqv.write(page1 + offset::VCMDQ_BASE, 8, 0);
        self.cmdqv.write(page1 + offset::VCMDQ_CONS_INDX_BASE, 8, 0);
        let gerrorn = self.queue_read(queue, offset::VCMDQ_GERRORN);
        let gerror = self.queue_read(queue, offset::VCMDQ_GERROR);
        if gerror != gerrorn {
            self.queue_write(queue, offset::VCMDQ_GERRORN, gerror);
        }
    }

    /// `tegra241_vcmdq_hw_init`.
    pub(crate) fn init_queue(&mut self, queue: usize) {
        self.deinit_queue(queue);
        let page1 = LOGICAL1 + queue as u64 * 0x80;
        let value = base(queue).0 | u64::from(LOG2SIZE);
        self.cmdqv.write(page1 + offset::VCMDQ_BASE, 8, value);
        self.queue_write(queue, offset::VCMDQ_CONFIG, 1);
        self.poll("EN_OK=1", |w| {
            w.queue_read(queue, offset::VCMDQ_STATUS) & 1 == 1
        });
    }

    fn allocate(&self, queue: usize, on: bool) {
        let at = offset::CMDQ_ALLOC + queue as u64 * offset::CMDQ_ALLOC_STRIDE;
        let old = self.read(at);
        self.write(at, old & !1 | u32::from(on));
    }

    /// `tegra241_cmdqv_hw_reset` and `tegra241_vintf_hw_init`.
    pub(crate) fn reset(&mut self) {
        let config = self.read(offset::CONFIG);
        self.write(offset::CONFIG, config & !1);
        self.poll("CMDQV off", |w| w.read(offset::STATUS) & 1 == 0);
        self.write(offset::CONFIG, config | 1);
        self.poll("CMDQV on", |w| w.read(offset::STATUS) & 1 == 1);
        for queue in 0..self.queues() {
            let at = offset::CMDQ_ALLOC + queue as u64 * offset::CMDQ_ALLOC_STRIDE;
            self.write(at, (queue as u32) << 1);
        }
        for queue in (0..self.queues()).rev() {
            self.deinit_queue(queue);
            self.allocate(queue, false);
        }
        let vintf = offset::VINTF;
        self.write(vintf, 0);
        self.poll("VINTF off", |w| {
            w.read(vintf + offset::VINTF_STATUS) & 1 == 0
        });
        for sid in 0..16 {
            self.write(vintf + offset::VINTF_SID_MATCH + sid * 4, 0);
            self.write(vintf + offset::VINTF_SID_REPLACE + sid * 4, 0);
        }
        self.write(vintf, 1 << 17);
        self.write(vintf, 1 << 17 | 1);
        self.poll("VINTF on", |w| {
            w.read(vintf + offset::VINTF_STATUS) & 1 == 1
        });
        assert_eq!(self.read(vintf) & 1 << 17, 0, "HYP_OWN tells where it runs");
        for queue in 0..self.queues() {
            self.allocate(queue, true);
            self.init_queue(queue);
        }
    }

    /// Writes commands into a queue's memory, from `index` on.
    pub(crate) fn put(&self, queue: usize, index: u32, commands: &[RawCommand]) {
        for (n, raw) in (index..).zip(commands) {
            let slot = u64::from(n % (1 << LOG2SIZE));
            let at = Gpa(base(queue).0 + slot * 16);
            store_u64(&*self.memory, at, raw.dw0, Ordering::Relaxed).unwrap();
            store_u64(&*self.memory, Gpa(at.0 + 8), raw.dw1, Ordering::Relaxed).unwrap();
        }
    }

    pub(crate) fn publish(&self, queue: usize, prod: u32) {
        self.queue_write(queue, offset::VCMDQ_PROD, prod);
    }

    pub(crate) fn cons(&self, queue: usize) -> u32 {
        self.queue_read(queue, offset::VCMDQ_CONS)
    }

    pub(crate) fn software(&self) -> &Software {
        match &self.core {
            Some(core) => core,
            None => self.backend.inner().inner(),
        }
    }

    /// Puts a 4 KiB translation of ASID 1 into the cache.
    pub(crate) fn cache(&self, page: u64) {
        assert!(fill(self.software(), page));
    }

    pub(crate) fn cached(&self, page: u64) -> bool {
        has(self.software(), STREAM, page)
    }

    /// One TLBI and SYNC through a queue, from an empty one on.
    pub(crate) fn round_trip(&mut self, queue: usize, page: u64) {
        self.cache(page);
        let prod = self.queue_read(queue, offset::VCMDQ_PROD);
        self.put(queue, prod, &[tlbi(page), sync()]);
        let next = (prod + 2) % (2 << LOG2SIZE);
        self.publish(queue, next);
        self.poll("CONS", |w| w.cons(queue) == next);
        assert!(!self.cached(page));
    }
}
