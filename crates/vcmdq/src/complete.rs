//! STAGE complete: SYNCs, one after the other, and CONS (law 4).
//!
//! Everything before the window's SYNCs has been done in the backends when this begins. The
//! order of publication: CONS (release), then the message, then the interrupt. A message that
//! lies in the ring itself is written *before* CONS: as soon as CONS has passed the slot, a
//! producer may have put its next command there, and a late word would destroy it.

use crate::consumer::Consumer;
use crate::gerror::{CommandError, gerror_bits};
use crate::instance::waiter;
use crate::ring::Ring;
use crate::seams::Line;
use crate::window::SyncPoint;
use dispatch::Barrier;
use smmu_core::command::{Msi, Signal};
use smmu_core::{Gpa, decode};
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::weak::{Site, taken};

/// How the SYNCs of a window ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    /// All done; CONS is behind the window.
    All,
    /// CONS stands at a SYNC that waits for an access under way.
    Waiting,
    /// CONS stands at a SYNC for which more of other rings is to be executed.
    Covering,
    /// CONS stands at a SYNC that failed; the ring has stopped.
    Failed,
}

/// Completes the SYNCs of a window of `len` commands that begins at CONS. `device_timed_out` is the place of the
/// earliest ATC_INV that a device did not answer.
#[inline]
pub(crate) fn complete(
    consumer: &mut Consumer,
    ring: &Ring,
    syncs: &[SyncPoint],
    len: u32,
    device_timed_out: Option<u32>,
) -> Completed {
    let start = consumer.cons;
    if !syncs.is_empty() {
        if !quiesced(consumer, ring) {
            ring.counters.sync_waits.add(1);
            hold(consumer, ring, syncs, device_timed_out);
            return Completed::Waiting;
        }
        consumer.collect_unanswered(ring);
        if let Some(cover) = &mut consumer.cover {
            // Its barrier was asked behind all of the window's invalidations.
            cover.lane().set_unsynced(false);
            cover.forget();
        }
    }
    let lost_at = device_timed_out.or(consumer.lost_atc_inv.then_some(0));
    let failing = lost_at.and_then(|lost| syncs.iter().position(|sync| lost <= sync.at));
    // Whoever has seen the last of them done may look at the counters.
    ring.counters
        .syncs
        .add(failing.unwrap_or(syncs.len()) as u64);
    let at_once = if lost_at.is_none() {
        in_ring_messages(consumer, syncs)
    } else {
        0
    };
    for (done, sync) in syncs.iter().enumerate().skip(at_once) {
        let entries = consumer.entries;
        if failing == Some(done) {
            consumer.publish(ring, entries.geometry().advance(start, sync.at));
            ring.counters.atc_timeouts.add(1);
            consumer.lost_atc_inv = false;
            consumer.stop(ring, CommandError::AtcInvSync);
            return Completed::Failed;
        }
        let behind = entries.geometry().advance(start, sync.at + 1);
        signal(consumer, ring, sync, behind);
    }
    // An unanswered ATC_INV that no SYNC of this window covers is charged to the next one.
    consumer.lost_atc_inv = lost_at.is_some();
    let behind = consumer.entries.geometry().advance(start, len);
    consumer.publish(ring, behind);
    Completed::All
}

/// Leaves CONS at the window's first SYNC: what lies before it is done, nothing behind it is kept.
pub(crate) fn hold(
    consumer: &mut Consumer,
    ring: &Ring,
    syncs: &[SyncPoint],
    device_timed_out: Option<u32>,
) -> Completed {
    if let Some(first) = syncs.first() {
        // What lies before the SYNC is not consumed again, so its failure must be kept.
        consumer.lost_atc_inv |= device_timed_out.is_some_and(|lost| lost < first.at);
        let at = consumer.entries.geometry().advance(consumer.cons, first.at);
        consumer.publish(ring, at);
    }
    Completed::Covering
}

