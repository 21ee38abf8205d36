//! The table walk of the obvious SMMU.

use super::Ram;
use super::attributes;
use super::configuration::{Regime, Stage1, granule_of, is_wide, output_width, regime};
use super::known::{Tag, Way};
use super::model::{Answer, Registers, Request, Wrong, bit, bits, size_of_code};
use super::second::Second;

/// Levels of a granule: log2 of what an entry spans, from level 3 upwards.
pub(crate) fn spans(granule: u64) -> &'static [u32] {
    match granule {
        4 => &[12, 21, 30, 39, 48],
        16 => &[14, 25, 36, 47],
        _ => &[16, 29, 42],
    }
}

/// Where a walk begins, if the address is one that the context translates.
fn begin(
    regs: &Registers,
    cd: &[u64; 8],
    regime: Regime,
    request: &Request,
) -> Result<(u64, u32), Wrong> {
    let upper = bit(request.address, 55);
    let disabled = match (upper, regime) {
        (true, Regime::El2) => true,
        (false, Regime::El2) => false,
        (true, _) => bit(cd[0], 30),
        (false, _) => bit(cd[0], 14),
    };
    let Some(granule) = granule_of(cd, upper).filter(|_| !disabled) else {
        return Err(TRANSLATION);
    };
    let txsz = if upper {
        bits(cd[0], 21, 16)
    } else {
        bits(cd[0], 5, 0)
    };
    let input_width = 64 - txsz as u32;
    let top = if bit(cd[0], if upper { 39 } else { 38 }) {
        55
    } else {
        63
    };
    for at in input_width..=top {
        if bit(request.address, at) != upper {
            return Err(TRANSLATION);
        }
    }
    let half = cd[if upper { 2 } else { 1 }];
    let e0pd = bit(half, 2) && bit(regs.idr3.into(), 13) && regime != Regime::El2;
    if e0pd && !request.privileged {
        return Err(TRANSLATION);
    }
    Ok((granule, input_width))
}

const TRANSLATION: Wrong = Wrong::Translation(0x10);

/// Whose the tables are: without stage 2 there are no VMIDs.
fn tag(stage2: &Second, cd: &[u64; 8]) -> Tag {
    let has_vmids = bit(stage2.regs.idr0.into(), 0);
    let vmid = if has_vmids {
        bits(stage2.ste[2], 15, 0)
    } else {
        0
    };
    let asid = Some(bits(cd[0], 63, 48));
    Tag {
        vmid,
        asid,
        nested: stage2.on,
    }
}

/// The table of the start level, aligned to its size, and how many levels are below it.
fn first_table(field: u64, granule: u64, (input_width, width): (u32, u32)) -> (u64, usize) {
    let spans = spans(granule);
    let depth = spans
        .iter()
        .rposition(|&span| span < input_width)
        .expect("16 bits at least");
    let bytes = 8u64 << (input_width - spans[depth]);
    let bytes = if width > 48 { bytes.max(64) } else { bytes };
    (field / bytes * bytes, depth)
}

pub(crate) fn walk(
    ram: &Ram,
    stage2: &Second,
    cd: &[u64; 8],
    stage1: &Stage1,
    request: &Request,
) -> Result<Answer, Wrong> {
    let regs = stage2.regs;
    let regime = regime(stage1, regs);
    let (granule, input_width) = begin(regs, cd, regime, request)?;
    let upper = bit(request.address, 55);
    let half = cd[if upper { 2 } else { 1 }];
    let width = output_width(cd, regs, granule);
    let wide = is_wide(cd, regs, granule);
    let oas52 = size_of_code(bits(regs.idr5.into(), 2, 0)) == 52;
    let spans = spans(granule);
    let input = bits(request.address, input_width - 1, 0);
    let way = Way {
        tag: tag(stage2, cd),
        granule,
        address: request.address,
    };
    let first = first_table(bits(half, 55, 4) << 4, granule, (input_width, width));
    // Whether it is the first one says how large it is.
    let known = ram.known_table(way);
    let mut entries = known.map_or(u64::MAX, |_| granule * 1024 / 8);
    let (mut table, mut depth, mut tables) = known.map_or((first.0, first.1, 0), |known| {
        (known.at, known.depth, known.restrictions)
    });
    loop {
        let ipa = table + 8 * ((input >> spans[depth]) % entries);
        let at = stage2.of_table(ram, ipa)?;
        entries = granule * 1024 / 8;
        let mut descriptor = ram.get(at).ok_or(Wrong::Walk(at))?;
        if bit(cd[0], 15) {
            descriptor = u64::from_be_bytes(descriptor.to_le_bytes());
        }
        let level = 3 - depth as i32;
        let kind = bits(descriptor, 1, 0);
        let next = kind == 3 && level < 3;
        let page = kind == 3 && level == 3;
        let block = kind == 1 && is_block(granule, level, wide, oas52);
        if !(next || page || block) {
            return Err(TRANSLATION);
        }
        let address = address_in(descriptor, granule, wide, oas52);
        if address >= 1 << width {
            return Err(Wrong::Translation(0x11));
        }
        if !next {
            let bytes = 1u64 << spans[depth];
            let output = address / bytes * bytes + input % bytes;
            let found = (output, bytes, wide);
            let answer = leaf(cd, regime, request, descriptor, tables, found)?;
            update(ram, stage2, cd, request, (ipa, at, descriptor))?;
            return Ok(answer);
        }
        if !(bit(half, 1) && bit(regs.idr3.into(), 2)) {
            tables |= descriptor;
        }
        table = address;
        depth -= 1;
        ram.found_table(way.table(depth, table, tables));
    }
}

