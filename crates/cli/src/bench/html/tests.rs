//! The page as a reader gets it.

use super::page;
use crate::bench::goals::Reading;
use crate::bench::plot::{
    Axis, Dot, Dots, Figure, Hue, Lines, Panel, Plot, Point, Row, Scale, Series, Table, Unit,
};
use crate::bench::testing::{goal, view};

fn axis(scale: Scale) -> Axis {
    Axis::new("axis", scale, Unit::Nanoseconds)
}

fn lines(points: &[(f64, f64)], scale: Scale) -> Plot {
    Plot::Lines(Lines {
        x: axis(scale),
        y: axis(scale),
        series: vec![Series {
            name: "a <line>".to_owned(),
            ink: Hue::Blue.solid(),
            points: points
                .iter()
                .map(|&(x, y)| Point {
                    x,
                    y,
                    title: Some("here".to_owned()),
                })
                .collect(),
            dots: true,
        }],
    })
}

fn dots(values: &[f64]) -> Plot {
    Plot::Dots(Dots {
        x: axis(Scale::Log),
        rows: vec![Row {
            name: "row".to_owned(),
            dots: values
                .iter()
                .map(|&value| Dot {
                    name: "dot".to_owned(),
                    ink: Hue::Red.dashed(),
                    value,
                    written: true,
                })
                .collect(),
            goal: Some(4.0),
        }],
    })
}

fn figure(plots: Vec<Plot>) -> Figure {
    let panel = |plot| Panel {
        heading: String::new(),
        plot,
    };
    let mut table = Table::new(&["who", "how long"]);
    table.push(vec!["page".to_owned(), "3 ns".to_owned()]);
    Figure {
        id: "figure",
        short: "Figure",
        title: "A figure",
        reading: "What is to be seen.".to_owned(),
        note: String::new(),
        terms: vec![("page", "a page")],
        panels: plots.into_iter().map(panel).collect(),
        table,
        missing: None,
    }
}

#[test]
fn every_goal_stands_on_the_page_with_its_verdict() -> Result<(), String> {
    let goals = vec![
        goal(
            "one",
            "First goal",
            Reading::of(1.0, "1 against 1".to_owned()),
        ),
        goal("two", "Second goal", Reading::of(3.0, String::new())),
        goal(
            "three",
            "Third goal",
            Reading::NotMeasured("no KVM".to_owned()),
        ),
    ];
    let page = page(&view(goals, Vec::new()))?;
    for expected in [
        "First goal",
        "Second goal",
        "Third goal",
        ">met<",
        ">missed<",
        "not measured: no KVM",
        "1 against 1",
        "1 of 3 goals is met, 1 is missed, 1 was not measured.",
        "careful",
        "It is fast.",
        "No &lt;b&gt;markup",
        "a &amp; b",
    ] {
        assert!(page.contains(expected), "no '{expected}' in\n{page}");
    }
    Ok(())
}

#[test]
fn the_page_refers_to_nothing_outside_of_itself() -> Result<(), String> {
    let plots = vec![lines(&[(1.0, 2.0), (3.0, 4.0)], Scale::Log), dots(&[3.0])];
    let page = page(&view(Vec::new(), vec![figure(plots)]))?;
    for outside in [
        "http:", "https:", "src=", "url(", "@import", "<link", "<script",
    ] {
        assert!(!page.contains(outside), "'{outside}' in\n{page}");
    }
    assert_eq!(page.matches("<svg").count(), 2);
    assert_eq!(page.matches("</svg>").count(), 2);
    assert!(page.contains("a &lt;line&gt;: here"));
    assert!(page.contains("<dt>page</dt>"));
    Ok(())
}

#[test]
fn an_unmeasured_figure_says_why() -> Result<(), String> {
    let missing = Figure {
        missing: Some("no /dev/kvm here".to_owned()),
        ..figure(Vec::new())
    };
    let page = page(&view(Vec::new(), vec![missing]))?;
    assert!(page.contains("Not measured: no /dev/kvm here"));
    assert!(!page.contains("What is to be seen."));
    Ok(())
}

#[test]
fn anything_can_be_drawn() -> Result<(), String> {
    let scales = [Scale::Linear, Scale::Log, Scale::Doubling, Scale::Nines];
    let odd: [&[(f64, f64)]; 5] = [
        &[],
        &[(1.0, 1.0)],
        &[(0.0, -1.0), (f64::NAN, f64::INFINITY)],
        &[(1e-300, 1e300), (1e300, 1e-300)],
        &[(5.0, 5.0), (5.0, 5.0)],
    ];
    let mut plots = vec![dots(&[]), dots(&[f64::NAN, 0.0, -3.0]), dots(&[1e-9, 1e12])];
    for scale in scales {
        plots.extend(odd.map(|points| lines(points, scale)));
    }
    let count = plots.len();
    let page = page(&view(Vec::new(), vec![figure(plots)]))?;
    assert_eq!(page.matches("</svg>").count(), count);
    Ok(())
}
