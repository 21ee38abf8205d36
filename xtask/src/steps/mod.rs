//! The steps of `cargo xtask test`, one file each, cheap ones first.

mod boot;
mod clippy;
mod deny;
mod differential;
mod docs;
mod examples;
mod fmt;
mod fuzz;
mod house;
mod imports;
mod lanes;
mod loom;
mod mock;
mod msrv;
mod no_std;
mod test;

use std::time::Instant;

use anyhow::Result;

pub(crate) use self::boot::tool as boot_tool;
pub(crate) use self::differential::tool as differential_tool;
pub(crate) use self::loom::{LOOM_FLAGS, target_of_loom};
pub(crate) use self::mock::tool as mock_tool;
pub(crate) use self::no_std::host as host_triple;
use crate::faults;
use crate::summary::{Outcome, Row, Summary};
use crate::workspace::Workspace;

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    /// What `--only` and `--skip` call it.
    pub(crate) name: &'static str,
    /// What it checks, in a line.
    pub(crate) about: &'static str,
    place: Place,
    run: fn(&Workspace) -> Result<Outcome>,
}

/// Where a step builds, and so beside which others it can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nowhere, or not much: it runs alone, before the others.
    Nowhere,
    /// In cargo's usual directory, which one cargo at a time can use.
    Usual,
    /// In a directory of its own, or that for optimised programs.
    Own,
    /// It needs every processor for itself: it runs alone, after the others.
    Everywhere,
}

/// Every step, in the order in which they are shown.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        about: "the code is formatted",
        place: Place::Nowhere,
        run: fmt::run,
    },
    Step {
        name: "imports",
        about: "crates know only whom they may know",
        place: Place::Nowhere,
        run: imports::run,
    },
    Step {
        name: "house",
        about: "textual house rules",
        place: Place::Nowhere,
        run: house::run,
    },
    Step {
        name: "no_std",
        about: "smmu-core builds where no std exists",
        place: Place::Nowhere,
        run: no_std::run,
    },
    Step {
        name: "clippy",
        about: "no warning of rustc or clippy",
        place: Place::Usual,
        run: clippy::run,
    },
    Step {
        name: "test",
        about: "unit, property, integration and doc tests",
        place: Place::Usual,
        run: test::run,
    },
    Step {
        name: "examples",
        about: "each example prints what its header says",
        place: Place::Usual,
        run: examples::run,
    },
    Step {
        name: "docs",
        about: "the documentation builds, no link is dead",
        place: Place::Usual,
        run: docs::run,
    },
    Step {
        name: "msrv",
        about: "product crates build with the oldest rustc",
        place: Place::Own,
        run: msrv::run,
    },
    Step {
        name: "loom",
        about: "models of every meeting of threads",
        place: Place::Own,
        run: loom::run,
    },
    Step {
        name: "fuzz",
        about: "searches for inputs that break something, a minute each",
        place: Place::Everywhere,
        run: fuzz::run,
    },
    Step {
        name: "deny",
        about: "licences, bans and sources of dependencies",
        place: Place::Own,
        run: deny::run,
    },
    Step {
        name: "differential",
        about: "the engine and QEMU's SMMU say the same",
        place: Place::Own,
        run: differential::run,
    },
    Step {
        name: "boot",
        about: "an unmodified Linux guest runs on the engine",
        place: Place::Own,
        run: boot::run,
    },
    Step {
        name: "mock",
        about: "the iommufd backend runs in a kernel with a mock IOMMU",
        place: Place::Own,
        run: mock::run,
    },
    Step {
        name: "break",
        about: "tests notice when a law is broken",
        place: Place::Usual,
        run: break_laws,
    },
];

fn break_laws(workspace: &Workspace) -> Result<Outcome> {
    faults::run(workspace, &[])?;
    Ok(Outcome::Passed)
}

/// The steps that `--only` (all when empty) and `--skip` leave.
pub(crate) fn choose(only: &[String], skip: &[String]) -> Vec<&'static Step> {
    let named = |names: &[String], step: &Step| names.iter().any(|name| name == step.name);
    let chosen = |step: &&Step| (only.is_empty() || named(only, step)) && !named(skip, step);
    STEPS.iter().filter(chosen).collect()
}

/// Runs `steps` to the last, whether or not one fails: a full picture saves a second run. What builds in
/// different places runs at the same time.
pub(crate) fn run_all(workspace: &Workspace, steps: &[&'static Step]) -> Summary {
    if let [step] = steps {
        return Summary(vec![run_one(workspace, step)]);
    }
    let alone = |place| {
        let there = steps.iter().filter(move |step| step.place == place);
        there.map(|step| run_one(workspace, step))
    };
    let mut rows: Vec<Row> = alone(Place::Nowhere).collect();
    rows.extend(lanes::run(workspace, steps));
    rows.extend(alone(Place::Everywhere));
    rows.sort_by_key(|row| steps.iter().position(|step| step.name == row.step));
    Summary(rows)
}

fn run_one(workspace: &Workspace, step: &Step) -> Row {
    println!("\n== {}: {}", step.name, step.about);
    let start = Instant::now();
    let outcome = (step.run)(workspace).unwrap_or_else(|e| Outcome::Failed(format!("{e:#}")));
    let took = start.elapsed();
    let seconds = took.as_secs_f64();
    match &outcome {
        Outcome::Passed => println!("== {} passed in {seconds:.1} s", step.name),
        Outcome::Skipped(what) => println!("SKIPPED: {}: {what}", step.name),
        Outcome::Failed(why) => println!("== {} FAILED after {seconds:.1} s: {why}", step.name),
    }
    Row {
        step: step.name,
        outcome,
        took,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(steps: &[&Step]) -> Vec<&'static str> {
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn without_options_every_step_runs_and_no_name_stands_twice() {
        let all = names(&choose(&[], &[]));
        assert_eq!(all.len(), STEPS.len());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), STEPS.len());
    }

    #[test]
    fn only_and_skip_keep_the_order_of_the_steps() {
        let only = ["test".to_owned(), "fmt".to_owned()];
        assert_eq!(names(&choose(&only, &[])), ["fmt", "test"]);
        assert_eq!(names(&choose(&only, &["fmt".to_owned()])), ["test"]);
        assert!(!names(&choose(&[], &["fmt".to_owned()])).contains(&"fmt"));
    }

    #[test]
    fn an_error_of_a_step_becomes_its_failure() {
        let workspace = Workspace::find().expect("cargo metadata");
        let step = Step {
            name: "x",
            about: "",
            place: Place::Nowhere,
            run: |_| anyhow::bail!("broken"),
        };
        assert_eq!(
            run_one(&workspace, &step).outcome,
            Outcome::Failed("broken".into())
        );
    }
}
