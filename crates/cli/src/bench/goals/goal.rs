//! What a goal is, and when it is met. Nothing here knows what is measured.

use crate::bench::plot::Unit;
use serde::Serialize;

/// One row of the table of goals.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    /// Unique, for links.
    pub(crate) id: &'static str,
    /// What is promised.
    pub(crate) what: &'static str,
    /// Its figures; the goal is met if all of them meet their bounds.
    pub(crate) parts: Vec<Part>,
    /// What a reader must know besides; may be empty.
    pub(crate) note: String,
}

/// A figure with a bound.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) bound: Bound,
    pub(crate) unit: Unit,
    pub(crate) reading: Reading,
    /// The same with the cost of an empty exit taken out.
    pub(crate) without_exits: Option<WithoutExits>,
}

/// A figure, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reading {
    /// The figure, and in words what it was computed from.
    Measured { value: f64, from: String },
    /// A sentence.
    NotMeasured(String),
}

/// A figure with the cost of an empty exit taken out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WithoutExits {
    pub(crate) reading: Reading,
    pub(crate) unit: Unit,
    /// Not every goal has one for it.
    pub(crate) bound: Option<Bound>,
}

/// Which figures are good enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// The limit itself is too much.
    Below(f64),
}

/// What a goal has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Met,
    NotMeasured,
    Missed,
}

impl Bound {
    pub(crate) fn limit(self) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) | Self::Below(limit) => limit,
        }
    }

    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::Below(limit) => value < limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    /// As the table says it: `≤ 1.5×`.
    pub(crate) fn show(self, unit: Unit) -> String {
        let sign = match self {
            Self::AtMost(_) => "≤",
            Self::AtLeast(_) => "≥",
            Self::Below(_) => "<",
        };
        format!("{sign} {}", unit.show(self.limit()))
    }

    /// How many times as good as demanded: 1 is just met, 2 twice as good, 0.5 half as good.
    /// Shares that must be large are compared by what they lack.
    pub(crate) fn score(self, value: f64, unit: Unit) -> f64 {
        let score = match self {
            Self::AtLeast(limit) if unit == Unit::Share => (1.0 - limit) / (1.0 - value),
            Self::AtLeast(limit) => value / limit,
            Self::AtMost(limit) | Self::Below(limit) => limit / value,
        };
        // 0/0: nothing is lacking where nothing may lack.
        if score.is_nan() { 1.0 } else { score.max(0.0) }
    }
}

impl Reading {
    pub(crate) fn of(value: f64, from: String) -> Self {
        if value.is_finite() {
            Self::Measured { value, from }
        } else {
            Self::NotMeasured("the figures do not give a number".to_owned())
        }
    }

    pub(crate) fn value(&self) -> Option<f64> {
        match self {
            Self::Measured { value, .. } => Some(*value),
            Self::NotMeasured(_) => None,
        }
    }

    fn verdict(&self, bound: Bound) -> Verdict {
        match self.value() {
            None => Verdict::NotMeasured,
            Some(value) if bound.holds(value) => Verdict::Met,
            Some(_) => Verdict::Missed,
        }
    }
}

impl From<Result<(f64, String), String>> for Reading {
    fn from(result: Result<(f64, String), String>) -> Self {
        match result {
            Ok((value, from)) => Self::of(value, from),
            Err(why) => Self::NotMeasured(why),
        }
    }
}

impl Part {
    /// A part without exits in it.
    pub(crate) fn new(
        name: impl Into<String>,
        bound: Bound,
        unit: Unit,
        reading: impl Into<Reading>,
    ) -> Self {
        Self {
            name: name.into(),
            bound,
            unit,
            reading: reading.into(),
            without_exits: None,
        }
    }

    /// Of the figure as measured.
    pub(crate) fn own_verdict(&self) -> Verdict {
        self.reading.verdict(self.bound)
    }

    /// The worst of the figure and of the one without exits.
    pub(crate) fn verdict(&self) -> Verdict {
        let without = self.without_exits.as_ref();
        let without = without.map_or(Verdict::Met, WithoutExits::verdict);
        self.own_verdict().max(without)
    }
}

