//! The lines with which the guest talks to the harness.

/// What a line of the console means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A check has been made.
    Check {
        /// Its name.
        name: String,
        /// Whether it held.
        ok: bool,
        /// What the guest saw.
        detail: String,
    },
    /// The guest waits for an answer.
    Host(Vec<String>),
    /// Worth showing with the verdict.
    Note(String),
    /// All checks have been made; the guest's clock.
    Done(String),
    /// Anything else.
    Other,
}

/// Reads a line. What is damaged is `Other`: the check that it should have been is then missing.
#[must_use]
pub fn parse(line: &str) -> Line {
    // The console may have put something in front.
    let find = |key: &str| {
        line.split_once(key)
            .map(|(_, rest)| rest.trim_end().to_owned())
    };
    if let Some(rest) = find("vcmdq-check: ") {
        let mut words = rest.splitn(3, ' ');
        let (name, verdict) = (words.next(), words.next());
        let ok = match verdict {
            Some("ok") => true,
            Some("FAIL") => false,
            _ => return Line::Other,
        };
        return Line::Check {
            name: name.unwrap_or_default().to_owned(),
            ok,
            detail: words.next().unwrap_or_default().to_owned(),
        };
    }
    if let Some(rest) = find("vcmdq-host: ") {
        return Line::Host(rest.split_whitespace().map(str::to_owned).collect());
    }
    if let Some(rest) = find("vcmdq-note: ") {
        return Line::Note(rest);
    }
    find("vcmdq-done: ").map_or(Line::Other, Line::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_has_a_name_a_verdict_and_details() {
        let line = parse("\u{1b}[0m vcmdq-check: content ok written a read a\r");
        let check = |ok, detail: &str| Line::Check {
            name: "content".into(),
            ok,
            detail: detail.into(),
        };
        assert_eq!(line, check(true, "written a read a"));
        assert_eq!(parse("vcmdq-check: content FAIL"), check(false, ""));
    }

    #[test]
    fn a_verdict_that_is_cut_off_is_none() {
        assert_eq!(parse("vcmdq-check: content o"), Line::Other);
        assert_eq!(parse("vcmdq-check: "), Line::Other);
        assert_eq!(parse("[    0.0] Booting Linux"), Line::Other);
    }

    #[test]
    fn a_question_is_words() {
        let words = ["sum", "0", "4096", "ab"].map(str::to_owned);
        assert_eq!(parse("vcmdq-host: sum 0 4096 ab"), Line::Host(words.into()));
        assert_eq!(parse("vcmdq-done: 3.25"), Line::Done("3.25".into()));
    }
}
