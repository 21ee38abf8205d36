//! What a worker's time went into, as far as a SYNC that is late can be blamed on it.

use std::time::Duration;

/// Nanoseconds on the engine's clock.
pub(crate) type Nanos = u64;

/// Stretches that a worker remembers.
const GAPS: usize = 4;

/// What took a worker's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Asleep,
    Preempted,
    Backend,
    Guard,
    Other,
}

/// From when to when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Nanos,
    pub(crate) to: Nanos,
}

impl Span {
    fn and(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }

    pub(crate) fn len(self) -> Nanos {
        self.to.saturating_sub(self.from)
    }
}

pub(crate) fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// A worker's recent past.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    last: Option<Nanos>,
    gaps: [Option<(Span, Cause)>; GAPS],
    next: usize,
}

impl Looks {
    /// The time since the last call went into `cause`; remembered if it is long under a limit.
    pub(crate) fn note(&mut self, now: Nanos, limit: Nanos, cause: Cause) {
        let from = self.last.replace(now).unwrap_or(now);
        if now.saturating_sub(from) > limit / 4 {
            self.gaps[self.next] = Some((Span { from, to: now }, cause));
            self.next = (self.next + 1) % GAPS;
        }
    }

    /// The time since the last call went into nothing that is told apart.
    pub(crate) fn pass(&mut self, now: Nanos) {
        self.last = Some(now);
    }

    /// An idle worker has come round, perhaps after a sleep.
    pub(crate) fn idle(&mut self, now: Duration, limit: Duration, slept: bool) {
        let cause = if slept {
            Cause::Asleep
        } else {
            Cause::Preempted
        };
        self.note(nanos(now), nanos(limit), cause);
    }

    /// What took most of `span`, of which the ring itself waited in `guard`.
    pub(crate) fn blame(&self, span: Span, guard: Span) -> Cause {
        let waited = span.and(guard);
        let spent = |cause| {
            let gaps = self.gaps.iter().flatten().filter(|gap| gap.1 == cause);
            gaps.map(|gap| gap.0.and(span).len() - gap.0.and(waited).len())
                .sum::<Nanos>()
        };
        let mut worst = (waited.len(), Cause::Guard);
        let mut known = waited.len();
        for cause in [Cause::Asleep, Cause::Preempted, Cause::Backend] {
            let spent = spent(cause);
            known += spent;
            if spent > worst.0 {
                worst = (spent, cause);
            }
        }
        if span.len().saturating_sub(known) > worst.0 {
            return Cause::Other;
        }
        worst.1
    }
}
