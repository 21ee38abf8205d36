//! What a tap is told, and when.

mod common;

use common::*;
use smmu_core::Gpa;
use smmu_core::command::{Cfgi, Command};
use smmu_core::encode::encode;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use vcmdq::Tap;
use vcmdq::tap::Fetched;
use vcmdq::testing::commands::sync;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Published(u32),
    Fetched(u32, Vec<RawCommand>),
    Completed(u32),
    Consumed(u32),
}

/// Of the rig's ring.
const LOG2SIZE: u8 = 6;

#[derive(Default)]
struct Watcher(Mutex<Vec<Seen>>);

impl Watcher {
    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn saw(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }
}

impl Tap for Watcher {
    fn published(&self, prod: u32) {
        self.saw(Seen::Published(prod));
    }

    fn fetched(&self, window: &Fetched<'_>) {
        assert_eq!((window.base, window.log2size), (BASE, LOG2SIZE));
        self.saw(Seen::Fetched(window.first, window.commands.to_vec()));
    }

    fn completed(&self, index: u32) {
        self.saw(Seen::Completed(index));
    }

    fn consumed(&self, cons: u32) {
        self.saw(Seen::Consumed(cons));
    }
}

fn watched() -> (Rig, Arc<Watcher>) {
    let rig = Rig::new();
    let watcher = Arc::new(Watcher::default());
    rig.ring.set_tap(Some(watcher.clone()));
    (rig, watcher)
}

fn cfgi() -> RawCommand {
    encode(&Command::Cfgi(Cfgi::All))
}

#[test]
fn a_window_is_told_in_the_order_of_its_stages() {
    let (mut rig, watcher) = watched();
    let commands = [tlbi(0), sync(), tlbi(1), sync()];
    rig.send(&commands);
    let expected = [
        Seen::Published(4),
        Seen::Fetched(0, commands.to_vec()),
        Seen::Completed(1),
        Seen::Completed(3),
        Seen::Consumed(4),
    ];
    assert_eq!(watcher.take(), expected);
}

/// An effect ends its window: it is told with it, and what lies behind it with the next one.
#[test]
fn each_command_is_told_once_although_windows_end_early() {
    let (mut rig, watcher) = watched();
    rig.send(&[tlbi(0), cfgi(), tlbi(1), sync()]);
    let expected = [
        Seen::Published(4),
        Seen::Fetched(0, vec![tlbi(0), cfgi()]),
        Seen::Consumed(2),
        Seen::Fetched(2, vec![tlbi(1), sync()]),
        Seen::Completed(3),
        Seen::Consumed(4),
    ];
    assert_eq!(watcher.take(), expected);
}

#[test]
fn a_window_round_the_end_of_the_ring_is_told_in_one_piece() {
    let (mut rig, watcher) = watched();
    let entries = 1 << LOG2SIZE;
    for _ in 0..entries - 2 {
        rig.send(&[tlbi(0)]);
    }
    watcher.take();
    let commands = [tlbi(1), tlbi(2), tlbi(3), sync()];
    rig.send(&commands);
    let behind = entries + 2;
    let expected = [
        Seen::Published(behind),
        Seen::Fetched(entries - 2, commands.to_vec()),
        Seen::Completed(entries + 1),
        Seen::Consumed(behind),
    ];
    assert_eq!(watcher.take(), expected);
}

/// The command that stops the ring is told; acknowledged, it is read again and told again.
#[test]
fn law6_what_is_read_again_is_told_again() {
    let (mut rig, watcher) = watched();
    rig.send(&[sync(), illegal(), tlbi(0)]);
    let error = 1 << 24 | 1;
    let expected = [
        Seen::Published(3),
        Seen::Fetched(0, vec![sync(), illegal()]),
        Seen::Completed(0),
        Seen::Consumed(error),
    ];
    assert_eq!(watcher.take(), expected);
    rig.write(1, sync());
    rig.acknowledge();
    let expected = [
        Seen::Fetched(1, vec![sync(), tlbi(0)]),
        Seen::Completed(1),
        Seen::Consumed(3),
    ];
    assert_eq!(watcher.take(), expected);
}

/// Ends a thread that looks at it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The stages work on what the tap is shown, although the guest rewrites its ring all the time.
#[test]
fn law6_what_is_told_is_what_is_executed() {
    /// Half of the ring with a SYNC, so that a late write of the other thread hits no SYNC.
    const COUNT: u32 = (1 << LOG2SIZE) / 2 - 1;
    /// The two pages of which each slot names one or the other.
    fn pages(slot: u32) -> [u64; 2] {
        [2 * u64::from(slot), 2 * u64::from(slot) + 1]
    }
    let (mut rig, watcher) = watched();
    let memory = rig.memory.clone();
    let (half, stop) = (AtomicU64::new(BASE.0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // Dropped when an assertion fails, too: the scope waits for the thread.
        let _stop = Stop(&stop);
        scope.spawn(|| {
            for which in [0, 1].into_iter().cycle() {
                for slot in 0..COUNT {
                    let word = Gpa(half.load(Ordering::Relaxed) + u64::from(slot) * 16 + 8);
                    let page = tlbi(pages(slot)[which]);
                    store_u64(&*memory, word, page.dw1, Ordering::Relaxed).unwrap();
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..1000 {
            (0..COUNT).flat_map(pages).for_each(|page| rig.cache(page));
            half.store(rig.slot(rig.prod).0, Ordering::Relaxed);
            let first = |slot| tlbi(pages(slot)[0]);
            let commands: Vec<_> = (0..COUNT).map(first).chain([sync()]).collect();
            rig.send(&commands);
            let seen = watcher.take();
            let Some(Seen::Fetched(_, told)) = seen.get(1) else {
                panic!("no window in {seen:?}");
            };
            for (slot, told) in (0..COUNT).zip(told) {
                let gone = pages(slot).map(|page| !rig.cached(page));
                assert_eq!(gone, pages(slot).map(|page| *told == tlbi(page)));
            }
        }
    });
}

#[test]
fn a_tap_that_was_taken_off_hears_nothing() {
    let (mut rig, watcher) = watched();
    rig.ring.set_tap(None);
    rig.send(&[tlbi(0), sync()]);
    assert_eq!(watcher.take(), []);
    assert_eq!(Arc::strong_count(&watcher), 1, "nobody holds it");
    assert_eq!(rig.cons(), 2);
}
