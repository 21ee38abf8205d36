//! A figure: what is to be seen, the panels, and the numbers behind them.

use super::{style, tied};
use crate::bench::plot::{Figure, Ink, Plot, Size, Table, svg};
use maud::{Markup, PreEscaped, html};

/// A section of the page.
///
/// # Errors
///
/// A panel cannot be drawn.
pub(super) fn section(figure: &Figure) -> Result<Markup, String> {
    let wide = figure.panels.len() == 1;
    let size = if wide { Size::Wide } else { Size::Half };
    let mut drawn = Vec::new();
    for panel in &figure.panels {
        let name = format!("{} {}", figure.title, panel.heading);
        drawn.push((panel, svg(panel, size, name.trim())?));
    }
    Ok(html! {
        section id=(figure.id) {
            h2 { (figure.title) }
            @if let Some(why) = &figure.missing {
                p.missing { "Not measured: " (why) }
            } @else {
                p.reading { (tied(&figure.reading)) }
                (key(figure))
                div.panels.wide[wide] {
                    @for (panel, svg) in &drawn {
                        div.panel {
                            @if !panel.heading.is_empty() { h3 { (panel.heading) } }
                            (PreEscaped(svg))
                        }
                    }
                }
                @if !figure.note.is_empty() { p.note { (tied(&figure.note)) } }
                @if !figure.terms.is_empty() {
                    details {
                        summary { "What the names mean" }
                        dl { @for (name, meaning) in &figure.terms { dt { (name) } dd { (meaning) } } }
                    }
                }
                @if !figure.table.rows.is_empty() {
                    details { summary { "The numbers" } (table(&figure.table)) }
                }
            }
        }
    })
}

/// What the dots mean. Lines have their names beside them.
fn key(figure: &Figure) -> Markup {
    let mut names: Vec<(String, Ink)> = Vec::new();
    let mut goal = false;
    for panel in &figure.panels {
        if let Plot::Dots(dots) = &panel.plot {
            goal |= dots.rows.iter().any(|row| row.goal.is_some());
            for dot in dots.rows.iter().flat_map(|row| &row.dots) {
                let entry = (dot.name.clone(), dot.ink);
                if !entry.0.is_empty() && !names.contains(&entry) {
                    names.push(entry);
                }
            }
        }
    }
    html! {
        @if goal || !names.is_empty() {
            ul.key {
                @for (name, ink) in &names {
                    li { i.(style::name(ink.hue)).open[ink.dashed] {} (name) }
                }
                @if goal { li { i.goal-key {} "goal" } }
            }
        }
    }
}

/// Numbers.
pub(super) fn table(table: &Table) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        @for (column, heading) in table.headings.iter().enumerate() {
                            th.left[table.is_words(column)] { (heading) }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                td.left[table.is_words(column)] { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}
