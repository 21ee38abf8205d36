//! A walk cache: tables that walks of one context have come to, from which the next one starts.
//!
//! Kept for each stage are the last tables, and those above them, each with all that the walk to it has
//! found out: where it is as its stage says, where it lies in memory, and what the tables above it forbid.
//! A leaf is always read, so its access flag, dirty state and rights are looked at each time.
//!
//! **What removes a table** is counted by the translation cache ([`FillTicket`]); a walk takes what was kept
//! under the same counts as its ticket, and nothing else:
//!
//! | invalidation | tables of stage 1 | of stage 2 |
//! |---|---|---|
//! | NH_VA with Leaf=0 | of the ASID | – |
//! | NH_VAA with Leaf=0 | of every ASID | – |
//! | NH_ASID | of the ASID | – |
//! | NH_ALL | of the VMID | – |
//! | S2_IPA with Leaf=0 | those that lie under stage 2 | all |
//! | S2_IPA with Leaf=1 | those that lie under stage 2 | – |
//! | S12_VMALL, NSNH_ALL | of the VMID | of the VMID |
//!
//! That is more than the architecture asks for (IHI 0070, 4.4; Arm ARM D8.17): the address does not count, and
//! some ASIDs share a count. Whoever owns the tables forgets them when the configuration by which they were
//! found is read anew ([`WalkCache::forget`]).

use super::permissions::Inherited;
use crate::ids::Gpa;
use crate::tlb::FillTicket;
use core::cell::Cell;

/// Last tables of a stage.
const LAST: usize = 16;
/// Tables of the level above.
const ABOVE: usize = 4;

/// The tables that are known of one context. Belongs to one thread at a time.
#[derive(Debug, Default)]
pub struct WalkCache {
    first: StageTables,
    second: StageTables,
}

impl WalkCache {
    /// Forgets everything: the configuration by which the tables were found may be another one from here on.
    pub fn forget(&self) {
        self.first.forget();
        self.second.forget();
    }

    /// Forgets what an invalidation before `ticket` may have removed; what is added from here on is
    /// kept as of the ticket. So the ticket is taken first, as for a [fill](crate::tlb::Tlb::fill), then
    /// this is called, then the first descriptor is read. `nested`: stage 1 lies under stage 2.
    #[inline]
    pub fn renew(&self, ticket: &FillTicket, nested: bool) {
        self.first.stamp.set(ticket.tables_of_stage1(nested));
        self.second.stamp.set(ticket.tables_of_stage2());
    }

    /// The tables of stage 1.
    #[must_use]
    #[inline]
    pub fn stage1(&self) -> &StageTables {
        &self.first
    }

    /// The tables of stage 2.
    #[must_use]
    #[inline]
    pub fn stage2(&self) -> &StageTables {
        &self.second
    }
}

/// The tables that are known of one stage.
#[derive(Debug, Default)]
pub struct StageTables {
    /// As of which counts tables are kept now.
    stamp: Cell<u64>,
    last: [Place; LAST],
    above: [Place; ABOVE],
}

/// Where a table is kept.
#[derive(Debug, Default)]
struct Place {
    key: Cell<Key>,
    stamp: Cell<u64>,
    known: Cell<Known>,
}

/// A table that has been found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Its address as its stage's descriptors have it.
    pub(super) table: u64,
    /// Where it lies in memory, in one piece.
    pub(super) at: Gpa,
    pub(super) inherited: Inherited,
}

/// Which table of a stage: the addresses that it is for, and its level. Zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// The table of `level` for the addresses that have `prefix` in common with the one that is walked;
    /// `upper` of the upper half.
    #[inline]
    pub(super) fn of(level: i8, prefix: u64, upper: bool) -> Self {
        Self(prefix << 4 | u64::from(upper) << 3 | u64::from(level as u8 & 3) << 1 | 1)
    }

    fn slot(self, among: usize) -> usize {
        (self.0 >> 4) as usize % among
    }
}

impl StageTables {
    fn forget(&self) {
        for place in self.last.iter().chain(&self.above) {
            place.key.set(Key::default());
        }
    }

