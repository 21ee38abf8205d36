//! What test executables print.

use std::collections::BTreeSet;

/// How the tests of one run ended. A test that was never reported (its process hung or
/// crashed) is `unfinished`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Results {
    pub(super) passed: BTreeSet<String>,
    pub(super) failed: BTreeSet<String>,
    pub(super) unfinished: BTreeSet<String>,
}

/// The tests that `executable --list` prints as `name: test`.
pub(super) fn listed(output: &str) -> Vec<String> {
    output
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect()
}

/// Whether the test is named for `law`: `law1_` is not in `law11_…`.
pub(super) fn is_for_law(test: &str, law: u32) -> bool {
    test.contains(&format!("law{law}_"))
}

/// Reads the lines `test name ... ok` and sorts `expected` by them.
pub(super) fn results(output: &str, expected: &[String]) -> Results {
    let mut results = Results::default();
    for line in output.lines() {
        let Some((name, verdict)) = reported(line) else {
            continue;
        };
        let known = expected.iter().find(|test| *test == name);
        match (known, verdict) {
            (Some(test), "ok") => results.passed.insert(test.clone()),
            (Some(test), "FAILED") => results.failed.insert(test.clone()),
            _ => continue,
        };
    }
    let ended = |test: &&String| results.passed.contains(*test) || results.failed.contains(*test);
    results.unfinished = expected
        .iter()
        .filter(|test| !ended(test))
        .cloned()
        .collect();
    results
}

/// Name and verdict in one line. Libtest adds ` - should panic` to a name, and a reason or a
/// time to a verdict.
fn reported(line: &str) -> Option<(&str, &str)> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    Some((name, verdict.split([' ', ',']).next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_list_holds_tests_and_no_benchmarks() {
        let output = "a::law1_x: test\nb: benchmark\n\n1 test, 1 benchmark\n";
        assert_eq!(listed(output), ["a::law1_x"]);
    }

    #[test]
    fn a_law_is_not_found_in_a_longer_number() {
        assert!(is_for_law("ring::tests::law1_holds", 1));
        assert!(!is_for_law("ring::tests::law11_holds", 1));
        assert!(!is_for_law("ring::tests::law10_holds", 1));
    }

    #[test]
    fn verdicts_are_told_apart() {
        let output = "running 4 tests\n\
                      test a ... ok\n\
                      test b - should panic ... ok\n\
                      test c ... FAILED\n\
                      test d has been running for over 60 seconds\n\
                      test stranger ... FAILED\n";
        let results = results(output, &owned(&["a", "b", "c", "d"]));
        assert_eq!(results.passed.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(results.failed.into_iter().collect::<Vec<_>>(), ["c"]);
        assert_eq!(results.unfinished.into_iter().collect::<Vec<_>>(), ["d"]);
    }

    #[test]
    fn nothing_printed_means_nothing_finished() {
        let results = results("", &owned(&["a"]));
        assert_eq!(results.unfinished.len(), 1);
        assert!(results.passed.is_empty() && results.failed.is_empty());
    }
}
