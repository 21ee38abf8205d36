//! One frame in front of several instances whose calls cost what is injected.

use crate::backends::{Costly, InjectedCost};
use crate::rig::{self, LOG2SIZE, frame_of, guest_memory};
use crate::streams;
use dispatch::Backend;
use dispatch::backend::Software;
use smmu_core::command::{Command, Signal};
use smmu_core::encode::encode;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vcmdq::seams::Threads;
use vcmdq::stepping::{ModelCaller, Stepper};
use vcmdq::{DoorbellMode, Engine, Frame, Placement, Ring, Settings};

/// Commands of a trip: a TLBI and its SYNC.
const TRIP: u32 = 2;

/// See the [module](self). Rings are served on the caller's thread, like by a worker that has been rung.
pub struct Group {
    backends: Vec<Arc<Costly>>,
    _engine: Engine,
    _frame: Frame,
    ring: Arc<Ring>,
    stepper: Stepper,
    callers: Vec<Arc<ModelCaller>>,
    threads: Vec<JoinHandle<()>>,
    prod: u32,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("backends", &self.backends)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// So many instances with calls that may block and have that price. The calls of every further one are
    /// made on a thread of `threads`; without, behind those of the one before.
    ///
    /// # Panics
    ///
    /// If a thread cannot be had.
    #[must_use]
    pub fn new(members: usize, cost: InjectedCost, threads: Option<&dyn Threads>) -> Self {
        let backend = || {
            let costly = Costly::new(Arc::new(Software::default()), cost);
            Arc::new(costly.may_block(true))
        };
        let backends: Vec<_> = (0..members).map(|_| backend()).collect();
        let engine = Engine::without_workers(Settings::default()).expect("legal settings");
        let memory = guest_memory();
        let first: Arc<dyn Backend> = backends[0].clone();
        let (frame, ring) = frame_of(&engine, memory.clone(), first, DoorbellMode::Trap);
        for backend in &backends[1..] {
            frame.add_instance(backend.clone(), Placement::default());
        }
        // One that signals nothing: its word would take the command's place.
        let sync = encode(&Command::Sync(Signal::None));
        let tlbis = streams::tlbis(1 << (LOG2SIZE - 1)).into_iter();
        let commands: Vec<_> = tlbis.flat_map(|tlbi| [tlbi, sync]).collect();
        rig::write(&*memory, &commands);
        ring.enable();
        let callers: Vec<_> = frame.model_callers().into_iter().map(Arc::new).collect();
        let started = threads.iter().flat_map(|threads| {
            let start = |caller: &Arc<ModelCaller>| {
                let caller = caller.clone();
                let body = Box::new(move || caller.work_until_left());
                threads.spawn("caller".to_owned(), body).expect("a thread")
            };
            callers.iter().map(start)
        });
        Self {
            threads: started.collect(),
            callers,
            backends,
            _engine: engine,
            _frame: frame,
            ring,
            stepper: Stepper::default(),
            prod: 0,
        }
    }

    /// One TLBI and its SYNC: the time from the doorbell to CONS.
    ///
    /// # Panics
    ///
    /// If the SYNC is not done.
    pub fn trip(&mut self) -> Duration {
        self.prod = (self.prod + TRIP) % (2 << LOG2SIZE);
        let start = Instant::now();
        self.ring.doorbell(self.prod);
        self.stepper.serve(&self.ring);
        let took = start.elapsed();
        assert_eq!(self.ring.cons(), self.prod, "the ring has stopped");
        took
    }

    /// Calls that each of the instances has had.
    #[must_use]
    pub fn calls(&self) -> Vec<u64> {
        let calls = self.backends.iter().map(|backend| backend.counts().calls);
        calls.collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.callers.iter().for_each(|caller| caller.leave());
        for thread in self.threads.drain(..) {
            // A thread that has died has said so.
            let _ended = thread.join();
        }
    }
}
