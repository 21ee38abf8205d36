//! The list of goals: for each figure a bar that reaches the line in the middle when the goal is met.

use super::tied;
use crate::bench::goals::{Bound, Goal, Part, Reading, Verdict};
use crate::bench::plot::Unit;
use maud::{Markup, html};

/// A figure this many times as good, or as bad, as demanded fills the bar, or leaves it empty.
const ENDS: f64 = 4.0;

/// The list.
pub(super) fn list(goals: &[Goal]) -> Markup {
    html! {
        div.scale { span { "4× short of the goal" em { "goal" } "4× better" } }
        ol.goals id="goals" { @for goal in goals { (one(goal)) } }
    }
}

fn one(goal: &Goal) -> Markup {
    let verdict = goal.verdict();
    html! {
        li.goal.(class(verdict)) id=(goal.id) {
            header {
                span.mark aria-hidden="true" { (mark(verdict)) }
                b { (goal.what) }
                span.word { (word(verdict)) }
            }
            @for part in &goal.parts { (lines(part)) }
            @if !goal.note.is_empty() { p.note { (tied(&goal.note)) } }
        }
    }
}

fn lines(part: &Part) -> Markup {
    html! {
        (line(&part.name, &part.reading, Some(part.bound), part.unit))
        @if let Some(without) = &part.without_exits {
            (line("with the exits taken out", &without.reading, without.bound, without.unit))
        }
    }
}

fn line(name: &str, reading: &Reading, bound: Option<Bound>, unit: Unit) -> Markup {
    html! {
        div.part {
            span.name {
                (name)
                @if let Reading::Measured { from, .. } = reading {
                    @if !from.is_empty() { " " span.from { (tied(from)) } }
                }
            }
            @match reading {
                Reading::Measured { value, .. } => {
                    @if let Some(bound) = bound { (bar(bound, *value, unit)) } @else { span {} }
                    span.figure { (tied(&unit.show(*value))) }
                    span.limit { @if let Some(bound) = bound { (tied(&bound.show(unit))) } }
                }
                Reading::NotMeasured(why) => span.why { "not measured: " (tied(why)) },
            }
        }
    }
}

fn bar(bound: Bound, value: f64, unit: Unit) -> Markup {
    let score = bound.score(value, unit);
    let part = (score.log2() / ENDS.log2()).clamp(-1.0, 1.0);
    // An empty bar would look as if nothing had been measured.
    let width = ((part + 1.0) * 50.0).max(2.0);
    let met = if bound.holds(value) { "met" } else { "missed" };
    let title = format!("{} of the goal {}", unit.show(value), bound.show(unit));
    html! { div.bar title=(title) { i.(met) style=(format!("width:{width:.1}%")) {} } }
}

/// For the eye.
fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "✓",
        Verdict::Missed => "✗",
        Verdict::NotMeasured => "–",
    }
}

/// For everybody.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::NotMeasured => "not measured",
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::NotMeasured => "open",
    }
}
