//! Each part runs, and its counts add up. What it measures is no test's matter.

use vcmdq_measure::data::{Latencies, Section};
use vcmdq_measure::{
    InProcess, Options, Part, drains, fairness, group_commit, idle, measure, throughput, tlb, trips,
};

fn quick(part: Part) -> InProcess {
    let options = Options {
        quick: true,
        only: Some(vec![part]),
    };
    measure(&options, &())
}

/// `None` on a machine on which two threads cannot be pinned to two CPUs.
fn measured<T: Clone>(section: &Section<T>) -> Option<T> {
    match section {
        Section::Measured(measured) => Some(measured.clone()),
        Section::Skipped(reason) => {
            println!("skipped: {reason}");
            assert!(reason.contains("CPU"), "{reason}");
            None
        }
    }
}

fn is_sane(times: &Latencies, count: u64) {
    assert_eq!(times.count, count, "{}", times.name);
    assert!(times.p50 > 0 && times.p50 <= times.p99, "{}", times.name);
    assert!(times.p99 <= times.p999 && times.p999 <= times.max);
    assert!(!times.cdf.is_empty());
}

#[test]
fn every_round_trip_is_timed() {
    let run = quick(Part::RoundTrips);
    let Some(trips) = measured(&run.round_trips) else {
        return;
    };
    for who in &trips.contenders {
        is_sane(who, 2 * 500);
    }
    for name in [trips::SHARED_PAGE, trips::RTRB, trips::ARRAY_QUEUE] {
        assert!(trips.find(name).is_some(), "{name}");
    }
    assert_eq!(trips.record_read.rounds, 2 * 10);
    assert!(trips.record_read.ns > 0.0);
}

#[test]
fn every_stream_is_consumed_by_everybody() {
    let run = quick(Part::Drains);
    let drains = measured(&run.drains).expect("needs one CPU only");
    assert_eq!(drains.streams.len(), 9);
    for drain in &drains.streams {
        let cost = |name| drain.cost(name).expect("among the contenders");
        assert!(cost(drains::ENGINE) > 0.0 && cost(drains::BASELINE) > 0.0);
        assert!(cost(drains::ONE_BY_ONE) > 0.0);
    }
    // From below: each command of its own cannot take less than what it is made to take.
    let dear = drains.find("neighbours", true).expect("with injected cost");
    let tlbis = 63.0 / 64.0;
    let least = (drains.injected.per_call_ns + drains.injected.per_command_ns) as f64 * tlbis;
    for name in [drains::BASELINE, drains::ONE_BY_ONE] {
        assert!(dear.cost(name).is_some_and(|ns| ns >= least), "{name}");
    }
}

#[test]
fn every_ring_gets_its_commands() {
    let run = quick(Part::Throughput);
    let Some(measured) = measured(&run.throughput) else {
        return;
    };
    // That as many were consumed as were written has been counted before any of this is returned.
    for point in &measured.points {
        assert!(point.busy <= point.rings && point.commands >= 64 * point.busy as u64);
        assert!(point.ns_per_command.ns > 0.0, "{}", point.stream);
        assert_eq!(point.ns_per_command.rounds, 2);
    }
    let workers = |point: &throughput::Point| point.workers;
    assert_eq!(measured.points.iter().map(workers).max(), Some(run.cpus));
    let rings = measured.points.iter().map(|point| point.rings).max();
    assert_eq!((rings, measured.flat.rings_4096.rounds), (Some(4096), 2));
}

#[test]
fn every_producer_sees_its_syncs() {
    let run = quick(Part::GroupCommit);
    let Some(measured) = measured(&run.group_commit) else {
        return;
    };
    for case in &measured.cases {
        assert_eq!(case.syncs, 2 * 20 * 8, "{}", case.name);
        assert_eq!(
            case.requests, case.syncs,
            "a TLBI for each SYNC, none the same"
        );
        assert!(case.calls > 0 && case.calls <= case.syncs, "{}", case.name);
        is_sane(&case.latencies, case.syncs);
    }
    let baseline = measured.find(group_commit::BASELINE).expect("a case");
    assert_eq!(baseline.calls, baseline.syncs);
    let shared = measured.find(group_commit::ONE_RING).expect("a case");
    assert!(shared.calls < shared.syncs, "some share a call");
}

#[test]
fn the_idle_guest_gets_every_sync_and_the_flood_goes_on() {
    let run = quick(Part::Fairness);
    let Some(measured) = measured(&run.fairness) else {
        return;
    };
    for name in [fairness::DOORBELLS, fairness::PAGES] {
        let case = measured.find(name).expect("a case");
        is_sane(&case.alone, 2 * 100);
        is_sane(&case.beside_flood, 2 * 100);
        assert!(case.flood_commands_per_second > 0.0, "{name}");
    }
}

#[test]
fn others_get_their_syncs_while_backends_block() {
    let run = quick(Part::Blocked);
    let Some(measured) = measured(&run.blocked) else {
        return;
    };
    for case in &measured.cases {
        assert_eq!(case.blocked, case.workers);
        is_sane(&case.without, 200);
        // One at least, also where nobody takes a blocked worker's place.
        assert!((1..=200).contains(&case.with.count), "{}", case.with.count);
    }
}

#[test]
fn every_engine_has_worked_before_it_idles() {
    let run = quick(Part::Idle);
    let Some(measured) = measured(&run.idle) else {
        return;
    };
    for case in &measured.cases {
        assert_eq!(
            (case.syncs > 0, case.rounds.len()),
            (case.name != idle::NOTHING, 1)
        );
        assert!(case.cpu_share >= 0.0);
    }
    let adaptive = measured.find(idle::ADAPTIVE).expect("a case");
    assert!(
        adaptive.flips > 0,
        "the page was opened while the guest was busy"
    );
}

#[test]
fn every_table_loses_what_is_invalidated() {
    let run = quick(Part::Tlb);
    let measured = measured(&run.tlb).expect("needs one CPU only");
    for what in [
        tlb::BY_ADDRESS_PRESENT,
        tlb::BY_ADDRESS_ABSENT,
        tlb::BY_RANGE,
        tlb::BY_ASID,
    ] {
        for table in [tlb::CACHE, tlb::HASH] {
            let curve = measured.curve(what, table);
            let sizes: Vec<usize> = curve.iter().map(|point| point.entries).collect();
            assert_eq!(sizes, [64, 256, 1024], "{what}, {table}");
            assert!(curve.iter().all(|point| point.ns.ns > 0.0));
        }
    }
}

#[test]
fn what_is_not_asked_for_says_so() {
    let run = quick(Part::Drains);
    assert!(matches!(run.round_trips, Section::Skipped(_)));
    let text = serde_json::to_string(&run).expect("plain data");
    let back: InProcess = serde_json::from_str(&text).expect("its own text");
    assert_eq!(back.drains.measured().map(|d| d.streams.len()), Some(9));
}
