//! Any CD under any identification registers, in every regime, below a stage 2 or not: when it is
//! invalid, what it means, and that nothing of its meaning is lost on the way to a `Context`.
//!
//! Input: IDR0, IDR1, IDR3, IDR5, CR2.E2H, a transaction, a byte of flags (below stage 2, StreamWorld
//! EL2, S1STALLD, two-level table, S1DSS) and one of S1CDMax, eight words of a CD, memory.

use crate::input::{Input, Output};
use crate::machine::{LENIENT, Machine, STE, registers, request, write_registers, write_request};
use crate::memory::Ram;
use crate::reached::Reached;
use crate::ste::size_code;
use smmu_core::Gpa;
use smmu_core::config::context::{ContextLookup, lookup};
use smmu_core::config::{
    Context, ContextTable, ContextTableFormat, DefaultSubstream, Half, Stage1Config,
};
use smmu_core::range::Granule;
use smmu_core::spec::cd::{CdWord0, CdWord1, CdWord2};
use smmu_core::spec::ste::config;
use smmu_core::walk::NoStage2;

const CDS: u64 = 0x1000;
const FIRST_LEVEL: u64 = 0x2000;
/// A table of stage 2 that maps 512 GiB to themselves.
const IDENTITY: u64 = 0x3000;

const NESTED: u8 = 1;
const EL2: u8 = 1 << 1;
const STALLD: u8 = 1 << 2;
const TWO_LEVEL: u8 = 1 << 3;

/// Runs the target.
pub fn run(input: &[u8]) -> Reached {
    let mut input = Input::new(input);
    let registers = registers(&mut input);
    let request = request(&mut input);
    let (flags, log2size) = (input.u8(), input.u8() % 32);
    let cd = input.words::<8>();
    let machine = Machine {
        ram: Ram::filled(input.rest()),
        registers,
    };
    put_ste(&machine.ram, flags, log2size);
    let index = u64::from(request.substream.unwrap_or(0)) % 64;
    machine.ram.set_all(CDS, &cd);
    machine.ram.set_all(CDS + 64 * index, &cd);

    let mut reached = survives(&machine, flags);
    reached |= machine.compare_every_access(&request);
    reached
}

fn put_ste(ram: &Ram, flags: u8, log2size: u8) {
    let has = |flag: u8| flags & flag != 0;
    let (stages, table) = match (has(NESTED), has(TWO_LEVEL)) {
        (false, false) => (config::STAGE1, CDS),
        (false, true) => (config::STAGE1, FIRST_LEVEL | 1 << 4),
        (true, false) => (config::NESTED, CDS),
        (true, true) => (config::NESTED, FIRST_LEVEL | 1 << 4),
    };
    let dw0 = 1 | u64::from(stages) << 1 | table | u64::from(log2size) << 59;
    let strw = if has(EL2) { 2 } else { 0 };
    let dw1 = u64::from(flags >> 6) | u64::from(has(STALLD)) << 27 | strw << 30;
    // S2T0SZ 25, S2SL0 1, S2PS 48 bits, S2AA64, S2R.
    let dw2 = 25 << 32 | 1 << 38 | 5 << 48 | 1 << 51 | 1 << 58;
    ram.set_all(STE, &[dw0, dw1, dw2, IDENTITY, 0, 0, 0, 0]);
    if has(TWO_LEVEL) {
        ram.set_all(FIRST_LEVEL, &[CDS | 1; 8]);
    }
    if has(NESTED) {
        // Blocks of 1 GiB: access flag, shareable, read and write, normal memory.
        let blocks: Vec<u64> = (0..512).map(|n| n << 30 | 0x7fd).collect();
        ram.set_all(IDENTITY, &blocks);
    }
}

/// What the CD says is said by the CD that is made of it.
fn survives(machine: &Machine, flags: u8) -> Reached {
    let stage1 = Stage1Config {
        contexts: ContextTable {
            base: Gpa(CDS),
            log2size: 0,
            format: ContextTableFormat::Linear,
        },
        default_substream: DefaultSubstream::Terminate,
        stall_disabled: flags & STALLD != 0,
        el2: flags & EL2 != 0,
    };
    let (caps, e2h) = (machine.caps(), machine.registers.e2h);
    let read = |ram: &Ram| lookup(ram, &NoStage2, &stage1, None, &caps, e2h);
    let Ok(ContextLookup::Context(context)) = read(&machine.ram) else {
        return Reached::NOTHING;
    };
    let ram = Ram::filled(&[]);
    ram.set_all(CDS, &encode(&context));
    let again = read(&ram);
    assert_eq!(
        again,
        Ok(ContextLookup::Context(context)),
        "encoded and read again"
    );
    Reached::LEGAL
}

