//! Random commands, raw as a guest writes them.

use crate::naive::model::Request;
use crate::world::{ASIDS, Dice, STREAMS, SUBSTREAMS, VMIDS, World, address};

/// A command that what an access uses is gone.
pub(crate) fn command_of(dice: &mut Dice, request: &Request) -> [u64; 2] {
    let stream = u64::from(request.stream) << 32;
    let substream = u64::from(request.substream.unwrap_or(0)) << 12;
    // Or another one of a larger page.
    let page = (request.address & !0xfff) ^ dice.pick(&[0, 0, 0, 0x1000, 0x3000, 0xf000, 0x1_0000]);
    match dice.below(8) {
        0 => [0x03 | stream, dice.below(2)],
        1 => [0x05 | stream | substream, dice.below(2)],
        2 => [0x11 | vmid(dice) | dice.pick(&ASIDS) << 48, 0],
        3 => [0x13 | vmid(dice), page],
        _ => [0x12 | vmid(dice) | dice.pick(&ASIDS) << 48, page],
    }
}

/// One legal command.
pub(crate) fn command(dice: &mut Dice, world: &World) -> [u64; 2] {
    let s2p = world.setup.caps.idr0.s2p();
    match dice.below(100) {
        0..30 => configuration(dice),
        30..55 if s2p => intermediate(dice, world),
        30..83 => by_address(dice),
        83..95 => [0x11 | vmid(dice) | dice.pick(&ASIDS) << 48, 0],
        95..97 => [0x10 | vmid(dice), 0],
        97..99 if s2p => [0x28 | vmid(dice), 0],
        _ => [0x30, 0],
    }
}

fn vmid(dice: &mut Dice) -> u64 {
    dice.pick(&VMIDS) << 32
}

fn configuration(dice: &mut Dice) -> [u64; 2] {
    let stream = u64::from(dice.pick(&STREAMS)) << 32;
    let leaf = dice.below(2);
    match dice.below(40) {
        0..11 => [0x03 | stream, leaf],
        11..15 => [0x04 | stream, dice.pick(&[0, 0, 0, 1, 1, 2, 3, 4, 5, 30])],
        15 => [0x04, 31],
        16..36 => [
            0x05 | stream | u64::from(dice.pick(&SUBSTREAMS)) << 12,
            leaf,
        ],
        _ => [0x06 | stream, 0],
    }
}

/// NH_VA and NH_VAA, with and without range.
fn by_address(dice: &mut Dice) -> [u64; 2] {
    let low = if dice.percent(70) {
        0x12 | dice.pick(&ASIDS) << 48
    } else {
        0x13
    };
    let page = address(dice);
    of_page(dice, low, page)
}

/// S2_IPA of one page.
pub(crate) fn intermediate_of(dice: &mut Dice, ipa: u64) -> [u64; 2] {
    [0x2a | vmid(dice), ipa & !0xfff]
}

/// S2_IPA, with and without range.
fn intermediate(dice: &mut Dice, world: &World) -> [u64; 2] {
    let ipa = world.ipa(dice);
    intermediate_near(dice, ipa)
}

/// The same, of an address or a little before.
pub(crate) fn intermediate_near(dice: &mut Dice, ipa: u64) -> [u64; 2] {
    of_page(dice, 0x2a, ipa)
}

fn of_page(dice: &mut Dice, low: u64, page: u64) -> [u64; 2] {
    let (low, leaf) = (low | vmid(dice), dice.below(2));
    let code = dice.pick(&[0, 0, 1, 1, 1, 2, 3]);
    if code == 0 {
        return [low, page | leaf];
    }
    // A range that begins a little before.
    let unit = 1024 << (2 * code);
    let page = page.wrapping_sub(dice.below(3) * unit) & !(unit - 1);
    let (mut num, scale) = if dice.percent(80) {
        (dice.below(8), dice.below(3))
    } else {
        (dice.below(32), dice.below(32))
    };
    // A promise about the level is one about the alignment, too.
    let ttl = match (code, dice.below(8)) {
        (_, 0) => 3,
        (1, 1) if page % (1 << 21) == 0 => 2,
        (1, 2) if page % (1 << 30) == 0 => 1,
        _ => 0,
    };
    if (num, scale, ttl) == (0, 0, 0) {
        num = 1;
    }
    let low = low | num << 12 | scale << 20;
    [low, page | code << 10 | ttl << 8 | leaf]
}
