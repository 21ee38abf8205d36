//! Random but plausible set-ups: most structures are valid, some are spoiled, and tables
//! point at each other so that walks go deep.

pub(crate) use super::dice::Dice;

use super::Ram;
use super::attributes;
use super::model::{Registers, Request};

/// Memory of a world: small enough to fill, large enough for tables of 64 KiB.
pub(crate) const RAM_BYTES: u64 = 1 << 20;
/// At zero: a linear table of 2^16 streams is aligned to 4 MiB.
const STREAMS: u64 = 0;
const L2_STREAMS: u64 = 0x2_0000;
const CDS: u64 = 0x3_0000;
const L2_CDS: u64 = 0x4_0000;
/// Tables of stage 2 that map all of memory to itself, for three start levels of 4 KiB.
const SECOND: [u64; 3] = [0x4_8000, 0x4_9000, 0x4_a000];
/// And one of blocks, for 16 and 64 KiB.
const SECOND_BLOCKS: u64 = 0x4_c000;

pub(crate) struct World {
    pub(crate) ram: Ram,
    pub(crate) registers: Registers,
    /// Input bits of the two halves, most of the time: where interesting addresses lie.
    input_bits: [u32; 2],
}

impl World {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let ram = Ram::new(RAM_BYTES);
        let registers = registers(dice);
        let wide = registers.idr5 & 7 >= 6;
        for at in (0..RAM_BYTES).step_by(8) {
            ram.set(at, descriptor(dice, wide));
        }
        let input_bits = [48, 39].map(|usual| dice.pick(&[usual, 48, 42, 36, 32, 30, 25]));
        for table in [STREAMS, L2_STREAMS] {
            for stream in 0..16 {
                ram.set_all(table + 64 * stream, &ste(dice, registers.idr0 & 1 != 0));
            }
        }
        if registers.strtab_base_cfg >> 16 & 3 == 1 {
            for first in 0..16 {
                let span = dice.pick(&[5, 5, 5, 5, 5, 5, 5, 5, 7, 9, 11, 1, 0, 12, 31]);
                ram.set(STREAMS + 8 * first, L2_STREAMS | span);
            }
        }
        for table in [CDS, L2_CDS] {
            for index in 0..16 {
                ram.set_all(table + 64 * index, &cd(dice, input_bits, wide));
            }
        }
        stage2_tables(dice, &ram);
        // Some tables have two levels: both readings of the first words are to be met.
        if dice.percent(40) {
            for first in 0..8 {
                ram.set(CDS + 8 * first, L2_CDS | dice.flag(0, 85));
            }
        }
        Self {
            ram,
            registers,
            input_bits,
        }
    }

    pub(crate) fn request(&self, dice: &mut Dice) -> Request {
        let upper = dice.percent(40);
        let width = self.input_bits[usize::from(upper)];
        let mut address = dice.word() & ((1 << width) - 1);
        if upper {
            address |= u64::MAX << width;
        }
        if dice.percent(10) {
            address ^= dice.word() << 56;
        }
        if dice.percent(5) {
            address ^= 1 << dice.below(64);
        }
        if dice.percent(5) {
            address &= 0xffff_ffff;
        }
        let write = dice.percent(35);
        Request {
            stream: if dice.percent(95) {
                dice.below(12) as u32
            } else {
                dice.word() as u32 >> dice.below(32)
            },
            substream: dice
                .percent(25)
                .then(|| dice.pick(&[0, 1, 2, 3, 5, 64, 0xfffff])),
            address,
            write,
            execute: !write && dice.percent(30),
            privileged: dice.percent(50),
            incoming: dice.pick(&[
                attributes::INCOMING,
                attributes::INCOMING,
                attributes::STREAMING,
            ]),
        }
    }
}

