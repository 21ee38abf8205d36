//! CONS, errors and SYNC: never early, never wrong (law 4).

mod common;

use common::*;
use dispatch::Cause;
use dispatch::backend::faulty::Verdict;
use dispatch::dispatch::TRIES;
use smmu_core::command::{Cfgi, Command, Msi, ResumeAction, Signal};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Gpa, Stag, SubstreamId};
use vcmdq::testing::commands::{self, sync, sync_to};
use vcmdq::{DoorbellMode, Line, gerror_bits};

#[test]
fn law4_cons_points_at_the_illegal_command_in_the_middle_of_a_batch() {
    let mut rig = Rig::new();
    (0..5).for_each(|page| rig.cache(page));
    rig.send(&[tlbi(0), tlbi(1), illegal(), tlbi(3), sync()]);
    assert_eq!((rig.cons(), rig.error(), rig.stopped()), (2, 1, true));
    assert!(
        !rig.cached(0) && !rig.cached(1),
        "everything before it is done"
    );
    assert!(rig.cached(3), "nothing behind it is");
    assert_eq!(rig.outside.take(), [Told::Pulse(Line::Gerror)]);
    assert_eq!(rig.ring.metrics().illegal, 1);
}

/// Rows 8 and 13 of the peers' bugs: the acknowledgement alone resumes consumption.
#[test]
fn law4_peers_row8_row13_acknowledging_resumes_without_a_new_prod() {
    let mut rig = Rig::new();
    rig.cache(3);
    rig.send(&[illegal(), tlbi(3), sync()]);
    assert_eq!((rig.cons(), rig.stopped()), (0, true));
    rig.write(0, sync());
    rig.acknowledge();
    assert_eq!((rig.cons(), rig.error(), rig.stopped()), (3, 0, false));
    assert!(!rig.cached(3));
}

/// Row 11: CONS stays at the failing command, however often PROD is written meanwhile.
#[test]
fn law4_peers_row11_cons_does_not_pass_a_failing_command() {
    let mut rig = Rig::new();
    rig.send(&[sync(), illegal()]);
    rig.send(&[sync()]);
    rig.send(&[sync()]);
    assert_eq!((rig.cons(), rig.stopped()), (1, true));
    assert_eq!(
        rig.ring.metrics().illegal,
        1,
        "and it is not executed again"
    );
}

/// Row 10: an entry that cannot be read is CERROR_ABT, one that is illegal CERROR_ILL.
#[test]
fn law4_peers_row10_unreadable_and_illegal_are_told_apart() {
    let mut rig = Rig::new();
    // The last half of this ring lies beyond the end of memory.
    rig.ring.disable();
    let base = Gpa(0x2_0000 - 32 * 16);
    let base = Gpa(base.0 & !(64 * 16 - 1));
    rig.ring
        .configure(vcmdq::RingSettings { base, log2size: 6 })
        .unwrap();
    rig.ring.enable();
    rig.ring.doorbell(1);
    rig.serve();
    assert_eq!(
        (rig.cons(), rig.error()),
        (0, 1),
        "zeroes are an illegal command"
    );
    rig.ring.disable();
    let outside = Gpa(0x4_0000);
    rig.ring.acknowledge(rig.ring.gerror());
    rig.ring
        .configure(vcmdq::RingSettings {
            base: outside,
            log2size: 6,
        })
        .unwrap();
    rig.ring.enable();
    rig.ring.doorbell(1);
    rig.serve();
    assert_eq!((rig.cons(), rig.error(), rig.stopped()), (0, 2, true));
    assert_eq!(rig.ring.metrics().unreadable, 1);
}

#[test]
fn law4_an_unreadable_entry_behind_good_ones_stops_exactly_there() {
    let mut rig = Rig::new();
    rig.ring.disable();
    // Eight slots in memory, eight beyond: a ring of 16 that straddles the end.
    let memory = vcmdq::testing::HeapMemory::with_regions(&[(Gpa(0), 0x1_0080)]);
    rig.frame.update_memory(std::sync::Arc::new(memory));
    rig.ring
        .configure(vcmdq::RingSettings {
            base: BASE,
            log2size: 4,
        })
        .unwrap();
    let map = vcmdq::testing::HeapMemory::with_regions(&[(Gpa(0), 0x1_0080)]);
    for slot in 0..8 {
        let at = Gpa(BASE.0 + slot * 16);
        let raw = sync();
        use std::sync::atomic::Ordering::Relaxed;
        smmu_core::guest_memory::store_u64(&map, at, raw.dw0, Relaxed).unwrap();
    }
    rig.frame.update_memory(std::sync::Arc::new(map));
    rig.ring.enable();
    rig.ring.doorbell(12);
    rig.serve();
    assert_eq!((rig.cons(), rig.error()), (8, 2));
}

