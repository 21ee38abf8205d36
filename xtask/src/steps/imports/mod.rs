//! Crates know only whom they may know. Cargo refuses a cycle of normal dependencies, but
//! not a test of `smmu-core` that uses `vcmdq`: so every kind of dependency is looked at.

mod rules;

use std::fmt;
use vcmdq_wording::count;

use anyhow::{Result, ensure};
use cargo_metadata::{DependencyKind, Metadata};

use self::rules::{LENT, RULES, Rule};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// One dependency of one of our packages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    /// Whether `to` is a package of this workspace.
    ours: bool,
    kind: DependencyKind,
    optional: bool,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DependencyKind::Development => "dev-dependency",
            DependencyKind::Build => "build-dependency",
            _ => "dependency",
        };
        write!(f, "{} has the {kind} {}", self.from, self.to)
    }
}

/// Holds the dependencies that `cargo metadata` lists against the [`RULES`].
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut broken = packages_without_rule(&workspace.metadata);
    let edges = edges(&workspace.metadata);
    println!(
        "{} against {}",
        count(edges.len(), "dependency"),
        count(RULES.len(), "rule")
    );
    broken.extend(edges.iter().filter_map(violation));
    for line in &broken {
        println!("  {line}");
    }
    ensure!(
        broken.is_empty(),
        "{} that may not be",
        count(broken.len(), "dependency")
    );
    Ok(Outcome::Passed)
}

fn edges(metadata: &Metadata) -> Vec<Edge> {
    let packages = &metadata.packages;
    let ours = |name: &str| packages.iter().any(|package| package.name.as_str() == name);
    let of_package = |package: &cargo_metadata::Package| {
        let edge = |dependency: &cargo_metadata::Dependency| Edge {
            from: package.name.to_string(),
            to: dependency.name.clone(),
            ours: ours(&dependency.name),
            kind: dependency.kind,
            optional: dependency.optional,
        };
        package.dependencies.iter().map(edge).collect::<Vec<_>>()
    };
    packages.iter().flat_map(of_package).collect()
}

/// A package under `crates/` is part of the product and must say whom it knows.
fn packages_without_rule(metadata: &Metadata) -> Vec<String> {
    let crates = metadata.workspace_root.join("crates");
    let product = |package: &&cargo_metadata::Package| package.manifest_path.starts_with(&crates);
    let unknown = |package: &&cargo_metadata::Package| rule_of(package.name.as_str()).is_none();
    let packages = metadata.packages.iter().filter(product).filter(unknown);
    packages
        .map(|package| format!("{} has no rule in imports/rules.rs", package.name))
        .collect()
}

fn rule_of(package: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.package == package)
}

/// What is wrong with `edge`.
fn violation(edge: &Edge) -> Option<String> {
    let to = edge.to.as_str();
    // A crate's own tests may switch features of it on.
    if edge.from == to && edge.kind == DependencyKind::Development {
        return None;
    }
    let Some(rule) = rule_of(&edge.from) else {
        // Outside the product: everything in it may be used, and nothing beside it.
        let beside = edge.ours && rule_of(to).is_none() && !LENT.contains(&to);
        return beside.then(|| format!("{edge}: only crates/ may be used by others"));
    };
    if edge.ours {
        let allowed = rule.may_use;
        return (!allowed.contains(&to)).then(|| format!("{edge}: it may use only {allowed:?}"));
    }
    // What only tests use reaches no VMM.
    if edge.kind == DependencyKind::Development {
        return None;
    }
    if holds(rule.must_not_use, to) {
        return Some(format!("{edge}: that is what it must not know"));
    }
    let hard = holds(rule.only_optional, to) && !edge.optional;
    hard.then(|| format!("{edge}: it must be optional, behind a feature"))
}

fn holds(groups: &[&[&str]], package: &str) -> bool {
    groups.iter().any(|group| group.contains(&package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str, kind: DependencyKind) -> Edge {
        let ours = rule_of(to).is_some() || ["xtask", "loom-tests", "vcmdq-benches"].contains(&to);
        Edge {
            from: from.into(),
            to: to.into(),
            ours,
            kind,
            optional: false,
        }
    }

    fn verdict(from: &str, to: &str) -> Option<String> {
        violation(&edge(from, to, DependencyKind::Normal))
    }

    #[test]
    fn arrows_go_down_only() {
        assert_eq!(verdict("vcmdq", "vcmdq-dispatch"), None);
        assert_eq!(verdict("vcmdq-dispatch", "smmu-core"), None);
        for (from, to) in [
            ("vcmdq-sync", "smmu-core"),
            ("smmu-core", "vcmdq-dispatch"),
            ("smmu-core", "vcmdq"),
            ("vcmdq-dispatch", "vcmdq"),
            ("vcmdq", "vcmdq-cli"),
            ("vcmdq", "loom-tests"),
        ] {
            let text = verdict(from, to).expect("forbidden");
            assert!(text.contains(from) && text.contains(to), "{text}");
        }
    }

    #[test]
    fn tests_and_build_scripts_are_held_to_the_same_table() {
        for kind in [DependencyKind::Development, DependencyKind::Build] {
            assert!(
                violation(&edge("smmu-core", "vcmdq", kind)).is_some(),
                "{kind:?}"
            );
            assert!(
                violation(&edge("vcmdq-dispatch", "vcmdq", kind)).is_some(),
                "{kind:?}"
            );
        }
        assert_eq!(
            violation(&edge("vcmdq", "vcmdq", DependencyKind::Development)),
            None
        );
    }

    #[test]
    fn what_stands_outside_uses_the_product_and_not_each_other() {
        assert_eq!(verdict("vcmdq-benches", "vcmdq"), None);
        assert_eq!(verdict("vcmdq-benches", "criterion"), None);
        assert!(verdict("vcmdq-benches", "loom-tests").is_some());
        assert_eq!(verdict("vcmdq-measure", "vcmdq-benches"), None);
        assert!(verdict("vcmdq", "vcmdq-benches").is_some());
    }

    #[test]
    fn the_formats_know_no_host_and_no_threads() {
        for to in ["libc", "vm-memory", "crossbeam"] {
            assert!(verdict("smmu-core", to).is_some(), "{to}");
        }
        assert_eq!(verdict("smmu-core", "bitfield-struct"), None);
    }

    #[test]
    fn what_a_vmm_may_not_want_is_optional() {
        assert!(verdict("vcmdq", "vm-memory").is_some_and(|text| text.contains("optional")));
        let mut edge = edge("vcmdq", "vm-memory", DependencyKind::Normal);
        edge.optional = true;
        assert_eq!(violation(&edge), None);
        let test = Edge {
            optional: false,
            kind: DependencyKind::Development,
            ..edge
        };
        assert_eq!(violation(&test), None);
    }

    #[test]
    fn the_metadata_is_read_with_every_kind_of_dependency() {
        let workspace = Workspace::find().expect("cargo metadata");
        let edges = edges(&workspace.metadata);
        let has = |from: &str, to: &str, kind| {
            edges
                .iter()
                .any(|edge| edge.from == from && edge.to == to && edge.kind == kind)
        };
        assert!(has("vcmdq", "smmu-core", DependencyKind::Normal));
        assert!(has("vcmdq", "vcmdq", DependencyKind::Development));
    }
}
