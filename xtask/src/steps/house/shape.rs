//! How files look: not too long, docs first, no code in `lib.rs`.

use super::Finding;
use super::code::{has_word, is_product_source, lines};
use crate::workspace::Source;

const MOST_LINES: usize = 500;

/// What begins an item that is more than a signpost to other files.
const ITEMS: [&str; 8] = [
    "fn",
    "struct",
    "enum",
    "union",
    "trait",
    "impl",
    "static",
    "macro_rules!",
];

/// A file that needs more lines has more than one purpose.
pub(super) fn long_files(sources: &[Source]) -> Vec<Finding> {
    let find = |source: &Source| {
        let count = source.text.lines().count();
        let long = count > MOST_LINES;
        long.then(|| {
            Finding::new(
                source,
                count,
                format!("{count} lines, {MOST_LINES} at most"),
            )
        })
    };
    sources
        .iter()
        .filter(|source| is_product_source(source))
        .filter_map(find)
        .collect()
}

/// A `lib.rs` is the map of its crate.
pub(super) fn code_in_lib_rs(sources: &[Source]) -> Vec<Finding> {
    let is_lib =
        |source: &&Source| is_product_source(source) && source.path.ends_with("/src/lib.rs");
    let find = |source: &Source| {
        let in_line = |(number, line): (usize, &str)| {
            let attribute = line.trim_start().starts_with('#');
            let item = ITEMS
                .iter()
                .find(|item| !attribute && has_item(line, item))?;
            Some(Finding::new(
                source,
                number,
                format!("`{item}` belongs into a module"),
            ))
        };
        lines(source).filter_map(in_line).collect::<Vec<_>>()
    };
    sources.iter().filter(is_lib).flat_map(find).collect()
}

fn has_item(line: &str, item: &str) -> bool {
    match item.strip_suffix('!') {
        Some(_) => line.contains(item),
        None => has_word(line, item),
    }
}

/// A reader who opens a file first reads what it is for.
pub(super) fn missing_module_docs(sources: &[Source]) -> Vec<Finding> {
    let rust = sources.iter().filter(|source| source.path.ends_with(".rs"));
    let bare = rust.filter(|source| !source.text.starts_with("//!"));
    bare.map(|source| Finding::new(source, 1, "begins without `//!`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::lines as found;
    use super::*;

    #[test]
    fn the_last_permitted_line_is_the_five_hundredth() {
        let path = "crates/x/src/a.rs";
        assert!(found(long_files, path, &"\n".repeat(500)).is_empty());
        assert_eq!(found(long_files, path, &"\n".repeat(501)), [501]);
        assert!(found(long_files, "crates/x/tests/a.rs", &"\n".repeat(501)).is_empty());
    }

    #[test]
    fn a_map_holds_no_items() {
        let map = "//! fn\n#![no_std]\nextern crate alloc;\npub mod a;\npub use a::{B, C};\n";
        assert!(found(code_in_lib_rs, "crates/x/src/lib.rs", map).is_empty());
        let code = "pub struct A;\nfn f() {}\nmacro_rules! m {}\nconst A: fn() = f;\n";
        assert_eq!(
            found(code_in_lib_rs, "crates/x/src/lib.rs", code),
            [1, 2, 3, 4]
        );
        assert!(found(code_in_lib_rs, "crates/x/src/a.rs", code).is_empty());
    }

    #[test]
    fn docs_are_the_first_thing_in_a_file() {
        assert!(found(missing_module_docs, "a.rs", "//! Docs.\n").is_empty());
        assert_eq!(
            found(missing_module_docs, "a.rs", "use a;\n//! Docs.\n"),
            [1]
        );
        assert!(found(missing_module_docs, "a.md", "text").is_empty());
    }
}
