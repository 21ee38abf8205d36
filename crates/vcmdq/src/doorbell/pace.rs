//! What a worker learns from recent arrivals: how long to spin, when a way around the exit pays, and
//! when to have it closed.
//!
//! | rule | bound on what is wasted |
//! |---|---|
//! | spins for `Settings::spin` where the guest's pauses are shorter on average; not at all where they are longer | one spin for a longer pause among short ones |
//! | now and then spins nevertheless, after arrivals that it slept through | one spin for 16 of them |
//! | dozes while a way is open, an eighth of the idle time long, between `doze` and ten times that | some hundred looks until it is closed |
//! | asks for the way when gaps are shorter than [`BUSY`], gives it back when idle for [`IDLE`] | one flip in 50 ms |
//!
//! Gaps lie between two completions. A guest that waits for its SYNC makes them at least as long as
//! the worker sleeps, so a worker that went by them would sleep for as long as it has slept
//! before. What it learns its spin from are only pauses that it was awake for.

use super::gate::Gate;
use crate::ring::Ring;
use std::sync::Arc;
use std::time::Duration;

/// Gaps below this make a way around the exit worth its flips.
const BUSY: Duration = Duration::from_micros(500);
/// Idle for so long, a worker has the ways closed and sleeps until a doorbell rings.
const IDLE: Duration = Duration::from_millis(1);
/// Rounds with work after which the clock is looked at, though there was no idle one.
const ROUNDS: u32 = 64;
/// The most that a pause counts as: a burst behind it is soon one again.
const LONG: Duration = Duration::from_millis(4);
/// Of so many arrivals that the worker slept through, it spins for the next one once. Sooner for
/// the first ones.
const PROBE: u32 = 16;

/// The gates that one worker looks after, and its recent past. Without gates it learns nothing.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    gates: Vec<Arc<Gate>>,
    /// Average of the last gaps between arrivals.
    gap: Option<Duration>,
    /// Average of the last pauses of the guest that the worker was awake for.
    pause: Option<Duration>,
    /// It has slept since the last arrival.
    slept: bool,
    /// Arrivals in a row that it slept through.
    missed: u32,
    arrived: Option<Duration>,
    worked: bool,
    rounds: u32,
}

impl Pace {
    /// For these rings, each gate once.
    pub(crate) fn follow(&mut self, rings: &[Arc<Ring>]) {
        self.gates.clear();
        for gate in rings.iter().filter_map(|ring| ring.gate.as_ref()) {
            if !self.gates.iter().any(|known| Arc::ptr_eq(known, gate)) {
                self.gates.push(gate.clone());
            }
        }
    }

    /// The worker has found work. Whether it has been busy for so long that it should look at the
    /// clock and call [`rests`](Self::rests).
    #[inline]
    pub(crate) fn has_worked(&mut self) -> bool {
        self.worked = true;
        self.rounds += 1;
        self.rounds >= ROUNDS && !self.gates.is_empty()
    }

    /// The worker has nothing more to do, at `now`.
    pub(crate) fn rests(&mut self, now: Duration) {
        let rounds = std::mem::take(&mut self.rounds).max(1);
        if !std::mem::take(&mut self.worked) || self.gates.is_empty() {
            return;
        }
        if let Some(before) = self.arrived.replace(now) {
            let gap = (now.saturating_sub(before) / rounds).min(LONG);
            self.gap = Some(averaged(self.gap, gap));
            self.learn(gap);
        }
        if self.gap.is_some_and(|gap| gap <= BUSY) {
            self.want(true);
        }
    }

    /// From a gap, what the guest's pauses are.
    fn learn(&mut self, gap: Duration) {
        if std::mem::take(&mut self.slept) {
            self.missed = self.missed.saturating_add(1);
            // Longer than it has spun; how long is not known.
            let longer = |pause: Duration| pause.saturating_mul(2).min(LONG);
            self.pause = Some(self.pause.map_or(LONG, longer));
        } else if std::mem::take(&mut self.missed) != 0 {
            self.pause = Some(gap);
        } else {
            self.pause = Some(averaged(self.pause, gap));
        }
    }

    fn want(&self, open: bool) {
        self.gates.iter().for_each(|gate| gate.want(open));
    }

    /// How long to spin, `most` at most.
    pub(crate) fn spin(&self, most: Duration, now: Duration) -> Duration {
        let Some(pause) = self.pause else { return most };
        if self.gates.is_empty() {
            most
        } else if self.idle(now) > most {
            Duration::ZERO
        } else if pause <= most || self.probes() {
            // Not just a few pauses: whoever interrupted a vCPU for a moment would find the worker
            // asleep, and the guest's next SYNC would wait for a whole doze.
            most
        } else {
            Duration::ZERO
        }
    }

    /// Whether the next arrival is one to be awake for, to see whether it comes soon.
    fn probes(&self) -> bool {
        self.missed.is_power_of_two() || (self.missed != 0 && self.missed % PROBE == 0)
    }

    fn idle(&self, now: Duration) -> Duration {
        self.arrived
            .map_or(Duration::MAX, |arrived| now.saturating_sub(arrived))
    }

    /// How long a worker may sleep that has found nothing, if not until a doorbell rings; has the
    /// ways closed if that is better.
    pub(crate) fn doze(&mut self, doze: Duration, now: Duration) -> Option<Duration> {
        self.slept = true;
        let idle = self.idle(now);
        if idle >= IDLE {
            self.want(false);
        }
        let open = self.gates.iter().any(|gate| gate.is_open());
        open.then(|| (idle / 8).clamp(doze, doze.saturating_mul(10)))
    }
}

