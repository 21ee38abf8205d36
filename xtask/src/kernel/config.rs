//! What a kernel's configuration says.

/// Options of the fragment that the configuration does not have as they were asked for: a name that
/// is gone, or something that they depend on.
pub(super) fn lost(fragment: &str, configuration: &str) -> Vec<String> {
    let set = |line: &&str| line.starts_with("CONFIG_") && !line.ends_with("=n");
    let has = |line: &&str| configuration.lines().any(|have| have == *line);
    let wanted = fragment.lines().map(str::trim).filter(set);
    wanted
        .filter(|line| !has(line))
        .map(str::to_owned)
        .collect()
}

/// A configuration with a fragment behind it, and without the lines of its own that speak of the same options: of two
/// values the last one counts, but make warns of each.
pub(super) fn with(configuration: &str, fragment: &str) -> String {
    let set: Vec<_> = fragment.lines().filter_map(option).collect();
    let kept = configuration
        .lines()
        .filter(|line| option(line).is_none_or(|name| !set.contains(&name)));
    let lines = kept.chain(fragment.lines());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The option that a line speaks of: `CONFIG_A=y`, or `# CONFIG_A is not set`.
fn option(line: &str) -> Option<&str> {
    let set = || line.trim().split_once('=').map(|(name, _)| name);
    let unset = || line.trim().strip_prefix("# ")?.strip_suffix(" is not set");
    set()
        .or_else(unset)
        .filter(|name| name.starts_with("CONFIG_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lines_of_an_option_the_fragments_is_kept() {
        let smallest = "# smallest\nCONFIG_A=\"\"\n# CONFIG_B is not set\nCONFIG_BB=y\n";
        let whole = with(smallest, "# the SMMU\nCONFIG_A=\"x=1\"\nCONFIG_B=y\n");
        let expected = "# smallest\nCONFIG_BB=y\n# the SMMU\nCONFIG_A=\"x=1\"\nCONFIG_B=y\n";
        assert_eq!(whole, expected);
    }

    #[test]
    fn what_was_asked_for_and_is_not_there_is_named() {
        let fragment = "# the SMMU\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=8\n";
        let configuration = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=64\nCONFIG_BB=y\n";
        assert_eq!(lost(fragment, configuration), ["CONFIG_B=y", "CONFIG_D=8"]);
        assert!(lost(fragment, "CONFIG_A=y\nCONFIG_B=y\nCONFIG_D=8\n").is_empty());
    }
}
