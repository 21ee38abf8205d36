//! The switches that break laws: where they stand in the product and what they say they do.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::workspace::Source;

const PREFIX: &str = "break_law";
/// What code tests a switch with.
const USE: &str = "broken!";

/// A switch that the product holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Switch {
    /// Its name, such as `break_law4a`.
    pub(crate) name: String,
    /// The law that it breaks.
    pub(crate) law: u32,
    /// What it does, from the comment `// law4a: …` beside it; empty without.
    pub(crate) about: String,
    /// What another comment says of it, if that is not the same: then one name is two switches.
    pub(crate) otherwise: Option<String>,
    /// The file in which it stands first.
    pub(crate) path: String,
}

/// The name of a switch and the law that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// The whole name.
    pub(crate) text: String,
    /// The number in it.
    pub(crate) law: u32,
}

/// Every name of a switch in `text`: `break_law`, a number, one small letter.
pub(crate) fn names_in(text: &str) -> Vec<Name> {
    let starts = text.match_indices(PREFIX).map(|(at, _)| &text[at..]);
    starts.filter_map(name_at_start).collect()
}

/// The name that `text` begins with.
fn name_at_start(text: &str) -> Option<Name> {
    let rest = text.strip_prefix(PREFIX)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    let law = rest[..digits].parse().ok()?;
    let mut after = rest[digits..].chars();
    let letter = after.next().filter(char::is_ascii_lowercase)?;
    let longer = after
        .next()
        .is_some_and(|c| c.is_alphanumeric() || c == '_');
    (!longer).then(|| Name {
        text: format!("{PREFIX}{law}{letter}"),
        law,
    })
}

/// The switches that are used (in a `broken!`) in the sources of the crates, by law and letter.
pub(crate) fn scan(sources: &[Source]) -> Vec<Switch> {
    let product = |path: &str| path.starts_with("crates/") && path.contains("/src/");
    let mut found = BTreeMap::new();
    let mut comments = BTreeMap::<String, Vec<String>>::new();
    for source in sources.iter().filter(|source| product(&source.path)) {
        for (name, about) in comments_in(&source.text) {
            let said = comments.entry(name).or_default();
            if !said.contains(&about) {
                said.push(about);
            }
        }
        for name in source.text.lines().flat_map(used_in) {
            found
                .entry((name.law, name.text))
                .or_insert_with(|| source.path.clone());
        }
    }
    let describe = |((law, name), path): ((u32, String), String)| {
        let mut said = comments.remove(&name).unwrap_or_default().into_iter();
        Switch {
            name,
            law,
            about: said.next().unwrap_or_default(),
            otherwise: said.next(),
            path,
        }
    };
    found.into_iter().map(describe).collect()
}

/// The switches that a line of code tests.
fn used_in(line: &str) -> Vec<Name> {
    let code = line.split("//").next().unwrap_or_default();
    if code.contains(USE) {
        names_in(code)
    } else {
        Vec::new()
    }
}

/// What comments of the form `// law4a: text` say, with the comment lines after them.
fn comments_in(text: &str) -> Vec<(String, String)> {
    let mut comments: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let Some(comment) = line.trim_start().strip_prefix("//").map(str::trim) else {
            open = false;
            continue;
        };
        if let Some((name, about)) = label_of(comment) {
            comments.push((name, about.to_owned()));
            open = true;
        } else if let Some((_, about)) = comments.last_mut().filter(|_| open) {
            about.push(' ');
            about.push_str(comment);
        }
    }
    comments
}

/// Splits `law4a: text` (or `break_law4a: text`) into the switch's name and the text.
fn label_of(comment: &str) -> Option<(String, &str)> {
    let (label, about) = comment.split_once(':')?;
    let name = format!("break_{}", label.trim_start_matches("break_"));
    let whole = name_at_start(&name).is_some_and(|found| found.text == name);
    whole.then(|| (name, about.trim()))
}

/// Demands `each` switches for each of `laws`, and of every switch to say what it breaks.
///
/// # Errors
///
/// Names every switch and every comment that is missing.
pub(super) fn demand(found: &[Switch], laws: &[u32], each: usize) -> Result<()> {
    let missing = laws.iter().flat_map(|law| missing_of(found, *law, each));
    let lacking = missing.map(|name| format!("switch {name} ({each} for each law)"));
    let silent = found.iter().filter(|switch| switch.about.is_empty());
    let unexplained = silent.map(|switch| {
        let label = switch.name.trim_start_matches("break_");
        format!("comment `// {label}: what it breaks` in {}", switch.path)
    });
    let all: Vec<String> = lacking.chain(unexplained).collect();
    ensure!(all.is_empty(), "missing in the product: {}", all.join(", "));
    let two = found.iter().filter_map(|switch| {
        let (name, first, second) = (&switch.name, &switch.about, switch.otherwise.as_ref()?);
        Some(format!("{name} (\"{first}\", \"{second}\")"))
    });
    let two: Vec<String> = two.collect();
    let advice = "give one of them another letter, or both the same comment";
    ensure!(
        two.is_empty(),
        "one name for two switches: {}: {advice}",
        two.join(", ")
    );
    Ok(())
}

