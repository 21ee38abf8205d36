//! What is said to be done has been done, whatever the kernel says of it (law 4; row 30 of the peers' bugs).

use crate::common::*;
use dispatch::dispatch::{Report, dispatch};
use dispatch::{Backend, Cause, Rejected};
use proptest::prelude::*;
use smmu_core::command::Command;
use smmu_core::spec::command::RawCommand;
use smmu_core::{StreamId, Vmid};
use vcmdq_iommufd::testing::{Counting, Fault};
use vcmdq_iommufd::{ArmSmmuv3, Errno};

const BOTH: [Counting; 2] = [Counting::Converted, Counting::Exact];

/// The command that a request becomes.
fn command_of(host: &Host, request: dispatch::Invalidation) -> RawCommand {
    host.backend.submit(&batch(&[request])).expect("taken");
    host.kernel.take_calls();
    host.kernel.take_executed()[0]
}

#[test]
fn law4_a_batch_is_one_call() {
    for count in [1, 63, 64, 127, 256] {
        let host = Host::new(Counting::Converted);
        host.backend.submit(&batch(&far(count))).expect("taken");
        assert_eq!(host.kernel.take_calls(), [count]);
        assert!(all_done(&host.kernel.take_executed(), &far(count)));
    }
}

/// Row 30: kernels up to 7.2 count commands as handled that they have converted only.
#[test]
fn law4_row30_a_count_between_blocks_is_not_believed() {
    for counting in BOTH {
        for bad in [0, 1, 62, 63, 64, 100, 126, 199] {
            let host = Host::new(counting);
            let requests = far(200);
            host.kernel.refuse(command_of(&host, requests[bad]));
            let rejected = host.backend.submit(&batch(&requests)).expect_err("refused");
            let cause = Cause::Unsupported;
            let accepted = bad;
            assert_eq!(rejected, Rejected { accepted, cause });
            let executed = host.kernel.take_executed();
            assert!(all_done(&executed, &requests[..bad]), "{counting:?}, {bad}");
            // The rest of the uncertain block, and the culprit alone.
            let whole = usize::from(bad % 63 != 0);
            assert_eq!(host.kernel.take_calls().len(), 2 + whole);
        }
    }
}

/// The driver leaves the count untouched: nothing was executed.
#[test]
fn law4_row30_a_full_count_beside_an_error_is_no_count() {
    for errno in [Errno::NOMEM, Errno::INTR] {
        let host = Host::new(Counting::Converted);
        host.kernel.script([Fault::Early(errno)]);
        host.backend.submit(&batch(&far(100))).expect("in the end");
        assert_eq!(host.kernel.take_calls(), [100, 50, 50]);
        assert!(all_done(&host.kernel.take_executed(), &far(100)));
        assert_eq!(host.backend.metrics().transient, 1);
    }
}

#[test]
fn law4_no_memory_at_all_ends_with_a_bound() {
    let host = Host::new(Counting::Converted);
    host.kernel.always(Some(Fault::Early(Errno::NOMEM)));
    let rejected = host.backend.submit(&batch(&far(256))).expect_err("never");
    let (accepted, cause) = (0, Cause::Again);
    assert_eq!(rejected, Rejected { accepted, cause });
    let calls = host.kernel.take_calls();
    assert!(calls.len() <= 20 && calls.last() == Some(&1), "{calls:?}");
}

#[test]
fn law4_an_interrupted_call_goes_on_behind_its_blocks() {
    let host = Host::new(Counting::Converted);
    host.kernel.script([Fault::Interrupted { blocks: 2 }]);
    host.backend.submit(&batch(&far(200))).expect("taken");
    assert_eq!(host.kernel.take_calls(), [200, 37, 37]);
    assert!(all_done(&host.kernel.take_executed(), &far(200)));
}

/// Of a block that was not done in time nothing is known, of those before it everything.
#[test]
fn law4_what_times_out_is_the_block() {
    for (block, executed) in [(0, 0), (0, 62), (1, 13), (3, 1), (9, 0)] {
        let host = Host::new(Counting::Converted);
        host.kernel.script([Fault::TimeOut { block, executed }]);
        let rejected = host.backend.submit(&batch(&far(200))).expect_err("late");
        let cause = Cause::TimedOut;
        let accepted = 63 * block.min(3);
        assert_eq!(rejected, Rejected { accepted, cause });
        assert_eq!(host.kernel.take_calls(), [200], "it is not asked again");
    }
}

#[test]
fn law4_what_is_gone_is_said_so() {
    for errno in [Errno::NODEV, Errno::NOENT] {
        let host = Host::new(Counting::Exact);
        host.kernel.script([Fault::Core(errno)]);
        let rejected = host.backend.submit(&batch(&far(2))).expect_err("gone");
        let (accepted, cause) = (0, Cause::Gone);
        assert_eq!(rejected, Rejected { accepted, cause });
    }
    // A vdevice that has gone: of the call, that one alone.
    let host = Host::new(Counting::Converted);
    let mut requests = far(70);
    requests[66] = contexts(StreamId(0x99));
    let rejected = host.backend.submit(&batch(&requests)).expect_err("gone");
    let (accepted, cause) = (66, Cause::Gone);
    assert_eq!(rejected, Rejected { accepted, cause });
    assert!(all_done(&host.kernel.take_executed(), &requests[..66]));
}

