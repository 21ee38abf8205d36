//! A law that somebody can break has a test that is named for it.

use std::collections::BTreeMap;

use super::Finding;
use super::code::{is_product_source, lines};
use crate::faults::switch::names_in;
use crate::workspace::Source;

/// Laws that switches in the product break and that no test function names.
pub(super) fn without_tests(sources: &[Source]) -> Vec<Finding> {
    let mut broken_at = BTreeMap::new();
    for source in sources.iter().filter(|source| is_product_source(source)) {
        for (number, line) in lines(source) {
            for name in names_in(line) {
                broken_at.entry(name.law).or_insert((source, number));
            }
        }
    }
    let untested = broken_at
        .into_iter()
        .filter(|(law, _)| !is_named_by_a_test(sources, *law));
    untested
        .map(|(law, (source, number))| {
            Finding::new(source, number, format!("no test is named `law{law}_…`"))
        })
        .collect()
}

fn is_named_by_a_test(sources: &[Source], law: u32) -> bool {
    let name = format!("law{law}_");
    let names = |line: &str| {
        let function = line
            .split_once("fn ")
            .map(|(_, rest)| rest.split('(').next());
        function
            .flatten()
            .is_some_and(|function| function.contains(&name))
    };
    sources
        .iter()
        .any(|source| lines(source).any(|(_, line)| names(line)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::file;
    use super::*;

    #[test]
    fn a_law_that_can_be_broken_must_be_named_by_a_test() {
        let product = file("crates/x/src/a.rs", "\nif broken!(break_law1a) {\n");
        let other = file(
            "crates/x/tests/a.rs",
            "fn law11_holds() {}\nlet law1_ = 1;\n",
        );
        let test = file("crates/x/tests/b.rs", "fn law1_holds() {}\n");
        let findings = without_tests(&[product.clone(), other.clone()]);
        assert_eq!(findings.len(), 1);
        assert_eq!(
            (findings[0].path.as_str(), findings[0].line),
            ("crates/x/src/a.rs", 2)
        );
        assert!(without_tests(&[product, other, test]).is_empty());
    }
}