    /// Where a table of `level` is kept: those of the last two levels are.
    #[inline]
    fn place(&self, level: i8, key: Key) -> Option<&Place> {
        match level {
            3 => Some(&self.last[key.slot(LAST)]),
            2 => Some(&self.above[key.slot(ABOVE)]),
            _ => None,
        }
    }

    /// The table of a level, if it is known.
    #[inline]
    pub(super) fn find(&self, level: i8, key: Key) -> Option<Known> {
        let place = self.place(level, key)?;
        let is_known = place.key.get() == key && place.stamp.get() == self.stamp.get();
        is_known.then(|| place.known.get())
    }

    /// Keeps a table, in the place of another one.
    #[inline]
    pub(super) fn keep(&self, level: i8, key: Key, (table, at): (u64, Gpa), inherited: Inherited) {
        if let Some(place) = self.place(level, key) {
            place.key.set(key);
            place.stamp.set(self.stamp.get());
            place.known.set(Known {
                table,
                at,
                inherited,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Asid, Vmid};
    use crate::tlb::{Tlb, TlbSettings};

    fn kept(tables: &StageTables, key: Key) -> bool {
        tables.find(3, key).is_some()
    }

    #[test]
    fn law7_a_table_is_known_under_the_counts_of_its_ticket_only() {
        let (tlb, cache) = (Tlb::new(TlbSettings::default()), WalkCache::default());
        let (vmid, asid) = (Vmid(1), Asid(7));
        let renew = |nested| cache.renew(&tlb.ticket(vmid, asid), nested);
        let key = Key::of(3, 5, false);
        let keep = || {
            for tables in [cache.stage1(), cache.stage2()] {
                tables.keep(3, key, (0x1000, Gpa(0x2000)), Inherited::default());
            }
        };
        renew(true);
        keep();
        renew(true);
        assert!(kept(cache.stage1(), key) && kept(cache.stage2(), key));
        let begin = |signature| drop(tlb.sweep(signature));
        for (takes, first, second) in [
            (
                (|s| s.add(Some(Asid(7)))) as fn(&mut crate::tlb::Signature),
                false,
                false,
            ),
            (|s| s.add_tables(Some(Asid(7))), true, false),
            (|s| s.add_tables(None), true, false),
            (|s| s.add_stage2(true), true, false),
            (|s| s.add_stage2(false), true, true),
        ] {
            renew(true);
            keep();
            let mut signature = crate::tlb::Signature::default();
            takes(&mut signature);
            begin(signature);
            renew(true);
            assert_eq!(kept(cache.stage1(), key), !first, "{signature:?}");
            assert_eq!(kept(cache.stage2(), key), !second, "{signature:?}");
        }
        for (count, first, second) in [
            (
                (|t| t.vmid(Vmid(1))) as fn(&crate::tlb::Sweep<'_>),
                true,
                false,
            ),
            (|t| t.asid(Vmid(1), Asid(7)), true, false),
            (|t| t.stage2(Vmid(1)), true, true),
            (|t| t.everything(), true, true),
        ] {
            renew(true);
            keep();
            count(&tlb.sweep(crate::tlb::Signature::default()));
            renew(true);
            assert_eq!(kept(cache.stage1(), key), !first);
            assert_eq!(kept(cache.stage2(), key), !second);
        }
    }

    #[test]
    fn a_table_is_found_for_its_addresses_level_and_half() {
        let tables = StageTables::default();
        let key = Key::of(3, 5, false);
        tables.keep(3, key, (0x1000, Gpa(0x2000)), Inherited::default());
        let found = tables.find(3, key).expect("it is kept");
        assert_eq!((found.table, found.at), (0x1000, Gpa(0x2000)));
        for other in [
            Key::of(3, 5, true),
            Key::of(2, 5, false),
            Key::of(3, 5 + LAST as u64, false),
        ] {
            assert!(tables.find(3, other).is_none(), "{other:?}");
        }
        assert!(tables.find(2, key).is_none(), "of another level");
        tables.forget();
        assert!(tables.find(3, key).is_none());
    }
}