fn averaged(average: Option<Duration>, new: Duration) -> Duration {
    average.map_or(new, |average| average - average / 4 + new / 4)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::gate::Way;
    use super::*;
    use crate::seams::Passage;
    use vcmdq_sync::thread::Parker;

    struct Nothing;

    impl Passage for Nothing {
        fn open(&self) -> std::io::Result<()> {
            Ok(())
        }

        fn close(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const MOST: Duration = Duration::from_micros(50);
    const DOZE: Duration = Duration::from_micros(100);

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    fn pace() -> (Pace, Arc<Gate>) {
        let gate = Gate::new(Way::Page(Arc::new(Nothing)), Arc::new(Parker::new()));
        let gate = Arc::new(gate);
        let gates = vec![gate.clone()];
        (
            Pace {
                gates,
                ..Pace::default()
            },
            gate,
        )
    }

    /// Work every `gap` from `start` on, `count` times; the end.
    fn arrivals(pace: &mut Pace, start: Duration, gap: Duration, count: u32) -> Duration {
        for n in 1..=count {
            pace.has_worked();
            pace.rests(start + gap * n);
        }
        start + gap * count
    }

    #[test]
    fn a_busy_guest_is_waited_for_and_gets_its_way() {
        let (mut pace, gate) = pace();
        assert_eq!(pace.spin(MOST, us(0)), MOST, "nothing is known yet");
        let now = arrivals(&mut pace, us(0), us(5), 20);
        assert_eq!(gate.wish(), Some(true));
        assert_eq!(pace.spin(MOST, now), MOST);
    }

    #[test]
    fn rare_arrivals_are_not_spun_for_and_open_nothing() {
        let (mut pace, gate) = pace();
        pace.doze(DOZE, us(0));
        let now = arrivals(&mut pace, us(0), us(5000), 20);
        assert_eq!((pace.spin(MOST, now), gate.wish()), (Duration::ZERO, None));
        assert_eq!(pace.doze(DOZE, now), None, "asleep until a doorbell rings");
    }

    #[test]
    fn a_burst_behind_a_long_pause_is_soon_one_again() {
        let (mut pace, gate) = pace();
        let before = arrivals(&mut pace, us(0), us(5), 20);
        gate.want(false);
        assert_eq!(pace.doze(DOZE, before), None);
        let now = arrivals(&mut pace, before + us(10_000_000), us(5), 8);
        assert_eq!((gate.wish(), pace.spin(MOST, now)), (Some(true), MOST));
    }

    /// The guest goes on 3 µs after each SYNC, but the worker, which has begun with an exit and a
    /// wake-up for each, sleeps for so long that the gaps are longer than it would spin.
    #[test]
    fn a_guest_that_waits_for_a_sleeping_worker_is_not_taken_for_a_slow_one() {
        let (mut pace, gate) = pace();
        let bell = super::super::Bell::new(1, 1);
        gate.flip(true, &bell).unwrap();
        let mut now = us(0);
        let mut slept = Vec::new();
        for _ in 0..40 {
            let spun = pace.spin(MOST, now);
            if slept.len() >= 3 && spun >= us(3) {
                now += us(3);
            } else {
                slept.push(pace.doze(DOZE, now + spun));
                now += us(160);
            }
            pace.has_worked();
            pace.rests(now);
        }
        assert!(slept.len() <= 5, "it went on sleeping: {slept:?}");
        assert_eq!(pace.spin(MOST, now), MOST);
    }

    /// A guest whose pauses are longer than a spin is spun for in vain now and then only.
    #[test]
    fn what_a_slow_guest_wastes_is_bounded() {
        let (mut pace, gate) = pace();
        let bell = super::super::Bell::new(1, 1);
        gate.flip(true, &bell).unwrap();
        let (mut now, mut wasted) = (us(0), Duration::ZERO);
        for _ in 0..1000 {
            wasted += pace.spin(MOST, now);
            pace.doze(DOZE, now);
            now += us(160);
            pace.has_worked();
            pace.rests(now);
        }
        assert!(wasted <= now / 16, "{wasted:?} of {now:?}");
    }

    #[test]
    fn an_idle_worker_dozes_longer_and_longer_and_gives_the_way_back() {
        let (mut pace, gate) = pace();
        let bell = super::super::Bell::new(1, 1);
        let now = arrivals(&mut pace, us(0), us(5), 20);
        gate.flip(true, &bell).unwrap();
        assert_eq!(pace.doze(DOZE, now + us(100)), Some(DOZE));
        assert_eq!(gate.wish(), None, "it may be busy again at once");
        assert_eq!(pace.spin(MOST, now + us(100)), Duration::ZERO);
        assert_eq!(pace.doze(DOZE, now + us(4000)), Some(us(500)));
        assert_eq!(gate.wish(), Some(false));
        gate.flip(false, &bell).unwrap();
        assert_eq!(pace.doze(DOZE, now + us(60_000)), None);
    }

    /// The settings' defaults; 50 ms until the way may be closed. A look costs 20 µs at most.
    #[test]
    fn what_an_idle_worker_wastes_is_bounded() {
        let (mut pace, gate) = pace();
        let bell = super::super::Bell::new(1, 1);
        let start = arrivals(&mut pace, us(0), us(5), 20);
        gate.flip(true, &bell).unwrap();
        let (mut now, mut wasted) = (start, Duration::ZERO);
        while now < start + us(50_000) {
            let spun = pace.spin(MOST, now) + us(20);
            let slept = pace.doze(DOZE, now + spun).expect("open");
            wasted += spun;
            now += spun + slept;
        }
        assert!(wasted < us(10_000), "{wasted:?} in the first second");
    }
}
