//! What goes wrong in a random world.
//!
//! No bit is changed by which QEMU could write to its own devices: addresses leave RAM upwards only.

use super::Request;
use super::dice::Dice;
use super::tables::Arena;
use smmu_core::spec::cd::CdWord0;
use smmu_core::spec::ste::{Ste, SteWord2, config};

/// Bits of an address in a descriptor or structure that may change: within a GiB, or far above all
/// that there is, and not in the windows of PCI nor among the queues.
const SAFE_ADDRESS: u64 = 0x0000_073C_3EFF_F000;
/// Above this there is nothing, whichever lower bits an address has.
const NOWHERE: u64 = 1 << 43;

/// Spoils nothing in most worlds; whether it has.
pub(super) fn world(dice: &mut Dice, arena: &mut Arena, ste: &mut Ste, cd: Option<u64>) -> bool {
    let mut spoilt = false;
    if dice.percent(25) {
        spoilt = true;
        for _ in 0..=dice.below(2) {
            descriptor(dice, arena);
        }
    }
    if let (Some(cd), true) = (cd, dice.percent(10)) {
        spoilt = true;
        context(dice, arena, cd);
    }
    if dice.percent(10) {
        spoilt = true;
        entry(dice, ste);
    }
    spare_qemu(arena, ste, cd);
    spoilt
}

/// Guests can end QEMU by an assertion: with AArch32 tables in stage 2, and with an IPS code that it
/// does not know. Both are made legal.
fn spare_qemu(arena: &mut Arena, ste: &mut Ste, cd: Option<u64>) {
    if ste.dw0().config() & config::STAGE2 == config::STAGE2 {
        ste.0[2] = SteWord2::from_bits(ste.0[2]).with_s2aa64(true).into_bits();
    }
    if let Some(word) = cd.and_then(|cd| arena.words.get_mut(&cd)) {
        let known = CdWord0::from_bits(*word);
        *word = known.with_ips(known.ips().min(MOST_IPS)).into_bits();
    }
}

/// The largest code that QEMU knows: 48 bits.
const MOST_IPS: u8 = 5;

/// One bit of a descriptor.
fn descriptor(dice: &mut Dice, arena: &mut Arena) {
    if arena.descriptors.is_empty() {
        return;
    }
    let all = arena.descriptors.clone();
    let chosen = dice.one_of(&all);
    let Some(word) = arena.words.get_mut(&chosen.at) else {
        return;
    };
    let bit = if dice.percent(30) {
        dice.below(12)
    } else {
        dice.below(64)
    };
    let changed = 1u64 << bit;
    if changed & 0x0000_FFFF_FFFF_F000 & !SAFE_ADDRESS != 0 {
        return;
    }
    *word ^= changed;
    // A table that has become a block maps what lies around the table: lead it away.
    if changed == 2 && !chosen.leaf {
        *word |= NOWHERE;
    }
}

/// One bit, or the size, of a CD.
fn context(dice: &mut Dice, arena: &mut Arena, cd: u64) {
    let which = dice.below(3);
    let Some(word) = arena.words.get_mut(&(cd + 8 * which)) else {
        return;
    };
    match which {
        0 if dice.percent(25) => {
            let size = dice.below(64);
            let at = dice.one_of(&[0, 16]);
            *word = *word & !(0x3F << at) | size << at;
        }
        0 => *word ^= 1 << dice.below(64),
        _ => *word ^= (1 << dice.below(64)) & (SAFE_ADDRESS | !0x00FF_FFFF_FFFF_F000),
    }
}

/// One bit, or a size, of an STE.
fn entry(dice: &mut Dice, ste: &mut Ste) {
    let second = SteWord2::from_bits(ste.0[2]);
    match dice.below(10) {
        0 => ste.0[2] = second.with_s2t0sz(dice.below(64) as u8).into_bits(),
        1 => ste.0[2] = second.with_s2sl0(dice.below(4) as u8).into_bits(),
        2 => ste.0[2] = second.with_s2tg(dice.below(4) as u8).into_bits(),
        3 => ste.0[0] ^= (1 << dice.below(64)) & (SAFE_ADDRESS | !0x00FF_FFFF_FFFF_FFC0),
        4 | 5 => ste.0[1] ^= 1 << dice.below(64),
        6 => ste.0[3] ^= (1 << dice.below(64)) & (SAFE_ADDRESS | !0x00FF_FFFF_FFFF_F000),
        _ => ste.0[2] ^= 1 << dice.below(64),
    }
}

/// An access in, near or away from what is mapped.
pub(super) fn request(dice: &mut Dice, addresses: &[u64]) -> Request {
    let base = dice.one_of(addresses);
    let within = dice.below(0x400) * 4;
    let address = match dice.below(100) {
        0..70 => base & !0xFFF | within,
        70..80 => base ^ (dice.below(1 << 18) * 4),
        80..86 => base ^ (1 << (12 + dice.below(36))),
        86..90 => base ^ (1 << (48 + dice.below(16))),
        90..94 => base ^ (dice.bits() << 56),
        94..97 => base ^ (!0 << (24 + dice.below(32))),
        _ => dice.bits() & !3,
    };
    Request {
        address: address & !3,
        read: dice.percent(25),
    }
}