fn registers(dice: &mut Dice) -> Registers {
    // S1P, AArch64 tables, coherent, 16-bit ASIDs, two-level CD tables; the rest now and then.
    let mut idr0 = dice.flag(1, 99) | dice.flag(3, 99) | dice.flag(2, 10) | dice.flag(19, 90);
    idr0 |= dice.flag(0, 50) | dice.flag(18, 80) | dice.flag(11, 20);
    idr0 |= dice.flag(9, 30) | dice.flag(10, 50) | dice.flag(12, 80) | dice.flag(26, 20);
    idr0 |=
        dice.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 2]) << 24 | dice.pick(&[0, 2, 2, 2, 2, 2, 2, 3]) << 21;
    idr0 |= dice.pick(&[0, 1, 1, 1]) << 27 | dice.pick(&[0, 1, 2, 2, 2, 2, 2, 2]) << 6;
    let idr1 = dice.pick(&[16, 16, 4, 32])
        | dice.pick(&[0, 8, 20, 20]) << 6
        | dice.flag(26, 40)
        | dice.flag(27, 60);
    let idr3 = dice.flag(4, 50)
        | dice.flag(8, 50)
        | dice.flag(2, 70)
        | dice.flag(9, 40)
        | dice.flag(13, 50);
    let mut idr5 = dice.pick(&[1, 2, 4, 5, 5, 6]) | dice.flag(4, 95) | dice.flag(5, 85);
    idr5 |= dice.flag(6, 85) | dice.flag(7, 30) | dice.flag(10, 40);
    let format = dice.pick(&[0, 0, 0, 0, 1, 1, 1, 2, 3]);
    let cfg = dice.pick(&[4, 8, 12, 16, 16, 16, 16, 16, 3])
        | dice.pick(&[6, 8, 10, 0, 7]) << 6
        | format << 16;
    Registers {
        idr0: idr0 as u32,
        idr1: idr1 as u32,
        idr3: idr3 as u32,
        idr5: idr5 as u32,
        strtab_base: STREAMS | dice.flag(62, 50) | dice.below(2) << 6,
        strtab_base_cfg: cfg as u32,
        e2h: dice.percent(50),
    }
}

fn ste(dice: &mut Dice, stage2: bool) -> [u64; 8] {
    let config = match (dice.percent(85), stage2) {
        (true, false) => 5,
        (true, true) => dice.pick(&[5, 6, 7, 7, 7]),
        (false, _) => dice.pick(&[4, 4, 0, 6, 7, 1]),
    };
    let cds = dice.pick(&[0u64, 0, 0, 1, 2, 4, 8]);
    let pointer = CDS + 64 * dice.below(2);
    let dw0 = dice.flag(0, 97) | config << 1 | dice.below(3) << 4 | pointer | cds << 59;
    let mut dw1 =
        dice.pick(&[0, 1, 2, 2, 3]) | dice.word() & 0x0000_3fff_00ff_f0fc & !(3 << 28 | 3 << 30);
    dw1 |=
        dice.pick(&[0, 0, 0, 0, 1, 1, 1, 2]) << 28 | dice.pick(&[0, 0, 0, 0, 0, 2, 2, 2, 1]) << 30;
    dw1 |= dice.below(4) << 48 | dice.below(4) << 50 | dice.flag(27, 4) | dice.flag(25, 40);
    let (dw2, dw3) = stage2_words(dice);
    let words = [dw0, dw1, dw2, dw3, 0, 0, 0, 0];
    spoil(dice, words)
}

/// The stage 2 half of an STE: mostly one that fits the tables of [`stage2_tables`].
fn stage2_words(dice: &mut Dice) -> (u64, u64) {
    // Granule code, S2SL0, IPA bits, table.
    let (tg, sl0, width, table) = dice.pick(&[
        (0, 1, 36, SECOND[0]),
        (0, 1, 39, SECOND[0]),
        (0, 0, 30, SECOND[1]),
        (0, 0, 25, SECOND[1]),
        (0, 3, 20, SECOND[2]),
        (2, 1, 36, SECOND_BLOCKS),
        (1, 1, 32, SECOND_BLOCKS),
    ]);
    let width = if dice.percent(92) {
        width
    } else {
        dice.below(64)
    };
    let mut dw2 = dice.below(256) | (64 - width) << 32 | sl0 << 38 | tg << 46;
    dw2 |= dice.pick(&[5, 5, 5, 4, 2, 6, 0]) << 48 | dice.flag(51, 97) | dice.flag(52, 4);
    dw2 |= dice.flag(53, 10) | dice.flag(54, 8) | dice.flag(55, 20) | dice.flag(56, 30);
    dw2 |= dice.flag(57, 3) | dice.flag(58, 50) | dice.flag(8, 3) | dice.below(4) << 44;
    (dw2, table | dice.flag(3, 20))
}

