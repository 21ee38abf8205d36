//! What is measured, and in which order.

use crate::data::{Case, Cost, Mode, Span, Waiter};
use crate::options::Options;

/// As in the published table: 4K, 16K, 64K, 128K, 256K.
const PAGES: [u32; 5] = [1, 4, 16, 32, 64];
/// The ends of it, for a smoke run.
const FEW_PAGES: [u32; 2] = [1, 64];
/// How long a guest is idle that is said to be.
pub(crate) const IDLE_US: u32 = 5000;

/// All cases that the options ask for, with the references, on a machine of so many processors.
pub(crate) fn all(options: &Options, cpus: usize) -> Vec<Case> {
    let pages = match (options.pages.as_slice(), options.quick) {
        ([], false) => &PAGES[..],
        ([], true) => &FEW_PAGES,
        (chosen, _) => chosen,
    };
    let mut cases = Vec::new();
    let vcpus = vcpus(options, cpus);
    if !vcpus.contains(&1) {
        // What an exit costs is asked of one vCPU.
        for mode in Mode::ALL.into_iter().filter(|mode| mode.is_reference()) {
            references(mode, 1, cpus, &mut cases);
        }
    }
    for vcpus in vcpus {
        for mode in Mode::ALL {
            if mode.is_reference() {
                references(mode, vcpus, cpus, &mut cases);
            } else if options.modes.is_empty() || options.modes.contains(&mode) {
                consumed(mode, vcpus, pages, &mut cases);
            }
        }
    }
    cases
}

/// How many vCPUs rows have.
pub(crate) fn vcpus(options: &Options, cpus: usize) -> Vec<u32> {
    if options.vcpus.is_empty() {
        (1..=cpus.max(1) as u32).collect()
    } else {
        options.vcpus.clone()
    }
}

fn references(mode: Mode, vcpus: u32, cpus: usize, cases: &mut Vec<Case>) {
    // Where both sides spin on one processor, it is time slices that are measured.
    let shared = vcpus as usize >= cpus;
    match mode {
        Mode::Bare if shared => return,
        Mode::Rtrb if shared || vcpus != 1 => return,
        _ => {}
    }
    let case = Case {
        vcpus,
        ..Case::of(mode)
    };
    cases.push(case);
    if mode == Mode::Bare {
        cases.push(Case {
            waiter: Waiter::Linux,
            ..case
        });
    }
}

fn consumed(mode: Mode, vcpus: u32, pages: &[u32], cases: &mut Vec<Case>) {
    let one = Case {
        vcpus,
        ..Case::of(mode)
    };
    for backend in [Cost::Software, Cost::Injected] {
        for range in [false, true] {
            // A range of one page is a TLBI of one page.
            let pages = pages.iter().filter(|pages| !range || **pages > 1);
            cases.extend(pages.map(|pages| Case {
                pages: *pages,
                range,
                backend,
                ..one
            }));
        }
        cases.push(Case {
            waiter: Waiter::Linux,
            backend,
            ..one
        });
    }
    if !cases.contains(&one) {
        cases.push(one);
    }
    cases.push(Case {
        span: Span::Store,
        ..one
    });
    if vcpus == 1 {
        cases.push(Case {
            pause_us: IDLE_US,
            ..one
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_case_is_there_twice_and_each_mode_has_what_the_published_table_has() {
        let cases = all(&Options::default(), 2);
        for (index, case) in cases.iter().enumerate() {
            assert!(!cases[..index].contains(case), "{case:?}");
        }
        let consumers = Mode::ALL.iter().filter(|mode| !mode.is_reference());
        for mode in consumers {
            for vcpus in [1, 2] {
                let busy = |case: &&Case| case.mode == *mode && case.vcpus == vcpus;
                let of = |backend, range| {
                    let spins = |case: &&Case| {
                        case.waiter == Waiter::Spin
                            && case.span == Span::RoundTrip
                            && case.pause_us == 0
                    };
                    let mine = cases.iter().filter(busy).filter(spins);
                    mine.filter(|case| case.backend == backend && case.range == range)
                        .count()
                };
                for backend in [Cost::Software, Cost::Injected] {
                    assert_eq!((of(backend, false), of(backend, true)), (5, 4));
                }
            }
        }
    }

    #[test]
    fn filters_leave_the_references() {
        let options = Options {
            modes: vec![Mode::SharedPage],
            vcpus: vec![1],
            pages: vec![1],
            ..Options::default()
        };
        let cases = all(&options, 4);
        let of = |mode| cases.iter().filter(|case| case.mode == mode).count();
        assert_eq!(
            (of(Mode::EmptyExit), of(Mode::Bare), of(Mode::Rtrb)),
            (1, 2, 1)
        );
        assert_eq!((of(Mode::SharedPage), of(Mode::InExit)), (6, 0));
        let others = Options {
            vcpus: vec![2],
            ..options
        };
        let cases = all(&others, 4);
        for mode in Mode::ALL.into_iter().filter(|mode| mode.is_reference()) {
            assert!(cases.contains(&Case::of(mode)), "{mode:?}");
        }
    }
}
