//! Any STE under any identification registers: when it is invalid, what it means, and that nothing
//! of its meaning is lost on the way to a `StreamConfig`.
//!
//! Input: IDR0, IDR1, IDR3, IDR5, CR2.E2H, a transaction, eight words of an STE, memory.

use crate::input::{Input, Output};
use crate::machine::{LENIENT, Machine, STE, registers, request, write_registers, write_request};
use crate::memory::Ram;
use crate::naive::configuration::check_ste;
use crate::naive::model::{Registers, bit, bits};
use crate::reached::Reached;
use smmu_core::attributes::{InputOverride, MemoryType, Shareability};
use smmu_core::config::{
    Ats, ContextTableFormat, DefaultSubstream, Stage1Config, Stage2Config, StreamAttributes,
    StreamConfig, interpret,
};
use smmu_core::range::Granule;
use smmu_core::spec::ste::{Ste, SteWord0, SteWord1, SteWord2, SteWord3, config};

/// Runs the target.
pub fn run(input: &[u8]) -> Reached {
    let mut input = Input::new(input);
    let registers = registers(&mut input);
    let request = request(&mut input);
    let words = input.words::<8>();
    let ram = Ram::filled(input.rest());
    ram.set_all(STE, &words);
    let machine = Machine { ram, registers };
    let caps = machine.caps();

    let mut reached = Reached::NOTHING;
    let found = interpret(&Ste(words), &caps);
    assert_eq!(found.is_err(), is_bad(&words, &registers), "{found:x?}");
    if let Ok(config) = found {
        let again = interpret(&encode(&config), &caps);
        assert_eq!(again, Ok(config), "encoded and read again");
        reached |= Reached::LEGAL;
    }
    reached |= machine.compare_every_access(&request);
    reached
}

/// C_BAD_STE, as the naive SMMU has it.
fn is_bad(words: &[u64; 8], registers: &Registers) -> bool {
    let aborts = bits(words[0], 3, 1) < 4;
    !bit(words[0], 0) || !aborts && check_ste(words, registers).is_err()
}

/// An STE that says what `config` does.
fn encode(stream: &StreamConfig) -> Ste {
    let (mut dw0, mut dw1) = (SteWord0::new().with_v(true), SteWord1::new());
    let (mut dw2, mut dw3) = (SteWord2::new(), SteWord3::new());
    dw0.set_config(match stream {
        StreamConfig::Abort => 0,
        StreamConfig::Bypass(_) => config::BYPASS,
        StreamConfig::Stage1(..) => config::STAGE1,
        StreamConfig::Stage2(..) => config::STAGE2,
        StreamConfig::Nested(..) => config::NESTED,
    });
    if let Some(attributes) = stream.attributes() {
        dw1 = of_attributes(attributes);
        dw2.set_s2vmid(attributes.vmid.0);
    }
    if let Some(stage1) = stream.stage1() {
        (dw0, dw1) = of_stage1(stage1, dw0, dw1);
    }
    if let Some(stage2) = stream.stage2() {
        dw1.set_s2fwb(stage2.forced_write_back);
        (dw2, dw3) = of_stage2(stage2, dw2);
    }
    let words = [
        dw0.into_bits(),
        dw1.into_bits(),
        dw2.into_bits(),
        dw3.into_bits(),
    ];
    let mut ste = Ste([0; 8]);
    ste.0[..4].copy_from_slice(&words);
    ste
}

fn of_attributes(attributes: &StreamAttributes) -> SteWord1 {
    let forced = |value: Option<bool>| value.map_or(0, |on| 2 + u8::from(on));
    of_override(&attributes.memory)
        .with_privcfg(forced(attributes.privileged))
        .with_instcfg(forced(attributes.instruction))
        .with_ppar(attributes.pasid_in_responses)
        .with_mev(attributes.merge_events)
        .with_eats(match attributes.ats {
            Ats::Refused => 0,
            Ats::Full => 1,
            Ats::Split => 2,
        })
}

