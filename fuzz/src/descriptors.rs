//! Any translation tables, in every granule, in stage 1, stage 2 and both: what a walk finds, and how
//! much it reads.
//!
//! Input: the shape of both stages, chosen so that most are valid, up to four transactions, and the
//! memory in which all tables lie.

use crate::input::{Input, Output};
use crate::machine::{Machine, STE, request, write_request};
use crate::memory::Ram;
use crate::naive::model::{Registers, Request, bit};
use crate::reached::Reached;

/// The CD: at this offset in every page, so that it is there wherever stage 2 puts its page.
const CD: u64 = 0xFC0;
const REQUESTS: usize = 4;

/// How a stage 2 may begin: S2TG, S2SL0, the fewest and the most bits of an IPA (without
/// 52-bit addresses in small granules).
const STARTS: [(u64, u64, u64, u64); 10] = [
    (0, 0, 22, 34),
    (0, 1, 31, 43),
    (0, 2, 40, 48),
    (0, 3, 16, 25),
    (2, 0, 16, 29),
    (2, 1, 26, 40),
    (2, 2, 37, 48),
    (1, 0, 17, 33),
    (1, 1, 30, 46),
    (1, 2, 43, 52),
];

/// Runs the target.
pub fn run(input: &[u8]) -> Reached {
    let mut input = Input::new(input);
    let shape = Shape::read(&mut input);
    let requests: [_; REQUESTS] = std::array::from_fn(|_| shape.request(&mut input));
    let machine = shape.machine(input.rest());
    let mut reached = Reached::NOTHING;
    for request in requests {
        reached |= machine.compare(&request);
    }
    reached
}

/// How one stream is translated.
pub(crate) struct Shape {
    registers: Registers,
    pub(crate) ste: [u64; 8],
    pub(crate) cd: [u64; 8],
}

impl Shape {
    pub(crate) fn read(input: &mut Input<'_>) -> Self {
        let registers = registers(input);
        let ste = ste(input);
        let cd = cd(input, &registers);
        Self { registers, ste, cd }
    }

    /// A transaction, mostly of an address that its half translates.
    pub(crate) fn request(&self, input: &mut Input<'_>) -> Request {
        let mut request = request(input);
        let upper = bit(request.address, 55);
        if bit(request.address, 56) {
            return request;
        }
        let txsz = if upper { self.cd[0] >> 16 } else { self.cd[0] } & 0x3f;
        // TxSZ is 12 at least.
        let mask = u64::MAX << (64 - txsz);
        request.address = match upper {
            false => request.address & !mask,
            true => request.address | mask,
        };
        request
    }

    /// It, with these tables.
    pub(crate) fn machine(&self, tables: &[u8]) -> Machine {
        let ram = Ram::filled(tables);
        for page in 0..8 {
            ram.set_all(page << 12 | CD, &self.cd);
        }
        ram.set_all(STE, &self.ste);
        Machine {
            ram,
            registers: self.registers,
        }
    }
}

/// Both stages and every granule; the rest is the input's.
fn registers(input: &mut Input<'_>) -> Registers {
    let (features, sizes) = (input.u32(), input.u8());
    // S1P, S2P, AArch64 tables, ATS, 16-bit VMIDs, little- and big-endian tables; mostly HTTU=2.
    let httu = if features & 1 == 0 {
        2 << 6
    } else {
        features & 3 << 6
    };
    let idr0 = 0xb | 1 << 10 | 1 << 12 | 1 << 18 | httu | features & (1 << 9 | 1 << 11 | 1 << 26);
    // OAS of 44, 48 or 52 bits, or any.
    let oas = [5, 6, 4, u32::from(sizes >> 2) & 7][usize::from(sizes & 3)];
    let wide = features & 1 << 7 | features & 1 << 10;
    Registers {
        idr0,
        idr1: 16 | 1 << 26,
        // XNX, FWB, HAD, STT, E0PD.
        idr3: features >> 8 & (1 << 2 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 13),
        idr5: oas | 7 << 4 | wide,
        strtab_base: STE,
        strtab_base_cfg: 6,
        e2h: features & 1 << 31 != 0,
    }
}

/// Config 1x1, 11x or 111 and a stage 2 that begins in one of the [`STARTS`].
fn ste(input: &mut Input<'_>) -> [u64; 8] {
    let stages = input.pick(&[5u64, 6, 7, 7]);
    let (tg, sl0, least, most) = input.pick(&STARTS);
    let ipa_bits = least + u64::from(input.u8()) % (most - least + 1);
    let (flags, table) = (input.u64(), input.u64());
    // MEV, PRIVCFG, INSTCFG, S2FWB; StreamWorld EL2 in a few.
    let dw1 = flags & (1 << 19 | 1 << 25 | 0xf << 48) | (flags & 1) << 31;
    // S2ENDI, S2AFFD, S2PTW, S2HD, S2HA, S2R; S2PS is the input's or all that there is.
    let ps = match flags >> 8 & 3 {
        0 => flags >> 10 & 7,
        _ => 6,
    };
    let dw2 = (64 - ipa_bits) << 32
        | sl0 << 38
        | tg << 46
        | ps << 48
        | 1 << 51
        | flags & (0x1f << 52 | 1 << 58);
    // S2DS, S2SL0[2].
    let dw3 = table & 0x0000_0fff_ffff_fff0 | flags >> 60 & 0xc;
    [1 | stages << 1 | 0x1000 | CD, dw1, dw2, dw3, 0, 0, 0, 0]
}

