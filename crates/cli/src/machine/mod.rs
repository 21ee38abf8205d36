//! A guest's memory and queue, with the engine or the baseline behind it.

mod baseline;
pub(crate) mod engine;
mod faulty;
#[cfg(test)]
mod tests;

use crate::args::{BackendKind, Doorbell, RunArgs};
use crate::check::DeviceModel;
use crate::error::ToolError;
use dispatch::Backend;
use dispatch::backend::Software;
use engine::EngineSide;
use serde::Serialize;
use smmu_core::{Capabilities, Gpa, GuestMemory, StreamId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use vcmdq::VmMemory;
use vcmdq::testing::{GuestQueue, QueueRegisters, QueueSettings};
use vcmdq_benches::baseline::Baseline;
use vcmdq_benches::one_by_one::Place;
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Where the guest's RAM begins, and its queue with it.
const RAM: Gpa = Gpa(0x4000_0000);

/// How long a producer waits before it gives up. Linux waits one second of its own clock; here
/// a busy machine must not look like a broken engine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who consumes the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Engine,
    Baseline,
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub(crate) struct MachineSettings {
    pub(crate) caps: Capabilities,
    pub(crate) log2size: u8,
    pub(crate) spin: Duration,
    pub(crate) doorbell: Doorbell,
    pub(crate) backend: BackendKind,
    /// The guest's devices; each has a translation cache of its own.
    pub(crate) streams: BTreeSet<StreamId>,
    /// Command queues of the guest, each with its own producers.
    pub(crate) rings: usize,
}

impl MachineSettings {
    /// As the command line says, with everything advertised that a stream may ask for.
    pub(crate) fn new(args: &RunArgs, ril: bool, streams: BTreeSet<StreamId>) -> Self {
        let mut caps = Capabilities::default().with_ats();
        caps.idr0.set_pri(true);
        caps.idr0.set_stall_model(0);
        caps.idr3.set_ril(ril);
        Self {
            caps,
            log2size: args.log2size,
            spin: Duration::from_micros(args.spin_us),
            doorbell: args.doorbell,
            backend: args.backend,
            streams,
            rings: 1,
        }
    }
}

enum Side {
    Engine(Box<EngineSide>),
    /// One for each queue: the rings do not even share a lock.
    Baseline(Vec<Arc<Baseline>>),
}

/// A guest that can be driven.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) caps: Capabilities,
    queues: Vec<GuestQueue>,
    pub(crate) software: Arc<Software>,
    pub(crate) devices: BTreeMap<StreamId, Arc<DeviceModel>>,
    /// Held shared for each submission and its check; whoever holds it alone disturbs nobody and
    /// is disturbed by nobody.
    pub(crate) turn: RwLock<()>,
    side: Side,
}

/// What a consumer has done.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Commands consumed, SYNCs too.
    pub(crate) commands: u64,
    /// Requests to the backend that were left of them.
    pub(crate) requests: u64,
    /// Calls to the backend that carried the requests.
    pub(crate) calls: u64,
    /// SYNCs completed.
    pub(crate) syncs: u64,
    /// Windows, or drains of the baseline.
    pub(crate) windows: u64,
    /// Windows of 1, 2, up to 4, up to 8, … up to 256 commands; the baseline has none.
    pub(crate) window_sizes: Vec<u64>,
    /// Writes of PROD.
    pub(crate) doorbells: u64,
    /// Doorbells that had to wake a worker.
    pub(crate) wake_ups: u64,
    /// Times a worker went to sleep.
    pub(crate) sleeps: u64,
    /// Looks for work that found none.
    pub(crate) spins: u64,
    /// Times the queue stopped with an error and was restarted by the guest.
    pub(crate) errors: u64,
}

impl Figures {
    /// Adds what another queue's consumer has done; `window_sizes` is left as it is.
    fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.requests += other.requests;
        self.calls += other.calls;
        self.syncs += other.syncs;
        self.windows += other.windows;
        self.doorbells += other.doorbells;
        self.wake_ups += other.wake_ups;
        self.sleeps += other.sleeps;
        self.spins += other.spins;
        self.errors += other.errors;
    }
}

