//! A device's translation cache: filled and read by one thread, emptied by workers, without a lock.
//!
//! | device's thread | worker |
//! |---|---|
//! | 1. ticket: the number of invalidations so far | 1. counts one invalidation more |
//! | 2. asks for the translation | |
//! | 3. stores it, says that it is live | |
//! | 4. fence SeqCst | 2. fence SeqCst |
//! | 5. not the ticket's number any more? takes it back | 3. looks at every entry, takes what it covers |
//!
//! The fences are totally ordered, so whoever is second sees what the first one wrote: the worker finds
//! the whole entry, or the device takes it back itself. A worker that finds an entry half
//! written takes too much or too little, and the device takes it back in either case.

use dispatch::backend::{AtcAnswer, AtcTarget};
use smmu_core::SubstreamId;
use smmu_core::ats::AtsTranslation;
use smmu_core::command::AtcInv;
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, full_fence};

/// Page sizes that an entry is looked for under: a page, and a block.
const INDEX_SHIFTS: [u32; 2] = [12, 21];

const SHIFT: u64 = 63;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const EXECUTE: u64 = 1 << 8;
const PRIVILEGED: u64 = 1 << 9;
const GLOBAL: u64 = 1 << 10;

/// One translation. All words are written by the device's thread, but `live`, which workers clear.
#[derive(Debug, Default)]
struct Entry {
    /// Zero, or which fill it is.
    live: AtomicU64,
    /// Zero without a PASID, else the PASID and one.
    who: AtomicU64,
    from: AtomicU64,
    to: AtomicU64,
    rest: AtomicU64,
}

/// What workers share with the device.
#[derive(Debug)]
struct Cache {
    invalidations: AtomicU64,
    entries: Box<[Entry]>,
}

/// A device's translation cache: filled and read by one thread at a time, emptied by workers without a
/// lock. [`super`] says what a guest can rely on.
#[derive(Debug)]
pub struct Atc {
    cache: Arc<Cache>,
    fills: u64,
}

/// Taken before a translation is asked for; an invalidation that comes later voids it.
#[derive(Clone, Copy, Debug)]
pub struct AtcTicket(u64);

/// A translation that was found.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// The translation.
    pub translation: AtsTranslation,
    at: usize,
    fill: u64,
}

fn who(pasid: Option<SubstreamId>) -> u64 {
    pasid.map_or(0, |pasid| u64::from(pasid.0) + 1)
}

impl Entry {
    /// Relaxed: ordered by `live`, or by the fences.
    fn put(&self, pasid: Option<SubstreamId>, found: &AtsTranslation) {
        let flag = |set, bit| if set { bit } else { 0 };
        let rest = u64::from(found.shift) & SHIFT
            | flag(found.read, READ)
            | flag(found.write, WRITE)
            | flag(found.execute, EXECUTE)
            | flag(found.privileged, PRIVILEGED)
            | flag(found.global, GLOBAL);
        self.who.store(who(pasid), Ordering::Relaxed);
        self.from.store(found.from, Ordering::Relaxed);
        self.to.store(found.to, Ordering::Relaxed);
        self.rest.store(rest, Ordering::Relaxed);
    }

    fn get(&self) -> AtsTranslation {
        let rest = self.rest.load(Ordering::Relaxed);
        AtsTranslation {
            from: self.from.load(Ordering::Relaxed),
            to: self.to.load(Ordering::Relaxed),
            shift: (rest & SHIFT) as u32,
            read: rest & READ != 0,
            write: rest & WRITE != 0,
            execute: rest & EXECUTE != 0,
            privileged: rest & PRIVILEGED != 0,
            global: rest & GLOBAL != 0,
            untranslated_only: false,
        }
    }

    fn is_covered(&self, what: &AtcInv) -> bool {
        let every = what.global || what.substream.is_none();
        let whose = every || self.who.load(Ordering::Relaxed) == who(what.substream);
        let own = self.get();
        whose && own.from <= what.last() && what.addr <= own.last()
    }
}

