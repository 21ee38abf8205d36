//! The walk of stage 1.

use super::IpaSpace;
use super::descend::Descent;
use super::geometry::start_level;
use super::leaf::{Leaf, MemoryAttributes};
use super::permissions::Inherited;
use crate::access::Access;
use crate::config::{Context, Half};
use crate::fault::{Fault, Place};
use crate::guest_memory::GuestMemory;
use crate::spec::event::Class;
use crate::spec::pte::{LeafDescriptor, TableDescriptor};

const HERE: Place = Place::Stage1;

/// Translates one access through stage 1: range, walk, permission. The leaf may be cached for
/// its page; [`Context::admit`] and [`Permissions::allow`](super::Permissions::allow) then
/// stand for this function's first and last step.
pub fn translate<M: GuestMemory + ?Sized, S: IpaSpace + ?Sized>(
    memory: &M,
    ipas: &S,
    context: &Context,
    access: &Access,
) -> Result<Leaf, Fault> {
    let half = context.admit(access)?;
    let leaf = walk(memory, ipas, context, half, access.address)?;
    if leaf.permissions.allow(access) {
        Ok(leaf)
    } else {
        Err(Fault::Permission(HERE))
    }
}

/// A bypassed stage 1 hands the address on if it fits `bits` (IAS under stage 2, else OAS).
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

fn walk<M: GuestMemory + ?Sized, S: IpaSpace + ?Sized>(
    memory: &M,
    ipas: &S,
    context: &Context,
    half: &Half,
    address: u64,
) -> Result<Leaf, Fault> {
    let tables = Descent {
        table: half.table,
        granule: half.granule,
        start_level: start_level(half.granule, half.input_bits),
        output_bits: half.output_bits,
        wide: half.wide,
        output52: half.output52,
        big_endian: context.big_endian,
        place: HERE,
    };
    let input = address & ((1 << half.input_bits) - 1);
    let mut inherited = Inherited::default();
    let bottom = tables.descend(
        memory,
        input,
        |ipa| ipas.physical(ipa, Class::TranslationTable),
        |table| {
            if half.hierarchical {
                inherited.add(TableDescriptor::from_bits(table));
            }
        },
    )?;
    let bits = LeafDescriptor::from_bits(bottom.descriptor);
    if !bits.af() && context.access_flag_faults {
        return Err(Fault::AccessFlag(HERE));
    }
    let permissions = inherited.permissions(bits, context);
    Ok(Leaf {
        base: bottom.base,
        shift: bottom.shift,
        level: bottom.level,
        granule: half.granule,
        permissions,
        stage1: permissions,
        device: false,
        global: !bits.ng(),
        memory: MemoryAttributes {
            mair: (context.mair >> (8 * u32::from(bits.attr_index()))) as u8,
            shareability: if half.wide {
                half.shareability
            } else {
                bits.sh()
            },
        },
    })
}
