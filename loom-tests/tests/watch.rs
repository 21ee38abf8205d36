//! Translations that are kept without a guard: whoever changes them tells (law 3).
#![cfg(loom)]

use dispatch::Backend;
use dispatch::backend::software::Stale;
use loom::sync::Arc as LoomArc;
use loom::thread;
use loom_tests::software::{STREAM, SmallSmmu, WAITER, read};
use loom_tests::{model, twin};
use smmu_core::command::Cfgi;
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicU32, Ordering};
use vcmdq_sync::weak::Site;

/// How often it has been told, counted when the route is out of use.
struct Route(AtomicU32);

impl Stale for Route {
    fn stale(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn route() -> (Arc<Route>, Arc<dyn Stale>) {
    let route = Arc::new(Route(AtomicU32::new(0)));
    (route.clone(), route)
}

fn cfgi_ste(small: &SmallSmmu) {
    let (stream, leaf) = (STREAM, true);
    let change = Cfgi::Ste { stream, leaf };
    small.core.configuration_changed(&change, WAITER);
}

/// A route is asked for while `change` takes the translation away: it is refused, or told.
fn a_watch_and(change: fn(&SmallSmmu)) {
    let small = LoomArc::new(SmallSmmu::new());
    let mut port = small.port();
    let vmm = thread::spawn(move || {
        let (route, tell) = route();
        let watched = port.watch(None, read(0x5000), 4, &tell, |_| ());
        (route, watched)
    });
    change(&small);
    let (route, watched) = vmm.join().expect("vmm");
    if let Ok(watched) = watched {
        assert_eq!(watched.output().address, 0x5000);
        let told = route.0.load(Ordering::Relaxed) > 0 && watched.is_stale();
        assert!(told, "a route that nobody takes out of use");
    }
}

fn a_watch_and_a_new_ste() {
    a_watch_and(|small| {
        small.abort();
        cfgi_ste(small);
    });
}

fn a_watch_and_other_registers() {
    a_watch_and(|small| small.core.set_up(None));
}

#[test]
fn law3_watch_against_invalidation() {
    model("watch", 3, a_watch_and_a_new_ste);
}

#[test]
fn watch_without_the_fence_of_its_look_is_found_out() {
    twin("watch", Site::GuardFence, 3, a_watch_and_a_new_ste);
}

#[test]
fn law9_watch_against_an_exchange() {
    model("watch and exchange", 2, a_watch_and_other_registers);
}

/// Two invalidations come to the same watch: when either is reported as done, the route is out of use.
fn two_invalidations_of_a_watch() {
    let small = LoomArc::new(SmallSmmu::new());
    let (route, tell) = route();
    let mut port = small.port();
    let watched = port.watch(None, read(0x5000), 4, &tell, |_| ());
    let other = {
        let (small, route) = (small.clone(), route.clone());
        thread::spawn(move || {
            cfgi_ste(&small);
            assert_ne!(route.0.load(Ordering::Relaxed), 0, "done before it is told");
        })
    };
    cfgi_ste(&small);
    assert_ne!(route.0.load(Ordering::Relaxed), 0, "done before it is told");
    other.join().expect("other ring");
    drop(watched);
}

#[test]
fn law3_watch_is_told_before_either_invalidation_is_done() {
    model("told watch", 3, two_invalidations_of_a_watch);
}

#[test]
fn watch_that_is_said_to_be_told_too_early_is_found_out() {
    twin(
        "told watch",
        Site::WatchTold,
        3,
        two_invalidations_of_a_watch,
    );
}
