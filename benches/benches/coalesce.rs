//! STAGE coalesce: a window of invalidations in, a batch of fewer out. Windows of 256 commands.

use criterion::{Criterion, Throughput};
use dispatch::backend::Software;
use dispatch::coalesce::Coalescer;
use dispatch::{Backend, BackendCapabilities, Batch, Invalidation};
use smmu_core::command::Command;
use smmu_core::decode::decode;
use smmu_core::spec::command::RawCommand;
use std::hint::black_box;
use vcmdq_benches::rig::capabilities;
use vcmdq_benches::streams;

/// Of a backend whose calls are made at once.
const WINDOW: usize = 256;

type Window = Vec<(Invalidation, u32)>;

/// The invalidations among the commands, in windows, each with its place.
fn windows(commands: &[RawCommand]) -> Vec<Window> {
    let caps = capabilities();
    let request = |(at, raw): (usize, &RawCommand)| match decode(*raw, &caps) {
        Ok(Command::Tlbi(tlbi)) => Some((Invalidation::from_tlbi(tlbi), at as u32)),
        _ => None,
    };
    commands
        .chunks(WINDOW)
        .map(|window| window.iter().enumerate().filter_map(request).collect())
        .collect()
}

/// How many requests are left.
fn coalesce(
    windows: &[Window],
    coalescer: &mut Coalescer,
    batch: &mut Batch,
    capabilities: &BackendCapabilities,
) -> usize {
    let mut left = 0;
    for window in windows {
        coalescer.restart(capabilities);
        for (request, origin) in window {
            coalescer.push(*black_box(request), *origin);
        }
        coalescer.finish();
        while coalescer.next_batch(batch) {
            left += black_box(&*batch).len();
        }
    }
    left
}

fn stage(c: &mut Criterion) {
    let mut group = c.benchmark_group("coalesce");
    let capabilities = Software::default().capabilities();
    let (mut coalescer, mut batch) = (Coalescer::new(&capabilities), Batch::new());
    let inputs = [
        ("neighbours", streams::neighbours(64)),
        ("recorded", streams::recorded()),
        ("random", streams::random(64)),
    ];
    for (name, commands) in inputs {
        let windows = windows(&commands);
        let requests: usize = windows.iter().map(Vec::len).sum();
        let left = coalesce(&windows, &mut coalescer, &mut batch, &capabilities);
        println!("coalesce/{name}: {requests} requests become {left}");
        assert!(left > 0 && left <= requests);
        group.throughput(Throughput::Elements(requests as u64));
        group.bench_function(name, |b| {
            b.iter(|| coalesce(&windows, &mut coalescer, &mut batch, &capabilities));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    stage(&mut criterion);
    criterion.final_summary();
}