impl WithoutExits {
    /// Met where nothing is demanded.
    pub(crate) fn verdict(&self) -> Verdict {
        let demanded = self.bound.map(|bound| self.reading.verdict(bound));
        demanded.unwrap_or(Verdict::Met)
    }
}

impl Goal {
    /// The worst of its parts.
    pub(crate) fn verdict(&self) -> Verdict {
        let parts = self.parts.iter().map(Part::verdict);
        parts.max().unwrap_or(Verdict::NotMeasured)
    }
}

/// How many goals have come to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) met: usize,
    pub(crate) missed: usize,
    pub(crate) not_measured: usize,
}

impl Tally {
    pub(crate) fn of(goals: &[Goal]) -> Self {
        let mut tally = Self::default();
        for goal in goals {
            *match goal.verdict() {
                Verdict::Met => &mut tally.met,
                Verdict::Missed => &mut tally.missed,
                Verdict::NotMeasured => &mut tally.not_measured,
            } += 1;
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bound: Bound, value: Option<f64>) -> Part {
        let value = value.ok_or_else(|| "no KVM here".to_owned());
        let reading = value.map(|value| (value, String::new()));
        Part::new("", bound, Unit::Times, reading)
    }

    fn goal(parts: Vec<Part>) -> Goal {
        Goal {
            id: "",
            what: "",
            parts,
            note: String::new(),
        }
    }

    #[test]
    fn a_bound_includes_its_limit() {
        let verdict = |bound, value| part(bound, Some(value)).verdict();
        assert_eq!(verdict(Bound::AtMost(1.5), 1.5), Verdict::Met);
        assert_eq!(verdict(Bound::AtMost(1.5), 1.51), Verdict::Missed);
        assert_eq!(verdict(Bound::AtLeast(20.0), 20.0), Verdict::Met);
        assert_eq!(verdict(Bound::AtLeast(20.0), 19.9), Verdict::Missed);
    }

    #[test]
    fn what_is_missing_is_not_met_and_a_miss_weighs_more() {
        let bound = Bound::AtMost(1.0);
        let (met, missed, absent) = (
            part(bound, Some(0.5)),
            part(bound, Some(2.0)),
            part(bound, None),
        );
        assert_eq!(
            goal(vec![met.clone(), absent.clone()]).verdict(),
            Verdict::NotMeasured
        );
        assert_eq!(goal(vec![missed, absent]).verdict(), Verdict::Missed);
        assert_eq!(goal(vec![met]).verdict(), Verdict::Met);
        assert_eq!(goal(Vec::new()).verdict(), Verdict::NotMeasured);
        assert_eq!(part(bound, Some(f64::NAN)).verdict(), Verdict::NotMeasured);
    }

    #[test]
    fn the_figure_without_exits_counts_where_it_has_a_bound() {
        let mut both = part(Bound::AtLeast(20.0), Some(30.0));
        both.without_exits = Some(WithoutExits {
            reading: Reading::of(4.0, String::new()),
            unit: Unit::Times,
            bound: Some(Bound::AtLeast(5.0)),
        });
        assert_eq!(both.verdict(), Verdict::Missed);
        if let Some(without) = &mut both.without_exits {
            without.bound = None;
        }
        assert_eq!(both.verdict(), Verdict::Met);
    }

    #[test]
    fn a_score_of_one_is_the_goal_itself() {
        assert_eq!(Bound::AtMost(4.0).score(2.0, Unit::Nanoseconds), 2.0);
        assert_eq!(Bound::AtLeast(4.0).score(2.0, Unit::Times), 0.5);
        let shares = Bound::AtLeast(0.99).score(0.98, Unit::Share);
        assert!((shares - 0.5).abs() < 1e-9);
        assert_eq!(Bound::AtLeast(0.99).score(1.0, Unit::Share), f64::INFINITY);
        assert_eq!(Bound::AtLeast(1.0).score(1.0, Unit::Share), 1.0);
    }

    #[test]
    fn a_tally_counts_every_goal_once() {
        let bound = Bound::AtMost(1.0);
        let goals = [Some(0.5), Some(2.0), None, Some(1.0)].map(|v| goal(vec![part(bound, v)]));
        let tally = Tally::of(&goals);
        assert_eq!((tally.met, tally.missed, tally.not_measured), (2, 1, 1));
    }
}