/// A CD that says what `context` does.
fn encode(context: &Context) -> [u64; 8] {
    let mut dw0 = CdWord0::new()
        .with_v(true)
        .with_aa64(true)
        .with_asid(context.asid.0)
        .with_a(context.policy.abort)
        .with_r(context.policy.record)
        .with_s(context.policy.stall)
        .with_affd(!context.access_flag_faults)
        .with_ha(context.updates.access_flag)
        .with_hd(context.updates.dirty)
        .with_wxn(context.writable_never_executable)
        .with_pan(context.privileged_access_never)
        .with_endi(context.big_endian)
        .with_epd0(context.lower.is_none())
        .with_epd1(context.upper.is_none());
    let (mut dw1, mut dw2) = (0, 0);
    if let Some(lower) = &context.lower {
        let tg0 = match lower.granule {
            Granule::K4 => 0,
            Granule::K64 => 1,
            Granule::K16 => 2,
        };
        let (sizes, table) = of_half(lower, tg0);
        dw0 = CdWord0::from_bits(dw0.into_bits() | sizes).with_tbi0(lower.ignores_top_byte);
        dw1 = table;
    }
    if let Some(upper) = &context.upper {
        let tg1 = match upper.granule {
            Granule::K16 => 1,
            Granule::K4 => 2,
            Granule::K64 => 3,
        };
        let (sizes, table) = of_half(upper, tg1);
        dw0 = CdWord0::from_bits(dw0.into_bits() | sizes << 16).with_tbi1(upper.ignores_top_byte);
        dw2 = table;
    }
    let halves = || [&context.lower, &context.upper].into_iter().flatten();
    let output = halves().map(|half: &Half| half.output_bits).max();
    dw0.set_ips(size_code(output.unwrap_or(32)));
    let ds = CdWord2::new().with_ds(halves().any(|half| half.wide));
    dw2 |= ds.into_bits();
    [dw0.into_bits(), dw1, dw2, context.mair, 0, 0, 0, 0]
}

/// What a half says in word 0 and in the word of its table, as the lower half says it. The upper one
/// says it 16 bits further up in word 0, and in word 2 as the lower one in word 1 (5.4).
fn of_half(half: &Half, granule: u8) -> (u64, u64) {
    let sizes = CdWord0::new()
        .with_t0sz((64 - half.input_bits) as u8)
        .with_tg0(granule)
        .with_sh0(half.shareability);
    let table = CdWord1::new()
        .with_ttb0(half.table >> 4)
        .with_had0(!half.hierarchical)
        .with_e0pd0(half.privileged_only);
    (sizes.into_bits(), table.into_bits())
}

/// One address space for each granule, and tables of CDs of both forms.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |flags: u8, log2size: u8, request: u8, granules: u64| {
        let to = write_registers(Output::default(), LENIENT);
        let to = write_request(to, request, 5, 0x12_3456_7000);
        // T0SZ=T1SZ=25, V, IPS=48 bits, AA64, R, A.
        let dw0 = 0x0000_6205_8019_0019 | granules;
        let cd = [dw0, 0x4000, 0x5000, 0xf404_ff44, 0, 0, 0, 0];
        let to = to.u8(flags).u8(log2size).words(&cd);
        to.words(&[0x3743]).done()
    };
    vec![
        seed(0, 0, 0, 2 << 22),
        seed(0, 4, 2, 1 << 6 | 3 << 22),
        seed(TWO_LEVEL, 8, 2, 2 << 6 | 1 << 22),
        seed(NESTED, 0, 0, 2 << 22),
        seed(NESTED | TWO_LEVEL, 9, 2, 2 << 22),
        seed(0, 2, 2, 2 << 22),
        seed(0, 4, 0, 2 << 22),
        seed(EL2 | STALLD, 0, 0, 2 << 22),
    ]
}
