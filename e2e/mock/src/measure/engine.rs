//! Windows of the engine, batches of its backend and the plain ioctl, in turns.

use crate::host::{DeviceEntry, SELFTEST};
use crate::report::note;
use crate::rig::{Rig, Work, page, request};
use anyhow::{Result, ensure};
use dispatch::{Backend, Batch, MAX_BATCH};
use smmu_core::spec::command::RawCommand;
use std::time::{Duration, Instant};

/// Commands of a window, up to the engine's largest.
const SIZES: [usize; 8] = [1, 8, 63, 64, 128, 255, 504, MAX_BATCH];
/// How often each is measured: the shortest counts, in which nobody else ran.
const TIMES: u32 = 200;
const VSID: u32 = 7;

/// So many commands, in each way.
struct Took {
    /// One call.
    bare: Duration,
    /// Calls with one entry.
    bare_single: Duration,
    /// Batches that are there, through the backend.
    backend: Duration,
    /// From the ring.
    engine: Duration,
    /// The same with one entry in each call.
    engine_single: Duration,
    /// What the engine called.
    calls: u64,
}

pub(super) fn run() -> Result<()> {
    note(
        "before coalescing, in us; one: calls with one entry; over: over one bare call; faster: than the same by one",
    );
    note(
        "commands calls  bare one      bare   backend    engine  engine one    over: backend engine  faster: bare engine",
    );
    for commands in SIZES {
        let took = measured(commands)?;
        let us = |took: Duration| took.as_secs_f64() * 1e6;
        let (bare, backend, engine) = (us(took.bare), us(took.backend), us(took.engine));
        let (bare_single, engine_single) = (us(took.bare_single), us(took.engine_single));
        note(&format!(
            "{commands:>8} {:>5} {bare_single:>9.1} {bare:>9.1} {backend:>9.1} {engine:>9.1} {engine_single:>11.1} \
             {:>16.2} {:>6.2} {:>13.1} {:>6.1}",
            took.calls,
            backend / bare,
            engine / bare,
            bare_single / bare,
            engine_single / engine,
        ));
    }
    Ok(())
}

fn measured(commands: usize) -> Result<Took> {
    let mut rig = Rig::new(&[VSID], Work::Stepped)?;
    let mut single = Rig::calling(&[VSID], Work::Stepped, 1)?;
    let window: Vec<_> = (0..commands).map(|at| page(at as u64, 0)).collect();
    let entries = vec![DeviceEntry::slot(VSID, 0); commands];
    let batches = batches(commands);
    let mut took = Took {
        bare: Duration::MAX,
        bare_single: Duration::MAX,
        backend: Duration::MAX,
        engine: Duration::MAX,
        engine_single: Duration::MAX,
        calls: 0,
    };
    for _ in 0..TIMES {
        took.engine = took.engine.min(engine(&mut rig, &window, &mut took.calls)?);
        took.bare = took.bare.min(bare(&rig, &entries, commands)?);
        took.bare_single = took.bare_single.min(bare(&rig, &entries, 1)?);
        took.backend = took.backend.min(backend(&rig, &batches)?);
        let own = engine(&mut single, &window, &mut 0)?;
        took.engine_single = took.engine_single.min(own);
    }
    Ok(took)
}

fn batches(commands: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    for first in (0..commands).step_by(MAX_BATCH) {
        let mut batch = Batch::new();
        for nth in first..commands.min(first + MAX_BATCH) {
            batch.push(request(nth as u64, 0), nth as u32);
        }
        batches.push(batch);
    }
    batches
}

/// From the doorbell to CONS behind the SYNC; writing the commands is the guest's.
fn engine(rig: &mut Rig, window: &[RawCommand], calls: &mut u64) -> Result<Duration> {
    let (before, entries) = rig.kernel.made();
    rig.queue.insert(window)?;
    let at = rig.publish(&[])?.index();
    let begin = Instant::now();
    rig.serve();
    let took = begin.elapsed();
    let (after, all) = rig.kernel.made();
    ensure!(
        all - entries == window.len() as u64,
        "{} entries",
        all - entries
    );
    rig.has_passed(at)?;
    *calls = after - before;
    Ok(took)
}

fn backend(rig: &Rig, batches: &[Batch]) -> Result<Duration> {
    let begin = Instant::now();
    batches
        .iter()
        .try_for_each(|batch| rig.backend.submit(batch))?;
    Ok(begin.elapsed())
}

/// All entries, so many in a call.
fn bare(rig: &Rig, entries: &[DeviceEntry], in_call: usize) -> Result<Duration> {
    let (host, viommu) = (&rig.nest.host, rig.nest.viommu);
    let begin = Instant::now();
    for some in entries.chunks(in_call) {
        host.invalidate(viommu, SELFTEST, some).0?;
    }
    Ok(begin.elapsed())
}
