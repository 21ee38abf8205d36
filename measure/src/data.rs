//! What every row is made of: distributions of times, medians of costs, where threads ran.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A part of the run, or why it is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section<T> {
    /// It was measured.
    Measured(T),
    /// It was not: a sentence for the reader.
    Skipped(String),
}

impl<T> Section<T> {
    /// The measurement, if there is one.
    #[must_use]
    pub fn measured(&self) -> Option<&T> {
        match self {
            Self::Measured(measured) => Some(measured),
            Self::Skipped(_) => None,
        }
    }
}

impl<T> From<Result<T, String>> for Section<T> {
    fn from(result: Result<T, String>) -> Self {
        result.map_or_else(Self::Skipped, Self::Measured)
    }
}

/// A thread of a measurement, and where it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// For the reader: "worker 0", "8 producers".
    pub thread: String,
    /// The CPU that it was pinned to; `None`: the system chose.
    pub cpu: Option<usize>,
}

impl Placed {
    /// A thread on a CPU.
    #[must_use]
    pub fn on(thread: &str, cpu: usize) -> Self {
        Self {
            thread: thread.to_owned(),
            cpu: Some(cpu),
        }
    }
}

/// A point of a cumulative distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CdfPoint {
    /// Nanoseconds.
    pub ns: u64,
    /// The share of times that were no longer, 0 to 1.
    pub share: f64,
}

/// How long something took, one time each, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// Whose times they are; the constants beside each row name them.
    pub name: String,
    /// How many times.
    pub count: u64,
    /// Median of all of them.
    pub p50: u64,
    /// 99 % took no longer.
    pub p99: u64,
    /// 99.9 % took no longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
    /// Median of each round, in order: how steady the machine was.
    pub rounds_p50: Vec<u64>,
    /// Median over the rounds of each round's 99.9th percentile: one bad moment of the machine
    /// does not decide it.
    pub median_p999: u64,
    /// The same of the 99th.
    pub median_p99: u64,
    /// The whole distribution, some hundred points, denser towards the tail.
    pub cdf: Vec<CdfPoint>,
}

/// Times are gathered round by round, then summed up.
#[derive(Clone, Debug)]
pub struct Gathered {
    name: String,
    rounds: Vec<Histogram<u64>>,
}

impl Gathered {
    /// Nothing yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rounds: Vec::new(),
        }
    }

    /// One more round.
    pub fn add(&mut self, round: Histogram<u64>) {
        self.rounds.push(round);
    }

    /// The sum. A `Gathered` without rounds gives zeros.
    #[must_use]
    pub fn sum_up(&self) -> Latencies {
        let mut all = vcmdq_benches::ping_pong::no_trips();
        for round in &self.rounds {
            // Same bounds by construction; what would not fit is clamped, not lost.
            for value in round.iter_recorded() {
                all.saturating_record_n(value.value_iterated_to(), value.count_at_value());
            }
        }
        let of_rounds = |quantile: f64| {
            let each = self.rounds.iter();
            each.map(|round| round.value_at_quantile(quantile))
                .collect::<Vec<_>>()
        };
        let points = all.iter_quantiles(8).map(|point| CdfPoint {
            ns: point.value_iterated_to(),
            share: point.quantile(),
        });
        Latencies {
            name: self.name.clone(),
            count: all.len(),
            p50: all.value_at_quantile(0.5),
            p99: all.value_at_quantile(0.99),
            p999: all.value_at_quantile(0.999),
            max: all.max(),
            mean: all.mean(),
            rounds_p50: of_rounds(0.5),
            median_p999: median(of_rounds(0.999)),
            median_p99: median(of_rounds(0.99)),
            cdf: points.collect(),
        }
    }
}

/// What one unit of work costs, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Whose cost it is.
    pub name: String,
    /// Median over the rounds.
    pub ns: f64,
    /// The quarter of the rounds that was fastest took no longer.
    pub p25: f64,
    /// Three quarters of the rounds took no longer.
    pub p75: f64,
    /// How many rounds.
    pub rounds: usize,
}

impl Cost {
    /// From what each round took for one unit. Without rounds: zeros.
    #[must_use]
    pub fn of(name: &str, mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let at = |quarters: usize| {
            let place = rounds.len() * quarters / 4;
            rounds
                .get(place.min(rounds.len().saturating_sub(1)))
                .copied()
                .unwrap_or(0.0)
        };
        Self {
            name: name.to_owned(),
            ns: at(2),
            p25: at(1),
            p75: at(3),
            rounds: rounds.len(),
        }
    }
}

/// The cost of somebody in a list, by name.
#[must_use]
pub fn cost_of(costs: &[Cost], name: &str) -> Option<f64> {
    costs
        .iter()
        .find(|cost| cost.name == name)
        .map(|cost| cost.ns)
}

/// The median of a list; zero of an empty one.
#[must_use]
pub fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vcmdq_benches::ping_pong::no_trips;

    fn round(times: std::ops::RangeInclusive<u64>) -> Histogram<u64> {
        let mut round = no_trips();
        for time in times {
            round.record(time).expect("in range");
        }
        round
    }

    #[test]
    fn rounds_are_added_up_and_kept_apart() {
        let mut gathered = Gathered::new("x");
        gathered.add(round(1..=100));
        gathered.add(round(101..=200));
        gathered.add(round(201..=300));
        let all = gathered.sum_up();
        assert_eq!((all.count, all.p50, all.max), (300, 150, 300));
        assert_eq!(all.rounds_p50, [50, 150, 250]);
        assert_eq!((all.median_p99, all.p99), (199, 297));
        let shares: Vec<f64> = all.cdf.iter().map(|point| point.share).collect();
        assert!(shares.is_sorted() && shares.last() == Some(&1.0));
    }

    #[test]
    fn nothing_gathered_gives_zeros() {
        let none = Gathered::new("x").sum_up();
        assert_eq!((none.count, none.p50, none.median_p99), (0, 0, 0));
        assert_eq!(Cost::of("x", Vec::new()).ns, 0.0);
    }

    #[test]
    fn a_cost_is_the_median_of_its_rounds() {
        let cost = Cost::of("x", vec![9.0, 1.0, 5.0, 2.0, 100.0]);
        assert_eq!(
            (cost.p25, cost.ns, cost.p75, cost.rounds),
            (2.0, 5.0, 9.0, 5)
        );
        assert_eq!(cost_of(&[cost], "x"), Some(5.0));
        assert_eq!(cost_of(&[], "x"), None);
    }
}
