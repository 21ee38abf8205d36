//! What the guest sends. The encoder for the mock takes page `n` for slot `n` modulo four.

use crate::host::SLOTS;
use dispatch::Invalidation;
use smmu_core::command::{AtcInv, Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::range::TlbiRange;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, StreamId, Vmid};

const PAGE: u64 = 4096;
/// Pages between two that no coalescing makes one of; a multiple of [`SLOTS`].
const APART: u64 = 16 * SLOTS as u64;

/// The address of the `nth` page of a slot, far from all others.
fn address(nth: u64, slot: u32) -> u64 {
    (nth * APART + u64::from(slot)) * PAGE
}

fn tlbi(nth: u64, slot: u32) -> Tlbi {
    let range = TlbiRange {
        addr: address(nth, slot),
        bytes: PAGE,
        granule: None,
        ttl: 0,
        leaf: true,
    };
    Tlbi::NhVa {
        vmid: Vmid(0),
        asid: Asid(1),
        range,
    }
}

/// TLBI_NH_VA of the `nth` page that stands for `slot`: every device's.
pub(crate) fn page(nth: u64, slot: u32) -> RawCommand {
    encode(&Command::Tlbi(tlbi(nth, slot)))
}

/// What the engine asks a backend for when it is given [`page`].
pub(crate) fn request(nth: u64, slot: u32) -> Invalidation {
    Invalidation::from_tlbi(tlbi(nth, slot))
}

/// ATC_INV of the `nth` page that stands for `slot`, of one device.
pub(crate) fn atc(vsid: u32, nth: u64, slot: u32) -> RawCommand {
    encode(&Command::AtcInv(AtcInv {
        stream: StreamId(vsid),
        substream: None,
        global: false,
        addr: address(nth, slot),
        size: 0,
    }))
}
