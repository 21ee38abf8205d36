//! Translations lent to another process: what is taken away comes back before the SYNC (law 3).
#![cfg(loom)]

use dispatch::backend::software::{Notifier, Remote, RemoteSettings, Wanted};
use dispatch::{Backend, Barrier, WaiterId, Wake};
use loom::sync::Arc as LoomArc;
use loom::thread;
use loom_tests::software::{STREAM, SmallSmmu, WAITER};
use loom_tests::{model, twin};
use smmu_core::command::Cfgi;
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicBool, AtomicU32, Ordering};
use vcmdq_sync::weak::Site;

const IOVA: u64 = 0x100;
const OTHER: WaiterId = WaiterId(WAITER.0 + 1);

/// The owner looks by itself.
struct Unheard;

impl Notifier for Unheard {
    fn told(&self) {}
}

/// How much the device in the other process has: relaxed, so that only the engine orders it.
#[derive(Clone)]
struct Peer(LoomArc<AtomicU32>);

impl Peer {
    fn new() -> Self {
        Self(LoomArc::new(AtomicU32::new(0)))
    }

    fn has(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn answer(&self, remote: &mut Remote) {
        if let Some(notice) = remote.take() {
            self.0.store(0, Ordering::Relaxed);
            remote.answered(notice.number);
        }
    }

    fn miss(&self, remote: &mut Remote) {
        if remote.lend(IOVA, Wanted::Read, |_| ()).is_ok() {
            self.0.store(1, Ordering::Relaxed);
        }
    }
}

fn remote(small: &SmallSmmu) -> Remote {
    let settings = RemoteSettings {
        loans: 1,
        places: 1,
    };
    let remote = small.core.remote(STREAM, None, settings, Box::new(Unheard));
    remote.expect("a guard")
}

/// A CFGI of a ring, and whether a SYNC behind it may complete.
fn cfgi_ste(small: &SmallSmmu, ring: WaiterId) -> bool {
    let (stream, leaf) = (STREAM, true);
    let change = Cfgi::Ste { stream, leaf };
    small.core.configuration_changed(&change, ring);
    small.core.barrier(ring) == Barrier::Done
}

/// A device misses while the guest takes the translation away; the owner answers the miss, then looks
/// what has to come back.
fn a_reply_and_an_invalidation() {
    let (small, peer) = (LoomArc::new(SmallSmmu::new()), Peer::new());
    let mut remote = remote(&small);
    let owner = {
        let peer = peer.clone();
        thread::spawn(move || {
            peer.miss(&mut remote);
            peer.answer(&mut remote);
            remote
        })
    };
    small.abort();
    let done = cfgi_ste(&small, WAITER);
    assert!(!done || peer.has() == 0, "SYNC passes a device that has it");
    let mut remote = owner.join().expect("owner");
    assert!(
        !done || peer.has() == 0,
        "sent to the device behind its SYNC"
    );
    peer.answer(&mut remote);
    assert_eq!(small.core.barrier(WAITER), Barrier::Done);
    assert_eq!(peer.has(), 0, "nobody takes it away");
}

#[test]
fn law3_remote_reply_against_invalidation() {
    model("remote reply", 3, a_reply_and_an_invalidation);
}

#[test]
fn remote_reply_that_does_not_look_again_is_found_out() {
    let site = Site::RemoteLooksAgain;
    twin("remote reply", site, 3, a_reply_and_an_invalidation);
}

#[test]
fn remote_reply_without_the_fence_of_its_look_is_found_out() {
    twin(
        "remote reply",
        Site::GuardFence,
        3,
        a_reply_and_an_invalidation,
    );
}

#[test]
fn remote_answer_without_release_is_found_out() {
    twin(
        "remote reply",
        Site::RemoteAnswer,
        3,
        a_reply_and_an_invalidation,
    );
}

struct Woken(Arc<AtomicBool>);

impl Wake for Woken {
    fn wake(&self, waiter: WaiterId) {
        assert_eq!(waiter, WAITER);
        self.0.swap(true, Ordering::AcqRel);
    }
}

/// A SYNC asks again only when it is woken.
fn an_answer_and_a_sync() {
    let (small, peer) = (LoomArc::new(SmallSmmu::new()), Peer::new());
    let woken = Arc::new(AtomicBool::new(false));
    small.core.attach(Arc::new(Woken(woken.clone())));
    let mut remote = remote(&small);
    peer.miss(&mut remote);
    assert_eq!(peer.has(), 1);
    small.abort();
    let mut done = cfgi_ste(&small, WAITER);
    let owner = {
        let peer = peer.clone();
        thread::spawn(move || peer.answer(&mut remote))
    };
    while !done {
        while !woken.swap(false, Ordering::AcqRel) {
            thread::yield_now();
        }
        done = small.core.barrier(WAITER) == Barrier::Done;
    }
    assert_eq!(peer.has(), 0, "SYNC passes a device that has it");
    owner.join().expect("owner");
}

#[test]
fn law3_remote_answer_wakes_who_waits() {
    model("remote answer", 3, an_answer_and_a_sync);
}

/// The same, but the first look of the SYNC happens beside the answer.
fn an_answer_beside_a_sync() {
    let (small, peer) = (LoomArc::new(SmallSmmu::new()), Peer::new());
    let woken = Arc::new(AtomicBool::new(false));
    small.core.attach(Arc::new(Woken(woken.clone())));
    let mut remote = remote(&small);
    peer.miss(&mut remote);
    small.abort();
    let (stream, leaf) = (STREAM, true);
    let change = Cfgi::Ste { stream, leaf };
    small.core.configuration_changed(&change, WAITER);
    let owner = thread::spawn(move || peer.answer(&mut remote));
    let done = small.core.barrier(WAITER) == Barrier::Done;
    owner.join().expect("owner");
    let was_woken = woken.swap(false, Ordering::AcqRel);
    assert!(done || was_woken, "a SYNC that nobody wakes");
}

#[test]
fn law3_remote_answer_beside_the_question_wakes() {
    model("remote question", 3, an_answer_beside_a_sync);
}

#[test]
fn remote_question_without_its_fence_is_found_out() {
    twin(
        "remote question",
        Site::RemoteWaiter,
        3,
        an_answer_beside_a_sync,
    );
}

/// Two rings take the same translation away; the device is told once, for the first.
fn two_invalidations_and_one_answer() {
    let (small, peer) = (LoomArc::new(SmallSmmu::new()), Peer::new());
    let mut remote = remote(&small);
    peer.miss(&mut remote);
    small.abort();
    assert!(!cfgi_ste(&small, WAITER), "the device has it");
    let owner = {
        let peer = peer.clone();
        thread::spawn(move || peer.answer(&mut remote))
    };
    let done = cfgi_ste(&small, OTHER);
    assert!(!done || peer.has() == 0, "SYNC passes a device that has it");
    owner.join().expect("owner");
}

#[test]
fn law3_remote_second_invalidation_waits_for_the_first_ones_answer() {
    model("remote twice", 3, two_invalidations_and_one_answer);
}

#[test]
fn remote_that_forgets_what_is_on_its_way_back_is_found_out() {
    let site = Site::RemoteKept;
    twin("remote twice", site, 3, two_invalidations_and_one_answer);
}
