//! The meaning of a CD (IHI 0070, 5.4), and when it is invalid (5.4.2).

use super::Updates;
use super::context::{Context, Half, World};
use crate::caps::{Capabilities, address_bits};
use crate::fault::{Fault, FaultPolicy};
use crate::ids::Asid;
use crate::range::Granule;
use crate::spec::cd::{Cd, CdWord0};
use crate::walk::{start_level, start_table_bytes};

/// What a CD says, or C_BAD_CD. One invalid half invalidates the whole.
pub(super) fn interpret(
    cd: &Cd,
    world: World,
    stall_disabled: bool,
    caps: &Capabilities,
) -> Result<Context, Fault> {
    let word = cd.dw0();
    let (lower, upper) = (lower_half(cd, world), upper_half(cd, world));
    let both_disabled = lower.is_none() && upper.is_none();
    if !modes_valid(cd, world, stall_disabled, both_disabled, caps) {
        return Err(Fault::BadCd);
    }
    let two_privileges = world != World::El2;
    let half = |fields: Option<HalfFields>| fields.map(|f| f.check(cd, world, caps)).transpose();
    Ok(Context {
        asid: Asid(if two_privileges { word.asid() } else { 0 }),
        world,
        lower: half(lower)?,
        upper: half(upper)?,
        policy: FaultPolicy {
            abort: word.a(),
            record: word.r(),
            stall: word.s(),
        },
        access_flag_faults: !word.affd(),
        updates: Updates::of(word.ha(), word.hd()),
        writable_never_executable: word.wxn(),
        privileged_access_never: word.pan() && two_privileges,
        big_endian: word.endi(),
        mair: cd.mair(),
    })
}

/// Everything that does not belong to one half. HA without IDR0.HTTU, and HD without HTTU=2, are ILLEGAL,
/// not ignored (5.4, HA); HD without HA is legal and means nothing. HAFT is RES0 unless IDR0.HTTU is 3
/// (5.4, HAFT), which is not offered, and ILLEGAL without HA then.
fn modes_valid(
    cd: &Cd,
    world: World,
    stall_disabled: bool,
    both_disabled: bool,
    caps: &Capabilities,
) -> bool {
    let word = cd.dw0();
    let httu = caps.idr0.httu();
    word.v()
        && word.aa64()
        && caps.aarch64_tables()
        && (both_disabled || caps.endianness_allowed(word.endi()))
        && stalls_valid(word, stall_disabled, caps)
        && (word.a() || !caps.idr0.term_model())
        && (httu >= 1 || !word.ha())
        && (httu >= 2 || !word.hd())
        && (httu < 3 || word.ha() || !cd.dw1().haft())
        && (caps.idr0.asid16() || world == World::El2 || word.asid() >> 8 == 0)
}

fn stalls_valid(word: CdWord0, stall_disabled: bool, caps: &Capabilities) -> bool {
    match caps.idr0.stall_model() {
        0 => !(word.s() && stall_disabled),
        2 => word.s(),
        _ => !word.s(),
    }
}

/// The fields of one half, as the CD holds them.
struct HalfFields {
    size: u8,
    granule: Option<Granule>,
    table: u64,
    ignores_top_byte: bool,
    hierarchical_disabled: bool,
    privileged_only: bool,
    shareability: u8,
}

/// TTB0's half, unless EPD0 disables it. EL2 without E2H ignores EPD0.
fn lower_half(cd: &Cd, world: World) -> Option<HalfFields> {
    let (word, half) = (cd.dw0(), cd.dw1());
    if word.epd0() && world != World::El2 {
        return None;
    }
    Some(HalfFields {
        size: word.t0sz(),
        granule: match word.tg0() {
            0 => Some(Granule::K4),
            1 => Some(Granule::K64),
            2 => Some(Granule::K16),
            _ => None,
        },
        table: half.ttb0() << 4,
        ignores_top_byte: word.tbi0(),
        hierarchical_disabled: half.had0(),
        privileged_only: half.e0pd0(),
        shareability: word.sh0(),
    })
}

/// TTB1's half, unless EPD1 disables it. EL2 without E2H has none.
fn upper_half(cd: &Cd, world: World) -> Option<HalfFields> {
    let (word, half) = (cd.dw0(), cd.dw2());
    if word.epd1() || world == World::El2 {
        return None;
    }
    Some(HalfFields {
        size: word.t1sz(),
        // Not the code of TG0.
        granule: match word.tg1() {
            1 => Some(Granule::K16),
            2 => Some(Granule::K4),
            3 => Some(Granule::K64),
            _ => None,
        },
        table: half.ttb1() << 4,
        ignores_top_byte: word.tbi1(),
        hierarchical_disabled: half.had1(),
        privileged_only: half.e0pd1(),
        shareability: word.sh1(),
    })
}

impl HalfFields {
    fn check(self, cd: &Cd, world: World, caps: &Capabilities) -> Result<Half, Fault> {
        let granule = self
            .granule
            .filter(|&granule| caps.granule_supported(granule))
            .ok_or(Fault::BadCd)?;
        let wide = caps.idr5.ds() && cd.dw2().ds() && granule != Granule::K64;
        let most = if caps.idr5.vax() == 1 && (wide || granule == Granule::K64) {
            52
        } else {
            48
        };
        let input_bits = 64 - u32::from(self.size);
        if !(caps.least_input_bits(granule)..=most).contains(&input_bits) {
            return Err(Fault::BadCd);
        }
        let mut output_bits = address_bits(cd.dw0().ips()).min(caps.oas_bits());
        if !wide && granule != Granule::K64 {
            output_bits = output_bits.min(48);
        }
        if self.table >> output_bits != 0 {
            return Err(Fault::BadCd);
        }
        let table_bytes = start_table_bytes(granule, input_bits, output_bits);
        Ok(Half {
            table: self.table & !(table_bytes - 1),
            granule,
            start_level: start_level(granule, input_bits),
            input_bits,
            output_bits,
            wide,
            output52: caps.oas_bits() >= 52,
            ignores_top_byte: self.ignores_top_byte,
            hierarchical: !(self.hierarchical_disabled && caps.idr3.had()),
            privileged_only: self.privileged_only && caps.idr3.e0pd() && world != World::El2,
            shareability: self.shareability,
        })
    }
}