impl Atc {
    /// An empty cache of `entries` translations, rounded up to a power of two, 1 to 4096; 40 bytes
    /// each. An invalidation looks at all of them.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        let entries = entries.clamp(1, 4096).next_power_of_two();
        let cache = Cache {
            invalidations: AtomicU64::new(0),
            entries: (0..entries).map(|_| Entry::default()).collect(),
        };
        Self {
            cache: Arc::new(cache),
            fills: 0,
        }
    }

    /// What [`Software::attach_atc`](dispatch::backend::Software::attach_atc) takes.
    #[must_use]
    pub fn target(&self) -> Arc<dyn AtcTarget> {
        self.cache.clone()
    }

    fn index(&self, pasid: Option<SubstreamId>, address: u64, shift: u32) -> usize {
        let key = (address >> shift) ^ who(pasid).wrapping_mul(0x9E37_79B9) ^ u64::from(shift) << 4;
        key as usize & (self.cache.entries.len() - 1)
    }

    /// The translation of an address for accesses of a PASID, with or without privilege. Valid at
    /// this moment; [`keeps`](Self::keeps) under an access's guard says whether it still is.
    #[must_use]
    pub fn lookup(
        &self,
        pasid: Option<SubstreamId>,
        privileged: bool,
        address: u64,
    ) -> Option<Hit> {
        INDEX_SHIFTS.into_iter().find_map(|shift| {
            let at = self.index(pasid, address, shift);
            let entry = &self.cache.entries[at];
            // The words are this thread's own; only `live` is somebody else's to clear.
            let fill = entry.live.load(Ordering::Acquire);
            let translation = entry.get();
            let found = fill != 0
                && entry.who.load(Ordering::Relaxed) == who(pasid)
                && translation.privileged == (privileged && pasid.is_some())
                && (translation.from..=translation.last()).contains(&address);
            found.then_some(Hit {
                translation,
                at,
                fill,
            })
        })
    }

    /// Whether what was found has not been invalidated since. To be asked when the access's guard is
    /// open: from then on a SYNC behind an invalidation waits for the access.
    #[must_use]
    pub fn keeps(&self, hit: &Hit) -> bool {
        // Behind the guard's fence, which pairs with the one between an invalidation and its look at
        // the guards.
        self.cache.entries[hit.at].live.load(Ordering::Acquire) == hit.fill
    }

    /// To be taken before a translation is asked for.
    #[must_use]
    pub fn ticket(&self) -> AtcTicket {
        AtcTicket(self.cache.invalidations.load(Ordering::Acquire))
    }

    /// Keeps a translation that was asked for with a ticket, unless an invalidation has come since.
    /// Whether it is kept.
    pub fn fill(
        &mut self,
        ticket: AtcTicket,
        pasid: Option<SubstreamId>,
        address: u64,
        found: &AtsTranslation,
    ) -> bool {
        let shift = if found.shift >= INDEX_SHIFTS[1] {
            INDEX_SHIFTS[1]
        } else {
            INDEX_SHIFTS[0]
        };
        self.fills += 1;
        let entry = &self.cache.entries[self.index(pasid, address, shift)];
        entry.live.store(0, Ordering::Relaxed);
        entry.put(pasid, found);
        entry.live.store(self.fills, Ordering::Release);
        // Step 4; pairs with the fence in `invalidate`. Model: `law3_atc_fill_against_invalidation`.
        full_fence(Site::AtcFill);
        let is_true = self.cache.invalidations.load(Ordering::Relaxed) == ticket.0;
        if !is_true {
            entry.live.store(0, Ordering::Relaxed);
        }
        is_true
    }

    /// Forgets one translation, because it does not allow what is wanted.
    pub fn drop_hit(&mut self, hit: &Hit) {
        self.cache.entries[hit.at].live.store(0, Ordering::Relaxed);
    }
}

impl AtcTarget for Cache {
    /// Answers at once: accesses under way are the guards' matter.
    fn invalidate(&self, what: &AtcInv, answer: AtcAnswer) {
        self.invalidations.fetch_add(1, Ordering::AcqRel);
        full_fence(Site::AtcFill);
        for entry in &self.entries {
            if entry.live.load(Ordering::Acquire) != 0 && entry.is_covered(what) {
                // Only ever towards "nothing"; a newer fill that it hits is one lookup more.
                entry.live.swap(0, Ordering::AcqRel);
            }
        }
        answer.complete();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn page(from: u64, to: u64, shift: u32) -> AtsTranslation {
        AtsTranslation {
            from,
            to,
            shift,
            read: true,
            write: true,
            execute: false,
            privileged: false,
            global: false,
            untranslated_only: false,
        }
    }

    #[test]
    fn what_is_filled_is_found_for_its_own_pasid() {
        let mut atc = Atc::new(64);
        let (one, two) = (Some(SubstreamId(0)), Some(SubstreamId(7)));
        for (pasid, to) in [(None, 0x1_0000), (one, 0x2_0000), (two, 0x3_0000)] {
            let ticket = atc.ticket();
            assert!(atc.fill(ticket, pasid, 0x5123, &page(0x5000, to, 12)));
        }
        let ticket = atc.ticket();
        let block = page(0x40_0000, 0x80_0000, 21);
        assert!(atc.fill(ticket, two, 0x41_2345, &block));
        let output = |pasid, address: u64| {
            let hit = atc.lookup(pasid, false, address)?;
            Some(hit.translation.output(address))
        };
        assert_eq!(output(None, 0x5678), Some(0x1_0678));
        assert_eq!(output(one, 0x5678), Some(0x2_0678));
        assert_eq!(output(two, 0x5FFF), Some(0x3_0FFF));
        assert_eq!(
            output(two, 0x5F_FFFF),
            Some(0x9F_FFFF),
            "another page of the block"
        );
        assert_eq!(output(one, 0x40_0000), None);
        assert!(atc.lookup(two, true, 0x5000).is_none(), "without privilege");
    }

    #[test]
    fn an_invalidation_since_the_ticket_voids_a_fill() {
        let mut atc = Atc::new(4);
        let ticket = atc.ticket();
        atc.cache.invalidations.fetch_add(1, Ordering::Relaxed);
        assert!(!atc.fill(ticket, None, 0x5000, &page(0x5000, 0, 12)));
        assert!(atc.lookup(None, false, 0x5000).is_none());
    }
}