impl Machine {
    pub(crate) fn build(kind: Kind, settings: &MachineSettings) -> Result<Self, ToolError> {
        let memory = memory_for(settings.log2size, settings.rings)?;
        let software = Arc::new(Software::default());
        let devices = attach_devices(&software, &settings.streams);
        let backend = backend(settings.backend, &software);
        let bases: Vec<_> = (0..settings.rings)
            .map(|number| base(settings.log2size, number))
            .collect();
        let (name, side, registers): (_, _, Vec<Arc<dyn QueueRegisters>>) = match kind {
            Kind::Engine => {
                let side = EngineSide::start(settings, &bases, memory.clone(), backend)?;
                let registers = side.registers();
                ("engine", Side::Engine(Box::new(side)), registers)
            }
            Kind::Baseline => {
                let one = |base: &Gpa| {
                    let place = Place {
                        base: *base,
                        log2size: settings.log2size,
                    };
                    Arc::new(Baseline::new(
                        place,
                        settings.caps,
                        memory.clone(),
                        backend.clone(),
                    ))
                };
                let sides: Vec<_> = bases.iter().map(one).collect();
                let registers = sides.iter().map(|side| side.clone() as _).collect();
                ("baseline", Side::Baseline(sides), registers)
            }
        };
        let queue = |(base, registers): (&Gpa, Arc<dyn QueueRegisters>)| {
            let queue = QueueSettings {
                patience: PATIENCE,
                ..QueueSettings::new(*base, settings.log2size)
            };
            GuestQueue::new(queue, memory.clone(), registers).map_err(ToolError::Queue)
        };
        let queues = bases.iter().zip(registers).map(queue);
        let queues = queues.collect::<Result<Vec<_>, _>>()?;
        let turn = RwLock::new(());
        Ok(Self {
            name,
            caps: settings.caps,
            queues,
            software,
            devices,
            turn,
            side,
        })
    }

    /// The queue of a producer.
    pub(crate) fn queue(&self, producer: usize) -> &GuestQueue {
        &self.queues[producer % self.queues.len()]
    }

    pub(crate) fn figures(&self) -> Figures {
        let figures = match &self.side {
            Side::Engine(engine) => engine.figures(),
            Side::Baseline(sides) => sides.iter().fold(Figures::default(), |mut sum, side| {
                sum.add(&baseline::figures(side));
                sum
            }),
        };
        Figures {
            doorbells: self.queues.iter().map(GuestQueue::prod_writes).sum(),
            ..figures
        }
    }
}

/// The backend that the command line asks for, in front of `software`.
pub(crate) fn backend(kind: BackendKind, software: &Arc<Software>) -> Arc<dyn Backend> {
    let software = software.clone();
    match kind {
        BackendKind::Software => software,
        BackendKind::Nothing => Arc::new(faulty::Nothing(software)),
        BackendKind::Everything => Arc::new(faulty::Everything(software)),
    }
}

/// Where a queue of `2^log2size` slots lies.
fn base(log2size: u8, number: usize) -> Gpa {
    Gpa(RAM.0 + ((number as u64 * 16) << log2size.clamp(1, 19)))
}

/// Memory as a VMM maps it, with room for a queue of `2^log2size` slots at its beginning.
pub(crate) fn guest_memory(log2size: u8) -> Result<Arc<dyn GuestMemory>, ToolError> {
    memory_for(log2size, 1)
}

fn memory_for(log2size: u8, queues: usize) -> Result<Arc<dyn GuestMemory>, ToolError> {
    let bytes = ((16 * queues) << log2size.clamp(1, 19)).max(1 << 16);
    let ranges = [(GuestAddress(RAM.0), bytes)];
    let map = GuestMemoryMmap::<()>::from_ranges(&ranges)
        .map_err(|error| ToolError::Map(error.to_string()))?;
    Ok(Arc::new(VmMemory::new(map)))
}

/// Where [`guest_memory`] begins.
pub(crate) fn ram() -> Gpa {
    RAM
}

fn attach_devices(
    software: &Software,
    streams: &BTreeSet<StreamId>,
) -> BTreeMap<StreamId, Arc<DeviceModel>> {
    let attach = |stream: &StreamId| {
        let device = Arc::new(DeviceModel::default());
        software.attach_device(*stream, device.clone());
        (*stream, device)
    };
    streams.iter().map(attach).collect()
}