/// Names that would bring the switches of `law` up to `each`.
fn missing_of(found: &[Switch], law: u32, each: usize) -> Vec<String> {
    let has = |name: &str| found.iter().any(|switch| switch.name == name);
    let count = found.iter().filter(|switch| switch.law == law).count();
    let names = ('a'..='z').map(|letter| format!("{PREFIX}{law}{letter}"));
    names
        .filter(|name| !has(name))
        .take(each.saturating_sub(count))
        .collect()
}

/// A switch for tests.
#[cfg(test)]
pub(super) fn example(name: &str) -> Switch {
    let law = names_in(name)[0].law;
    Switch {
        name: name.into(),
        law,
        about: "does wrong".into(),
        otherwise: None,
        path: "crates/x/src/a.rs".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Source {
        Source {
            path: "crates/x/src/a.rs".into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_name_is_prefix_number_and_one_letter() {
        let names = names_in("broken!(break_law4a) || broken!(break_law10b)");
        let texts: Vec<_> = names
            .iter()
            .map(|name| (name.text.as_str(), name.law))
            .collect();
        assert_eq!(texts, [("break_law4a", 4), ("break_law10b", 10)]);
        for none in [
            "break_law",
            "break_law4",
            "break_lawa",
            "break_law4ab",
            "break_law4a_x",
        ] {
            assert!(names_in(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_switch_is_what_code_tests_and_its_comment_is_what_it_breaks() {
        let text = "// law4a: CONS passes\n    // the SYNC.\nif broken!(break_law4a) {}\n\
                    // law4b: only spoken of\nlet break_law4c = 1;\n";
        let switches = scan(&[file(text)]);
        assert_eq!(switches.len(), 1);
        assert_eq!(switches[0].name, "break_law4a");
        assert_eq!(switches[0].about, "CONS passes the SYNC.");
    }

    #[test]
    fn a_name_for_two_switches_is_an_error_that_says_both() {
        let once = "// law1a: one\nif broken!(break_law1a) {}\n";
        let same = scan(&[file(&format!("{once}{once}"))]);
        assert!(demand(&same, &[], 2).is_ok());
        let other = "// law1a: two\nif broken!(break_law1a) {}\n";
        let error = demand(&scan(&[file(&format!("{once}{other}"))]), &[], 2).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("break_law1a (\"one\", \"two\")"), "{error}");
    }

    #[test]
    fn a_comment_ends_where_the_code_goes_on_and_the_first_counts() {
        let text = "// law1a: one\nif broken!(break_law1a) {}\n// something else\n// law1a: again";
        assert_eq!(scan(&[file(text)])[0].about, "one");
    }

    #[test]
    fn a_switch_without_comment_is_an_error_that_names_it() {
        let found = scan(&[file("if !broken!(break_law7b) {\n")]);
        assert_eq!(found[0].about, "");
        let error = demand(&found, &[], 2).expect_err("no comment").to_string();
        assert!(
            error.contains("`// law7b: what it breaks` in crates/x/src/a.rs"),
            "{error}"
        );
    }

    #[test]
    fn tests_are_no_place_for_switches() {
        let source = Source {
            path: "crates/x/tests/a.rs".into(),
            ..file("broken!(break_law1a)")
        };
        assert_eq!(scan(&[source]), []);
    }

    #[test]
    fn switches_are_ordered_by_law_and_letter() {
        let text = "// break_law10a: x\n// break_law2b: x\n// break_law2a: x\n\
                    [broken!(break_law10a), broken!(break_law2b), broken!(break_law2a)]";
        let switches = scan(&[file(text)]);
        let names: Vec<_> = switches.iter().map(|switch| switch.name.as_str()).collect();
        assert_eq!(names, ["break_law2a", "break_law2b", "break_law10a"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let found = [
            example("break_law1a"),
            example("break_law1b"),
            example("break_law2b"),
        ];
        assert!(demand(&found, &[1], 2).is_ok());
        let error = demand(&found, &[1, 2, 3], 2)
            .expect_err("too few")
            .to_string();
        for name in ["break_law2a", "break_law3a", "break_law3b"] {
            assert!(error.contains(name), "{error}");
        }
        assert!(
            !error.contains("break_law2b") && !error.contains("break_law2c"),
            "{error}"
        );
    }
}
