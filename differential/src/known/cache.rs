//! Deviations of translations that QEMU has cached.

use super::{Difference, Known};
use smmu_core::command::{Command, Tlbi};
use smmu_core::fault::{Fault, Place};
use smmu_core::range::Granule;
use smmu_core::spec::event::{Class, EventId};

/// The list.
pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "cached: stage 2 faults",
        why: "a hit without stage 2's write permission is recorded without IPA, under stage 2 alone not at all \
              (7.3.16)",
        explains: |d| {
            is_input_permission(d)
                && !d.request.read
                && (d.they_recorded_nothing() || is_without_ipa(d))
        },
    },
    Known {
        name: "cached: reads",
        why: "a hit does not ask for stage 2's read permission (3.4)",
        explains: |d| is_input_permission(d) && d.request.read && d.they_did_it(),
    },
    Known {
        name: "cached: APTable",
        why: "a hit does not know what the tables on the way forbid (Arm ARM D8.4)",
        explains: |d| {
            d.world.warm
                && d.ours.fault == Some(Fault::Permission(Place::Stage1))
                && !d.request.read
                && (d.they_did_it() || is_without_ipa(d) || is_silent_stage2(d))
                && d.reads.iter().any(|&word| forbids_writes(word))
        },
    },
    Known {
        name: "TLBI: stage 2 of a TTB",
        why: "where stage 2 puts the first table is remembered with the CD (3.4: stage 2 is asked when the table \
              is read; 4.4: TLBI_S2_IPA is enough)",
        explains: is_first_table,
    },
    Known {
        name: "TLBI: pieces of a block",
        why: "one address of a block of stage 1 that stage 2 cuts into pieces removes the piece with that address \
              only (Arm ARM D8: every entry that comes of the block goes)",
        explains: is_other_piece,
    },
    Known {
        name: "TLBI: top byte",
        why: "what an address with an ignored top byte has put into the cache is not removed (5.4: TBI; Arm ARM D8)",
        explains: |d| !d.world.sent.is_empty() && has_ignored_top_byte(d),
    },
];

/// Stage 2 of the first table has been invalidated, the CD has not, and now denies it.
fn is_first_table(d: &Difference<'_>) -> bool {
    let sent = &d.world.sent;
    let by_stage2 = sent.iter().any(|command| {
        let stage2 = matches!(
            command,
            Command::Tlbi(Tlbi::S2Ipa { .. } | Tlbi::S12VmAll { .. })
        );
        stage2 && !sent.iter().any(|other| matches!(other, Command::Cfgi(_)))
    });
    let Some(Fault::Translation(place) | Fault::AccessFlag(place) | Fault::Permission(place)) =
        d.ours.fault
    else {
        return false;
    };
    let (Place::Stage2 { class, ipa }, Some(cd)) = (place, d.context()) else {
        return false;
    };
    let is_upper = d.request.address >> 55 & 1 != 0;
    let first = if is_upper {
        cd.dw2().ttb1()
    } else {
        cd.dw1().ttb0()
    } << 4;
    let bytes = d.first_granule().map_or(0, Granule::bytes);
    by_stage2 && class == Class::TranslationTable && (first..first + bytes).contains(&ipa)
}

/// An address was named that lies in the same block, and is not in the same page.
fn is_other_piece(d: &Difference<'_>) -> bool {
    let Some(granule) = d.first_granule() else {
        return false;
    };
    // The largest block is of level 1 with pages of 4 KiB, else of level 2.
    let shift = granule.leaf_shift(if granule == Granule::K4 { 1 } else { 2 });
    let asked = d.request.address;
    d.is_nested()
        && d.world.sent.iter().any(|command| match command {
            Command::Tlbi(Tlbi::NhVa { range, .. } | Tlbi::NhVaa { range, .. }) => {
                let is_named = (range.addr..=range.last()).contains(&asked);
                range.leaf && !is_named && range.addr >> shift == asked >> shift
            }
            _ => false,
        })
}

/// TBI of the address's half is set, and its top byte is not that of a canonical address.
fn has_ignored_top_byte(d: &Difference<'_>) -> bool {
    let address = d.request.address;
    let is_upper = address >> 55 & 1 != 0;
    let canonical = if is_upper { 0xFF } else { 0 };
    d.context().is_some_and(|cd| {
        let word = cd.dw0();
        let ignored = if is_upper { word.tbi1() } else { word.tbi0() };
        ignored && address >> 56 != canonical
    })
}

/// A fault of stage 2 that is not recorded.
fn is_silent_stage2(d: &Difference<'_>) -> bool {
    d.they_recorded_nothing() && d.stage2().is_some_and(|stage2| !stage2.policy.record)
}

/// A table descriptor with APTable\[1\].
fn forbids_writes(word: u64) -> bool {
    word & 3 == 3 && word >> 62 & 1 != 0
}

fn is_input_permission(d: &Difference<'_>) -> bool {
    d.world.warm
        && matches!(
            d.ours.fault,
            Some(Fault::Permission(Place::Stage2 {
                class: Class::Input,
                ..
            }))
        )
}

/// QEMU records a hit without stage 2's write permission.
fn is_without_ipa(d: &Difference<'_>) -> bool {
    d.their_record().is_some_and(|record| {
        record.id() == Some(EventId::Permission) && record.dw1().s2() && record.0[3] == 0
    })
}
