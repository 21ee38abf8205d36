//! Deviations of translations that QEMU has cached.

use super::{Difference, Known};
use smmu_core::fault::{Fault, Place};
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
                && (d.they_did_it() || is_without_ipa(d))
                && d.reads.iter().any(|&word| forbids_writes(word))
        },
    },
];

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
