//! Where there is no KVM there is nothing to see.

use super::super::consumer::Consumer;
use super::*;
use crate::data::{Cost, Host, Row, Span, Waiter};
use std::sync::OnceLock;

/// Nobody is behind the doorbells.
struct Deaf;

impl Consumer for Deaf {}

/// A smoke run of everything; `None` without KVM.
fn report() -> Option<&'static Report> {
    static REPORT: OnceLock<Option<Report>> = OnceLock::new();
    let run = || {
        let options = Options {
            quick: true,
            pages: vec![1, 4],
            vcpus: vec![1],
            rounds: Some(10),
            ..Options::default()
        };
        let kvm = Kvm::new().ok()?;
        Some(all(&kvm, &options, &mut ()).unwrap())
    };
    REPORT.get_or_init(run).as_ref()
}

fn exits_beside(row: &Row) -> u64 {
    row.exit_beside.as_ref().map_or(0, |exit| exit.count)
}

#[test]
fn each_mode_has_the_exits_that_it_must_have() {
    let Some(report) = report() else {
        return;
    };
    for row in &report.rows {
        assert_eq!(row.rounds + exits_beside(row), 10, "{row:?}");
        assert_eq!(row.latency.count, row.rounds, "{row:?}");
        let exits = row.exits_per_round;
        match row.case.mode {
            Mode::KernelExit | Mode::Bare | Mode::Rtrb | Mode::SharedPage => {
                assert_eq!(exits, 0.0, "{row:?}");
            }
            Mode::EmptyExit | Mode::InExit | Mode::Worker | Mode::Inline => {
                assert_eq!(exits, 1.0, "{row:?}");
            }
            Mode::Coalesced | Mode::Adaptive => {
                // Until the way is open, which a busy guest's rounds wait for, and none behind that.
                // An idle guest's may all be over when it opens; and it is closed again for one that is kept
                // from running for a moment.
                let stays_open = row.host.is_some_and(|host| host.flips == 1);
                let fewer = row.case.pause_us == 0 && stays_open;
                assert!(exits < 1.0 || exits == 1.0 && !fewer, "{row:?}");
            }
        }
    }
    let of = |mode| {
        report
            .rows
            .iter()
            .filter(|row| row.case.mode == mode)
            .count()
    };
    for mode in Mode::ALL {
        let spins = Cpus::of_this_thread().len() > 1;
        let rows = match mode {
            Mode::EmptyExit | Mode::KernelExit => 1,
            Mode::Bare => 2 * usize::from(spins),
            Mode::Rtrb => usize::from(spins),
            _ => 10,
        };
        assert_eq!(of(mode), rows, "{mode:?}");
    }
}

/// Only where the store alone is timed and exits.
#[test]
fn empty_exits_take_turns_with_stores_that_exit() {
    let Some(report) = report() else {
        return;
    };
    for row in &report.rows {
        let exits = matches!(row.case.mode, Mode::InExit | Mode::Worker | Mode::Inline);
        let expected = exits && row.case.span == Span::Store;
        assert_eq!(exits_beside(row), if expected { 5 } else { 0 }, "{row:?}");
    }
}

/// One round is not enough for both kinds.
#[test]
fn the_fewest_rounds_have_a_store_and_an_exit() {
    let options = Options {
        quick: true,
        modes: vec![Mode::Worker],
        pages: vec![1],
        vcpus: vec![1],
        rounds: Some(1),
    };
    let Ok(kvm) = Kvm::new() else {
        return;
    };
    let report = all(&kvm, &options, &mut ()).unwrap();
    let store = Case {
        span: Span::Store,
        ..Case::of(Mode::Worker)
    };
    let row = report.row(&store).unwrap();
    assert_eq!((row.rounds, exits_beside(row)), (1, 1));
}

#[test]
fn several_vcpus_are_served_each_from_its_own_ring() {
    let options = Options {
        quick: true,
        pages: vec![4],
        vcpus: vec![2],
        rounds: Some(10),
        ..Options::default()
    };
    let Ok(kvm) = Kvm::new() else {
        return;
    };
    let report = all(&kvm, &options, &mut ()).unwrap();
    let rows = report
        .rows
        .iter()
        .filter(|row| !row.case.mode.is_reference());
    for row in rows {
        assert_eq!(row.rounds + exits_beside(row), 20, "{row:?}");
    }
}

/// Each mode pays for what it asks of the backend, by the backend's own count.
#[test]
fn the_injected_cost_is_paid_by_every_mode() {
    let Some(report) = report() else {
        return;
    };
    let paid = |mode| -> Host {
        let case = Case {
            pages: 4,
            backend: Cost::Injected,
            ..Case::of(mode)
        };
        report.row(&case).and_then(|row: &Row| row.host).unwrap()
    };
    let peer = paid(Mode::InExit);
    assert_eq!(
        (peer.calls, peer.requests),
        (4 * peer.rounds, 4 * peer.rounds)
    );
    for mode in Mode::ALL.into_iter().filter(|mode| mode.is_engine()) {
        let host = paid(mode);
        assert!(
            host.rounds >= 10 && host.calls >= host.rounds,
            "{mode:?} {host:?}"
        );
        assert!(host.requests >= host.calls, "{mode:?} {host:?}");
    }
}

#[test]
fn a_doorbell_that_may_consumes_itself() {
    let Some(report) = report() else {
        return;
    };
    let row = report.row(&Case {
        pages: 4,
        ..Case::of(Mode::Inline)
    });
    let host = row.and_then(|row| row.host).unwrap();
    // The first ones may come before the worker sleeps.
    assert!(host.inline_doorbells > host.rounds / 2, "{host:?}");
}

#[test]
fn a_guest_that_nobody_answers_gives_up() {
    let Ok(kvm) = Kvm::new() else {
        return;
    };
    let mut vmm = Vmm::new(&kvm, 1, 1).unwrap();
    for waiter in [Waiter::Spin, Waiter::Linux] {
        let case = Case {
            waiter,
            span: Span::RoundTrip,
            ..Case::of(Mode::SharedPage)
        };
        let params = params(&case, 0, 1, vmm.ticks_per_us());
        params.write(0, vmm.vm().memory()).unwrap();
        let cpus = Cpus::of_this_thread();
        let ended = vmm.run(1, 0, &cpus, &Deaf, &|| true);
        assert!(
            matches!(ended, Err(Error::TimedOut(_))),
            "{waiter:?}: {ended:?}"
        );
    }
}

#[test]
fn more_than_there_is_room_for_is_refused() {
    let Ok(kvm) = Kvm::new() else {
        return;
    };
    let refused = Vmm::new(&kvm, 65, 1);
    assert!(matches!(refused, Err(Error::TooMuch(_))), "{refused:?}");
}

/// A command that covers all pages, or one for each.
#[test]
fn a_range_is_one_command() {
    let of = |range| {
        let case = Case {
            pages: 64,
            range,
            ..Case::of(Mode::SharedPage)
        };
        let params = params(&case, 1, 1, 2600.0);
        (params.commands, params.stride)
    };
    assert_eq!((of(false), of(true)), ((64, 4096), (1, 64 * 4096)));
}
