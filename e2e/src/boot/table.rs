//! Latencies side by side.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What a guest maps and unmaps through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// QEMU's own emulation of an SMMU.
    Qemu,
    /// The engine, through the SMMU's own queue.
    Own,
    /// The engine, through VCMDQs whose page 0 the guest shares with it.
    Vcmdq,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Qemu, Self::Own, Self::Vcmdq];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Own => "cmdq",
            Self::Vcmdq => "vcmdq",
        }
    }
}

/// What one run of the benchmark gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Microseconds.
    pub(super) map: f64,
    /// Microseconds.
    pub(super) unmap: f64,
    /// The share of time in which the worker waited for a processor.
    pub(super) waited: Option<f64>,
}

impl Sample {
    /// From a check's details.
    pub(super) fn parse(detail: &str) -> Option<Self> {
        let mut words = detail.split_whitespace();
        Some(Self {
            map: words.next()?.parse().ok()?,
            unmap: words.next()?.parse().ok()?,
            waited: words.next()?.parse().ok(),
        })
    }
}

/// Virtual CPUs, KiB, way.
type Point = (u32, u32, Way);

/// All samples of a run.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<Point, Vec<Sample>>);

impl Table {
    pub(super) fn add(&mut self, cpus: u32, kib: u32, way: Way, sample: Sample) {
        self.0.entry((cpus, kib, way)).or_default().push(sample);
    }

    /// The median of each number.
    fn at(&self, point: Point) -> Option<Sample> {
        let samples = self.0.get(&point)?;
        let of = |number: fn(&Sample) -> f64| median(samples.iter().map(number).collect());
        let waited: Vec<_> = samples.iter().filter_map(|sample| sample.waited).collect();
        Some(Sample {
            map: of(|sample| sample.map),
            unmap: of(|sample| sample.unmap),
            waited: (!waited.is_empty()).then(|| median(waited)),
        })
    }

    /// A line for each point, then what the goal says of those at which a vCPU and a worker have a
    /// processor each.
    pub(super) fn render(&self, cores: usize) -> String {
        let mut text = String::from(
            "map / unmap, microseconds (medians); times QEMU's; share of time in which the worker waited for a processor\n\
             vCPUs    size           qemu              cmdq                            vcmdq\n",
        );
        let mut goals = Vec::new();
        for (cpus, kib) in self.places() {
            let _a_string_takes_all = write!(text, "{cpus:>5} {kib:>5} KiB  ");
            let qemu = self.at((cpus, kib, Way::Qemu));
            for way in Way::ALL {
                let Some(sample) = self.at((cpus, kib, way)) else {
                    text.push_str("  (not measured)");
                    continue;
                };
                let Sample { map, unmap, waited } = sample;
                let _a_string_takes_all = write!(text, "{map:>6.1} /{unmap:>6.1}");
                if let (Some(qemu), true) = (qemu, way != Way::Qemu) {
                    let (maps, unmaps) = (map / qemu.map, unmap / qemu.unmap);
                    let waited = waited.map_or("?".into(), |share| format!("{share:.2}"));
                    let _a_string_takes_all = write!(text, " {maps:>5.2} /{unmaps:>5.2}  {waited}");
                    goals.push((cpus, kib, way, unmaps));
                }
                text.push_str("    ");
            }
            text.push('\n');
        }
        text.push_str(&verdict(&goals, cores));
        text
    }

    fn places(&self) -> Vec<(u32, u32)> {
        let mut places: Vec<_> = self.0.keys().map(|(cpus, kib, _)| (*cpus, *kib)).collect();
        places.dedup();
        places
    }
}

/// Of points at which each vCPU and a worker have a processor: unmap at or below QEMU's.
fn verdict(points: &[(u32, u32, Way, f64)], cores: usize) -> String {
    let mut text = String::new();
    for way in [Way::Own, Way::Vcmdq] {
        let roomy = |cpus: u32| (cpus as usize) < cores;
        let mine = points
            .iter()
            .filter(|(cpus, _, of, _)| roomy(*cpus) && *of == way);
        let (met, missed): (Vec<_>, Vec<_>) = mine.partition(|(_, _, _, times)| *times <= 1.0);
        let sizes: Vec<_> = missed
            .iter()
            .map(|(_, kib, _, _)| format!("{kib} KiB"))
            .collect();
        let (all, name) = (met.len() + missed.len(), way.name());
        let rest = match sizes.is_empty() {
            true => String::new(),
            false => format!("; above: {}", sizes.join(", ")),
        };
        let _a_string_takes_all = writeln!(
            text,
            "{name}: unmap at or below QEMU's at {} of {all} points where vCPUs and worker have a processor each{rest}",
            met.len()
        );
    }
    text
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ if values.is_empty() => f64::NAN,
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        for (way, unmaps) in [
            (Way::Qemu, [8.0, 100.0, 10.0]),
            (Way::Own, [9.0, 20.0, 11.0]),
        ] {
            for unmap in unmaps {
                let sample = Sample::parse(&format!("2.0 {unmap} 0.25 more")).expect("numbers");
                table.add(1, 4, way, sample);
            }
        }
        table
    }

    #[test]
    fn points_are_medians_and_compared_with_qemus() {
        let text = table().render(2);
        assert!(text.contains("10.0    "), "{text}");
        assert!(text.contains("11.0  1.00 / 1.10  0.25"), "{text}");
        assert!(
            text.contains("cmdq: unmap at or below QEMU's at 0 of 1"),
            "{text}"
        );
        assert!(text.contains("above: 4 KiB"), "{text}");
        assert!(text.contains("(not measured)"), "{text}");
    }

    #[test]
    fn where_processors_are_short_nothing_is_a_goal() {
        assert!(table().render(1).contains("at 0 of 0 points"));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(Sample::parse("1.0").is_none());
        assert_eq!(
            Sample::parse("1 2 -").and_then(|sample| sample.waited),
            None
        );
    }
}
