//! What is left over from working: unfinished places, paths of the machine worked on.

use super::Finding;
use super::code::has_word;
use crate::workspace::Source;

/// Put together, so that this file is no finding of its own.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("#[ig", "nore"),
];

const MACHINE: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
];

/// A place that waits for somebody, or a test that never runs.
pub(super) fn unfinished(sources: &[Source]) -> Vec<Finding> {
    let rust = sources.iter().filter(|source| source.path.ends_with(".rs"));
    rust.flat_map(|source| find(source, &UNFINISHED, is_word))
        .collect()
}

/// A path that exists on one machine.
pub(super) fn paths_of_a_machine(sources: &[Source]) -> Vec<Finding> {
    sources
        .iter()
        .flat_map(|source| find(source, &MACHINE, |line, path| line.contains(path)))
        .collect()
}

fn is_word(line: &str, word: &str) -> bool {
    match word.chars().all(|c| c.is_ascii_uppercase()) {
        true => has_word(line, word),
        false => line.contains(word),
    }
}

fn find(source: &Source, patterns: &[&str], holds: fn(&str, &str) -> bool) -> Vec<Finding> {
    let in_line = |(line, number): (&str, usize)| {
        let pattern = patterns.iter().find(|pattern| holds(line, pattern))?;
        Some(Finding::new(source, number, format!("`{pattern}`")))
    };
    source.text.lines().zip(1..).filter_map(in_line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::lines;
    use super::*;

    #[test]
    fn each_mark_of_unfinished_work_is_found_in_comments_too() {
        for mark in UNFINISHED {
            assert_eq!(
                lines(unfinished, "a.rs", &format!("\n    // {mark} ")),
                [2],
                "{mark}"
            );
        }
    }

    #[test]
    fn longer_words_are_no_marks() {
        let word = format!("S{}S", UNFINISHED[2]);
        assert!(lines(unfinished, "a.rs", &word).is_empty());
    }

    #[test]
    fn paths_are_found_in_every_kind_of_file() {
        for path in MACHINE {
            assert_eq!(
                lines(paths_of_a_machine, "README.md", &format!("see {path}x")),
                [1]
            );
        }
        assert!(lines(paths_of_a_machine, "README.md", "a/network/b").is_empty());
    }
}