fn of_override(replaced: &InputOverride) -> SteWord1 {
    let code = |memory: &MemoryType| (0..16).find(|&it| MemoryType::from_mem_attr(it) == *memory);
    SteWord1::new()
        .with_mtcfg(replaced.memory.is_some())
        .with_mem_attr(replaced.memory.map_or(0, |memory| {
            code(&memory).expect("it was read from such a field")
        }))
        .with_alloccfg(replaced.hints.map_or(0, |hints| {
            let allocates =
                u8::from(hints.read_allocate) << 2 | u8::from(hints.write_allocate) << 1;
            8 | allocates | u8::from(hints.transient)
        }))
        .with_shcfg(match replaced.shareability {
            None => 1,
            Some(Shareability::Non) => 0,
            Some(Shareability::Outer) => 2,
            Some(Shareability::Inner) => 3,
        })
}

fn of_stage1(stage1: &Stage1Config, dw0: SteWord0, dw1: SteWord1) -> (SteWord0, SteWord1) {
    let dw0 = dw0
        .with_s1contextptr(stage1.contexts.base.0 >> 6)
        .with_s1cdmax(stage1.contexts.log2size)
        .with_s1fmt(match stage1.contexts.format {
            ContextTableFormat::Linear => 0,
            ContextTableFormat::TwoLevel(6) => 1,
            ContextTableFormat::TwoLevel(_) => 2,
        });
    let dw1 = dw1
        .with_s1dss(match stage1.default_substream {
            DefaultSubstream::Terminate => 0,
            DefaultSubstream::Bypass => 1,
            DefaultSubstream::UseContext0 => 2,
        })
        .with_s1stalld(stage1.stall_disabled)
        .with_strw(if stage1.el2 { 2 } else { 0 });
    (dw0, dw1)
}

fn of_stage2(stage2: &Stage2Config, dw2: SteWord2) -> (SteWord2, SteWord3) {
    let (tg, sl0) = match (stage2.granule, stage2.start_level) {
        (Granule::K4, -1) => (0, 0),
        (Granule::K4, 3) => (0, 3),
        (Granule::K4, level) => (0, 2 - level),
        (Granule::K64, level) => (1, 3 - level),
        (Granule::K16, level) => (2, 3 - level),
    };
    let dw2 = dw2
        .with_s2t0sz((64 - stage2.input_bits) as u8)
        .with_s2sl0(sl0 as u8)
        .with_s2tg(tg)
        .with_s2ps(size_code(stage2.output_bits))
        .with_s2aa64(true)
        .with_s2endi(stage2.big_endian)
        .with_s2sh0(stage2.shareability)
        .with_s2affd(!stage2.access_flag_faults)
        .with_s2ha(stage2.updates.access_flag)
        .with_s2hd(stage2.updates.dirty)
        .with_s2ptw(stage2.protected_walks)
        .with_s2s(stage2.policy.stall)
        .with_s2r(stage2.policy.record);
    let dw3 = SteWord3::new()
        .with_s2sl0_2(stage2.start_level == -1)
        .with_s2ds(stage2.wide)
        .with_s2ttb(stage2.table.0 >> 4);
    (dw2, dw3)
}

/// The code of a number of address bits (OAS, IPS, S2PS).
pub(crate) fn size_code(bits: u32) -> u8 {
    match bits {
        32 => 0,
        36 => 1,
        40 => 2,
        42 => 3,
        44 => 4,
        48 => 5,
        _ => 6,
    }
}

/// One of every Config, and CD tables of every form.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    // S2T0SZ 28, S2SL0 1, S2PS 48 bits, S2AA64, S2R.
    let stage2 = 1 | 28 << 32 | 1 << 38 | 5 << 48 | 1 << 51 | 1 << 58;
    let seed = |config: u64, table: u64, dw1: u64| {
        let to = write_registers(Output::default(), LENIENT);
        let to = write_request(to, 0, 1, 0x1234_5678);
        let words = [
            1 | config << 1 | 0x1000 | table,
            dw1,
            stage2,
            0x2000,
            0,
            0,
            0,
            0,
        ];
        to.words(&words).words(&[0x3743]).done()
    };
    let mut seeds: Vec<_> = [0, 4, 5, 6, 7].map(|config| seed(config, 0, 0)).into();
    seeds.push(seed(5, 8 << 59, 2));
    seeds.push(seed(5, 10 << 59 | 1 << 4, 1));
    seeds.push(seed(7, 12 << 59 | 2 << 4, 2 << 28 | 0xf << 48));
    seeds
}
