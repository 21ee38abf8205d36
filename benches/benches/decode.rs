//! STAGE decode: 128 bits in, a typed command out.

use criterion::{Criterion, Throughput};
use smmu_core::decode::decode;
use std::hint::black_box;
use vcmdq_benches::rig::capabilities;
use vcmdq_benches::streams;

fn stage(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let caps = capabilities();
    let inputs = [
        ("recorded", streams::recorded()),
        ("tlbi", streams::tlbis(4096)),
        ("mixed", streams::mixed(4096)),
    ];
    for (name, commands) in inputs {
        let illegal = commands.iter().filter(|raw| decode(**raw, &caps).is_err());
        assert_eq!(illegal.count(), 0, "{name} is legal");
        group.throughput(Throughput::Elements(commands.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for raw in &commands {
                    let _command = black_box(decode(*black_box(raw), &caps));
                }
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    stage(&mut criterion);
    criterion.final_summary();
}
