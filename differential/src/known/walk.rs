//! Deviations of walks.

use super::{Difference, Known};
use crate::theirs::Landed;
use smmu_core::access::{Access, Operation};
use smmu_core::fault::{Fault, Place};
use smmu_core::spec::event::{Class, EventId};
use smmu_core::walk::Stage2;

/// The list.
pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "concatenated tables",
        why: "of stage 2 tables that lie behind each other only the first is walked (Arm ARM D8.2)",
        explains: concatenated,
    },
    Known {
        name: "levels of blocks",
        why: "a block is a block at every level above 3 (Arm ARM D8.3: 4 KiB not at 0, others only at 2)",
        explains: |d| {
            matches!(d.ours.fault, Some(Fault::Translation(_)))
                && d.reads.last().is_some_and(|word| word & 3 == 1)
        },
    },
    Known {
        name: "APTable first",
        why: "a write below a read-only table faults there, whatever lies below (Arm ARM D8: permission comes \
              last)",
        explains: |d| {
            !d.request.read
                && d.their_event() == Some(EventId::Permission)
                && d.their_record().is_some_and(|record| !record.dw1().s2())
                && d.reads
                    .iter()
                    .any(|&word| word & 3 == 3 && word >> 62 & 1 != 0)
        },
    },
    Known {
        name: "size last",
        why: "the size of an output is checked behind access flag and permission (Arm ARM D8: before)",
        explains: |d| {
            let Some(Fault::AddressSize(place)) = d.ours.fault else {
                return false;
            };
            let second = place != Place::Stage1;
            matches!(
                d.their_event(),
                Some(EventId::AccessFlag | EventId::Permission)
            ) && d
                .their_record()
                .is_some_and(|record| record.dw1().s2() == second)
        },
    },
    Known {
        name: "size of tables",
        why: "the address of a table is not checked against the output size (Arm ARM D8; 3.4)",
        explains: |d| {
            matches!(d.ours.fault, Some(Fault::AddressSize(_)))
                && d.reads.last().is_some_and(|word| word & 3 == 3)
                && d.their_record() != d.ours.record.as_ref()
        },
    },
    Known {
        name: "S2 of table fetches",
        why: "a stage 2 fault of a fetch of a table is recorded as stage 1's, by R of the CD (7.3.13)",
        explains: |d| is_of_table(d) && they_stopped_at_a_table(d),
    },
    Known {
        name: "tables in one piece",
        why: "only the first byte of a table of stage 1 goes through stage 2, whose pages can be smaller (3.4)",
        explains: is_in_pieces,
    },
    Known {
        name: "S2PTW",
        why: "is ignored (5.2: a fetch from Device memory is a permission fault)",
        explains: |d| {
            d.world.ste.dw2().s2ptw()
                && matches!(
                    d.ours.fault,
                    Some(Fault::Permission(Place::Stage2 {
                        class: Class::Cd | Class::TranslationTable,
                        ..
                    }))
                )
        },
    },
    Known {
        name: "PAN",
        why: "CD.PAN is ignored (5.4)",
        explains: |d| {
            d.ours.fault == Some(Fault::Permission(Place::Stage1))
                && d.context().is_some_and(|cd| cd.dw0().pan())
                && d.their_record() != d.ours.record.as_ref()
        },
    },
];

fn place_of(d: &Difference<'_>) -> Option<Place> {
    match d.ours.fault? {
        Fault::Translation(place)
        | Fault::AddressSize(place)
        | Fault::AccessFlag(place)
        | Fault::Permission(place)
        | Fault::WalkAbort(place, _) => Some(place),
        _ => None,
    }
}

/// The engine reports a stage 2 fault of a fetch of a table.
fn is_of_table(d: &Difference<'_>) -> bool {
    matches!(
        place_of(d),
        Some(Place::Stage2 {
            class: Class::TranslationTable,
            ..
        })
    )
}

/// A table of stage 1 on the way is not as contiguous in memory as it is in intermediate addresses.
fn is_in_pieces(d: &Difference<'_>) -> bool {
    let (Some(first), Some(second), Some(cd)) = (d.first_granule(), d.stage2(), d.context()) else {
        return false;
    };
    let stage2 = Stage2::new(d.memory, &second);
    let place = |ipa: u64| {
        let read = Access {
            address: ipa,
            operation: Operation::Read,
            privileged: true,
        };
        stage2
            .translate(ipa, &read)
            .ok()
            .map(|leaf| leaf.output(ipa))
    };
    let named = d.reads.iter().filter(|&word| word & 3 == 3).copied();
    let tables = named.chain([cd.dw1().ttb0() << 4, cd.dw2().ttb1() << 4]);
    d.is_nested()
        && first > second.granule
        && tables
            .map(|word| word & ADDRESS & !(first.bytes() - 1))
            .any(|table| {
                let start = place(table);
                let mut offsets = (0..first.bytes()).step_by(second.granule.bytes() as usize);
                offsets.any(|offset| place(table + offset) != start.map(|start| start + offset))
            })
}

/// Of an address in a descriptor.
const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;

/// QEMU does so as QEMU does: as stage 1's, if CD.R is set.
fn they_stopped_at_a_table(d: &Difference<'_>) -> bool {
    match d.their_record() {
        Some(record) => !record.dw1().s2() && record.dw1().class() == Class::TranslationTable as u8,
        None => {
            let silent = d.context().is_some_and(|cd| !cd.dw0().r());
            silent && d.they_recorded_nothing() && d.theirs.landed != Landed::There
        }
    }
}

/// The start level has several tables, and what is looked for lies in the second or a later one. Under
/// two stages that can be the CD or any table.
fn concatenated(d: &Difference<'_>) -> bool {
    let Some(stage2) = d.stage2() else {
        return false;
    };
    let stride = stage2.granule.shift() - 3;
    let one_table = stage2.granule.leaf_shift(stage2.start_level.max(0) as u8) + stride;
    let is_behind = d.request.address >> one_table != 0;
    stage2.input_bits > one_table && (d.is_nested() || is_behind)
}
