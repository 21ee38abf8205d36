//! Both consumers, as a guest sees them.

use super::*;
use crate::drive::{Outcome, Workload, drive};
use crate::progress::Progress;
use crate::{replay, storm, trace};
use smmu_core::Asid;
use smmu_core::Vmid;
use smmu_core::command::{Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;

const BOTH: [Kind; 2] = [Kind::Engine, Kind::Baseline];

fn settings(backend: BackendKind, ril: bool, streams: BTreeSet<StreamId>) -> MachineSettings {
    let mut caps = Capabilities::default().with_ats();
    caps.idr3.set_ril(ril);
    let doorbell = Doorbell::Trap;
    MachineSettings {
        caps,
        log2size: 7,
        spin: Duration::from_micros(50),
        doorbell,
        backend,
        streams,
        rings: 1,
    }
}

fn run(kind: Kind, settings: &MachineSettings, workload: &Workload) -> Outcome {
    let machine = Machine::build(kind, settings).expect("starts");
    drive(&machine, workload, 1, &Progress::new(true)).expect("nobody gives up")
}

fn storm_by(kind: Kind, backend: BackendKind, ril: bool) -> Outcome {
    let workload = storm::workload(2, 150, 7, ril);
    run(kind, &settings(backend, ril, storm::streams(2)), &workload)
}

#[test]
fn law3_and_law7_hold_in_a_storm() {
    for kind in BOTH {
        for ril in [true, false] {
            let outcome = storm_by(kind, BackendKind::Software, ril);
            assert!(outcome.checks.holds(), "{outcome:?}");
            assert!(outcome.checks.victims > 500 && outcome.checks.neighbours > 500);
            assert_eq!(outcome.figures.errors, 0);
        }
    }
}

#[test]
fn law3_and_law7_hold_in_recorded_streams() {
    let recorded = &trace::bundled().expect("whole")[0];
    for kind in BOTH {
        let streams = replay::streams(recorded, &Capabilities::default());
        let settings = settings(BackendKind::Software, true, streams);
        let outcome = run(kind, &settings, &replay::workload(recorded, 3, 2));
        assert!(outcome.checks.holds(), "{outcome:?}");
        assert_eq!(outcome.all.count, 2 * 1548);
        assert_eq!(outcome.commands, 2 * 3096);
        assert_eq!(outcome.figures.errors, 0);
    }
}

#[test]
fn a_backend_that_does_nothing_is_noticed() {
    for kind in BOTH {
        let checks = storm_by(kind, BackendKind::Nothing, true).checks;
        assert!(!checks.holds());
        // Some victims are evicted, or another producer's lie over them.
        assert!(checks.stale > checks.victims / 2, "{checks:?}");
        assert!(!checks.examples.is_empty());
    }
}

#[test]
fn a_backend_that_forgets_everything_is_noticed() {
    for kind in BOTH {
        let checks = storm_by(kind, BackendKind::Everything, false).checks;
        assert_eq!(checks.stale, 0);
        assert!(checks.removed_too_much > 100, "{checks:?}");
        assert!(!checks.holds());
    }
}

/// Rows 8 and 13 of the peers' bugs, by way of the driver: an illegal command becomes a SYNC,
/// and what lies behind it is done.
#[test]
fn peers_row8_an_illegal_command_does_not_stop_the_guest() {
    let tlbi = encode(&Command::Tlbi(Tlbi::NhAsid {
        vmid: Vmid(0),
        asid: Asid(1),
    }));
    let illegal = RawCommand { dw0: 0x99, dw1: 0 };
    for kind in BOTH {
        let settings = settings(BackendKind::Software, true, BTreeSet::new());
        let machine = Machine::build(kind, &settings).expect("starts");
        machine
            .queue(0)
            .submit(&[tlbi, illegal, tlbi])
            .expect("recovers");
        let figures = machine.figures();
        assert_eq!((figures.errors, figures.syncs), (1, 2), "{figures:?}");
        assert!((1..=2).contains(&figures.requests));
    }
}
