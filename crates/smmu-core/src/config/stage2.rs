//! The stage 2 half of an STE (IHI 0070, 5.2), for guests to which S2P is advertised.

use super::Updates;
use crate::caps::Capabilities;
use crate::fault::{Fault, FaultPolicy};
use crate::ids::Gpa;
use crate::range::Granule;
use crate::spec::ste::{Ste, SteWord2};

/// How stage 2 translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stage2Config {
    /// The (concatenated) tables of the start level, aligned to their total size.
    pub table: Gpa,
    /// The granule.
    pub granule: Granule,
    /// The level at which a walk starts: 0 to 3, or -1.
    pub start_level: i8,
    /// Intermediate addresses have so many bits.
    pub input_bits: u32,
    /// Output addresses have so many bits.
    pub output_bits: u32,
    /// 52-bit addresses with 4 KiB and 16 KiB granules.
    pub wide: bool,
    /// 64 KiB descriptors hold address bits \[51:48\].
    pub output52: bool,
    /// A clear access flag is a fault, unless it is set by the walk.
    pub access_flag_faults: bool,
    /// What the walk writes.
    pub updates: Updates,
    /// A stage 1 walk of Device memory is a fault.
    pub protected_walks: bool,
    /// Stage 2 attributes replace stage 1's (S2FWB).
    pub forced_write_back: bool,
    /// S2SH0: SH of every page where [`wide`](Self::wide) descriptors have no room for it.
    pub shareability: u8,
    /// Execute-never tells privileges apart (IDR3.XNX).
    pub execute_by_privilege: bool,
    /// Big-endian descriptors.
    pub big_endian: bool,
    /// What becomes of faults.
    pub policy: FaultPolicy,
}

/// What the stage 2 half of an STE says, or C_BAD_STE.
pub(super) fn interpret(ste: &Ste, caps: &Capabilities) -> Result<Stage2Config, Fault> {
    let word = ste.dw2();
    check_modes(word, caps)?;
    let granule = match word.s2tg() {
        0 => Granule::K4,
        1 => Granule::K64,
        2 => Granule::K16,
        _ => return Err(Fault::BadSte),
    };
    let wide = caps.idr5.ds() && ste.dw3().s2ds() && granule != Granule::K64;
    let input_bits = input_bits(word, granule, wide, caps)?;
    let start_level = start_level(ste, granule, wide, caps.idr3.stt())?;
    let index_bits = index_bits(granule, start_level, input_bits)?;
    let output_bits = output_bits(word, granule, wide, caps);
    let table = ste.dw3().s2ttb() << 4;
    if table >> output_bits != 0 {
        return Err(Fault::BadSte);
    }
    let mut table_bytes = 8u64 << index_bits;
    if output_bits > 48 {
        table_bytes = table_bytes.max(64);
    }
    Ok(Stage2Config {
        table: Gpa(table & !(table_bytes - 1)),
        granule,
        start_level,
        input_bits,
        output_bits,
        wide,
        output52: caps.oas_bits() >= 52,
        access_flag_faults: !word.s2affd(),
        updates: Updates::of(word.s2ha(), word.s2hd()),
        protected_walks: word.s2ptw(),
        shareability: word.s2sh0(),
        forced_write_back: caps.idr3.fwb() && ste.dw1().s2fwb(),
        execute_by_privilege: caps.idr3.xnx(),
        big_endian: word.s2endi(),
        policy: FaultPolicy {
            abort: true,
            record: word.s2r(),
            stall: word.s2s(),
        },
    })
}

/// S2HA and S2HD are ILLEGAL without IDR0.HTTU as HA and HD are in a CD (5.2, S2HA).
fn check_modes(word: SteWord2, caps: &Capabilities) -> Result<(), Fault> {
    let httu = caps.idr0.httu();
    let stalls = match caps.idr0.stall_model() {
        0 => true,
        2 => word.s2s(),
        _ => !word.s2s(),
    };
    let valid = caps.idr0.s2p()
        && word.s2aa64()
        && caps.aarch64_tables()
        && caps.endianness_allowed(word.s2endi())
        && (httu >= 1 || !word.s2ha())
        && (httu >= 2 || !word.s2hd())
        && stalls
        && (caps.idr0.vmid16() || word.s2vmid() >> 8 == 0);
    if valid { Ok(()) } else { Err(Fault::BadSte) }
}

/// 64-S2T0SZ, within what IAS and the granule allow. S2PS is not asked: the specification compares it with
/// S2TTB and with output addresses, and S2T0SZ with IAS, S2SL0 and S2TG (5.2, S2T0SZ, S2SL0, S2PS, and
/// `SteIllegal()` in 5.2.2). So a stage 2 may have more input than output bits.
fn input_bits(
    word: SteWord2,
    granule: Granule,
    wide: bool,
    caps: &Capabilities,
) -> Result<u32, Fault> {
    let supported = caps.granule_supported(granule);
    let input = 64 - u32::from(word.s2t0sz());
    let most = if wide || granule == Granule::K64 {
        52
    } else {
        48
    };
    let least = caps.least_input_bits(granule);
    if supported && (least..=most.min(caps.ias_bits())).contains(&input) {
        Ok(input)
    } else {
        Err(Fault::BadSte)
    }
}

/// S2SL0 (6.4 of the translation rules): the code differs by granule.
fn start_level(ste: &Ste, granule: Granule, wide: bool, small: bool) -> Result<i8, Fault> {
    let code = ste.dw2().s2sl0();
    let level = match (granule, code) {
        (Granule::K4, 0) if wide && ste.dw3().s2sl0_2() => -1,
        (Granule::K4, 0..=2) => 2 - code as i8,
        (Granule::K4, 3) if small => 3,
        (Granule::K16, 3) if wide => 0,
        (_, 0..=2) => 3 - code as i8,
        _ => return Err(Fault::BadSte),
    };
    Ok(level)
}

/// Index bits at the start level: at least one, at most four more than a table has (up to
/// sixteen concatenated tables).
fn index_bits(granule: Granule, start_level: i8, input_bits: u32) -> Result<u32, Fault> {
    let stride = granule.shift() - 3;
    let shift = granule.shift() + (3 - i32::from(start_level)) as u32 * stride;
    match input_bits.checked_sub(shift) {
        Some(bits) if (1..=stride + 4).contains(&bits) => Ok(bits),
        _ => Err(Fault::BadSte),
    }
}

fn output_bits(word: SteWord2, granule: Granule, wide: bool, caps: &Capabilities) -> u32 {
    let bits = crate::caps::address_bits(word.s2ps()).min(caps.oas_bits());
    if wide || granule == Granule::K64 {
        bits
    } else {
        bits.min(48)
    }
}
