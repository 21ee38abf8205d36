//! Takes the streams of running rings into a file.
//!
//! The rings' owners and doorbells put events of one size into a bounded queue for each ring;
//! they never wait, allocate or take a lock for it. A thread of the recorder writes. What does
//! not fit into a queue is counted, and stands in the file as a gap.
//!
//! ```
//! use std::sync::Arc;
//! use vcmdq::testing::HeapMemory;
//! use vcmdq::*;
//! use vcmdq_trace::Header;
//! use vcmdq_trace::recorder::{Recorder, RecorderSettings, rings_of};
//!
//! let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
//! let memory = Arc::new(HeapMemory::new(1 << 16));
//! let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
//! frame.add_ring(DoorbellMode::Trap)?;
//!
//! let header = Header::of(&FrameSettings::default().caps);
//! let settings = RecorderSettings::default();
//! let rings = rings_of(&frame);
//! let recorder = Recorder::start(std::io::sink(), header, rings, &settings, &StdThreads)?;
//! let totals = recorder.finish()?;
//! assert_eq!(totals.records, 0);
//! engine.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::header::{Header, RingKind};
use crate::queue::RingTap;
use crate::record::Totals;
use crate::writer::Writer;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vcmdq::{Frame, Ring, Threads};
use vcmdq_sync::atomic::{AtomicBool, Ordering};
use vcmdq_sync::thread::{JoinHandle, Parker};

/// How a [`Recorder`] works.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// Events that each ring's queue has room for; 72 bytes each. A window of n commands is n / 3
    /// events, rounded up, and one for each SYNC, and one or two more.
    pub capacity: usize,
    /// How long the writer sleeps when every queue was empty. Nobody wakes it: that would be a
    /// system call on the way of a command.
    pub interval: Duration,
    /// The file is not made longer than that; what comes later is left out and counted.
    pub most_bytes: u64,
}

impl Default for RecorderSettings {
    fn default() -> Self {
        Self {
            capacity: 1 << 14,
            interval: Duration::from_millis(1),
            most_bytes: u64::MAX,
        }
    }
}

/// The rings of a frame as [`Recorder::start`] takes them: the first one is the SMMU's own CMDQ,
/// the others are VCMDQs in the order in which they were added. For a frame whose rings are
/// something else, name them yourself.
#[must_use]
pub fn rings_of(frame: &Frame) -> Vec<(RingKind, Arc<Ring>)> {
    let kinds = (0..).map(RingKind::Vcmdq);
    let kinds = std::iter::once(RingKind::Cmdq).chain(kinds);
    kinds.zip(frame.rings()).collect()
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    parker: Parker,
    result: Mutex<Option<io::Result<Totals>>>,
}

/// See the [module](self). Dropped without [`finish`](Self::finish) it ends the recording too, and
/// nobody hears of errors.
pub struct Recorder {
    rings: Vec<Arc<Ring>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("rings", &self.rings)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins to record `rings` into `out`, unbuffered is enough. The header's list of rings, and
    /// its time if it has none, are filled in. A tap that a ring has is replaced.
    ///
    /// A control call: may block, not inside a callback of the engine.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started. That `out` cannot be written is told by
    /// [`finish`](Self::finish).
    pub fn start(
        out: impl Write + Send + 'static,
        mut header: Header,
        rings: Vec<(RingKind, Arc<Ring>)>,
        settings: &RecorderSettings,
        threads: &dyn Threads,
    ) -> io::Result<Self> {
        let (kinds, rings): (Vec<_>, Vec<_>) = rings.into_iter().unzip();
        header.rings = kinds;
        if header.started == 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            header.started = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(0));
        }
        let start = Instant::now();
        let tap = |_: &Arc<Ring>| Arc::new(RingTap::new(start, settings.capacity));
        let taps: Vec<_> = rings.iter().map(tap).collect();
        let writer = Writer::new(out, header.to_bytes(), taps.clone(), settings.most_bytes);
        let shared = Arc::new(Shared::default());
        let (own, interval) = (shared.clone(), settings.interval);
        let body = Box::new(move || run(writer, &own, interval));
        let thread = Some(threads.spawn("vcmdq-recorder".into(), body)?);
        for (ring, tap) in rings.iter().zip(taps) {
            ring.set_tap(Some(tap));
        }
        Ok(Self {
            rings,
            shared,
            thread,
        })
    }

    /// Takes the taps off, writes what is left and ends the thread. A control call: blocks until
    /// everything is written.
    ///
    /// # Errors
    ///
    /// The first error of the output; what was written before it can be read.
    pub fn finish(mut self) -> io::Result<Totals> {
        self.end();
        let result = &self.shared.result;
        let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.unwrap_or_else(|| Err(io::Error::other("the recorder's thread died")))
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // Nobody pushes once this is done, so that the writer's last look sees everything.
        self.rings.iter().for_each(|ring| ring.set_tap(None));
        self.shared.stop.store(true, Ordering::Release);
        self.shared.parker.unpark();
        if thread.join().is_err() {
            tracing::warn!("the recorder's thread died");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

fn run<W: Write>(mut writer: Writer<W>, shared: &Shared, interval: Duration) {
    // Acquire pairs with the release in `end`: what was pushed before is there.
    while !shared.stop.load(Ordering::Acquire) {
        if !writer.drain() {
            shared.parker.park(Some(interval));
        }
    }
    let result = writer.finish();
    *shared.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
}
