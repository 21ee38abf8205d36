//! From what was measured to what is shown.

use super::figures;
use super::goals::{self, Sources};
use super::headline::headline;
use super::plot::{Table, Unit};
use super::results::Results;
use super::view::View;
use vcmdq_measure::data::{Placed, Section};
use vcmdq_measure::{InProcess, Part};

/// The view of these results.
pub(crate) fn view(results: &Results) -> View {
    let goals = goals::all(results);
    let (headline, under) = headline(&Sources::of(results));
    View {
        date: results.machine.date.clone(),
        machine_in_short: results.machine.in_short(),
        headline,
        under,
        warnings: warnings(results),
        figures: figures::all(results),
        goals,
        facts: facts(results),
        placement: placement(results),
        command: results.command.clone(),
    }
}

fn warnings(results: &Results) -> Vec<String> {
    let failures = results.failures.iter();
    let mut warnings: Vec<String> = failures.map(|why| format!("FAILED: {why}.")).collect();
    if results.quick {
        warnings.push(
            "This was a smoke run (--quick): everything was called, but the figures mean nothing."
                .to_owned(),
        );
    }
    if !results.machine.optimised {
        warnings.push(
            "The tool was built without optimisation: build it with --release to compare anything."
                .to_owned(),
        );
    }
    if let Some(load) = results.load.filter(|load| !load.is_quiet()) {
        warnings.push(format!(
            "The machine was not quiet: others used {} of its CPUs just before and {} just after, and {} of the \
             time in between went to other machines of its host.",
            share(load.before),
            share(load.after),
            share(load.stolen)
        ));
    }
    if results.machine.cpus < 2 {
        warnings.push("With one CPU nothing between two threads can be measured.".to_owned());
    }
    warnings
}

fn share(value: f64) -> String {
    Unit::Share.show(value)
}

fn facts(results: &Results) -> Vec<(&'static str, String)> {
    let machine = &results.machine;
    let kind = match machine.virtual_machine {
        Some(true) => "a virtual machine",
        Some(false) => "no hypervisor below",
        None => "not known whether a virtual machine",
    };
    let mut facts = vec![
        (
            "CPU",
            format!("{}, {} to be used, {kind}", machine.cpu, machine.cpus),
        ),
        ("kernel", machine.kernel.clone()),
    ];
    if let Some(governor) = &machine.governor {
        facts.push(("frequency governor", governor.clone()));
    }
    let built = if machine.optimised {
        "release"
    } else {
        "without optimisation"
    };
    facts.push(("compiler", format!("{}, {built}", machine.compiler)));
    facts.push(("revision", machine.revision.clone()));
    if let Some(load) = &results.load {
        facts.push((
            "load",
            format!(
                "CPUs {} busy just before, {} just after; {} stolen in between",
                share(load.before),
                share(load.after),
                share(load.stolen)
            ),
        ));
    }
    facts.push(("measured", machine.date.clone()));
    facts
}

fn placement(results: &Results) -> Table {
    let mut table = Table::new(&["measurement", "thread", "CPU", ""]);
    let mut add = |what: &str, thread: &str, cpu: Option<usize>, remark: &str| {
        let cpu = cpu.map_or("the system's choice".to_owned(), |cpu| format!("CPU {cpu}"));
        table.push(vec![
            what.to_owned(),
            thread.to_owned(),
            cpu,
            remark.to_owned(),
        ]);
    };
    if let Section::Measured(report) = &results.kvm {
        for one in &report.placement {
            let plural = if one.vcpus == 1 { "" } else { "s" };
            let what = format!("guest, {} vCPU{plural}", one.vcpus);
            let remark = if one.shared {
                "shares it with another busy thread"
            } else {
                ""
            };
            add(&what, &one.thread, one.cpu, remark);
        }
    }
    if let Section::Measured(rows) = &results.rows {
        for (what, placed) in placed(rows) {
            for one in placed {
                add(what, &one.thread, one.cpu, "");
            }
        }
    }
    table
}

/// The parts inside one process.
fn placed(rows: &InProcess) -> Vec<(&'static str, &[Placed])> {
    fn of<T>(
        what: Part,
        section: &Section<T>,
        placed: fn(&T) -> &Vec<Placed>,
    ) -> Option<(&'static str, &[Placed])> {
        let placed = placed(section.measured()?);
        Some((what.name(), placed))
    }
    let parts = [
        of(Part::RoundTrips, &rows.round_trips, |part| &part.placement),
        of(Part::Drains, &rows.drains, |part| &part.placement),
        of(Part::Throughput, &rows.throughput, |part| &part.placement),
        of(Part::GroupCommit, &rows.group_commit, |part| {
            &part.placement
        }),
        of(Part::Blocked, &rows.blocked, |part| &part.placement),
        of(Part::Idle, &rows.idle, |part| &part.placement),
        of(Part::Tlb, &rows.tlb, |part| &part.placement),
        of(Part::Fairness, &rows.fairness, |part| &part.placement),
    ];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::goals::Tally;
    use super::super::load::Load;
    use super::super::machine::Machine;
    use super::*;

    /// A run that measured nothing.
    fn nothing() -> Results {
        let skipped = "it was not asked for";
        Results {
            machine: Machine::here(),
            command: "vcmdq bench".to_owned(),
            quick: false,
            load: None,
            failures: Vec::new(),
            rows: Section::Skipped(skipped.to_owned()),
            kvm: Section::Skipped(skipped.to_owned()),
        }
    }

    #[test]
    fn what_is_missing_is_said_everywhere() {
        let view = view(&nothing());
        let tally = Tally::of(&view.goals);
        assert_eq!((tally.met, tally.missed), (0, 0));
        assert_eq!(tally.not_measured, 11);
        for figure in &view.figures {
            let why = figure.missing.as_deref();
            assert_eq!(why, Some("it was not asked for"), "{}", figure.title);
        }
        assert!(view.placement.rows.is_empty());
    }

    #[test]
    fn failures_and_a_busy_machine_are_warned_of() {
        let warnings = |change: &dyn Fn(&mut Results)| {
            let mut results = nothing();
            change(&mut results);
            view(&results).warnings.join("\n")
        };
        let failed =
            warnings(&|results| results.failures = vec!["the guest stood still".to_owned()]);
        assert!(
            failed.contains("FAILED: the guest stood still."),
            "{failed}"
        );
        let load = |before| Load {
            before,
            after: 0.0,
            stolen: 0.0,
        };
        let quiet = warnings(&|results| results.load = Some(load(0.01)));
        assert!(!quiet.contains("not quiet"), "{quiet}");
        let busy = warnings(&|results| results.load = Some(load(0.5)));
        assert!(
            busy.contains("not quiet") && busy.contains("50 %"),
            "{busy}"
        );
    }
}