#[test]
fn law4_a_syncs_own_word_is_written_before_cons_passes_its_slot() {
    let mut rig = Rig::new();
    let own = rig.slot(1);
    rig.send(&[tlbi(0), sync_to(own, 0), tlbi(1)]);
    assert_eq!(word(&*rig.memory, own), 0);
    assert_eq!(rig.cons(), 3);
    assert!(
        rig.memory.take_dirty().contains(&BASE),
        "every write of the engine is reported"
    );
}

#[test]
fn law4_a_message_outside_the_ring_comes_after_cons() {
    let mut rig = Rig::new();
    rig.send(&[sync_to(Gpa(0x100), 0xABCD), sync()]);
    assert_eq!(word(&*rig.memory, Gpa(0x100)), 0xABCD);
    let far = Gpa(0x800_0000);
    rig.send(&[
        sync_to(far, 5),
        encode(&Command::Sync(Signal::Irq { msi: None })),
    ]);
    let told = rig.outside.take();
    assert_eq!(
        told,
        [
            Told::Message(Msi { addr: far, data: 5 }),
            Told::Pulse(Line::CommandSync)
        ],
        "what is no RAM goes to the VMM, and a SYNC without a message pulses the wire"
    );
}

#[test]
fn law4_a_message_to_nowhere_raises_its_own_error_and_the_sync_completes() {
    let mut rig = Rig::with(all_features(), 6, DoorbellMode::Trap, true);
    rig.send(&[sync_to(Gpa(0x800_0000), 5), sync()]);
    assert_eq!((rig.cons(), rig.stopped()), (2, false));
    assert_eq!(rig.ring.gerror(), gerror_bits::MSI_CMDQ_ABT_ERR);
    assert_eq!(rig.ring.metrics().lost_messages, 1);
}

/// Row 36: what CONS has passed has taken effect.
#[test]
fn law4_peers_row36_cons_is_visible_after_the_effect() {
    let mut rig = Rig::new();
    (0..40).for_each(|page| rig.cache(page));
    for page in 0..40 {
        rig.send(&[tlbi(page)]);
        assert_eq!(rig.cons(), rig.prod);
        assert!(!rig.cached(page));
    }
}

fn atc_inv() -> RawCommand {
    commands::atc_inv(STREAM, 0)
}

fn device_times_out() -> Verdict {
    Verdict::Refuse {
        take: 0,
        say: 0,
        cause: Cause::DeviceTimedOut,
    }
}

#[test]
fn law4_an_unanswered_atc_inv_fails_the_sync_behind_it_and_only_that() {
    let mut rig = Rig::new();
    rig.backend.inner().script([device_times_out()]);
    rig.send(&[sync(), atc_inv(), sync_to(Gpa(0x100), 7), sync()]);
    assert_eq!(
        (rig.cons(), rig.error(), rig.stopped()),
        (2, 3, true),
        "at the SYNC"
    );
    assert_eq!(word(&*rig.memory, Gpa(0x100)), 0, "which signals nothing");
    // Linux only acknowledges; the SYNC is executed again and does not repeat the error.
    rig.acknowledge();
    assert_eq!((rig.cons(), rig.error(), rig.stopped()), (4, 0, false));
    assert_eq!(word(&*rig.memory, Gpa(0x100)), 7);
}

#[test]
fn law4_an_unanswered_atc_inv_is_kept_until_a_sync_comes() {
    let mut rig = Rig::new();
    rig.backend.inner().script([device_times_out()]);
    rig.send(&[atc_inv()]);
    assert_eq!((rig.cons(), rig.stopped()), (1, false));
    rig.send(&[sync()]);
    assert_eq!((rig.cons(), rig.error()), (1, 3));
}

#[test]
fn law4_a_refusing_backend_is_never_the_guests_error() {
    let mut rig = Rig::new();
    let refuse = Verdict::Refuse {
        take: 0,
        say: 0,
        cause: Cause::Gone,
    };
    rig.backend
        .inner()
        .script((0..2 + 2 * TRIES).map(|_| refuse));
    rig.send(&[tlbi(0), sync()]);
    assert_eq!((rig.cons(), rig.error(), rig.stopped()), (2, 0, false));
    assert_eq!(rig.outside.take(), [Told::FailedClosed(None, Cause::Gone)]);
    assert_eq!(rig.backend.closed(), [None]);
    assert_eq!(rig.ring.metrics().failed_closed, 1);
}