/// All streams abort then: nothing more is sent to a queue that answers no more, and SYNCs go on.
#[test]
fn law4_a_dead_queue_is_asked_a_bounded_number_of_times() {
    let host = Host::new(Counting::Converted);
    let dead = Fault::TimeOut {
        block: 0,
        executed: 0,
    };
    host.kernel.always(Some(dead));
    let mut report = Report::default();
    dispatch(&host.backend, &mut batch(&far(256)), &mut report);
    assert_eq!(report.failed_closed.len(), 1);
    assert_eq!(host.streams.closed(), [None]);
    assert_eq!(host.kernel.take_calls().len(), 6);
    dispatch(&host.backend, &mut batch(&far(10)), &mut report);
    assert!(host.kernel.take_calls().is_empty() && host.backend.is_closed());
    assert_eq!(host.backend.metrics().closed, 255 + 10);
    // While it is dead it stays so, and then all that was left out is made up for.
    assert_eq!(host.backend.reopen(), Err(Cause::TimedOut));
    assert!(host.backend.is_closed());
    host.kernel.always(None);
    host.kernel.take_executed();
    assert_eq!(host.backend.reopen(), Ok(()));
    assert!(all_done(&host.kernel.take_executed(), &far(256)));
    host.backend.submit(&batch(&far(1))).expect("taken");
    assert_eq!(host.kernel.take_executed().len(), 1);
}

#[test]
fn law4_more_than_a_call_has_room_for_is_several() {
    let small = |settings: &mut vcmdq_iommufd::IommufdSettings| settings.entries_per_call = 100;
    let host = Host::with(Counting::Exact, ArmSmmuv3::new(true), small);
    host.backend.submit(&batch(&far(256))).expect("taken");
    assert_eq!(host.kernel.take_calls(), [100, 100, 56]);
    // Without ranges a page is a command: 40 ranges of 60 pages.
    let host = Host::with(Counting::Exact, ArmSmmuv3::new(false), |_| {});
    let requests: Vec<_> = (0..40).map(|n| pages(n << 12, 60)).collect();
    host.backend.submit(&batch(&requests)).expect("taken");
    let calls = host.kernel.take_calls();
    assert_eq!(calls.iter().sum::<usize>(), 40 * 60);
    assert!(
        calls.iter().all(|len| *len <= 1008) && calls.len() == 3,
        "{calls:?}"
    );
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let errno = prop_oneof![
        Just(Errno::NOMEM),
        Just(Errno::INTR),
        Just(Errno::NODEV),
        Just(Errno::FAULT),
        Just(Errno::INVAL),
    ];
    prop_oneof![
        4 => Just(Fault::None),
        2 => errno.clone().prop_map(Fault::Early),
        1 => errno.prop_map(Fault::Core),
        1 => (0usize..5, 0usize..63).prop_map(|(block, executed)| Fault::TimeOut { block, executed }),
        1 => (0usize..5).prop_map(|blocks| Fault::Interrupted { blocks }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Nothing is claimed that was not executed.
    #[test]
    fn law4_row30_what_is_accepted_was_executed(
        requests in prop::collection::vec(any_request(), 1..=256),
        faults in prop::collection::vec(any_fault(), 0..6),
        bad in prop::collection::vec(0usize..256, 0..3),
        exact in any::<bool>(),
        ranges in any::<bool>(),
        limit in prop_oneof![Just(1008usize), 1usize..200],
    ) {
        let set = |settings: &mut vcmdq_iommufd::IommufdSettings| settings.entries_per_call = limit;
        let host = Host::with(BOTH[usize::from(exact)], ArmSmmuv3::new(ranges), set);
        let bad = bad.iter().filter_map(|at| requests.get(*at));
        let bad: Vec<_> = bad.map(|request| command_of(&host, *request)).collect();
        bad.into_iter().for_each(|command| host.kernel.refuse(command));
        host.kernel.script(faults);
        let done = match host.backend.submit(&batch(&requests)) {
            Ok(()) => requests.len(),
            Err(rejected) => rejected.accepted,
        };
        prop_assert!(done <= requests.len());
        let executed = decoded(&host.kernel.take_executed());
        for request in &requests[..done] {
            let found = executed.iter().any(|command| removes(command, request));
            // What needed several commands is checked page by page below.
            let pages = !ranges && matches!(request.scope, dispatch::Scope::Addresses { .. });
            prop_assert!(found || pages && page_by_page(&executed, request), "{request:?}");
        }
    }

    /// With the ladder: everything is executed in the end, or the streams abort.
    #[test]
    fn law4_a_batch_ends_executed_or_closed(
        requests in prop::collection::vec(any_request(), 1..=200),
        faults in prop::collection::vec(any_fault(), 0..8),
        exact in any::<bool>(),
    ) {
        let host = Host::new(BOTH[usize::from(exact)]);
        host.kernel.script(faults);
        let mut report = Report::default();
        dispatch(&host.backend, &mut batch(&requests), &mut report);
        let executed = decoded(&host.kernel.take_executed());
        let closed = host.streams.closed();
        prop_assert_eq!(report.failed_closed.len(), closed.len());
        for request in &requests {
            let aborts = closed.contains(&None) || request.stream().is_some_and(|stream| closed.contains(&Some(stream)));
            prop_assert!(aborts || executed.iter().any(|command| removes(command, request)), "{request:?}");
        }
    }
}

fn page_by_page(executed: &[Command], request: &dispatch::Invalidation) -> bool {
    let dispatch::Scope::Addresses { asid, range } = request.scope else {
        return false;
    };
    let unit = range.granule.map_or(4096, |granule| granule.bytes());
    (0..range.bytes / unit).all(|page| {
        let range = smmu_core::range::TlbiRange {
            addr: range.addr + page * unit,
            bytes: unit,
            ..range
        };
        let page = dispatch::Invalidation {
            vmid: Vmid(0),
            stage: dispatch::Stage::One,
            scope: dispatch::Scope::Addresses { asid, range },
        };
        executed.iter().any(|command| removes(command, &page))
    })
}
