//! The page from top to bottom: what was found, the goals, the figures, how to do it again.

use super::{figures, goals, style, tied};
use crate::bench::goals::Tally;
use crate::bench::view::View;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The whole document; it refers to nothing outside of itself.
///
/// # Errors
///
/// A figure cannot be drawn; the text says which and why.
pub(crate) fn page(view: &View) -> Result<String, String> {
    let mut sections = Vec::new();
    for figure in &view.figures {
        let drawn = figures::section(figure);
        sections.push(drawn.map_err(|why| format!("{}: {why}", figure.title))?);
    }
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "vcmdq bench, " (view.date) }
                style { (PreEscaped(style::sheet())) }
            }
            body {
                main {
                    (top(view))
                    (contents(view))
                    (goals::list(&view.goals))
                    @for section in &sections { (section) }
                    (again(view))
                    footer {
                        "Written by " code { "vcmdq bench" } ". Times move from machine to machine, and on a "
                        "shared one from minute to minute: compare what stands in one run."
                    }
                }
            }
        }
    };
    Ok(document.into_string())
}

fn top(view: &View) -> Markup {
    let tally = Tally::of(&view.goals);
    html! {
        p.over { "vcmdq bench · " (view.date) " · " (view.machine_in_short) }
        h1 { (tied(&view.headline)) }
        p.under { (in_words(tally)) " " (tied(&view.under)) }
        @for warning in &view.warnings { p.warn { (warning) } }
    }
}

/// Links to what lies below the goals.
fn contents(view: &View) -> Markup {
    html! {
        nav {
            a href="#goals" { "Goals" }
            @for figure in &view.figures { a href=(format!("#{}", figure.id)) { (figure.short) } }
            a href="#again" { "Machine and settings" }
        }
    }
}

/// `9 of 11 goals are met, 1 is missed, 1 was not measured.`
pub(crate) fn in_words(tally: Tally) -> String {
    let all = tally.met + tally.missed + tally.not_measured;
    let is = |count| if count == 1 { "is" } else { "are" };
    let mut words = format!("{} of {all} goals {} met", tally.met, is(tally.met));
    if tally.missed > 0 {
        words += &format!(", {} {} missed", tally.missed, is(tally.missed));
    }
    if tally.not_measured > 0 {
        let was = if tally.not_measured == 1 {
            "was"
        } else {
            "were"
        };
        words += &format!(", {} {was} not measured", tally.not_measured);
    }
    words + "."
}

/// Machine, threads, and the command.
fn again(view: &View) -> Markup {
    html! {
        section id="again" {
            h2 { "Machine, settings, and how to do it again" }
            pre { code { (view.command) } }
            div.scroll {
                table.words {
                    tbody {
                        @for (what, value) in &view.facts { tr { th { (what) } td { (value) } } }
                    }
                }
            }
            @if !view.placement.rows.is_empty() {
                details open[true] {
                    summary { "Which thread ran where" }
                    (figures::table(&view.placement))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_reads_as_a_sentence() {
        let tally = |met, missed, not_measured| Tally {
            met,
            missed,
            not_measured,
        };
        assert_eq!(in_words(tally(11, 0, 0)), "11 of 11 goals are met.");
        assert_eq!(
            in_words(tally(1, 1, 2)),
            "1 of 4 goals is met, 1 is missed, 2 were not measured."
        );
    }
}
