//! The way down the tables, the same for both stages.

use super::geometry::{block_allowed, descriptor_address, entry_shift};
use super::permissions::Inherited;
use super::tables::{Key, StageTables};
use crate::fault::{Fault, Place};
use crate::guest_memory::{GuestMemory, load_u64, store_u64};
use crate::ids::Gpa;
use crate::range::Granule;
use crate::spec::pte::{self, DescriptorKind};
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::weak::{Site, taken};

/// The tables of one stage.
pub(super) struct Descent<'a> {
    /// The table of the start level.
    pub(super) table: u64,
    pub(super) granule: Granule,
    pub(super) start_level: i8,
    pub(super) output_bits: u32,
    pub(super) wide: bool,
    pub(super) output52: bool,
    pub(super) big_endian: bool,
    /// What tables forbid counts for what lies below them.
    pub(super) hierarchical: bool,
    /// Of the upper half.
    pub(super) upper: bool,
    /// What faults are reported with.
    pub(super) place: Place,
    /// Tables from which a walk may start.
    pub(super) known: Option<&'a StageTables>,
}

/// A block or page descriptor, before its access flag and rights are looked at.
pub(super) struct Bottom {
    pub(super) descriptor: u64,
    /// Where it lies, as its table says, and in memory.
    pub(super) address: u64,
    pub(super) at: Gpa,
    pub(super) level: u8,
    pub(super) shift: u32,
    /// Output address of the first byte.
    pub(super) base: u64,
    /// What the tables on the way forbid.
    pub(super) inherited: Inherited,
}

/// A table that a walk has come to.
struct Step {
    level: i8,
    table: u64,
    /// Where it lies in memory, if that is known.
    at: Option<Gpa>,
    inherited: Inherited,
}

impl Descent<'_> {
    /// Walks `input`, which fits the tables, from the last table that is known. `locate` says where a
    /// descriptor lies, and log2 of how much around it lies in one piece. At most five descriptors are
    /// read, each once.
    #[inline(always)]
    pub(super) fn descend<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        input: u64,
        locate: impl Fn(u64) -> Result<(Gpa, u32), Fault>,
    ) -> Result<Bottom, Fault> {
        // What nearly all tables have is a number here, and so are shifts and masks.
        match self.granule {
            Granule::K4 => self.down(Granule::K4, memory, input, locate),
            other => self.down_by(other, memory, input, locate),
        }
    }

    #[inline(never)]
    fn down_by<M: GuestMemory + ?Sized>(
        &self,
        granule: Granule,
        memory: &M,
        input: u64,
        locate: impl Fn(u64) -> Result<(Gpa, u32), Fault>,
    ) -> Result<Bottom, Fault> {
        self.down(granule, memory, input, locate)
    }

    #[inline(always)]
    fn down<M: GuestMemory + ?Sized>(
        &self,
        granule: Granule,
        memory: &M,
        input: u64,
        locate: impl Fn(u64) -> Result<(Gpa, u32), Fault>,
    ) -> Result<Bottom, Fault> {
        let stride = granule.shift() - 3;
        let index_mask = (1 << stride) - 1;
        let mut step = self.first_step(granule, input);
        let mut shift = entry_shift(granule, step.level);
        loop {
            let level = step.level;
            let mut index = input >> shift;
            // The first table is as large as the input needs (or several behind each other).
            if level != self.start_level {
                index &= index_mask;
            }
            let offset = index * pte::BYTES;
            let address = step.table + offset;
            let at = match step.at {
                Some(table) => Gpa(table.0 + offset),
                None => {
                    let (at, in_one_piece) = locate(address)?;
                    // One of the start level is known anyway.
                    if level > self.start_level && in_one_piece >= granule.shift() {
                        self.keep(&step, Gpa(at.0 - offset), input >> (shift + stride));
                    }
                    at
                }
            };
            let descriptor = self.fetch(memory, at)?;
            let is_last = match DescriptorKind::of(descriptor) {
                DescriptorKind::TableOrPage => level == 3,
                DescriptorKind::Block
                    if level < 3 && block_allowed(granule, level, self.wide, self.output52) =>
                {
                    true
                }
                _ => return Err(Fault::Translation(self.place)),
            };
            let output = self.output(granule, descriptor)?;
            if is_last {
                return Ok(Bottom {
                    descriptor,
                    address,
                    at,
                    level: level as u8,
                    shift,
                    base: output & !((1 << shift) - 1),
                    inherited: step.inherited,
                });
            }
            if self.hierarchical {
                step.inherited.add(descriptor);
            }
            step.level += 1;
            step.table = output;
            step.at = None;
            shift -= stride;
        }
    }

    /// The last table that is known, or the first one.
    #[inline(always)]
    fn first_step(&self, granule: Granule, input: u64) -> Step {
        if let Some(known) = self.known {
            for level in [3, 2] {
                if level <= self.start_level {
                    break;
                }
                let prefix = input >> entry_shift(granule, level - 1);
                if let Some(found) = known.find(level, Key::of(level, prefix, self.upper)) {
                    return Step {
                        level,
                        table: found.table,
                        at: Some(found.at),
                        inherited: found.inherited,
                    };
                }
            }
        }
        Step {
            level: self.start_level,
            table: self.table,
            at: None,
            inherited: Inherited::default(),
        }
    }

    /// Keeps a table that lies in one piece for the next walk.
    #[inline(always)]
    fn keep(&self, step: &Step, at: Gpa, prefix: u64) {
        if let Some(known) = self.known {
            let key = Key::of(step.level, prefix, self.upper);
            known.keep(step.level, key, (step.table, at), step.inherited);
        }
    }

    #[inline(always)]
    fn fetch<M: GuestMemory + ?Sized>(&self, memory: &M, at: Gpa) -> Result<u64, Fault> {
        let word = load_u64(memory, at, Ordering::Acquire)
            .map_err(|_| Fault::WalkAbort(self.place, at))?;
        Ok(self.in_memory(word))
    }

    /// Replaces the descriptor that a walk has come to, unless it has changed meanwhile: `false`.
    /// F_WALK_EABT if the memory does not take it.
    pub(super) fn replace<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        bottom: &Bottom,
        new: u64,
    ) -> Result<bool, Fault> {
        let old = self.in_memory(bottom.descriptor);
        // law3g: the descriptor is stored, whatever the guest has made of it meanwhile.
        if vcmdq_sync::broken!(break_law3g) || !taken(Site::TableExchange) {
            return store_u64(memory, bottom.at, self.in_memory(new), Ordering::Release)
                .map(|()| true)
                .map_err(|_| Fault::WalkAbort(self.place, bottom.at));
        }
        let seen = memory
            .compare_exchange(bottom.at, old, self.in_memory(new))
            .map_err(|_| Fault::WalkAbort(self.place, bottom.at))?;
        Ok(seen == old)
    }

    /// A descriptor as the word that holds it, and the other way round.
    #[inline]
    fn in_memory(&self, word: u64) -> u64 {
        if self.big_endian {
            word.swap_bytes()
        } else {
            word
        }
    }

    /// The address in a descriptor, if it is not wider than the stage's output.
    #[inline(always)]
    fn output(&self, granule: Granule, descriptor: u64) -> Result<u64, Fault> {
        let address = descriptor_address(descriptor, granule, self.wide, self.output52);
        if address >> self.output_bits == 0 {
            Ok(address)
        } else {
            Err(Fault::AddressSize(self.place))
        }
    }
}
