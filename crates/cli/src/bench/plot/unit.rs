//! Figures with their units, as a person reads them.

use serde::Serialize;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Nanoseconds; shown as ns, µs, ms or s.
    Nanoseconds,
    /// So many in a second.
    PerSecond,
    /// Things; from 1024 × 16 on in Ki.
    Count,
    /// KiB, as Linux's tables write sizes: 4K, 256K.
    Kibibytes,
    /// 0 to 1, shown in percent.
    Share,
    /// How many times as much.
    Times,
}

impl Unit {
    /// Three significant digits and the unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => {
                let (scaled, unit) = time(value);
                format!("{} {unit}", digits(scaled))
            }
            Self::PerSecond => {
                let (scaled, prefix) = thousands(value);
                format!("{} {prefix}/s", digits(scaled))
                    .replace("  ", " ")
                    .replace(" /s", "/s")
            }
            Self::Count if value >= 16_384.0 && value % 1024.0 == 0.0 => {
                format!("{} Ki", value / 1024.0)
            }
            Self::Count => digits(value),
            Self::Kibibytes => format!("{}K", digits(value)),
            Self::Share => share(value),
            Self::Times => format!("{}×", digits(value)),
        }
    }
}

/// A time in the unit in which it has one to three digits before the point.
fn time(ns: f64) -> (f64, &'static str) {
    match ns.abs() {
        ns_ if ns_ < 999.5 => (ns, "ns"),
        ns_ if ns_ < 999.5e3 => (ns / 1e3, "µs"),
        ns_ if ns_ < 999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    }
}

fn thousands(value: f64) -> (f64, &'static str) {
    match value.abs() {
        v if v < 999.5 => (value, ""),
        v if v < 999.5e3 => (value / 1e3, "k"),
        v if v < 999.5e6 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    }
}

/// Percent; near 100 % with the digits that tell one from another.
fn share(value: f64) -> String {
    let percent = value * 100.0;
    let missing = 100.0 - percent;
    if missing > 0.0 && missing < 1.0 {
        let places = ((-missing.log10()).ceil() + 1.0).clamp(1.0, 5.0) as usize;
        let text = format!("{percent:.places$}");
        return format!("{} %", text.trim_end_matches('0').trim_end_matches('.'));
    }
    format!("{} %", digits(percent))
}

/// Three significant digits, without zeros at the end behind a point.
pub(crate) fn digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 {
            "0".to_owned()
        } else {
            "–".to_owned()
        };
    }
    let before = value.abs().log10().floor() as i32;
    let places = (2 - before).clamp(0, 6) as usize;
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_to_three_digits_before_the_point() {
        let show = |ns| Unit::Nanoseconds.show(ns);
        assert_eq!(show(0.44), "0.44 ns");
        assert_eq!(show(3.456), "3.46 ns");
        assert_eq!(show(100.0), "100 ns");
        assert_eq!(show(999.6), "1 µs");
        assert_eq!(show(31_840.0), "31.8 µs");
        assert_eq!(show(1_000_000_000.0), "1 s");
        assert_eq!(show(0.0), "0 ns");
    }

    #[test]
    fn shares_near_the_whole_keep_what_is_missing() {
        let show = |share| Unit::Share.show(share);
        assert_eq!(show(0.5), "50 %");
        assert_eq!(show(0.99), "99 %");
        assert_eq!(show(0.999), "99.9 %");
        assert_eq!(show(0.99987), "99.987 %");
        assert_eq!(show(0.9999), "99.99 %");
        assert_eq!(show(1.0), "100 %");
        assert_eq!(show(0.0019), "0.19 %");
    }

    #[test]
    fn counts_sizes_and_rates() {
        assert_eq!(Unit::Count.show(4096.0), "4096");
        assert_eq!(Unit::Count.show(65_536.0), "64 Ki");
        assert_eq!(Unit::Kibibytes.show(256.0), "256K");
        assert_eq!(Unit::PerSecond.show(12_345_678.0), "12.3 M/s");
        assert_eq!(Unit::PerSecond.show(12.0), "12/s");
        assert_eq!(Unit::Times.show(1.204), "1.2×");
        assert_eq!(Unit::Times.show(f64::NAN), "–×");
    }
}
