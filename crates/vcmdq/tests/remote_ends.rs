//! Ends of lending other than an invalidation: memory and registers that are exchanged (laws 3 and 9), a
//! stream that fails closed, a device that does not answer, a peer that dies.

mod remote_world;

use dispatch::backend::SoftwareSettings;
use dispatch::backend::software::{Denied, NotLent, Overdue, Wanted};
use dispatch::{Backend, WaiterId};
use remote_world::dma_world::*;
use remote_world::*;
use smmu_core::StreamId;
use smmu_core::guard::Use;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;

#[test]
fn law9_an_exchange_of_memory_waits_for_what_was_lent_of_the_old_one() {
    let (world, _) = world();
    let (mut remote, ears) = remote(&world);
    lend(&mut remote, VA);
    let core = world.core.clone();
    let replaced = std::thread::spawn(move || core.memory_changed(Arc::new(HeapMemory::new(RAM))));
    while !ears.told() {
        std::thread::yield_now();
    }
    let notice = take(&mut remote);
    assert!(!replaced.is_finished(), "the device has the old one");
    remote.answered(notice.number);
    replaced.join().unwrap();
    let refused = remote.lend(VA, Wanted::Read, |_| ());
    assert!(
        matches!(refused, Err(NotLent::Denied(_))),
        "no tables there"
    );
}

#[test]
fn law3_registers_settle_when_everything_has_come_back() {
    let (world, _) = world();
    let (mut remote, _) = remote(&world);
    lend(&mut remote, VA);
    world
        .core
        .traffic_changed(&dispatch::backend::Traffic::Enabled(setup(lenient())));
    assert!(!world.core.traffic_settled());
    let notice = take(&mut remote);
    assert!(!world.core.traffic_settled());
    remote.answered(notice.number);
    assert!(world.core.traffic_settled());
}

#[test]
fn law4_a_stream_that_fails_closed_gets_everything_back_and_lends_no_more() {
    let (mut world, _) = world();
    let (mut remote, _) = remote(&world);
    lend(&mut remote, VA);
    world.core.fail_closed(Some(StreamId(2)));
    assert_eq!(remote.take(), None);
    world.core.fail_closed(Some(StreamId(1)));
    world.send(&[sync()]);
    assert!(!world.done(), "every ring's next SYNC waits");
    let notice = take(&mut remote);
    assert_eq!(notice.ranges, [page(VA)]);
    let refused = remote.lend(VA, Wanted::Read, |_| ());
    assert_eq!(refused, Err(NotLent::Denied(Denied::Aborted)));
    remote.answered(notice.number);
    assert!(world.serve() && world.done());
}

#[derive(Default)]
struct Told(Mutex<Vec<(StreamId, Duration)>>);

impl Overdue for Told {
    fn overdue(&self, used: &Use, waited: Duration) {
        self.0.lock().unwrap().push((used.stream, waited));
    }
}

#[test]
fn law3_an_overdue_answer_is_reported_to_the_device_then_to_the_vmm_and_the_sync_waits_on() {
    let (mut world, _) = world();
    let (mut remote, ears) = remote(&world);
    let host = Arc::new(Told::default());
    world.core.set_overdue_host(host.clone());
    lend(&mut remote, VA);
    world.send(&[tlbi(1, VA), sync()]);
    let SoftwareSettings {
        guard_age,
        guard_age_host,
        ..
    } = small();
    let overdue = |waited| world.core.overdue(WaiterId(0), waited);
    assert_eq!(overdue(Duration::ZERO), Some(guard_age));
    assert!(ears.0.overdue.lock().unwrap().is_empty());
    assert_eq!(overdue(guard_age), Some(guard_age_host));
    assert_eq!(*ears.0.overdue.lock().unwrap(), [guard_age]);
    assert!(host.0.lock().unwrap().is_empty());
    assert_eq!(overdue(guard_age_host), None);
    assert_eq!(*host.0.lock().unwrap(), [(StreamId(1), guard_age_host)]);
    assert_eq!(remote.handle().metrics().overdue, 2);
    assert!(!world.serve() && !world.done(), "telling completes nothing");
    let notice = take(&mut remote);
    remote.answered(notice.number);
    assert!(world.serve() && world.done());
}

#[test]
fn law3_a_peer_counts_as_gone_when_the_vmm_says_so_and_not_before() {
    let (mut world, _) = world();
    let (mut remote, _) = remote(&world);
    lend(&mut remote, VA);
    let handle = remote.handle();
    // The owner's thread ends: the connection is broken, but the peer may have its mapping.
    drop(remote);
    world.send(&[tlbi(1, VA), sync()]);
    assert!(!world.serve() && !world.done());
    handle.gone();
    assert!(world.serve() && world.done());
    world.send(&[tlbi(1, VA), sync()]);
    assert!(world.done());
    // Saying it twice takes nobody else's place.
    handle.gone();
    let (mut other, _) = remote_world::remote(&world);
    lend(&mut other, VA);
    world.send(&[tlbi(1, VA), sync()]);
    assert!(!world.done());
    let handle = other.handle();
    handle.gone();
    assert!(world.serve() && world.done());
    assert_eq!(other.lend(VA, Wanted::Read, |_| ()), Err(NotLent::Gone));
}
