//! What stands above the tables.

use super::distinct;
use crate::data::{Placed, Report};
use std::fmt::{self, Write};
use vcmdq_wording::count;

/// So many threads are named one by one.
const FEW_THREADS: usize = 9;

/// What the tables below have in common, and where the threads were.
pub(super) fn write(out: &mut impl Write, report: &Report) -> fmt::Result {
    let each = match report.passes {
        1 => "of one pass".to_owned(),
        passes => format!("each the median of {passes} passes"),
    };
    writeln!(
        out,
        "What a guest waits for, in microseconds, by its own clock (TSC {:.0} MHz): median / p99, of unmaps\n\
         median / mean, {each}. A ring for each vCPU; `in the exit` has one mutex for all\n\
         of them. Nothing is cached of what is invalidated.",
        report.ticks_per_us
    )?;
    for vcpus in distinct(report, |case| case.vcpus) {
        let mine = report.placement.iter().filter(|one| one.vcpus == vcpus);
        let placed: Vec<_> = mine.collect();
        if placed.is_empty() {
            continue;
        }
        let shared = if placed.iter().any(|one| one.shared) {
            "  (* wait for each other)"
        } else {
            ""
        };
        let places = places(&placed).join(", ");
        writeln!(out, "{}: {places}{shared}", count(vcpus, "vCPU"))?;
    }
    Ok(())
}

/// Each thread with its processor; of more than a few, each processor with how many it has.
fn places(placed: &[&Placed]) -> Vec<String> {
    let cpu = |cpu: Option<usize>| cpu.map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
    let star = |shared| if shared { "*" } else { "" };
    if placed.len() <= FEW_THREADS {
        let place = |one: &&Placed| format!("{} {}{}", one.thread, cpu(one.cpu), star(one.shared));
        return placed.iter().map(place).collect();
    }
    let mut cpus: Vec<_> = placed.iter().map(|one| one.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let place = |at: Option<usize>| {
        let there: Vec<_> = placed.iter().filter(|one| one.cpu == at).collect();
        let shared = there.iter().any(|one| one.shared);
        format!("{} threads {}{}", there.len(), cpu(at), star(shared))
    };
    cpus.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_threads_are_counted_by_processor() {
        let thread = |number: usize| Placed {
            vcpus: 63,
            thread: format!("vCPU {number}"),
            cpu: Some(number % 2),
            shared: true,
        };
        let all: Vec<_> = (0..64).map(thread).collect();
        let all: Vec<_> = all.iter().collect();
        assert_eq!(places(&all[..2]), ["vCPU 0 CPU 0*", "vCPU 1 CPU 1*"]);
        assert_eq!(places(&all), ["32 threads CPU 0*", "32 threads CPU 1*"]);
    }
}
