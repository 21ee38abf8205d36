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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_and_is_not_there_is_named() {
        let fragment = "# the SMMU\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=8\n";
        let configuration = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=64\nCONFIG_BB=y\n";
        assert_eq!(lost(fragment, configuration), ["CONFIG_B=y", "CONFIG_D=8"]);
        assert!(lost(fragment, "CONFIG_A=y\nCONFIG_B=y\nCONFIG_D=8\n").is_empty());
    }
}
