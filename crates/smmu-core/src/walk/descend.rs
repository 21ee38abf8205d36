//! The way down the tables, the same for both stages.

use super::geometry::{block_allowed, descriptor_address, entry_shift};
use crate::fault::{Fault, Place};
use crate::guest_memory::{GuestMemory, load_u64, store_u64};
use crate::ids::Gpa;
use crate::range::Granule;
use crate::spec::pte::{self, DescriptorKind};
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::weak::{Site, taken};

/// The tables of one stage, and where in them a walk is.
pub(super) struct Descent {
    /// The table of the start level.
    pub(super) table: u64,
    pub(super) granule: Granule,
    pub(super) start_level: i8,
    pub(super) output_bits: u32,
    pub(super) wide: bool,
    pub(super) output52: bool,
    pub(super) big_endian: bool,
    /// What faults are reported with.
    pub(super) place: Place,
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
}

impl Descent {
    /// Walks `input`, which fits the tables. `locate` says where a table lies, `on_table` sees
    /// every table descriptor. At most five descriptors are read, each once.
    pub(super) fn descend<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        input: u64,
        locate: impl Fn(u64) -> Result<Gpa, Fault>,
        mut on_table: impl FnMut(u64),
    ) -> Result<Bottom, Fault> {
        let index_mask = (1 << (self.granule.shift() - 3)) - 1;
        let mut table = self.table;
        for level in self.start_level..=3 {
            let shift = entry_shift(self.granule, level);
            let mut index = input >> shift;
            // The first table is as large as the input needs (or several behind each other).
            if level != self.start_level {
                index &= index_mask;
            }
            let address = table + index * pte::BYTES;
            let at = locate(address)?;
            let descriptor = self.fetch(memory, at)?;
            let bottom = || {
                Ok(Bottom {
                    descriptor,
                    address,
                    at,
                    level: level as u8,
                    shift,
                    base: self.output(descriptor)? & !((1 << shift) - 1),
                })
            };
            match (DescriptorKind::of(descriptor), level) {
                (DescriptorKind::TableOrPage, 3) => return bottom(),
                (DescriptorKind::TableOrPage, _) => {
                    table = self.output(descriptor)?;
                    on_table(descriptor);
                }
                (DescriptorKind::Block, 0..=2)
                    if block_allowed(self.granule, level, self.wide, self.output52) =>
                {
                    return bottom();
                }
                (DescriptorKind::Block | DescriptorKind::Invalid, _) => break,
            }
        }
        Err(Fault::Translation(self.place))
    }

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
    fn in_memory(&self, word: u64) -> u64 {
        if self.big_endian {
            word.swap_bytes()
        } else {
            word
        }
    }

    /// The address in a descriptor, if it is not wider than the stage's output.
    fn output(&self, descriptor: u64) -> Result<u64, Fault> {
        let address = descriptor_address(descriptor, self.granule, self.wide, self.output52);
        if address >> self.output_bits == 0 {
            Ok(address)
        } else {
            Err(Fault::AddressSize(self.place))
        }
    }
}
