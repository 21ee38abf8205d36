//! Rust text as the rules see it: lines without comments, product apart from tests.

use crate::workspace::Source;

/// The lines of `source` with their numbers, from 1, and without line comments.
pub(super) fn lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source
        .text
        .lines()
        .map(without_comment)
        .zip(1..)
        .map(|(line, number)| (number, line))
}

/// [`lines`], up to the test module at the end of the file. Nothing when the whole file is
/// there for tests.
pub(super) fn product_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let end = if is_test_file(&source.path) {
        0
    } else {
        start_of_tests(&source.text)
    };
    lines(source).take(end)
}

/// Whether `word` stands in `line` as a word of its own: `unsafe` does not stand in
/// `unsafe_code`, nor `sync::atomic` in `vcmdq_sync::atomic`.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

/// Whether the file is Rust source of the crate in the directory `krate` (`crates/sync`).
pub(super) fn is_source_of(source: &Source, krate: &str) -> bool {
    let inside = source
        .path
        .strip_prefix(krate)
        .and_then(|rest| rest.strip_prefix("/src/"));
    inside.is_some_and(|path| path.ends_with(".rs"))
}

/// Whether the file is Rust source of any crate under `crates/`.
pub(super) fn is_product_source(source: &Source) -> bool {
    let parts: Vec<&str> = source.path.splitn(4, '/').collect();
    matches!(parts[..], ["crates", _, "src", path] if path.ends_with(".rs"))
}

fn without_comment(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/")
}

/// The number of lines before `#[cfg(test)]` that opens a module.
fn start_of_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let opens = |pair: &[&str]| {
        pair[0].trim_end() == "#[cfg(test)]"
            && pair[1].starts_with("mod ")
            && pair[1].ends_with('{')
    };
    lines.windows(2).position(opens).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::super::testing::file;
    use super::*;

    #[test]
    fn comments_are_no_code() {
        let source = file("a.rs", "//! unsafe\nfn f() {} // unsafe");
        assert_eq!(
            lines(&source).collect::<Vec<_>>(),
            [(1, ""), (2, "fn f() {} ")]
        );
    }

    #[test]
    fn a_word_is_no_part_of_another() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(has_word(
            "use std::sync::atomic::AtomicU32;",
            "sync::atomic"
        ));
        assert!(!has_word("deny(unsafe_code)", "unsafe"));
        assert!(!has_word(
            "use vcmdq_sync::atomic::AtomicU32;",
            "sync::atomic"
        ));
        assert!(has_word("unsafe_code unsafe", "unsafe"));
    }

    #[test]
    fn the_product_ends_where_the_tests_begin() {
        let text = "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\nmod tests {\nc\n}\n";
        let source = file("crates/x/src/a.rs", text);
        assert_eq!(product_lines(&source).count(), 4);
        assert_eq!(
            product_lines(&file("crates/x/src/a/tests.rs", text)).count(),
            0
        );
        assert_eq!(product_lines(&file("crates/x/tests/a.rs", text)).count(), 0);
    }

    #[test]
    fn sources_are_told_from_tests_and_from_other_crates() {
        let source = file("crates/x/src/a/b.rs", "");
        assert!(is_product_source(&source) && is_source_of(&source, "crates/x"));
        assert!(!is_source_of(&source, "crates/y"));
        for path in ["crates/x/tests/a.rs", "xtask/src/a.rs", "crates/x/src/a.md"] {
            assert!(!is_product_source(&file(path, "")), "{path}");
        }
    }
}
