//! Times of many rounds, condensed.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Three digits, of ticks of a clock: finer than a guest's own looks at it.
const DIGITS: u8 = 3;

/// A distribution of times, in nanoseconds. All zero if there were none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half of all took at most this.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// The median over the passes of each pass's median: what the machine does meanwhile then
    /// does not meet one row alone. Ratios are of these.
    pub passes_p50: f64,
    /// The same of each pass's 99th percentile.
    pub passes_p99: f64,
    /// The same of each pass's mean.
    pub passes_mean: f64,
    /// The distribution, one point for each value that occurred.
    pub cdf: Vec<CdfPoint>,
}

/// A point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CdfPoint {
    /// A time.
    pub ns: f64,
    /// Which share of all took at most so long, 0 to 1.
    pub share: f64,
}

/// Collects times pass by pass.
#[derive(Debug)]
pub struct Recorder {
    all: Histogram<u64>,
    pass: Histogram<u64>,
    p50: Vec<u64>,
    p99: Vec<u64>,
    mean: Vec<u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            all: histogram(),
            pass: histogram(),
            p50: Vec::new(),
            p99: Vec::new(),
            mean: Vec::new(),
        }
    }
}

impl Recorder {
    /// One round's time in ticks.
    pub fn record(&mut self, ticks: u64) {
        self.pass += ticks;
    }

    /// Ends a pass; without rounds it is none.
    pub fn end_pass(&mut self) {
        if self.pass.is_empty() {
            return;
        }
        self.p50.push(self.pass.value_at_quantile(0.5));
        self.p99.push(self.pass.value_at_quantile(0.99));
        self.mean.push(self.pass.mean() as u64);
        self.all += &self.pass;
        self.pass.reset();
    }

    /// What the passes have come to, of which each has ended.
    #[must_use]
    pub fn latency(&self, ticks_per_us: f64) -> Latency {
        let count = self.all.len();
        if count == 0 {
            return Latency::default();
        }
        let ns = |ticks: u64| ticks as f64 * 1000.0 / ticks_per_us;
        let quantile = |quantile| ns(self.all.value_at_quantile(quantile));
        let mut seen = 0;
        let points = self.all.iter_recorded().map(|point| {
            seen += point.count_at_value();
            CdfPoint {
                ns: ns(point.value_iterated_to()),
                share: seen as f64 / count as f64,
            }
        });
        Latency {
            cdf: points.collect(),
            count,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: ns(self.all.max()),
            mean: self.all.mean() * 1000.0 / ticks_per_us,
            passes_p50: ns(median(&self.p50)),
            passes_p99: ns(median(&self.p99)),
            passes_mean: ns(median(&self.mean)),
        }
    }
}

/// One that grows as far as it must.
fn histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("only more than five digits are refused")
}

/// The middle of some values, the lower one of two.
fn median(values: &[u64]) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_passes_and_medians_of_each() {
        let mut recorder = Recorder::default();
        for pass in [100, 300, 200] {
            (0..1000).for_each(|_| recorder.record(pass));
            recorder.end_pass();
        }
        recorder.end_pass();
        let latency = recorder.latency(1000.0);
        assert_eq!(
            (latency.count, latency.p50, latency.max),
            (3000, 200.0, 300.0)
        );
        assert_eq!((latency.passes_p50, latency.passes_p99), (200.0, 200.0));
        assert_eq!(latency.cdf.len(), 3);
        assert_eq!(latency.cdf.last().map(|point| point.share), Some(1.0));
        assert!((latency.mean - 200.0).abs() < 1.0);
        assert!((latency.passes_mean - 200.0).abs() < 1.0);
    }

    #[test]
    fn nothing_measured_is_all_zero() {
        assert_eq!(Recorder::default().latency(1000.0), Latency::default());
    }
}