fn cd(input: &mut Input<'_>, registers: &Registers) -> [u64; 8] {
    let least = if bit(registers.idr3.into(), 9) {
        17
    } else {
        25
    };
    let size = |input: &mut Input<'_>| {
        let width = least + u64::from(input.u8()) % (52 - least + 1);
        64 - width
    };
    let (t0sz, t1sz) = (size(input), size(input));
    let (tg0, tg1) = (input.pick(&[0u64, 1, 2]), input.pick(&[1u64, 2, 3]));
    let (flags, mair) = (input.u64(), input.u64());
    let tables = [input.u64(), input.u64()].map(|at| at & 0x0000_0fff_ffff_fff0);
    // SH, EPD and ENDI in a few; AFFD, WXN, TBI, PAN, HD, HA, R.
    let few = if flags & 3 == 0 {
        1 << 14 | 1 << 15 | 1 << 30
    } else {
        0
    };
    let kept = 3 << 12 | 3 << 28 | few | 1 << 35 | 1 << 36 | 7 << 38 | 3 << 42 | 1 << 45;
    let ips = match flags >> 2 & 3 {
        0 => flags >> 4 & 7,
        _ => 6,
    };
    let dw0 = t0sz | tg0 << 6 | t1sz << 16 | tg1 << 22 | 1 << 31 | ips << 32;
    let dw0 = dw0 | 1 << 41 | 1 << 46 | 1 << 48 | flags & kept;
    // HAD and E0PD of both, DS.
    let dw1 = tables[0] | flags >> 54 & 6;
    let dw2 = tables[1] | flags >> 56 & 6 | flags & 1 << 58;
    [dw0, dw1, dw2, mair, 0, 0, 0, 0]
}

/// Tables that point at tables all the way down, for each stage and granule.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let addresses = [
        0x1234_5678_9000,
        0x00ff_ffff_8765_4321,
        0x40,
        0x7f_ffff_f000,
    ];
    let requests = |to: Output| {
        (0..4).zip(addresses).fold(to, |to, (flags, address)| {
            write_request(to, flags & 1 | 8, 0, address)
        })
    };
    shapes()
        .map(|(to, words)| requests(to).words(&words).done())
        .collect()
}

/// What [`Shape::read`] reads, and words of tables.
pub(crate) fn shapes() -> impl Iterator<Item = (Output, Vec<u64>)> {
    // Valid, table or page; AF, shareable, for everybody, at 0x3000 or a multiple of it.
    const EVERYWHERE: u64 = 0x0000_0000_0003_3f43;
    const NO_FLAG: u64 = EVERYWHERE & !0x400;
    const CLEAN: u64 = NO_FLAG | 1 << 7 | 1 << 51;
    // Blocks, pages without access flag and nothing at all among the tables.
    const MIXED: [u64; 5] = [EVERYWHERE, EVERYWHERE & !2, EVERYWHERE, NO_FLAG, 0];
    // HA and HD of both stages.
    const UPDATES: u64 = 3 << 42;
    let shape = |updates: u64, stages: u8, (start, granule): (u8, u8)| {
        let to = Output::default().u32(0x0023_1400).u8(0);
        let to = to.u8(stages).u8(start).u8(5);
        let to = to.words(&[updates >> 42 << 55 | 1 << 58 | 1 << 8, 0x3000]);
        let to = to.u8(14).u8(14).u8(granule).u8(granule + 1);
        to.words(&[updates | 1 << 45 | 4 | 1, 0xf404_ff44, 0x1000, 0x2000])
    };
    [(1, 0), (8, 1), (5, 2)].into_iter().flat_map(move |how| {
        let all: [(u64, u8, &[u64]); 8] = [
            (0, 0, &[EVERYWHERE]),
            (0, 1, &[EVERYWHERE]),
            (0, 2, &[EVERYWHERE]),
            (0, 2, &MIXED),
            (0, 0, &[NO_FLAG]),
            (UPDATES, 0, &[NO_FLAG]),
            (UPDATES, 0, &[CLEAN]),
            (UPDATES, 1, &[CLEAN & !(1 << 7)]),
        ];
        all.map(|(updates, stages, words)| (shape(updates, stages, how), words.to_vec()))
    })
}