#[test]
fn law4_effects_take_place_in_ring_order() {
    let mut rig = Rig::new();
    let cd = Cfgi::Cd {
        stream: STREAM,
        substream: SubstreamId(0),
        leaf: true,
    };
    rig.cache(0);
    rig.send(&[
        tlbi(0),
        encode(&Command::Cfgi(cd)),
        encode(&Command::Resume {
            stream: STREAM,
            stag: Stag(3),
            action: ResumeAction::Retry,
        }),
        encode(&Command::StallTerm { stream: STREAM }),
        illegal(),
        encode(&Command::Cfgi(Cfgi::All)),
    ]);
    assert!(!rig.cached(0));
    assert_eq!(
        rig.outside.take(),
        [
            Told::Configuration(STREAM, cd),
            Told::Resume(STREAM, Stag(3), ResumeAction::Retry),
            Told::TerminateStalls(STREAM),
            Told::Pulse(Line::Gerror),
        ],
        "in order, and none behind the command that failed"
    );
    assert_eq!((rig.cons(), rig.error()), (4, 1));
}

#[test]
fn law3_a_sync_waits_for_the_barrier_and_then_completes_once() {
    let mut rig = Rig::new();
    rig.cache(0);
    rig.backend.inner().hold_barriers();
    rig.send(&[tlbi(0), sync_to(Gpa(0x100), 9), tlbi(1), sync()]);
    assert_eq!(rig.cons(), 1, "CONS stands at the SYNC");
    assert!(!rig.cached(0), "the invalidation is done");
    assert_eq!(word(&*rig.memory, Gpa(0x100)), 0);
    rig.send(&[sync()]);
    assert_eq!(rig.cons(), 1, "a doorbell changes nothing");
    rig.backend.inner().release_barriers();
    assert!(rig.serve(), "the last guard wakes the ring");
    assert_eq!((rig.cons(), word(&*rig.memory, Gpa(0x100))), (5, 9));
    assert_eq!(rig.ring.metrics().syncs, 3);
}

/// Linux overwrites the bad slot and may overwrite others behind it before it acknowledges.
#[test]
fn law6_nothing_fetched_survives_an_acknowledgement() {
    let mut rig = Rig::new();
    (0..4).for_each(|page| rig.cache(page));
    rig.send(&[illegal(), tlbi(1), sync()]);
    rig.write(0, sync_to(Gpa(0x100), 1));
    rig.write(1, tlbi(2));
    rig.acknowledge();
    assert_eq!(
        (rig.cons(), word(&*rig.memory, Gpa(0x100))),
        (3, 1),
        "the new SYNC ran"
    );
    assert!(rig.cached(1), "what stood there before did not");
    assert!(!rig.cached(2));
}

#[test]
fn law6_a_disabled_queue_is_read_again_when_it_is_enabled() {
    let mut rig = Rig::new();
    rig.cache(1);
    rig.put(&[tlbi(1), sync()]);
    rig.ring.disable();
    rig.publish();
    assert_eq!(rig.cons(), 0);
    rig.write(0, tlbi(9));
    rig.ring.enable();
    rig.serve();
    assert_eq!(rig.cons(), 2);
    assert!(rig.cached(1));
}

/// Row 9: PREFETCH_ADDR is a hint, not an error.
#[test]
fn peers_row9_prefetches_are_consumed() {
    let mut rig = Rig::new();
    let config = Command::PrefetchConfig {
        stream: STREAM,
        substream: None,
    };
    let addr = Command::PrefetchAddr {
        stream: STREAM,
        substream: None,
        addr: 0x1000,
        size: 3,
    };
    rig.send(&[encode(&config), encode(&addr), sync()]);
    assert_eq!((rig.cons(), rig.stopped()), (3, false));
}

/// The last page and then page zero are no range: a range ends at the top of the address space.
#[test]
fn law7_a_run_of_pages_does_not_go_on_behind_the_top() {
    let mut rig = Rig::new();
    rig.cache(0);
    rig.cache(1);
    rig.send(&[tlbi(0xF_FFFF_FFFF_FFFF), tlbi(0), tlbi(1), sync()]);
    assert!(!rig.cached(0) && !rig.cached(1));
}

/// What comes between two pages of a run must not make the second one vanish.
#[test]
fn law7_a_run_of_pages_with_anything_in_between_is_removed_whole() {
    let between = [
        sync(),
        atc_inv(),
        encode(&Command::Tlbi(smmu_core::command::Tlbi::NhAsid {
            vmid: smmu_core::Vmid(0),
            asid: smmu_core::Asid(9),
        })),
        encode(&Command::PrefetchConfig {
            stream: STREAM,
            substream: None,
        }),
        encode(&Command::Cfgi(Cfgi::All)),
        tlbi(40),
    ];
    for other in between {
        let mut rig = Rig::new();
        (0..6).for_each(|page| rig.cache(page));
        rig.send(&[
            tlbi(0),
            tlbi(1),
            other,
            tlbi(2),
            tlbi(3),
            other,
            tlbi(4),
            sync(),
        ]);
        let left: Vec<_> = (0..6).filter(|page| rig.cached(*page)).collect();
        assert_eq!(left, [5], "with {other:x?} in between");
    }
}
