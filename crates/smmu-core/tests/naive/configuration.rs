//! The configuration tables of the obvious SMMU.

use super::Ram;
use super::model::{Registers, Wrong, bit, bits, size_of_code};
use super::second::{self, Second};

pub(crate) struct Stage1 {
    pub(crate) cds: u64,
    pub(crate) log2cds: u32,
    pub(crate) leaf_bits: Option<u32>,
    pub(crate) dss: u64,
    pub(crate) stalld: bool,
    pub(crate) strw: u64,
}

pub(crate) fn find_ste(ram: &Ram, regs: &Registers, stream: u32) -> Result<u64, Wrong> {
    let cfg = u64::from(regs.strtab_base_cfg);
    let stream = u64::from(stream);
    let log2size = bits(cfg, 5, 0);
    let usable = log2size.min(bits(regs.idr1.into(), 5, 0));
    if u128::from(stream) >= 1u128 << usable {
        return Err(Wrong::Config(0x02, 0));
    }
    let base = u128::from(bits(regs.strtab_base, 55, 6) << 6);
    let two_level = bits(cfg, 17, 16) == 1 && bits(regs.idr0.into(), 28, 27) == 1;
    if !two_level {
        let table = 64u128 << log2size;
        return Ok((base / table * table) as u64 + 64 * stream);
    }
    let split = match bits(cfg, 10, 6) {
        8 => 8,
        10 => 10,
        _ => 6,
    };
    let table = if log2size > split {
        8u128 << (log2size - split)
    } else {
        8
    };
    let table = table.max(64);
    let first_at = (base / table * table) as u64 + 8 * (stream >> split);
    let first = ram.get(first_at).ok_or(Wrong::Config(0x03, first_at))?;
    let span = bits(first, 4, 0);
    let within = stream % (1 << split);
    if span == 0 || span > 11 || span > split + 1 || within >= 1 << (span - 1) {
        return Err(Wrong::Config(0x02, 0));
    }
    let size = 64 << (span - 1);
    Ok((bits(first, 55, 6) << 6) / size * size + 64 * within)
}

/// The conditions of C_BAD_STE.
pub(crate) fn check_ste(ste: &[u64; 8], regs: &Registers) -> Result<(), Wrong> {
    let idr0 = u64::from(regs.idr0);
    let bad = Err(Wrong::Config(0x04, 0));
    let config = bits(ste[0], 3, 1);
    let (stage1, stage2) = (config & 1 == 1, config & 2 == 2);
    if (stage2 && (!bit(idr0, 0) || second::is_wrong(ste, regs))) || (stage1 && !bit(idr0, 1)) {
        return bad;
    }
    let stage2_stalls = stage2 && bit(ste[2], 57);
    if bit(idr0, 10) && config != 4 {
        let wrong = match bits(ste[1], 29, 28) {
            0 => false,
            2 => config != 7 || stage2_stalls || bit(idr0, 11),
            _ => stage2_stalls,
        };
        if wrong {
            return bad;
        }
    }
    if stage1 {
        if bit(ste[1], 27) && bits(idr0, 25, 24) != 0 {
            return bad;
        }
        if bit(idr0, 9) && !stage2 && bit(ste[1], 30) {
            return bad;
        }
        let ssidsize = bits(regs.idr1.into(), 10, 6);
        let (format, max) = (bits(ste[0], 5, 4), bits(ste[0], 63, 59));
        if ssidsize != 0 {
            if max > ssidsize {
                return bad;
            }
            if (format == 1 || format == 2) && max != 0 && !bit(idr0, 19) {
                return bad;
            }
        }
        let oas = size_of_code(bits(regs.idr5.into(), 2, 0));
        let ias = if bit(idr0, 2) { oas.max(40) } else { oas };
        if bits(ste[0], 55, 6) << 6 >= 1 << if stage2 { ias } else { oas } {
            return bad;
        }
    }
    Ok(())
}

pub(crate) fn stage1_of(ste: &[u64; 8], regs: &Registers) -> Result<Stage1, Wrong> {
    let substreams = bits(regs.idr1.into(), 10, 6) != 0;
    let log2cds = if substreams {
        bits(ste[0], 63, 59) as u32
    } else {
        0
    };
    let leaf_bits = match bits(ste[0], 5, 4) {
        1 if log2cds > 0 => Some(6),
        2 if log2cds > 0 => Some(10),
        _ => None,
    };
    let table = match leaf_bits {
        None => 64 << log2cds,
        Some(leaf) => (8u64 << log2cds.saturating_sub(leaf)).max(64),
    };
    Ok(Stage1 {
        cds: (bits(ste[0], 55, 6) << 6) / table * table,
        log2cds,
        leaf_bits,
        dss: bits(ste[1], 1, 0),
        stalld: bit(ste[1], 27),
        strw: if bit(regs.idr0.into(), 9) && bits(ste[0], 3, 1) == 5 {
            bits(ste[1], 31, 30)
        } else {
            0
        },
    })
}

