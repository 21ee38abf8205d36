//! The walk of the guest's own stage 2.

use super::IpaSpace;
use super::descend::Descent;
use super::leaf::{Leaf, MemoryAttributes};
use super::permissions::Permissions;
use crate::access::{Access, Operation};
use crate::config::Stage2Config;
use crate::fault::{Fault, Place};
use crate::guest_memory::GuestMemory;
use crate::ids::Gpa;
use crate::spec::event::Class;
use crate::spec::pte::Stage2LeafDescriptor;

/// A stage 2 and the memory that its tables lie in.
#[derive(Debug)]
pub struct Stage2<'a, M: ?Sized> {
    memory: &'a M,
    config: &'a Stage2Config,
}

impl<'a, M: GuestMemory + ?Sized> Stage2<'a, M> {
    /// Of a stream.
    #[must_use]
    pub fn new(memory: &'a M, config: &'a Stage2Config) -> Self {
        Self { memory, config }
    }

    /// Translates the address of an access, or what stage 1 made of it.
    pub fn translate(&self, ipa: u64, access: &Access) -> Result<Leaf, Fault> {
        let place = Place::Stage2 {
            class: Class::Input,
            ipa,
        };
        let (leaf, _) = self.walk(ipa, place)?;
        if leaf.permissions.allow(access) {
            Ok(leaf)
        } else {
            Err(Fault::Permission(place))
        }
    }

    fn walk(&self, ipa: u64, place: Place) -> Result<(Leaf, Stage2LeafDescriptor), Fault> {
        let config = self.config;
        if ipa >> config.input_bits != 0 {
            return Err(Fault::Translation(place));
        }
        let tables = Descent {
            table: config.table.0,
            granule: config.granule,
            start_level: config.start_level,
            output_bits: config.output_bits,
            wide: config.wide,
            output52: config.output52,
            big_endian: config.big_endian,
            place,
        };
        let bottom = tables.descend(self.memory, ipa, |at| Ok(Gpa(at)), |_| ())?;
        let bits = Stage2LeafDescriptor::from_bits(bottom.descriptor);
        if !bits.af() && config.access_flag_faults {
            return Err(Fault::AccessFlag(place));
        }
        let leaf = Leaf {
            base: bottom.base,
            shift: bottom.shift,
            level: bottom.level,
            granule: config.granule,
            permissions: Permissions::of_stage2(bits, config.execute_by_privilege),
            global: true,
            memory: MemoryAttributes::default(),
        };
        Ok((leaf, bits))
    }

    /// Whether stage 2 makes a page Device memory.
    fn is_device(&self, leaf: Stage2LeafDescriptor) -> bool {
        if self.config.forced_write_back {
            leaf.mem_attr() & 0b0100 == 0
        } else {
            leaf.mem_attr() & 0b1100 == 0
        }
    }
}

impl<M: GuestMemory + ?Sized> IpaSpace for Stage2<'_, M> {
    /// Where a table of stage 1 lies: it must be readable, and not Device memory with S2PTW.
    fn physical(&self, ipa: u64, class: Class) -> Result<Gpa, Fault> {
        let place = Place::Stage2 { class, ipa };
        let (leaf, bits) = self.walk(ipa, place)?;
        let read = Access {
            address: ipa,
            operation: Operation::Read,
            privileged: true,
        };
        if !leaf.permissions.allow(&read) || (self.config.protected_walks && self.is_device(bits)) {
            return Err(Fault::Permission(place));
        }
        Ok(Gpa(leaf.output(ipa)))
    }
}
