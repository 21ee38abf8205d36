//! Threads beyond the workers: one for each frame with calls that can block, so that as many as there
//! are rounds are never inside such a call (law 11); and for each further instance of a frame with such
//! calls one that [makes them](crate::fan_out) while the others' are made.

use super::Worker;
use crate::engine::EngineShared;
use crate::error::InstanceError;
use crate::fan_out::Caller;
use crate::seams::Threads;
use dispatch::Backend;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

#[derive(Default)]
struct Control {
    handles: Vec<JoinHandle<()>>,
    /// Spares that are there, and how many of those are to leave.
    spares: usize,
    leaving: usize,
    hired: usize,
    callers: Vec<Weak<Caller>>,
    /// The engine stops: whoever comes now is waited for by who has hired him.
    closed: bool,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Staff {
    threads: Option<Arc<dyn Threads>>,
    control: Mutex<Control>,
}

impl Staff {
    /// Threads come from there; from nowhere in an engine whose rings are served otherwise.
    pub(crate) fn new(threads: Option<Arc<dyn Threads>>) -> Self {
        Self {
            threads,
            control: Mutex::default(),
        }
    }

    pub(crate) fn threads(&self) -> Option<&dyn Threads> {
        self.threads.as_deref()
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spares(&self) -> usize {
        self.control().spares
    }

    /// Threads that make instances' calls, and instances that they are there for.
    pub(crate) fn callers(&self) -> usize {
        let control = self.control();
        let there = |caller: &&Weak<Caller>| caller.strong_count() != 0;
        control.callers.iter().filter(there).count()
    }

    /// Whether the calling thread, which has nothing to do, is to end.
    pub(super) fn dismisses(&self) -> bool {
        let mut control = self.control();
        let ends = control.leaving != 0;
        if ends {
            control.leaving -= 1;
            control.spares -= 1;
        }
        ends
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.control().leaving != 0
    }

    /// All threads that were hired. Who is being hired meanwhile ends by itself, before
    /// [`hire`](EngineShared::hire) returns.
    pub(crate) fn close(&self) -> Vec<JoinHandle<()>> {
        let mut control = self.control();
        control.closed = true;
        let callers = control.callers.iter().filter_map(Weak::upgrade);
        callers.for_each(|caller| caller.close());
        std::mem::take(&mut control.handles)
    }
}

impl EngineShared {
    /// One more spare.
    pub(crate) fn hire(self: &Arc<Self>) -> Result<(), InstanceError> {
        if self.staff.threads.is_none() {
            return Ok(());
        }
        let mut control = self.staff.control();
        if control.leaving != 0 {
            control.leaving -= 1;
            return Ok(());
        }
        control.spares += 1;
        drop(control);
        // law11c: there are no more threads than workers.
        if vcmdq_sync::broken!(break_law11c) {
            return Ok(());
        }
        let worker = Worker::spare(self.clone());
        // It sees that the engine stops, or is woken to see it.
        let leave = || self.bell.spares().wake_all();
        let hired = self.employ("spare", move || worker.run(), leave);
        if hired.is_err() {
            self.staff.control().spares -= 1;
        }
        hired
    }

    /// One that makes the calls of one more instance of a frame. Where no threads come from, it is there
    /// all the same, and its calls are made by whoever leaves them to it.
    pub(crate) fn hire_caller(
        self: &Arc<Self>,
        backend: &Arc<dyn Backend>,
    ) -> Result<Arc<Caller>, InstanceError> {
        let caller = Arc::new(Caller::new(backend.clone(), self.patience.clone()));
        let mut control = self.staff.control();
        control.callers.retain(|caller| caller.strong_count() != 0);
        control.callers.push(Arc::downgrade(&caller));
        drop(control);
        let thread = caller.clone();
        self.employ("caller", move || thread.run(), || caller.close())?;
        Ok(caller)
    }

    /// Starts a thread, if they come from anywhere; `leave` has it end.
    fn employ(
        &self,
        what: &str,
        body: impl FnOnce() + Send + 'static,
        leave: impl FnOnce(),
    ) -> Result<(), InstanceError> {
        let Some(threads) = &self.staff.threads else {
            return Ok(());
        };
        let mut control = self.staff.control();
        control.handles.retain(|handle| !handle.is_finished());
        let name = format!("vcmdq-{what}-{}", control.hired);
        control.hired += 1;
        // The VMM may take its time, and a doorbell may have to wake who looks in here.
        drop(control);
        let spawned = threads.spawn(name, Box::new(body));
        let mut control = self.staff.control();
        match spawned {
            Ok(handle) if control.closed => {
                drop(control);
                leave();
                if handle.join().is_err() {
                    tracing::error!("a thread of the engine had died by a panic");
                }
            }
            Ok(handle) => control.handles.push(handle),
            Err(error) => return Err(InstanceError::Spare(error.kind())),
        }
        Ok(())
    }

    /// One spare less, as soon as one has nothing to do.
    pub(crate) fn dismiss(&self) {
        if self.staff.threads.is_some() {
            self.staff.control().leaving += 1;
            self.bell.spares().wake_all();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::seams::{StdClock, StdThreads};
    use crate::settings::Settings;
    use std::sync::mpsc::channel;
    use std::time::Duration;
    use vcmdq_sync::atomic::{AtomicBool, Ordering};

    /// Stops the engine while a spare is being hired.
    #[derive(Default)]
    struct StopsMeanwhile {
        engine: Mutex<Option<Arc<Engine>>>,
        ended: Arc<AtomicBool>,
    }

    impl Threads for StopsMeanwhile {
        fn spawn(
            &self,
            name: String,
            body: Box<dyn FnOnce() + Send>,
        ) -> std::io::Result<JoinHandle<()>> {
            let engine = self.engine.lock().unwrap().take();
            let ended = self.ended.clone();
            if let Some(engine) = engine.filter(|_| name.starts_with("vcmdq-spare")) {
                engine.stop();
                return StdThreads.spawn(
                    name,
                    Box::new(move || {
                        body();
                        std::thread::sleep(Duration::from_millis(50));
                        ended.store(true, Ordering::Release);
                    }),
                );
            }
            StdThreads.spawn(name, body)
        }
    }

    #[test]
    fn no_thread_outlives_an_engine_that_stops_while_it_is_hired() {
        let threads = Arc::new(StopsMeanwhile::default());
        let engine = Arc::new(Engine::start(Settings::default(), threads.clone()).unwrap());
        *threads.engine.lock().unwrap() = Some(engine.clone());
        engine.shared().hire().expect("a thread");
        assert!(threads.ended.load(Ordering::Acquire), "it is still there");
    }

    /// One that leaves may have been woken for a round that needs a thread: then another one is.
    #[test]
    fn law11_a_spare_that_is_dismissed_takes_no_wake_up_along() {
        let settings = Settings {
            spin: Duration::ZERO,
            ..Settings::default()
        };
        let (clock, threads) = (Arc::new(StdClock::default()), Arc::new(StdThreads));
        let engine = Engine::prepare(settings, clock, Some(threads)).expect("settings");
        let shared = engine.shared().clone();
        let rounds = 0..shared.rounds.len();
        rounds.for_each(|round| shared.bell.has_entered(round));
        shared.staff.control().spares = 2;
        shared.dismiss();
        shared.bell.spares().wake();
        assert!(!Worker::spare(shared.clone()).idle(&shared), "dismissed");
        let (woken, wakes) = channel();
        vcmdq_sync::thread::spawn(move || {
            shared.bell.spares().sleep(|| false);
            woken.send(())
        });
        wakes.recv_timeout(Duration::from_secs(60)).expect("woken");
    }
}