pub(crate) fn is_block(granule: u64, level: i32, wide: bool, oas52: bool) -> bool {
    match (granule, level) {
        (4, 1 | 2) | (16, 2) | (64, 2) => true,
        (4, 0) | (16, 1) => wide,
        (64, 1) => oas52,
        _ => false,
    }
}

/// Whether a write may make a read-only page writable: HA, HD, DBM.
fn is_clean(cd: &[u64; 8], descriptor: u64) -> bool {
    bit(cd[0], 43) && bit(cd[0], 42) && bit(descriptor, 51) && bit(descriptor, 7)
}

/// What the hardware makes of the descriptor of a page that is used as requested: where it lies as an
/// IPA and in memory, and what it is.
fn update(
    ram: &Ram,
    stage2: &Second,
    cd: &[u64; 8],
    request: &Request,
    (ipa, at, descriptor): (u64, u64, u64),
) -> Result<(), Wrong> {
    let mut new = descriptor;
    if bit(cd[0], 43) {
        new |= 1 << 10;
    }
    if is_clean(cd, descriptor) && request.write {
        new &= !(1 << 7);
    }
    if new != descriptor {
        stage2.before_update(ram, ipa)?;
        let big = u64::from_be_bytes(new.to_le_bytes());
        ram.update(at, if bit(cd[0], 15) { big } else { new });
    }
    Ok(())
}

/// The last step: `tables` has every restriction of the table descriptors on the way.
fn leaf(
    cd: &[u64; 8],
    regime: Regime,
    request: &Request,
    descriptor: u64,
    tables: u64,
    (output, bytes, wide): (u64, u64, bool),
) -> Result<Answer, Wrong> {
    if !bit(descriptor, 10) && !bit(cd[0], 35) && !bit(cd[0], 43) {
        return Err(Wrong::Translation(0x12));
    }
    let rights = Rights {
        ap_user: bit(descriptor, 6) && !bit(tables, 61),
        ap_read_only: bit(descriptor, 7) && !is_clean(cd, descriptor) || bit(tables, 62),
        uxn: bit(descriptor, 54) || bit(tables, 60),
        pxn: bit(descriptor, 53) || bit(tables, 59),
        wxn: bit(cd[0], 36),
        pan: bit(cd[0], 40),
        one_level: regime == Regime::El2,
    };
    if !rights.allow(request) {
        return Err(Wrong::Translation(0x13));
    }
    let attr = bits(descriptor, 4, 2) as u32;
    let of_half = if bit(request.address, 55) {
        bits(cd[0], 29, 28)
    } else {
        bits(cd[0], 13, 12)
    };
    Ok(Answer::Page {
        output,
        bytes,
        global: !bit(descriptor, 11) || regime == Regime::El2,
        memory: attributes::through_stage1(
            attributes::of_stage1(
                bits(cd[3], 8 * attr + 7, 8 * attr),
                if wide {
                    of_half
                } else {
                    bits(descriptor, 9, 8)
                },
            ),
            request.incoming,
        ),
    })
}

pub(crate) fn address_in(descriptor: u64, granule: u64, wide: bool, oas52: bool) -> u64 {
    let low = (bits(descriptor, 47, 12) << 12) / (granule * 1024) * (granule * 1024);
    match granule {
        64 if oas52 => low + (bits(descriptor, 15, 12) << 48),
        4 | 16 if wide => low + (bits(descriptor, 49, 48) << 48) + (bits(descriptor, 9, 8) << 50),
        _ => low,
    }
}

struct Rights {
    ap_user: bool,
    ap_read_only: bool,
    uxn: bool,
    pxn: bool,
    wxn: bool,
    pan: bool,
    one_level: bool,
}

impl Rights {
    fn allow(&self, request: &Request) -> bool {
        if self.one_level {
            return match (request.write, request.execute) {
                (true, _) => !self.ap_read_only,
                (_, true) => !self.uxn && (self.ap_read_only || !self.wxn),
                _ => true,
            };
        }
        let user_writes = self.ap_user && !self.ap_read_only;
        match (request.privileged, request.write, request.execute) {
            (false, true, _) => user_writes,
            (false, false, false) => self.ap_user,
            (false, false, true) => !(self.uxn || self.wxn && user_writes),
            (true, true, _) => !(self.ap_read_only || self.pan && self.ap_user),
            (true, false, false) => !(self.pan && self.ap_user),
            (true, false, true) => !self.pxn && !user_writes && (self.ap_read_only || !self.wxn),
        }
    }
}
