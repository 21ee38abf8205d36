//! One TLBI and its SYNC, polled: from the store to PROD in a shared page to the SYNC's word in
//! the guest's own slot; and to CONS in the mapped page of a VCMDQ. Beside an rtrb ping-pong and one
//! of two bare cache lines.

use criterion::Criterion;
use dispatch::backend::Software;
use smmu_core::guest_memory::GuestMemory;
use std::sync::Arc;
use std::time::Duration;
use vcmdq_benches::ping_pong::{self, Pins, Trips};
use vcmdq_benches::rig::guest_memory;
use vcmdq_benches::{is_quick, plants, streams, table, vcmdq_trip};

const NAMES: [&str; 5] = ["engine", "rtrb", "two lines", "1 VCMDQ", "8 VCMDQs"];

/// At most so many times the rtrb ping-pong, in the median.
const GOAL: f64 = 1.5;

struct Sides {
    pins: Pins,
    clock_cost: u64,
    memory: Arc<dyn GuestMemory>,
    software: Arc<Software>,
}

impl Sides {
    fn new() -> Option<Self> {
        let Some(pins) = Pins::take() else {
            println!("round_trip: skipped, two threads cannot be pinned to two cores here");
            return None;
        };
        let software = Arc::new(Software::default());
        // A cache that has never held anything makes an invalidation cheaper than it is.
        let entries = plants::of(&streams::tlbis(64));
        plants::plant(&software, &entries);
        Some(Self {
            pins,
            clock_cost: ping_pong::clock_cost(),
            memory: guest_memory(),
            software,
        })
    }

    fn run(&self, contender: usize, count: u64, trips: &mut Trips) {
        let Self {
            pins, clock_cost, ..
        } = *self;
        match contender {
            0 => {
                let backend = self.software.clone();
                ping_pong::engine(pins, &self.memory, backend, count, clock_cost, trips);
            }
            1 => ping_pong::rtrb(pins, count, clock_cost, trips),
            2 => ping_pong::bare(pins, count, clock_cost, trips),
            3 => self.vcmdq(0, count, trips),
            _ => self.vcmdq(3, count, trips),
        }
    }

    fn vcmdq(&self, log2_queues: u8, count: u64, trips: &mut Trips) {
        let backend = self.software.clone();
        let trip = (count, self.clock_cost);
        vcmdq_trip::vcmdq(self.pins, &self.memory, backend, log2_queues, trip, trips);
    }
}

fn stage(c: &mut Criterion, sides: &Sides) {
    let mut group = c.benchmark_group("round_trip");
    for (contender, name) in NAMES.into_iter().enumerate() {
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let mut trips = ping_pong::no_trips();
                sides.run(contender, count, &mut trips);
                Duration::from_nanos((trips.mean() * count as f64) as u64)
            });
        });
    }
    group.finish();
}

/// Criterion reports means; who waits for a SYNC feels the median and the tail.
fn goals(sides: &Sides) {
    let (rounds, count) = if is_quick() { (2, 2_000) } else { (40, 10_000) };
    let mut trips = NAMES.map(|_| ping_pong::no_trips());
    let mut medians = NAMES.map(|_| Vec::new());
    for _ in 0..rounds {
        for contender in 0..NAMES.len() {
            let mut own = ping_pong::no_trips();
            sides.run(contender, count, &mut own);
            medians[contender].push(own.value_at_quantile(0.5));
            trips[contender].add(&own).expect("same bounds");
        }
    }
    let p50 = |contender: usize| trips[contender].value_at_quantile(0.5);
    let mut rows = Vec::new();
    for (contender, name) in NAMES.into_iter().enumerate() {
        let ratio = p50(contender) as f64 / p50(1).max(1) as f64;
        rows.push(vec![
            name.to_owned(),
            p50(contender).to_string(),
            trips[contender].value_at_quantile(0.99).to_string(),
            medians[contender]
                .iter()
                .min()
                .copied()
                .unwrap_or(0)
                .to_string(),
            format!("{ratio:.2}x"),
            if contender == 0 {
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
    let Some(sides) = Sides::new() else { return };
    let mut criterion = Criterion::default().configure_from_args();
    stage(&mut criterion, &sides);
    criterion.final_summary();
    goals(&sides);
}
