//! Where threads and the host may be named.

use super::Finding;
use super::code::{has_word, is_product_source, is_source_of, product_lines};
use crate::workspace::Source;

/// Where std's threads may be named although models do not see them.
const STD_THREADS: &[(&str, &str)] = &[
    ("crates/cli/src/", "the tool is modelled by nobody"),
    (
        "crates/vcmdq/src/seams.rs",
        "the VMM starts the threads, and they are those of std",
    ),
    (
        "crates/vcmdq/src/engine.rs",
        "it joins the threads that the VMM started",
    ),
    (
        "crates/vcmdq/src/doorbell/flipper.rs",
        "it joins a thread that the VMM started",
    ),
    (
        "crates/vcmdq/src/worker/staff.rs",
        "it keeps the threads that the VMM started until they are joined",
    ),
    (
        "crates/vcmdq/src/pinning.rs",
        "it starts threads in the VMM's place",
    ),
];

/// Only `crates/sync` names atomics and threads: what goes past it, loom does not see.
pub(super) fn atomics_and_threads(sources: &[Source]) -> Vec<Finding> {
    let product = sources.iter().filter(|source| is_product_source(source));
    let elsewhere = product.filter(|source| !is_source_of(source, "crates/sync"));
    let find = |source: &Source| {
        let exempt = STD_THREADS
            .iter()
            .any(|(start, _)| source.path.starts_with(start));
        let words: &[&str] = match exempt {
            true => &["sync::atomic", "core::sync"],
            false => &["sync::atomic", "core::sync", "std::thread"],
        };
        words_in(source, words, "goes past crates/sync")
    };
    elsewhere.flat_map(find).collect()
}

/// The crates below `vcmdq` do no I/O of their own; a backend gets what it needs from a crate
/// that the step `imports` knows.
pub(super) fn host_interfaces(sources: &[Source]) -> Vec<Finding> {
    const WORDS: &[&str] = &[
        "std::io",
        "std::fs",
        "std::net",
        "std::os",
        "std::process",
        "std::env",
    ];
    let below = |source: &&Source| {
        is_source_of(source, "crates/smmu-core") || is_source_of(source, "crates/dispatch")
    };
    let find = |source| words_in(source, WORDS, "is an interface of the host");
    sources.iter().filter(below).flat_map(find).collect()
}

fn words_in(source: &Source, words: &[&str], why: &str) -> Vec<Finding> {
    let in_line = |(number, line): (usize, &str)| {
        let word = words.iter().find(|word| has_word(line, word))?;
        Some(Finding::new(source, number, format!("{word} {why}")))
    };
    product_lines(source).filter_map(in_line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::lines;
    use super::*;

    const USES: &str =
        "use core::sync::atomic::fence;\nuse std::thread;\nuse vcmdq_sync::atomic;\n";

    #[test]
    fn atomics_and_threads_are_found_in_the_product() {
        assert_eq!(
            lines(atomics_and_threads, "crates/vcmdq/src/worker.rs", USES),
            [1, 2]
        );
        assert_eq!(
            lines(atomics_and_threads, "crates/cli/src/main.rs", USES),
            [1]
        );
    }

    #[test]
    fn the_shim_and_tests_may_name_them() {
        for path in [
            "crates/sync/src/thread.rs",
            "crates/vcmdq/tests/a.rs",
            "xtask/src/main.rs",
        ] {
            assert!(lines(atomics_and_threads, path, USES).is_empty(), "{path}");
        }
    }

    #[test]
    fn the_lower_crates_do_no_input_or_output() {
        let text = "use std::io;\nuse std::iter;\n";
        assert_eq!(
            lines(host_interfaces, "crates/smmu-core/src/a.rs", text),
            [1]
        );
        assert_eq!(
            lines(host_interfaces, "crates/dispatch/src/a.rs", text),
            [1]
        );
        assert!(lines(host_interfaces, "crates/cli/src/a.rs", text).is_empty());
    }
}
