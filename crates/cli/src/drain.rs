//! A full queue consumed by one thread: what a command costs without anybody waiting for it.
//!
//! The engine's consumer runs on this thread too, by the very code that a worker runs, so
//! that nothing but consumption is measured. Fetch, decode, first pass, coalescing, dispatch,
//! backend and publication of CONS are in it.

use crate::args::BackendKind;
use crate::error::ToolError;
use crate::machine::engine::frame_with_ring;
use crate::machine::{MachineSettings, backend, guest_memory, ram};
use crate::progress::Progress;
use crate::trace::Trace;
use dispatch::Backend;
use dispatch::backend::Software;
use serde::Serialize;
use smmu_core::Gpa;
use smmu_core::guest_memory::{GuestMemory, store_u64};
use smmu_core::spec::command::{RawCommand, opcode};
use std::sync::Arc;
use std::time::Instant;
use vcmdq::stepping::Stepper;
use vcmdq::testing::commands::sync;
use vcmdq::testing::{QueueError, QueueRegisters};
use vcmdq::{DoorbellMode, Engine, RingSettings, Settings};
use vcmdq_benches::baseline::Baseline;
use vcmdq_benches::one_by_one::{OneByOne, Place};
use vcmdq_benches::streams;
use vcmdq_sync::atomic::Ordering;

/// Commands in the small queue, as in OpenVMM's measurement.
const SMALL: usize = 256;

/// No queue has more slots.
const MOST: usize = 1 << smmu_core::queue_index::MAX_LOG2SIZE;

/// Nanoseconds per command.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Drains {
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) consumer: &'static str,
    pub(crate) backend: &'static str,
    /// One for each column; nobody has published the missing ones.
    pub(crate) ns_per_command: Vec<Option<f64>>,
}

impl Drains {
    /// A figure of a consumer with a backend.
    pub(crate) fn get(&self, consumer: &str, backend: &str, column: usize) -> Option<f64> {
        let row = self
            .rows
            .iter()
            .find(|row| row.consumer == consumer && row.backend == backend)?;
        *row.ns_per_command.get(column)?
    }
}

/// A stream that fills a queue.
struct Full {
    name: &'static str,
    log2size: u8,
    commands: Vec<RawCommand>,
    published_ns: Option<f64>,
}

/// Measures everything, `rounds` times each; medians.
pub(crate) fn measure(
    settings: &MachineSettings,
    trace: &Trace,
    rounds: u32,
    progress: &Progress,
) -> Result<Drains, ToolError> {
    let streams = streams(trace);
    let mut rows = vec![Row {
        consumer: "OpenVMM (published)",
        backend: "none",
        ns_per_command: streams.iter().map(|full| full.published_ns).collect(),
    }];
    progress.begin("full queue, one thread", 4 * streams.len() as u64);
    for (behind, kind) in [
        ("none", BackendKind::Nothing),
        ("software", BackendKind::Software),
    ] {
        for (consumer, run) in [("baseline", baseline as Run), ("engine", engine as Run)] {
            let one = |full: &Full| {
                progress.step(0);
                let memory = guest_memory(full.log2size)?;
                fill(&*memory, &full.commands).map_err(ToolError::Queue)?;
                let settings = MachineSettings {
                    log2size: full.log2size,
                    backend: kind,
                    ..settings.clone()
                };
                let ns = run(
                    &settings,
                    memory,
                    full,
                    backend(kind, &Arc::new(Software::default())),
                    rounds,
                )?;
                Ok(ns.map(|ns| ns / full.commands.len() as f64))
            };
            let figures = streams.iter().map(one).collect::<Result<_, ToolError>>()?;
            rows.push(Row {
                consumer,
                backend: behind,
                ns_per_command: figures,
            });
        }
    }
    Ok(Drains {
        columns: streams.iter().map(|full| full.name).collect(),
        rows,
    })
}

/// Nanoseconds for a drain; `None` if the stream stops the queue with an error.
type Run = fn(
    &MachineSettings,
    Arc<dyn GuestMemory>,
    &Full,
    Arc<dyn Backend>,
    u32,
) -> Result<Option<f64>, ToolError>;

