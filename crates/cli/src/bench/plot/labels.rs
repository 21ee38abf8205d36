//! Where the name of a line is written: beside it, over no other line and no other name.

/// A place on the canvas, in pixels.
pub(super) type Place = (f64, f64);

/// Which end of the text lies at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text that has found its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    /// The middle of the text's height, and its start, middle or end.
    pub(super) at: Place,
    pub(super) anchor: Anchor,
}

/// A rectangle: left, top, right, bottom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area(
    pub(super) f64,
    pub(super) f64,
    pub(super) f64,
    pub(super) f64,
);

/// Height of a text, and about the width of a character in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub(super) height: f64,
    pub(super) width: f64,
}

impl Area {
    fn around(label: &Label, text: &str, kind: Type) -> Self {
        let width = text.chars().count() as f64 * kind.width;
        let left = label.at.0
            - match label.anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => width / 2.0,
                Anchor::End => width,
            };
        let top = label.at.1 - kind.height / 2.0;
        Self(left, top, left + width, top + kind.height)
    }

    fn holds(&self, (x, y): Place) -> bool {
        (self.0..=self.2).contains(&x) && (self.1..=self.3).contains(&y)
    }

    fn meets(&self, other: &Self) -> bool {
        self.0 < other.2 && other.0 < self.2 && self.1 < other.3 && other.1 < self.3
    }

    fn inside(&self, other: &Self) -> bool {
        self.0 >= other.0 && self.1 >= other.1 && self.2 <= other.2 && self.3 <= other.3
    }
}

/// One label for each line, in its order; `None` for a line without points. `area` is where they
/// may lie.
pub(super) fn beside(lines: &[(String, Vec<Place>)], area: Area, kind: Type) -> Vec<Option<Label>> {
    let dense: Vec<Vec<Place>> = lines.iter().map(|(_, line)| dense(line, kind)).collect();
    let mut taken: Vec<Area> = Vec::new();
    let mut labels = Vec::new();
    for (own, (text, line)) in lines.iter().enumerate() {
        let cost = |label: &Label| {
            let needed = Area::around(label, text, kind);
            let outside = if needed.inside(&area) { 0 } else { 1000 };
            let over: usize = taken.iter().filter(|other| other.meets(&needed)).count();
            let crossed: usize = dense
                .iter()
                .enumerate()
                .map(|(at, line)| {
                    let hits = line.iter().filter(|place| needed.holds(**place)).count();
                    if at == own { 2 * hits } else { 3 * hits }
                })
                .sum();
            outside + 200 * over + crossed
        };
        // The first of the best: candidates come in the order in which they please.
        let best = candidates(line, kind).into_iter().min_by_key(cost);
        if let Some(label) = &best {
            taken.push(Area::around(label, text, kind));
        }
        labels.push(best);
    }
    labels
}

/// Behind the end, then beside places along the line.
fn candidates(line: &[Place], kind: Type) -> Vec<Label> {
    let (Some(&end), gap) = (line.last(), kind.height * 0.5) else {
        return Vec::new();
    };
    let mut all = vec![Label {
        at: (end.0 + gap, end.1),
        anchor: Anchor::Start,
    }];
    for shift in [-0.6, 0.6, -1.2, 1.2, -1.8, 1.8] {
        all.push(Label {
            at: (end.0 + gap, end.1 + shift * kind.height),
            anchor: Anchor::Start,
        });
    }
    let places = dense(line, kind);
    let step = (places.len() / 32).max(1);
    for &(x, y) in places.iter().rev().step_by(step) {
        for (at, anchor) in [
            ((x + gap, y), Anchor::Start),
            ((x - gap, y), Anchor::End),
            ((x, y - 0.9 * kind.height), Anchor::Middle),
            ((x, y + 0.9 * kind.height), Anchor::Middle),
            ((x + gap, y + 0.8 * kind.height), Anchor::Start),
            ((x - gap, y - 0.8 * kind.height), Anchor::End),
        ] {
            all.push(Label { at, anchor });
        }
    }
    all
}

/// Places along the line, a fraction of a character apart.
fn dense(line: &[Place], kind: Type) -> Vec<Place> {
    let mut places: Vec<Place> = line.first().copied().into_iter().collect();
    for pair in line.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let pieces = (length / (kind.width * 0.5)).ceil().clamp(1.0, 4096.0);
        for piece in 1..=pieces as usize {
            let part = piece as f64 / pieces;
            places.push((
                from.0 + (to.0 - from.0) * part,
                from.1 + (to.1 - from.1) * part,
            ));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Type = Type {
        height: 14.0,
        width: 7.0,
    };
    const AREA: Area = Area(0.0, 0.0, 400.0, 300.0);

    fn line(name: &str, places: &[Place]) -> (String, Vec<Place>) {
        (name.to_owned(), places.to_vec())
    }

    #[test]
    fn a_lonely_line_is_named_at_its_end() {
        let labels = beside(&[line("one", &[(0.0, 50.0), (200.0, 50.0)])], AREA, KIND);
        let label = labels[0].as_ref().expect("it has points");
        assert_eq!(label.at, (207.0, 50.0));
        assert_eq!(label.anchor, Anchor::Start);
    }

    #[test]
    fn names_of_lines_that_end_together_lie_apart() {
        let all = [
            line("first", &[(0.0, 10.0), (200.0, 100.0)]),
            line("second", &[(0.0, 200.0), (200.0, 100.0)]),
        ];
        let labels = beside(&all, AREA, KIND);
        let area = |at: usize| {
            Area::around(
                labels[at].as_ref().expect("it has points"),
                &all[at].0,
                KIND,
            )
        };
        assert!(!area(0).meets(&area(1)), "{labels:?}");
        assert!(area(0).inside(&AREA) && area(1).inside(&AREA));
    }

    #[test]
    fn a_name_with_no_room_at_the_end_goes_elsewhere_inside() {
        let all = [line("a long name", &[(0.0, 150.0), (400.0, 150.0)])];
        let labels = beside(&all, AREA, KIND);
        let label = labels[0].as_ref().expect("it has points");
        assert!(
            Area::around(label, &all[0].0, KIND).inside(&AREA),
            "{label:?}"
        );
    }

    #[test]
    fn nothing_to_name_is_no_label() {
        assert_eq!(beside(&[line("none", &[])], AREA, KIND), [None]);
        assert_eq!(beside(&[], AREA, KIND), []);
    }
}
