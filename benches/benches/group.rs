//! A TLBI and its SYNC through a group of two instances, each of whose calls costs 5 µs: the wait is to be
//! the slowest one's, not the sum.

use criterion::Criterion;
use std::time::Duration;
use vcmdq_benches::backends::InjectedCost;
use vcmdq_benches::group::Group;
use vcmdq_benches::ping_pong::Pins;
use vcmdq_benches::{is_quick, table};

/// At most so many times one instance's, in the median.
const GOAL: f64 = 1.5;

struct Contender {
    name: &'static str,
    group: Group,
    took: Vec<Duration>,
}

fn contenders(pins: &Pins) -> Vec<Contender> {
    let group = |members, threads| Group::new(members, InjectedCost::CALL, threads);
    let contender = |name, group| Contender {
        name,
        group,
        took: Vec::new(),
    };
    vec![
        contender("one instance", group(1, None)),
        contender("two, at the same time", group(2, Some(pins))),
        contender("two, one after the other", group(2, None)),
    ]
}

fn stage(c: &mut Criterion, contenders: &mut [Contender]) {
    let mut group = c.benchmark_group("group");
    for contender in contenders {
        group.bench_function(contender.name, |b| {
            b.iter_custom(|count| (0..count).map(|_| contender.group.trip()).sum());
        });
    }
    group.finish();
}

fn goals(contenders: &mut [Contender]) {
    let (rounds, trips) = if is_quick() { (2, 200) } else { (40, 1_000) };
    for _ in 0..rounds {
        for contender in &mut *contenders {
            let group = &mut contender.group;
            contender.took.extend((0..trips).map(|_| group.trip()));
        }
    }
    let quantile = |contender: &Contender, share: f64| {
        let mut took = contender.took.clone();
        took.sort_unstable();
        took[(took.len() as f64 * share) as usize].as_nanos() as f64
    };
    let one = quantile(&contenders[0], 0.5);
    let row = |contender: &Contender| {
        let p50 = quantile(contender, 0.5);
        let ratio = p50 / one;
        let judged = contender.name.ends_with("time");
        vec![
            contender.name.to_owned(),
            format!("{p50:.0}"),
            format!("{:.0}", quantile(contender, 0.99)),
            format!("{ratio:.2}x"),
            if judged {
                table::yes_no(ratio <= GOAL)
            } else {
                String::new()
            },
        ]
    };
    let rows: Vec<_> = contenders.iter().map(row).collect();
    let title = format!(
        "A TLBI and its SYNC, calls of 5 µs, {} of each",
        rounds * trips
    );
    let header = ["", "p50 ns", "p99 ns", "of one", "goal 1.5x met"];
    table::print(&title, &header, &rows);
}

fn main() {
    let Some(pins) = Pins::take() else {
        println!("group: skipped, two threads cannot be pinned to two cores here");
        return;
    };
    let mut contenders = contenders(&pins);
    let mut criterion = Criterion::default().configure_from_args();
    stage(&mut criterion, &mut contenders);
    criterion.final_summary();
    goals(&mut contenders);
}
