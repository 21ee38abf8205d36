//! One TLBI and its SYNC, polled: from the store to PROD in a shared page to the SYNC's word in
//! the guest's own slot; and to CONS in the mapped page of a VCMDQ. Beside an rtrb ping-pong and one
//! of two bare cache lines.

use criterion::Criterion;
use std::time::Duration;
use vcmdq_benches::ping_pong::{self, Pins};
use vcmdq_benches::trips::{Sides, Who};
use vcmdq_benches::{is_quick, table};

/// At most so many times the rtrb ping-pong, in the median.
const GOAL: f64 = 1.5;

fn stage(c: &mut Criterion, sides: &Sides) {
    let mut group = c.benchmark_group("round_trip");
    for who in Who::ALL {
        group.bench_function(who.name(), |b| {
            b.iter_custom(|count| {
                let mut trips = ping_pong::no_trips();
                sides.run(who, count, &mut trips);
                Duration::from_nanos((trips.mean() * count as f64) as u64)
            });
        });
    }
    group.finish();
}

/// Criterion reports means; who waits for a SYNC feels the median and the tail.
fn goals(sides: &Sides) {
    let (rounds, count) = if is_quick() { (2, 2_000) } else { (40, 10_000) };
    let mut trips = Who::ALL.map(|_| ping_pong::no_trips());
    let mut medians = Who::ALL.map(|_| Vec::new());
    for _ in 0..rounds {
        for (contender, who) in Who::ALL.into_iter().enumerate() {
            let mut own = ping_pong::no_trips();
            sides.run(who, count, &mut own);
            medians[contender].push(own.value_at_quantile(0.5));
            trips[contender].add(&own).expect("same bounds");
        }
    }
    let p50 = |contender: usize| trips[contender].value_at_quantile(0.5);
    let is_rtrb = |who: &Who| *who == Who::Rtrb;
    let rtrb = Who::ALL.iter().position(is_rtrb).map_or(1, p50).max(1) as f64;
    let mut rows = Vec::new();
    for (contender, who) in Who::ALL.into_iter().enumerate() {
        let ratio = p50(contender) as f64 / rtrb;
        rows.push(vec![
            who.name().to_owned(),
            p50(contender).to_string(),
            trips[contender].value_at_quantile(0.99).to_string(),
            medians[contender]
                .iter()
                .min()
                .copied()
                .unwrap_or(0)
                .to_string(),
            format!("{ratio:.2}x"),
            if who == Who::SharedPage {
                table::yes_no(ratio <= GOAL)
            } else {
                String::new()
            },
        ]);
    }
    let title = format!(
        "Polled round trips, {} of each, cores {} and {}, the clock's {} ns taken off",
        rounds * count,
        sides.pins.asks.id,
        sides.pins.answers.id,
        sides.clock_cost
    );
    let header = [
        "",
        "p50 ns",
        "p99 ns",
        "best round's p50",
        "of rtrb",
        "goal 1.5x met",
    ];
    table::print(&title, &header, &rows);
}

fn main() {
    let Some(pins) = Pins::take() else {
        println!("round_trip: skipped, two threads cannot be pinned to two cores here");
        return;
    };
    let sides = Sides::new(pins);
    let mut criterion = Criterion::default().configure_from_args();
    stage(&mut criterion, &sides);
    criterion.final_summary();
    goals(&sides);
}