/// Identity maps of stage 2, with rights and a few faults of their own.
fn stage2_tables(dice: &mut Dice, ram: &Ram) {
    let leaf = |dice: &mut Dice| {
        let rights = dice.flag(6, 97) | dice.flag(7, 55) | dice.flag(10, 92);
        let rights = rights | dice.flag(51, 40);
        rights
            | dice.pick(&[0, 0, 0, 0, 1, 2, 3]) << 53
            | dice.below(4) << 8
            | dice.pick(&[15, 15, 15, 6, 5, 7, 10, 1]) << 2
    };
    let next = |dice: &mut Dice, table: u64| {
        if dice.percent(70) {
            table | 3
        } else {
            leaf(dice) | 1
        }
    };
    let first = next(dice, SECOND[1]);
    ram.set(SECOND[0], first);
    let second = next(dice, SECOND[2]);
    ram.set(SECOND[1], second);
    for page in 0..RAM_BYTES >> 12 {
        let entry = leaf(dice) | page << 12 | if dice.percent(99) { 3 } else { 0 };
        ram.set(SECOND[2] + 8 * page, entry);
    }
    let block = leaf(dice) | 1;
    ram.set(SECOND_BLOCKS, block);
}

fn cd(dice: &mut Dice, input_bits: [u32; 2], wide: bool) -> [u64; 8] {
    let txsz = |dice: &mut Dice, bits: u32| {
        if dice.percent(90) {
            u64::from(64 - bits)
        } else {
            dice.below(64)
        }
    };
    let mut dw0 = txsz(dice, input_bits[0]) | txsz(dice, input_bits[1]) << 16;
    dw0 |= dice.pick(&[0, 0, 1, 2, 0, 0, 1, 2, 3]) << 6
        | dice.pick(&[2, 2, 1, 3, 2, 2, 1, 3, 0]) << 22;
    dw0 |= dice.below(64) << 8 | dice.below(64) << 24 & 0x3f00_0000;
    dw0 = dw0 & !(1 << 14 | 1 << 30) | dice.flag(14, 10) | dice.flag(30, 20);
    dw0 |= dice.flag(15, 5) | dice.flag(31, 98) | dice.pick(&[5, 5, 4, 2, 6, 7]) << 32;
    dw0 |= dice.flag(35, 20) | dice.flag(36, 30) | dice.flag(38, 40) | dice.flag(39, 40);
    dw0 |= dice.flag(40, 30) | dice.flag(41, 98) | dice.flag(42, 25) | dice.flag(43, 50);
    dw0 |= dice.flag(44, 15) | dice.flag(45, 50) | dice.flag(46, 90);
    dw0 |= if dice.percent(90) {
        dice.below(256)
    } else {
        dice.below(65536)
    } << 48;
    let table = |dice: &mut Dice| {
        let at = (0x5_0000 + dice.below(11) * 0x1_0000) | (dice.below(4) * 16);
        if wide && dice.percent(3) {
            at | 1 << 51
        } else {
            at
        }
    };
    let dw1 = dice.below(8) & !1 | dice.flag(3, 2) | table(dice);
    let dw2 = dice.below(8) & !1 | table(dice) | dice.flag(58, 50);
    let words = [dw0, dw1, dw2, dice.word(), 0, 0, 0, 0];
    spoil(dice, words)
}

/// A translation table entry: more often than not a table, or a page if that is what the
/// level makes of it.
fn descriptor(dice: &mut Dice, wide: bool) -> u64 {
    let kind = dice.pick(&[3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 0, 2]);
    let mut address = 0x5_0000 + dice.below(176) * 0x1000;
    if dice.percent(80) {
        address &= !0xffff;
    }
    if dice.percent(4) {
        address |= dice.word() & 0x0000_ffff_fff0_0000;
    }
    if dice.percent(2) {
        address |= dice.word() & 0x0003_0000_0000_0000;
    }
    let mut entry = kind | address | dice.below(64) << 2 & 0xfc | dice.flag(10, 65);
    entry |= dice.flag(11, 60) | dice.flag(53, 25) | dice.flag(54, 25) | dice.flag(51, 40);
    if !wide || dice.percent(20) {
        entry |= dice.below(4) << 8;
    }
    if dice.percent(25) {
        entry |= dice.below(32) << 59;
    }
    entry
}

/// Now and then one bit is wrong.
fn spoil(dice: &mut Dice, mut words: [u64; 8]) -> [u64; 8] {
    if dice.percent(10) {
        words[dice.below(4) as usize] ^= 1 << dice.below(64);
    }
    words
}
