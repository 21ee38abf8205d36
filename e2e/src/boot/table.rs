//! Latencies side by side.

use std::collections::BTreeMap;
use std::fmt::Write;
use vcmdq_wording::count;

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
        let mut rows = vec![heads()];
        let mut goals = Vec::new();
        for (cpus, kib) in self.places() {
            let mut row = vec![cpus.to_string(), format!("{kib} KiB")];
            let qemu = self.at((cpus, kib, Way::Qemu));
            for way in Way::ALL {
                let sample = self.at((cpus, kib, way));
                row.extend(cells(way, sample, qemu));
                if let (Some(sample), Some(qemu), true) = (sample, qemu, way != Way::Qemu) {
                    goals.push((cpus, kib, way, sample.unmap / qemu.unmap));
                }
            }
            rows.push(row);
        }
        let mut text = String::from(
            "medians in microseconds; ×: times QEMU's; waited: share of time in which the worker waited for a processor\n",
        );
        text.push_str(&aligned(&rows));
        text.push_str(&verdict(&goals, cores));
        text
    }

    fn places(&self) -> Vec<(u32, u32)> {
        let mut places: Vec<_> = self.0.keys().map(|(cpus, kib, _)| (*cpus, *kib)).collect();
        places.dedup();
        places
    }
}

/// Numbers of each way: map and unmap, then what QEMU's own has nothing to be compared with.
const OF_QEMU: [&str; 2] = ["map", "unmap"];
const OF_ENGINE: [&str; 5] = ["map", "unmap", "map ×", "unmap ×", "waited"];

impl Way {
    fn heads(self) -> &'static [&'static str] {
        match self {
            Self::Qemu => &OF_QEMU,
            Self::Own | Self::Vcmdq => &OF_ENGINE,
        }
    }
}

fn heads() -> Vec<String> {
    let ways = Way::ALL.iter().flat_map(|way| way.heads());
    let heads = ["vCPUs", "size"].iter().chain(ways);
    heads.map(|head| (*head).to_owned()).collect()
}

/// What a line says of one way; a dash is not measured.
fn cells(way: Way, sample: Option<Sample>, qemu: Option<Sample>) -> Vec<String> {
    let number = |of: fn(Sample) -> f64| Some(format!("{:.1}", of(sample?)));
    let times = |of: fn(Sample) -> f64| Some(format!("{:.2}", of(sample?) / of(qemu?)));
    let waited = || Some(format!("{:.2}", sample?.waited?));
    let all = [
        number(|sample| sample.map),
        number(|sample| sample.unmap),
        times(|sample| sample.map),
        times(|sample| sample.unmap),
        waited(),
    ];
    let all = all.into_iter().take(way.heads().len());
    all.map(|cell| cell.unwrap_or_else(|| "-".into())).collect()
}

/// Rows under each other, numbers to the right, a line above them that names the ways. As wide as the
/// widest cell of each column, whatever was measured.
fn aligned(rows: &[Vec<String>]) -> String {
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..columns).map(wide).collect();
    // The column at which each way begins.
    let mut begins = Vec::new();
    let mut at = 2;
    for way in Way::ALL {
        begins.push((at, way.name()));
        at += way.heads().len();
    }
    let gap = |column: usize| match column {
        0 => "",
        _ if begins.iter().any(|(begin, _)| *begin == column) => "    ",
        _ => "  ",
    };
    let mut names = String::new();
    let mut left = 0;
    for (column, width) in widths.iter().enumerate() {
        left += gap(column).len();
        if let Some((_, name)) = begins.iter().find(|(begin, _)| *begin == column) {
            let _a_string_takes_all =
                write!(names, "{:left$}{name}", "", left = left - names.len());
        }
        left += width;
    }
    let mut text = names + "\n";
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _a_string_takes_all = write!(text, "{}{cell:>width$}", gap(column));
        }
        text.push('\n');
    }
    text
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
            "{name}: unmap at or below QEMU's at {} of {} where vCPUs and worker have a processor each{rest}",
            met.len(),
            count(all, "point")
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
        let expected = "
                qemu          cmdq                                  vcmdq
vCPUs   size    map  unmap    map  unmap  map ×  unmap ×  waited    map  unmap  map ×  unmap ×  waited
    1  4 KiB    2.0   10.0    2.0   11.0   1.00     1.10    0.25      -      -      -        -       -
";
        assert!(text.contains(&expected.replacen('\n', "", 1)), "{text}");
        assert!(
            text.contains("cmdq: unmap at or below QEMU's at 0 of 1 point "),
            "{text}"
        );
        assert!(text.contains("above: 4 KiB"), "{text}");
    }

    #[test]
    fn large_numbers_leave_the_columns_under_each_other() {
        let mut table = table();
        let sample = Sample::parse("10000.0 1234567.8 1.00").expect("numbers");
        table.add(16, 1024, Way::Vcmdq, sample);
        table.add(16, 1024, Way::Qemu, Sample { map: 7.0, ..sample });
        let text = table.render(2);
        // Each cell ends where its head does. A unit belongs to its cell.
        let solid = text.replace(" KiB", "_KiB").replace(" ×", "_×");
        let ends = |line: &str| {
            let all: Vec<_> = line.chars().chain([' ']).collect();
            let pairs = all.windows(2).enumerate();
            let ends = pairs.filter(|(_, pair)| pair[0] != ' ' && pair[1] == ' ');
            ends.map(|(at, _)| at).collect::<Vec<_>>()
        };
        let [head, first, last] =
            [2, 3, 4].map(|line| ends(solid.lines().nth(line).expect("a line")));
        assert_eq!(head.len(), 14, "{text}");
        assert_eq!((&head, &head), (&first, &last), "{text}");
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
