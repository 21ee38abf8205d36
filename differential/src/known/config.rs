//! Deviations before a walk: stream table, STE, CD, input size.

use super::{Difference, Known};
use smmu_core::access::{Access, Operation};
use smmu_core::fault::Fault;
use smmu_core::range::Granule;
use smmu_core::spec::event::{Class, EventId};
use smmu_core::spec::ste::{Ste, config};
use smmu_core::walk::Stage2;

/// The list.
pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "bypass: input size",
        why: "no check: beyond OAS nothing is recorded (3.4: F_ADDR_SIZE)",
        explains: |d| {
            d.ours.fault == Some(Fault::InputSize)
                && d.world.ste.dw0().config() == config::BYPASS
                && d.they_recorded_nothing()
        },
    },
    Known {
        name: "stage 2 alone: input size",
        why: "the fault beyond IAS is not recorded: R of a CD that there is not is asked (3.4, 5.5)",
        explains: |d| {
            d.ours.fault == Some(Fault::InputSize)
                && d.world.ste.dw0().config() == config::STAGE2
                && d.they_recorded_nothing()
        },
    },
    Known {
        name: "Span",
        why: "2^Span STEs are valid and reserved values are accepted; beyond it is C_BAD_STE (5.1: 2^(Span-1), \
              C_BAD_STREAMID)",
        explains: |d| d.ours.fault == Some(Fault::BadStreamId),
    },
    Known {
        name: "S2T0SZ above S2PS",
        why: "C_BAD_STE if the IPA size exceeds the effective S2PS (5.2: its limit is IAS)",
        explains: |d| {
            d.their_event() == Some(EventId::BadSte)
                && d.stage2()
                    .is_some_and(|stage2| stage2.input_bits > stage2.output_bits)
        },
    },
    Known {
        name: "S2SL0 above the IPA size",
        why: "a start level is accepted of which the IPA size has no index bit (5.2, Arm ARM D8.2: C_BAD_STE)",
        explains: |d| d.ours.fault == Some(Fault::BadSte) && starts_too_high(&d.world.ste),
    },
    Known {
        name: "S1CDMax",
        why: "C_BAD_STE if it is not 0, even where stage 1 is off (5.2: RES0 without SubstreamIDs)",
        explains: |d| {
            d.their_event() == Some(EventId::BadSte)
                && d.world.ste.dw0().s1cdmax() != 0
                && d.setup.caps.idr1.ssidsize() == 0
        },
    },
    Known {
        name: "S2HA, S2HD",
        why: "are ignored (5.2: C_BAD_STE without IDR0.HTTU)",
        explains: |d| {
            let word = d.world.ste.dw2();
            d.ours.fault == Some(Fault::BadSte)
                && d.setup.caps.idr0.httu() == 0
                && (word.s2ha() || word.s2hd())
        },
    },
    Known {
        name: "S1STALLD without stage 1",
        why: "C_BAD_STE (5.2: ignored where stage 1 is off)",
        explains: |d| {
            d.their_event() == Some(EventId::BadSte)
                && d.world.ste.dw0().config() == config::STAGE2
                && d.world.ste.dw1().s1stalld()
        },
    },
    Known {
        name: "TTB at the CD",
        why: "stage 2 translates both TTBs when the CD is read, used or not (3.4: a table's address is translated \
              when the table is read)",
        explains: ttb_at_the_cd,
    },
    Known {
        name: "TBI1",
        why: "the upper half ignores the top byte if TBI0 says so (5.4: TBI1)",
        explains: |d| {
            let top = d.request.address >> 55;
            top & 1 != 0
                && top != 0x1FF
                && d.context()
                    .is_some_and(|cd| cd.dw0().tbi0() != cd.dw0().tbi1())
        },
    },
];

/// The start level that S2SL0 names has no index bit left.
fn starts_too_high(ste: &Ste) -> bool {
    let word = ste.dw2();
    let (granule, lowest) = match word.s2tg() {
        0 => (Granule::K4, 2),
        1 => (Granule::K64, 3),
        2 => (Granule::K16, 3),
        _ => return false,
    };
    let shift = granule.leaf_shift(lowest - word.s2sl0().min(2));
    word.s2sl0() < 3 && 64 - u32::from(word.s2t0sz()) <= shift
}

/// QEMU records a stage 2 fault of a TTB, or would if S2R were set.
fn ttb_at_the_cd(d: &Difference<'_>) -> bool {
    let (Some(stage2), Some(cd), true) = (d.stage2(), d.context(), d.is_nested()) else {
        return false;
    };
    let word = cd.dw0();
    let halves = [
        (!word.epd0(), cd.dw1().ttb0()),
        (!word.epd1(), cd.dw2().ttb1()),
    ];
    let unreadable = |ttb: u64| {
        let read = Access {
            address: ttb,
            operation: Operation::Read,
            privileged: true,
        };
        Stage2::new(d.memory, &stage2)
            .translate(ttb, &read)
            .is_err()
    };
    let recorded = |ttb: u64| match d.their_record() {
        Some(record) => {
            let how = record.dw1();
            how.s2() && how.class() == Class::TranslationTable as u8 && record.ipa() == ttb & !0xFFF
        }
        None => d.they_recorded_nothing() && !stage2.policy.record,
    };
    halves
        .into_iter()
        .filter(|(enabled, _)| *enabled)
        .any(|(_, ttb)| unreadable(ttb << 4) && recorded(ttb << 4))
}
