//! A full ring consumed by one thread: what a command costs while nobody waits for it. Fetch,
//! decode, first pass, coalescing, dispatch, backend and publication of CONS are in it.
//!
//! Before each lap the ring is filled and the entries that its commands remove are put into the
//! translation cache; neither is timed.

use crate::backends::{Costly, InjectedCost, Nothing};
use crate::baseline::Baseline;
use crate::one_by_one::{OneByOne, Place};
use crate::plants;
use crate::rig::{self, BASE, LOG2SIZE, Rig};
use crate::rounds::Contender;
use crate::streams::Stream;
use dispatch::Backend;
use dispatch::backend::Software;
use smmu_core::guest_memory::GuestMemory;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE};
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vcmdq::testing::QueueRegisters;

/// Who consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The engine, through to the software backend.
    Engine,
    /// The engine with a backend that does nothing.
    EngineBare,
    /// [One dispatch per command](crate::one_by_one), without a lock, software backend.
    OneByOne,
    /// [The same under a mutex](crate::baseline).
    Baseline,
    /// Under a mutex, without a backend.
    BaselineBare,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Engine,
        Self::EngineBare,
        Self::OneByOne,
        Self::Baseline,
        Self::BaselineBare,
    ];
    /// Those that remove what they are asked to.
    pub const EXECUTING: [Self; 3] = [Self::Engine, Self::OneByOne, Self::Baseline];

    /// For the reader.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::EngineBare => "engine without backend",
            Self::OneByOne => "one dispatch per command",
            Self::Baseline => "baseline",
            Self::BaselineBare => "baseline without backend",
        }
    }
}

/// What fits into the ring at once, and what it removes.
#[derive(Clone, Debug)]
pub struct Lap {
    commands: Vec<RawCommand>,
    entries: Vec<Entry>,
}

/// A stream in laps.
#[must_use]
pub fn laps(stream: &Stream) -> Vec<Lap> {
    let pieces = stream.commands.chunks(1 << LOG2SIZE);
    let lap = |commands: &[RawCommand]| Lap {
        commands: commands.to_vec(),
        entries: plants::of(commands),
    };
    pieces.map(lap).collect()
}

/// One who can be given a full ring.
trait Consumer {
    fn fill(&mut self, commands: &[RawCommand]);
    fn consume(&mut self, count: usize) -> Duration;
}

impl Consumer for Rig {
    fn fill(&mut self, commands: &[RawCommand]) {
        Self::fill(self, commands);
    }

    fn consume(&mut self, count: usize) -> Duration {
        Self::consume(self, count)
    }
}

struct Locked(Arc<dyn GuestMemory>, Baseline);

impl Consumer for Locked {
    fn fill(&mut self, commands: &[RawCommand]) {
        self.1.rewind();
        rig::write(&*self.0, commands);
    }

    fn consume(&mut self, count: usize) -> Duration {
        let geometry = Geometry::capped(LOG2SIZE, MAX_LOG2SIZE);
        let prod = geometry.advance(geometry.pointer(0), count as u32).raw();
        let start = Instant::now();
        self.1.write_prod(prod);
        let took = start.elapsed();
        assert_eq!(self.1.read_cons(), prod, "the stream is legal");
        took
    }
}

struct Unlocked(Arc<dyn GuestMemory>, OneByOne);

impl Consumer for Unlocked {
    fn fill(&mut self, commands: &[RawCommand]) {
        self.1.rewind();
        rig::write(&*self.0, commands);
    }

    fn consume(&mut self, count: usize) -> Duration {
        let prod = self.1.prod_after(count as u32);
        let start = Instant::now();
        assert!(self.1.publish(prod), "the ring is as large as that");
        self.1.drain().expect("the stream is legal");
        start.elapsed()
    }
}

/// Those who are to consume `laps`, each shown to remove what it must; with what every call to
/// the backend costs on top, if anything. What a round took has the injected cost in it.
///
/// # Panics
///
/// If one of them leaves a stale entry behind.
#[must_use]
pub fn contenders(
    laps: &[Lap],
    who: &[Who],
    injected: Option<InjectedCost>,
) -> Vec<Contender<'static>> {
    let laps: Arc<[Lap]> = laps.into();
    who.iter()
        .map(|who| contender(&laps, *who, injected))
        .collect()
}

fn contender(laps: &Arc<[Lap]>, who: Who, injected: Option<InjectedCost>) -> Contender<'static> {
    let software = Arc::new(Software::default());
    let memory: Arc<dyn GuestMemory> = rig::guest_memory();
    let bare = matches!(who, Who::EngineBare | Who::BaselineBare);
    let backend: Arc<dyn Backend> = match injected {
        _ if bare => Arc::new(Nothing::instead_of(&*software)),
        Some(cost) => Arc::new(Costly::new(software.clone(), cost)),
        None => software.clone(),
    };
    let (place, caps) = (
        Place {
            base: BASE,
            log2size: LOG2SIZE,
        },
        rig::capabilities(),
    );
    let mut consumer: Box<dyn Consumer> = match who {
        Who::Engine | Who::EngineBare => Box::new(Rig::new(memory, backend)),
        Who::OneByOne => {
            let inner = OneByOne::new(place, caps, memory.clone(), backend);
            Box::new(Unlocked(memory, inner))
        }
        Who::Baseline | Who::BaselineBare => {
            let inner = OneByOne::new(place, caps, memory.clone(), backend);
            let inner = if bare { inner.without_backend() } else { inner };
            Box::new(Locked(memory, Baseline::over(inner)))
        }
    };
    for lap in laps.iter().filter(|_| !bare) {
        plants::verify(&software, &lap.commands, || {
            consumer.fill(&lap.commands);
            consumer.consume(lap.commands.len());
        });
    }
    let laps = laps.clone();
    Contender::new(who.name(), move || {
        let lap = |lap: &Lap| {
            if !bare {
                plants::plant(&software, &lap.entries);
            }
            consumer.fill(&lap.commands);
            consumer.consume(lap.commands.len())
        };
        laps.iter().map(lap).sum()
    })
}
