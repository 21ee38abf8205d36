//! Commands as Linux encodes them, ready for a slot: those that nearly every test and measurement sends.

use smmu_core::command::{AtcInv, Command, Msi, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa, StreamId, Vmid};

/// TLBI_NH_VA of the 4 KiB page that begins at `page << 12`: with its granule, last level, Leaf=1.
#[must_use]
pub fn tlbi(asid: Asid, page: u64) -> RawCommand {
    let range = TlbiRange {
        addr: page << 12,
        bytes: 4096,
        granule: Some(Granule::K4),
        ttl: 3,
        leaf: true,
    };
    let vmid = Vmid(0);
    encode(&Command::Tlbi(Tlbi::NhVa { vmid, asid, range }))
}

/// ATC_INV of the 4 KiB page that begins at `page << 12`, without a SubstreamID.
#[must_use]
pub fn atc_inv(stream: StreamId, page: u64) -> RawCommand {
    encode(&Command::AtcInv(AtcInv {
        stream,
        substream: None,
        global: false,
        addr: page << 12,
        size: 0,
    }))
}

/// A SYNC that is seen by CONS alone (CS=0).
#[must_use]
pub fn sync() -> RawCommand {
    encode(&Command::Sync(Signal::None))
}

/// A SYNC whose message is the word `data` at `addr` (CS=1).
#[must_use]
pub fn sync_to(addr: Gpa, data: u32) -> RawCommand {
    let msi = Some(Msi { addr, data });
    encode(&Command::Sync(Signal::Irq { msi }))
}
