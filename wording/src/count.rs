//! Numbers with their nouns.

use std::fmt::Display;

/// So many of something: `1 boot`, `2 boots`, `0 entries`. `noun` is the word for one, with a plural in
/// `s`, `es` behind a hiss, or `ies`; words before it (`missing entry`) stay as they are.
pub fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) {
        return format!("{number} {noun}");
    }
    let hisses = ["s", "x", "ch", "sh"];
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{number} {stem}ies"),
        _ if hisses.iter().any(|end| noun.ends_with(end)) => format!("{number} {noun}es"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_everything_else_plural() {
        assert_eq!(count(1u64, "boot"), "1 boot");
        assert_eq!(count(0usize, "boot"), "0 boots");
        assert_eq!(count(21u32, "vCPU"), "21 vCPUs");
        assert_eq!(count(2u8, "lost entry"), "2 lost entries");
        assert_eq!(count(3u8, "delay"), "3 delays");
        assert_eq!(count(2u8, "switch"), "2 switches");
    }
}
