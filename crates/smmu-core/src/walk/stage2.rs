//! The walk of the guest's own stage 2.

use super::IpaSpace;
use super::descend::Descent;
use super::leaf::Leaf;
use super::permissions::Permissions;
use super::tables::StageTables;
use super::update::{Outcome, again, kept};
use crate::access::{Access, Operation};
use crate::attributes::StageAttributes;
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
    known: Option<&'a StageTables>,
}

impl<'a, M: GuestMemory + ?Sized> Stage2<'a, M> {
    /// Of a stream.
    #[must_use]
    pub fn new(memory: &'a M, config: &'a Stage2Config) -> Self {
        Self {
            memory,
            config,
            known: None,
        }
    }

    /// The same that may start from tables which are known, and adds those that it comes to.
    #[must_use]
    pub fn starting_from(self, known: &'a StageTables) -> Self {
        let known = Some(known);
        Self { known, ..self }
    }

    /// Translates the address of an access, or what stage 1 made of it.
    pub fn translate(&self, ipa: u64, access: &Access) -> Result<Leaf, Fault> {
        self.leaf(ipa, Class::Input, access)
    }

    /// The page or block of an intermediate address, for an access of the device's ([`Class::Input`]) or
    /// of the SMMU's own ([`Access::of_smmu`]). It may be cached for all of it;
    /// [`Stage2Config::admit`] and [`pass`](Stage2Config::pass) then stand for the first and the last step
    /// of a translation, unless [`Leaf::asks_again`].
    pub fn leaf(&self, ipa: u64, class: Class, access: &Access) -> Result<Leaf, Fault> {
        self.leaf_here(ipa, class, access)
    }

    /// Into its caller: who wants to know little of the leaf has little to do for it.
    #[inline(always)]
    fn leaf_here(&self, ipa: u64, class: Class, access: &Access) -> Result<Leaf, Fault> {
        self.config.admit(ipa, class)?;
        match self.walk(ipa, class, access, self.known)? {
            Outcome::Done(leaf) => Ok(leaf),
            Outcome::Changed(_) => again(|| self.walk(ipa, class, access, None)),
        }
    }

    #[inline(always)]
    fn walk(
        &self,
        ipa: u64,
        class: Class,
        access: &Access,
        known: Option<&StageTables>,
    ) -> Result<Outcome<Leaf>, Fault> {
        let (config, place) = (self.config, Place::Stage2 { class, ipa });
        let tables = Descent {
            table: config.table.0,
            granule: config.granule,
            start_level: config.start_level,
            output_bits: config.output_bits,
            wide: config.wide,
            output52: config.output52,
            big_endian: config.big_endian,
            hierarchical: false,
            upper: false,
            place,
            known,
        };
        let bottom = tables.descend(self.memory, ipa, |at| Ok((Gpa(at), u64::BITS)))?;
        let bits = Stage2LeafDescriptor::from_bits(bottom.descriptor);
        let updates = config.updates;
        if !bits.af() && config.access_flag_faults && !updates.access_flag {
            return Err(Fault::AccessFlag(place));
        }
        let clean = updates.dirty && bits.dbm() && !bits.writable();
        let effective = bits.with_writable(bits.writable() || clean);
        let rights = Permissions::of_stage2(effective, config.execute_by_privilege);
        let found = Leaf {
            base: bottom.base,
            shift: bottom.shift,
            level: bottom.level,
            granule: config.granule,
            permissions: rights,
            stage1: Permissions::default(),
            global: true,
            clean: clean && access.operation != Operation::Write,
            memory: config.memory(bits),
        };
        config.pass(&found, ipa, class, access)?;
        let changed = if found.clean { bits } else { effective };
        let new = changed.with_af(bits.af() || updates.access_flag);
        if new != bits && !tables.replace(self.memory, &bottom, new.into_bits())? {
            return Ok(Outcome::Changed(if bits.af() {
                denied(ipa, class, access)
            } else {
                Fault::AccessFlag(place)
            }));
        }
        let permissions = kept(rights, found.clean);
        Ok(Outcome::Done(Leaf {
            permissions,
            ..found
        }))
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

    /// Whether a `leaf` of this stage lets an access pass, or F_PERMISSION. Structures that the SMMU
    /// reads itself must not lie in Device memory with S2PTW.
    #[inline]
    pub fn pass(&self, leaf: &Leaf, ipa: u64, class: Class, access: &Access) -> Result<(), Fault> {
        let protected =
            class != Class::Input && self.protected_walks && leaf.memory.is_device_at_stage2();
        if leaf.permissions.allow(access) && !protected {
            Ok(())
        } else {
            Err(denied(ipa, class, access))
        }
    }

    /// 52-bit descriptors have address bits in the place of SH.
    #[inline]
    fn memory(&self, leaf: Stage2LeafDescriptor) -> StageAttributes {
        let sh = if self.wide {
            self.shareability
        } else {
            leaf.sh()
        };
        StageAttributes::of_stage2(leaf.mem_attr(), sh, self.forced_write_back)
    }
}

/// A write of the SMMU's own is always the update of a descriptor.
#[cold]
fn denied(ipa: u64, class: Class, access: &Access) -> Fault {
    if access.operation == Operation::Write && class != Class::Input {
        Fault::TableUpdate(ipa)
    } else {
        Fault::Permission(Place::Stage2 { class, ipa })
    }
}

impl<M: GuestMemory + ?Sized> IpaSpace for Stage2<'_, M> {
    fn located(&self, ipa: u64, class: Class) -> Result<(Gpa, u32), Fault> {
        let leaf = self.leaf_here(ipa, class, &Access::of_smmu(ipa, Operation::Read))?;
        Ok((Gpa(leaf.output(ipa)), leaf.shift))
    }

    /// It must be writable then, and is dirty afterwards.
    fn for_update(&self, ipa: u64) -> Result<Gpa, Fault> {
        let write = Access::of_smmu(ipa, Operation::Write);
        let leaf = self.leaf(ipa, Class::TranslationTable, &write)?;
        Ok(Gpa(leaf.output(ipa)))
    }
}
