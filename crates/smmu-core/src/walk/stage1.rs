//! The walk of stage 1.

use super::IpaSpace;
use super::descend::{Bottom, Descent};
use super::leaf::Leaf;
use super::permissions::{Inherited, Permissions};
use super::tables::StageTables;
use super::update::{Outcome, again, kept};
use crate::access::{Access, Operation};
use crate::attributes::StageAttributes;
use crate::config::{Context, Half, World};
use crate::fault::{Fault, Place};
use crate::guest_memory::GuestMemory;
use crate::spec::event::Class;
use crate::spec::pte::LeafDescriptor;

const HERE: Place = Place::Stage1;

/// Translates one access through stage 1: range, walk, permission, update. The leaf may be cached for
/// its page; [`Context::admit`] and [`Permissions::allow`](super::Permissions::allow) then
/// stand for this function's first and last steps, unless [`Leaf::asks_again`].
pub fn translate<M: GuestMemory + ?Sized, S: IpaSpace + ?Sized>(
    memory: &M,
    ipas: &S,
    context: &Context,
    access: &Access,
) -> Result<Leaf, Fault> {
    translate_from(memory, ipas, context, access, None)
}

/// [`translate`] that may start from tables which are known, and adds those that it comes to.
#[inline(always)]
pub fn translate_from<M: GuestMemory + ?Sized, S: IpaSpace + ?Sized>(
    memory: &M,
    ipas: &S,
    context: &Context,
    access: &Access,
    known: Option<&StageTables>,
) -> Result<Leaf, Fault> {
    let half = context.admit(access)?;
    let with = (memory, ipas);
    match walk(with, context, half, access, known)? {
        Outcome::Done(leaf) => Ok(leaf),
        Outcome::Changed(_) => again(|| walk(with, context, half, access, None)),
    }
}

/// A bypassed stage 1 hands the address on if it fits `bits` (IAS under stage 2, else OAS).
#[inline]
pub fn bypass_stage1(address: u64, bits: u32) -> Result<u64, Fault> {
    if address.checked_shr(bits).unwrap_or(0) == 0 {
        Ok(address)
    } else {
        Err(Fault::InputSize)
    }
}

impl Context {
    /// The half that an access belongs to, or F_TRANSLATION: bit 55 selects it, the bits above
    /// the input size must repeat bit 55 (but for an ignored top byte), and the half must
    /// not be disabled, nor closed to unprivileged accesses.
    #[inline]
    pub fn admit(&self, access: &Access) -> Result<&Half, Fault> {
        let high = access.address >> 55 & 1 != 0;
        let half = if high { &self.upper } else { &self.lower };
        let half = half.as_ref().ok_or(Fault::Translation(HERE))?;
        let mut address = access.address;
        if half.ignores_top_byte {
            address = ((address << 8) as i64 >> 8) as u64;
        }
        if high {
            address = !address;
        }
        if address >> half.input_bits != 0 || (half.privileged_only && !access.privileged) {
            return Err(Fault::Translation(HERE));
        }
        Ok(half)
    }
}

#[inline(always)]
fn walk<M: GuestMemory + ?Sized, S: IpaSpace + ?Sized>(
    (memory, ipas): (&M, &S),
    context: &Context,
    half: &Half,
    access: &Access,
    known: Option<&StageTables>,
) -> Result<Outcome<Leaf>, Fault> {
    let tables = Descent {
        table: half.table,
        granule: half.granule,
        start_level: half.start_level,
        output_bits: half.output_bits,
        wide: half.wide,
        output52: half.output52,
        big_endian: context.big_endian,
        hierarchical: half.hierarchical,
        upper: access.address >> 55 & 1 != 0,
        place: HERE,
        known,
    };
    let input = access.address & ((1 << half.input_bits) - 1);
    let locate = |ipa| ipas.located(ipa, Class::TranslationTable);
    let bottom = tables.descend(memory, input, locate)?;
    let bits = LeafDescriptor::from_bits(bottom.descriptor);
    let found = found(bits, bottom.inherited, context, access)?;
    if found.new != bits {
        let at = ipas.for_update(bottom.address)?;
        // Elsewhere: stage 2 has changed meanwhile.
        if at != bottom.at || !tables.replace(memory, &bottom, found.new.into_bits())? {
            return Ok(Outcome::Changed(found.without_update(bits)));
        }
    }
    Ok(Outcome::Done(found.leaf(&bottom, context, half)))
}

/// What an allowed access makes of a leaf's descriptor.
struct Found {
    new: LeafDescriptor,
    /// With the right to write even where that makes the page dirty first.
    rights: Permissions,
    /// It has not been made dirty.
    clean: bool,
}

#[inline(always)]
fn found(
    bits: LeafDescriptor,
    inherited: Inherited,
    context: &Context,
    access: &Access,
) -> Result<Found, Fault> {
    let updates = context.updates;
    if !bits.af() && context.access_flag_faults && !updates.access_flag {
        return Err(Fault::AccessFlag(HERE));
    }
    let clean = updates.dirty && bits.dbm() && bits.read_only();
    // Also for what is executable: a page that can become writable counts as writable.
    let effective = bits.with_read_only(bits.read_only() && !clean);
    let rights = inherited.permissions(effective, context);
    if !rights.allow(access) {
        return Err(Fault::Permission(HERE));
    }
    let dirtied = clean && access.operation == Operation::Write;
    Ok(Found {
        new: if dirtied { effective } else { bits }.with_af(bits.af() || updates.access_flag),
        rights,
        clean: clean && !dirtied,
    })
}

impl Found {
    /// What the access would be without updates of descriptors.
    fn without_update(&self, bits: LeafDescriptor) -> Fault {
        if bits.af() {
            Fault::Permission(HERE)
        } else {
            Fault::AccessFlag(HERE)
        }
    }

    #[inline(always)]
    fn leaf(&self, bottom: &Bottom, context: &Context, half: &Half) -> Leaf {
        let Self { new, rights, clean } = *self;
        let mair = context.mair >> (8 * u32::from(new.attr_index()));
        // 52-bit descriptors have address bits there.
        let sh = if half.wide {
            half.shareability
        } else {
            new.sh()
        };
        let permissions = kept(rights, clean);
        Leaf {
            base: bottom.base,
            shift: bottom.shift,
            level: bottom.level,
            granule: half.granule,
            permissions,
            stage1: permissions,
            // EL2 without E2H has no ASIDs that an entry could belong to.
            global: !new.ng() || context.world == World::El2,
            clean,
            memory: StageAttributes::of_stage1(mair as u8, sh),
        }
    }
}