fn engine(
    settings: &MachineSettings,
    memory: Arc<dyn GuestMemory>,
    full: &Full,
    backend: Arc<dyn Backend>,
    rounds: u32,
) -> Result<Option<f64>, ToolError> {
    let engine = Engine::without_workers(Settings::default())?;
    let (_frame, ring) = frame_with_ring(&engine, settings, DoorbellMode::Trap, memory, backend)?;
    ring.configure(RingSettings {
        base: ram(),
        log2size: full.log2size,
    })?;
    ring.enable();
    let mut stepper = Stepper::default();
    let drain = |prod| {
        ring.doorbell(prod);
        while ring.cons() != prod && stepper.serve(&ring) {}
    };
    Ok(median(full, rounds, drain, || ring.cons()))
}

fn baseline(
    settings: &MachineSettings,
    memory: Arc<dyn GuestMemory>,
    full: &Full,
    backend: Arc<dyn Backend>,
    rounds: u32,
) -> Result<Option<f64>, ToolError> {
    let place = Place {
        base: ram(),
        log2size: full.log2size,
    };
    let consumer = OneByOne::new(place, settings.caps, memory, backend);
    let consumer = Baseline::over(match settings.backend {
        BackendKind::Nothing => consumer.without_backend(),
        _ => consumer,
    });
    Ok(median(
        full,
        rounds,
        |prod| consumer.write_prod(prod),
        || consumer.read_cons(),
    ))
}

/// The median time of a drain, in nanoseconds. The queue lies full in memory and is published
/// again and again, with the other wrap bit; a stream that does not fill it is followed by SYNCs
/// that are not measured.
fn median(
    full: &Full,
    rounds: u32,
    mut drain: impl FnMut(u32),
    cons: impl Fn() -> u32,
) -> Option<f64> {
    let entries = 1u32 << full.log2size;
    let count = full.commands.len() as u32;
    let mut times = Vec::with_capacity(rounds as usize);
    let mut prod = 0u32;
    for _ in 0..rounds {
        let begun = Instant::now();
        drain((prod + count) & (2 * entries - 1));
        times.push(begun.elapsed().as_nanos() as f64);
        prod = (prod + entries) & (2 * entries - 1);
        drain(prod);
        if cons() != prod {
            return None;
        }
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// Writes `commands` into a queue at the beginning of `memory`, and SYNCs behind them.
fn fill(memory: &dyn GuestMemory, commands: &[RawCommand]) -> Result<(), QueueError> {
    let slots = commands.len().next_power_of_two();
    let padding = std::iter::repeat_with(sync).take(slots - commands.len());
    for (slot, raw) in commands.iter().copied().chain(padding).enumerate() {
        let at = ram().0 + RawCommand::BYTES * slot as u64;
        store_u64(memory, Gpa(at), raw.dw0, Ordering::Relaxed)?;
        store_u64(memory, Gpa(at + 8), raw.dw1, Ordering::Release)?;
    }
    Ok(())
}

/// Streams that somebody has published figures for, random pages, and what a real guest sends.
fn streams(trace: &Trace) -> Vec<Full> {
    let published = streams::published().into_iter().map(|stream| Full {
        name: stream.name,
        log2size: SMALL.trailing_zeros() as u8,
        commands: stream.commands,
        published_ns: stream.published_ns,
    });
    // A message of a recorded SYNC would go into this guest's queue.
    let quiet = |raw: &RawCommand| {
        if raw.opcode() == opcode::SYNC {
            sync()
        } else {
            *raw
        }
    };
    let recorded: Vec<_> = trace.commands.iter().take(MOST).map(quiet).collect();
    let others = [("random", streams::tlbis(SMALL)), ("recorded", recorded)];
    let others = others.into_iter().map(|(name, commands)| Full {
        name,
        log2size: commands.len().next_power_of_two().trailing_zeros() as u8,
        commands,
        published_ns: None,
    });
    published.chain(others).collect()
}