/// The index of the CD, or `None` for a bypass.
pub(crate) fn choose_cd(stage1: &Stage1, substream: Option<u32>) -> Result<Option<u64>, Wrong> {
    match substream {
        Some(substream) => {
            if stage1.log2cds == 0 || u64::from(substream) >= 1 << stage1.log2cds {
                Err(Wrong::Config(0x08, 0))
            } else if substream == 0 && stage1.dss == 2 {
                Err(Wrong::Config(0x06, 0))
            } else {
                Ok(Some(substream.into()))
            }
        }
        None if stage1.log2cds == 0 => Ok(Some(0)),
        None => match stage1.dss {
            1 => Ok(None),
            2 => Ok(Some(0)),
            _ => Err(Wrong::Config(0x06, 0)),
        },
    }
}

pub(crate) fn find_cd(
    ram: &Ram,
    stage1: &Stage1,
    index: u64,
    stage2: &Second,
) -> Result<u64, Wrong> {
    match stage1.leaf_bits {
        None => Ok(stage1.cds + 64 * index),
        Some(leaf) => {
            let at = stage2.of_cd(ram, stage1.cds + 8 * (index >> leaf))?;
            let first = ram.get(at).ok_or(Wrong::Config(0x09, at))?;
            if !bit(first, 0) {
                return Err(Wrong::Config(0x08, 0));
            }
            let table = (bits(first, 55, 12) << 12) >> (6 + leaf) << (6 + leaf);
            Ok(table + 64 * (index % (1 << leaf)))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Regime {
    El1,
    El2,
    El2E2h,
}

pub(crate) fn regime(stage1: &Stage1, regs: &Registers) -> Regime {
    match (stage1.strw, regs.e2h) {
        (2, true) => Regime::El2E2h,
        (2, false) => Regime::El2,
        _ => Regime::El1,
    }
}

/// 4, 16 or 64 (KiB), or nothing for the reserved code.
pub(crate) fn granule_of(cd: &[u64; 8], upper: bool) -> Option<u64> {
    if upper {
        [None, Some(16), Some(4), Some(64)][bits(cd[0], 23, 22) as usize]
    } else {
        [Some(4), Some(64), Some(16), None][bits(cd[0], 7, 6) as usize]
    }
}

pub(crate) fn is_wide(cd: &[u64; 8], regs: &Registers, granule: u64) -> bool {
    bit(regs.idr5.into(), 7) && bit(cd[2], 58) && granule != 64
}

pub(crate) fn output_width(cd: &[u64; 8], regs: &Registers, granule: u64) -> u32 {
    let ips = size_of_code(bits(cd[0], 34, 32));
    let oas = size_of_code(bits(regs.idr5.into(), 2, 0));
    let cap = if granule == 64 || is_wide(cd, regs, granule) {
        52
    } else {
        48
    };
    ips.min(oas).min(cap)
}

pub(crate) fn check_cd(cd: &[u64; 8], regs: &Registers, stage1: &Stage1) -> Result<(), Wrong> {
    let idr0 = u64::from(regs.idr0);
    let regime = regime(stage1, regs);
    let lower = !bit(cd[0], 14) || regime == Regime::El2;
    let upper = !bit(cd[0], 30) && regime != Regime::El2;
    let httu = bits(idr0, 7, 6);
    let (stall, endian) = (bit(cd[0], 44), bit(cd[0], 15));
    let mut wrong = !bit(cd[0], 31);
    wrong |= !bit(cd[0], 41) || !bit(idr0, 3);
    wrong |= (lower || upper)
        && ((bits(idr0, 22, 21) == 2 && endian) || (bits(idr0, 22, 21) == 3 && !endian));
    wrong |= match bits(idr0, 25, 24) {
        0 => stall && stage1.stalld,
        2 => !stall,
        _ => stall,
    };
    wrong |= !bit(cd[0], 46) && bit(idr0, 26);
    wrong |= bit(cd[0], 43) && httu < 1;
    wrong |= bit(cd[0], 42) && httu < 2;
    wrong |= httu == 3 && bit(cd[1], 3) && !bit(cd[0], 43);
    wrong |= bits(cd[0], 63, 56) != 0 && !bit(idr0, 12) && regime != Regime::El2;
    for (enabled, is_upper) in [(lower, false), (upper, true)] {
        wrong |= enabled && half_is_wrong(cd, regs, is_upper);
    }
    if wrong {
        Err(Wrong::Config(0x0a, 0))
    } else {
        Ok(())
    }
}

fn half_is_wrong(cd: &[u64; 8], regs: &Registers, upper: bool) -> bool {
    let idr5 = u64::from(regs.idr5);
    let Some(granule) = granule_of(cd, upper) else {
        return true;
    };
    let supported = match granule {
        4 => bit(idr5, 4),
        16 => bit(idr5, 5),
        _ => bit(idr5, 6),
    };
    let txsz = if upper {
        bits(cd[0], 21, 16)
    } else {
        bits(cd[0], 5, 0)
    };
    let large = bits(idr5, 11, 10) == 1 && (granule == 64 || is_wide(cd, regs, granule));
    let smallest = if large { 12 } else { 16 };
    let largest = match (bit(regs.idr3.into(), 9), granule) {
        (false, _) => 39,
        (true, 64) => 47,
        (true, _) => 48,
    };
    let ttb = bits(cd[if upper { 2 } else { 1 }], 55, 4) << 4;
    !supported || txsz < smallest || txsz > largest || ttb >= 1 << output_width(cd, regs, granule)
}
