//! Round trips between two cores: one TLBI and its SYNC through the engine, beside queues of other
//! crates, bare cache lines, and records that the other core has just written.

use crate::cores::Pair;
use crate::data::{Cost, Gathered, Latencies, Placed};
use crate::options::{Options, Part, Progress};
use serde::{Deserialize, Serialize};
use vcmdq_benches::ping_pong::{no_trips, read_records};
use vcmdq_benches::trips::{Sides, Who};

/// One TLBI and a SYNC, PROD in a shared page.
pub const SHARED_PAGE: &str = Who::SharedPage.name();
/// The same by a doorbell call to a worker that is awake.
pub const DOORBELL: &str = Who::Doorbell.name();
/// The stores and loads of the first, with nobody who executes anything.
pub const PROTOCOL: &str = Who::Protocol.name();
/// Two rtrb queues.
pub const RTRB: &str = Who::Rtrb.name();
/// Two of crossbeam's `ArrayQueue`s.
pub const ARRAY_QUEUE: &str = Who::ArrayQueue.name();
/// Two cache lines.
pub const TWO_LINES: &str = Who::TwoLines.name();
/// One cache line.
pub const ONE_LINE: &str = Who::OneLine.name();
/// The page of the only VCMDQ.
pub const VCMDQ_1: &str = Who::Vcmdq1.name();
/// The page of the first of eight VCMDQs.
pub const VCMDQ_8: &str = Who::Vcmdq8.name();

/// Records in a round of the bare read: as many commands as a window takes.
const RECORDS: usize = 256;

/// What was measured. The look at the clock is taken off every time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// Who ran where.
    pub placement: Vec<Placed>,
    /// What a look at the clock costs, in nanoseconds.
    pub clock_cost_ns: u64,
    /// In the order of [`Who::ALL`].
    pub contenders: Vec<Latencies>,
    /// Both words of a 16-byte record that the other core has just written, per record.
    pub record_read: Cost,
}

impl RoundTrips {
    /// Somebody's times.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Latencies> {
        self.contenders.iter().find(|one| one.name == name)
    }
}

pub(crate) fn measure(
    options: &Options,
    pair: &Pair,
    progress: &dyn Progress,
) -> Result<RoundTrips, String> {
    let rounds = options.rounds(40, 2);
    let count = options.rounds(10_000, 500) as u64;
    let sides = Sides::new(pair.pins());
    progress.part(Part::RoundTrips, rounds as u64);
    let mut gathered = Who::ALL.map(|who| Gathered::new(who.name()));
    let mut read = Vec::new();
    for round in 0..rounds {
        for turn in 0..Who::ALL.len() {
            let at = (turn + round) % Who::ALL.len();
            let mut trips = no_trips();
            sides.run(Who::ALL[at], count, &mut trips);
            gathered[at].add(trips);
        }
        read.extend(read_records(
            pair.pins(),
            RECORDS,
            count / 50,
            sides.clock_cost,
        ));
        progress.step();
    }
    let (first, second) = pair.numbers();
    Ok(RoundTrips {
        placement: vec![
            Placed::on("the side that asks", first),
            Placed::on("worker, or the side that answers", second),
        ],
        clock_cost_ns: sides.clock_cost,
        contenders: gathered.iter().map(Gathered::sum_up).collect(),
        record_read: Cost::of("bare read", read),
    })
}
