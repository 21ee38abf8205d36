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
        let leaf = self.leaf(ipa, Class::Input)?;
        leaf.admit_input(ipa, access)?;
        Ok(leaf)
    }

    /// The page or block of an intermediate address, whoever may use it. It may be cached for all of
    /// it; [`Stage2Config::admit`], and [`Leaf::admit_input`] or [`Stage2Config::locate`], then stand
    /// for the first and the last step of a translation.
    pub fn leaf(&self, ipa: u64, class: Class) -> Result<Leaf, Fault> {
        let config = self.config;
        config.admit(ipa, class)?;
        let place = Place::Stage2 { class, ipa };
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
        Ok(Leaf {
            base: bottom.base,
            shift: bottom.shift,
            level: bottom.level,
            granule: config.granule,
            permissions: Permissions::of_stage2(bits, config.execute_by_privilege),
            stage1: Permissions::default(),
            device: config.makes_device(bits),
            global: true,
            memory: MemoryAttributes::default(),
        })
    }
}

impl Leaf {
    /// Whether stage 2, whose leaf this is, lets an access pass, or F_PERMISSION with CLASS=IN.
    pub fn admit_input(&self, ipa: u64, access: &Access) -> Result<(), Fault> {
        if self.permissions.allow(access) {
            return Ok(());
        }
        let class = Class::Input;
        Err(Fault::Permission(Place::Stage2 { class, ipa }))
    }
}

impl Stage2Config {
    /// Whether an intermediate address is one of this stage's, or F_TRANSLATION.
    #[inline]
    pub fn admit(&self, ipa: u64, class: Class) -> Result<(), Fault> {
        if ipa >> self.input_bits == 0 {
            Ok(())
        } else {
            Err(Fault::Translation(Place::Stage2 { class, ipa }))
        }
    }

    /// Where a table of stage 1, or a CD, lies within its `leaf`: it must be readable, and not Device
    /// memory with S2PTW.
    pub fn locate(&self, leaf: &Leaf, ipa: u64, class: Class) -> Result<Gpa, Fault> {
        let read = Access {
            address: ipa,
            operation: Operation::Read,
            privileged: true,
        };
        if !leaf.permissions.allow(&read) || (self.protected_walks && leaf.device) {
            return Err(Fault::Permission(Place::Stage2 { class, ipa }));
        }
        Ok(Gpa(leaf.output(ipa)))
    }

    fn makes_device(&self, leaf: Stage2LeafDescriptor) -> bool {
        if self.forced_write_back {
            leaf.mem_attr() & 0b0100 == 0
        } else {
            leaf.mem_attr() & 0b1100 == 0
        }
    }
}

impl<M: GuestMemory + ?Sized> IpaSpace for Stage2<'_, M> {
    fn physical(&self, ipa: u64, class: Class) -> Result<Gpa, Fault> {
        let leaf = self.leaf(ipa, class)?;
        self.config.locate(&leaf, ipa, class)
    }
}
