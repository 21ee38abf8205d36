//! Contenders in turn: every round measures each of them once, so that what disturbs the machine
//! disturbs all of them alike.

use std::time::Duration;

/// One way to do the same work. The function does it once and says how long its timed part took.
pub struct Contender<'a> {
    /// For the reader.
    pub name: &'static str,
    /// Does it once.
    pub round: Box<dyn FnMut() -> Duration + 'a>,
}

impl std::fmt::Debug for Contender<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl<'a> Contender<'a> {
    /// A contender.
    pub fn new(name: &'static str, round: impl FnMut() -> Duration + 'a) -> Self {
        Self {
            name,
            round: Box::new(round),
        }
    }
}

/// What each round of each contender took, in nanoseconds per unit of work, in the order of the
/// rounds. `done` is called after every round.
#[must_use]
pub fn times(
    contenders: &mut [Contender<'_>],
    rounds: usize,
    units: usize,
    mut done: impl FnMut(),
) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            // Another one begins each round: nobody always follows the same one.
            let at = (turn + round) % contenders.len();
            let took = (contenders[at].round)();
            times[at].push(took.as_nanos() as f64 / units as f64);
        }
        done();
    }
    times
}

/// The median of what the rounds took; zero of none.
#[must_use]
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The median time of each contender, in nanoseconds per unit of work.
#[must_use]
pub fn medians(contenders: &mut [Contender<'_>], rounds: usize, units: usize) -> Vec<f64> {
    let times = times(contenders, rounds, units, || {});
    times.into_iter().map(median).collect()
}