/// Whether no access uses what the ring's invalidations have removed, in any instance, and the events
/// of those that were aborted are visible. Asks all instances, so that every one that is not done
/// knows whom to wake.
#[inline]
fn quiesced(consumer: &mut Consumer, ring: &Ring) -> bool {
    // law3b: completion does not ask.
    if vcmdq_sync::broken!(break_law3b) {
        return true;
    }
    let pending = |done, instance: &std::sync::Arc<crate::instance::Instance>| {
        done & (instance.backend.barrier(waiter(ring.index)) == Barrier::Done)
    };
    let own = consumer.instances.iter().fold(true, pending);
    let others = consumer.cover.as_ref();
    let gone = own & others.is_none_or(|cover| cover.others_quiesced(&consumer.instances));
    gone && events_visible(consumer, ring)
}

/// Whether the event queue shows what had been recorded when the last access was gone. The place is
/// noted once for each SYNC: with a new one each time, new faults could keep it waiting for ever.
#[inline]
fn events_visible(consumer: &mut Consumer, ring: &Ring) -> bool {
    // law3c: a record that is written but hidden behind a slower one is left for later.
    if vcmdq_sync::broken!(break_law3c) {
        return true;
    }
    let queue = consumer.frame.events.queue();
    let due = *consumer.events_due.get_or_insert_with(|| queue.mark());
    let visible = queue.barrier(due, waiter(ring.index)) == Barrier::Done;
    if visible {
        consumer.events_due = None;
    }
    visible
}

/// Linux's way: a message into the ring itself for every SYNC. The ring is looked up once, not once
/// for each. Returns how many SYNCs of the window's beginning are done so.
#[inline]
fn in_ring_messages(consumer: &Consumer, syncs: &[SyncPoint]) -> usize {
    // law4d: the word in the ring comes after CONS, like any other message.
    if vcmdq_sync::broken!(break_law4d) || syncs.is_empty() {
        return 0;
    }
    let (base, caps) = (consumer.entries.base(), &consumer.frame.settings.caps);
    let count = consumer.entries.geometry().entries() as usize * 4;
    let Some(words) = consumer.memory.words32(base, count) else {
        return 0;
    };
    let (mut done, mut low, mut high) = (0, u64::MAX, 0);
    for sync in syncs {
        let Some(Signal::Irq { msi: Some(msi) }) = decode::signal(sync.raw, caps) else {
            break;
        };
        let offset = msi.addr.0.wrapping_sub(base.0);
        let Some(word) = words.get((offset / 4) as usize) else {
            break;
        };
        // Release: whoever sees the word sees what the commands before the SYNC did.
        word.store(msi.data.to_le(), Ordering::Release);
        (low, high) = (low.min(offset), high.max(offset));
        done += 1;
    }
    if done > 0 {
        // Too much may be reported, never too little.
        let bytes = (high - low) as usize + 4;
        consumer.memory.mark_dirty(Gpa(base.0 + low), bytes);
    }
    done
}

#[inline]
fn signal(
    consumer: &mut Consumer,
    ring: &Ring,
    sync: &SyncPoint,
    behind: smmu_core::queue_index::QueueIndex,
) {
    let caps = &consumer.frame.settings.caps;
    match decode::signal(sync.raw, caps).unwrap_or(Signal::None) {
        // Whoever waits looks at CONS, which the end of the window publishes. A WFE event is what
        // any store to a watched line is.
        Signal::None | Signal::Sev => {}
        // law4d: the word in the ring comes after CONS, like any other message.
        Signal::Irq { msi: Some(msi) }
            if consumer.entries.contains(msi.addr)
                && taken(Site::OwnWordFirst)
                && !vcmdq_sync::broken!(break_law4d) =>
        {
            message(consumer, ring, msi);
        }
        Signal::Irq { msi: Some(msi) } => {
            consumer.publish(ring, behind);
            message(consumer, ring, msi);
        }
        Signal::Irq { msi: None } => {
            consumer.publish(ring, behind);
            consumer.frame.interrupts.pulse(Line::CommandSync);
        }
    }
}

/// Release: whoever sees the word sees what the commands before the SYNC did.
fn message(consumer: &Consumer, ring: &Ring, msi: Msi) {
    if consumer
        .memory
        .store_u32(msi.addr, msi.data, Ordering::Release)
        .is_ok()
    {
        return;
    }
    if consumer
        .frame
        .interrupts
        .message(consumer.frame.settings.device_id, msi)
        .is_err()
    {
        ring.counters.lost_messages.add(1);
        ring.raise(&*consumer.frame.interrupts, gerror_bits::MSI_CMDQ_ABT_ERR);
    }
}
