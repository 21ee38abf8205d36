//! A backend on a kernel in memory, and a second opinion on what a command removes.

use dispatch::{Batch, Invalidation, Scope, Stage};
use proptest::prelude::*;
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::decode::decode;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Capabilities, StreamId, SubstreamId, Vmid};
use std::sync::Arc;
use vcmdq_iommufd::testing::{Counting, FakeKernel, FakeStreams};
use vcmdq_iommufd::{ArmSmmuv3, IommufdBackend, IommufdSettings};

pub(crate) const VIOMMU: u32 = 7;
/// The stream whose vdevice is there.
pub(crate) const STREAM: StreamId = StreamId(0x10);

pub(crate) struct Host {
    pub(crate) kernel: Arc<FakeKernel>,
    pub(crate) streams: Arc<FakeStreams>,
    pub(crate) backend: IommufdBackend,
}

impl Host {
    pub(crate) fn new(counting: Counting) -> Self {
        Self::with(counting, ArmSmmuv3::new(true), |_| {})
    }

    pub(crate) fn with(
        counting: Counting,
        encoder: ArmSmmuv3,
        change: impl FnOnce(&mut IommufdSettings),
    ) -> Self {
        let kernel = Arc::new(FakeKernel::new(counting, VIOMMU, &[STREAM.0]));
        let streams = Arc::new(FakeStreams::default());
        let mut settings = IommufdSettings::new(streams.clone());
        change(&mut settings);
        let backend = IommufdBackend::new(kernel.clone(), VIOMMU, encoder, settings);
        Self {
            kernel,
            streams,
            backend,
        }
    }
}

pub(crate) fn request(scope: Scope) -> Invalidation {
    Invalidation {
        vmid: Vmid(0),
        stage: Stage::One,
        scope,
    }
}

pub(crate) fn range(page: u64, pages: u64) -> TlbiRange {
    TlbiRange {
        addr: page << 12,
        bytes: pages << 12,
        granule: Some(Granule::K4),
        ttl: 0,
        leaf: true,
    }
}

pub(crate) fn pages(page: u64, pages: u64) -> Invalidation {
    request(Scope::Addresses {
        asid: Some(Asid(1)),
        range: range(page, pages),
    })
}

/// Pages so far apart that nobody makes one request of two.
pub(crate) fn far(count: usize) -> Vec<Invalidation> {
    (0..count as u64).map(|n| pages(n << 12, 1)).collect()
}

pub(crate) fn contexts(stream: StreamId) -> Invalidation {
    request(Scope::ContextTable {
        stream,
        pasid: Some(SubstreamId(3)),
        leaf: true,
    })
}

pub(crate) fn batch(requests: &[Invalidation]) -> Batch {
    let mut batch = Batch::new();
    for (origin, request) in requests.iter().enumerate() {
        batch.push(*request, origin as u32);
    }
    batch
}

/// As the guest's IDRs could say at most.
fn everything() -> Capabilities {
    Capabilities::default().with_ats()
}

pub(crate) fn decoded(raw: &[RawCommand]) -> Vec<Command> {
    let each = raw.iter().map(|raw| decode(*raw, &everything()));
    each.map(|command| command.expect("legal")).collect()
}

/// Whether commands of the host's remove all that requests ask for.
pub(crate) fn all_done(executed: &[RawCommand], requests: &[Invalidation]) -> bool {
    let executed = decoded(executed);
    let done = |request: &Invalidation| executed.iter().any(|command| removes(command, request));
    requests.iter().all(done)
}

/// Whether a command of the host's removes all that a request asks for.
pub(crate) fn removes(command: &Command, request: &Invalidation) -> bool {
    let same = |own: Option<Asid>, asid| own == Some(asid);
    match (*command, request.scope) {
        (Command::Tlbi(Tlbi::NsnhAll | Tlbi::NhAll { .. }), _) => request.stream().is_none(),
        (Command::Tlbi(Tlbi::NhAsid { asid, .. }), Scope::Context(own)) => asid == own,
        (
            Command::Tlbi(Tlbi::NhVa {
                asid, range: wide, ..
            }),
            Scope::Addresses { asid: own, range },
        ) => same(own, asid) && spans(&wide, &range),
        (Command::Tlbi(Tlbi::NhVaa { range: wide, .. }), Scope::Addresses { range, .. }) => {
            spans(&wide, &range)
        }
        (
            Command::AtcInv(inv),
            Scope::DeviceTlb {
                stream,
                pasid,
                addr,
                size,
                ..
            },
        ) => {
            let end = |addr: u64, size: u8| u128::from(addr) + (1u128 << (12 + size));
            inv.stream == stream
                && (inv.substream == pasid || inv.substream.is_none())
                && inv.addr <= addr
                && end(inv.addr, inv.size) >= end(addr, size)
        }
        (
            Command::Cfgi(Cfgi::Cd {
                stream, substream, ..
            }),
            Scope::ContextTable {
                stream: own, pasid, ..
            },
        ) => stream == own && Some(substream) == pasid,
        (Command::Cfgi(Cfgi::CdAll { stream }), Scope::ContextTable { stream: own, .. }) => {
            stream == own
        }
        _ => false,
    }
}

/// Entries of whatever granule `narrow` can mean are hit by `wide` wherever they are by `narrow`.
fn spans(wide: &TlbiRange, narrow: &TlbiRange) -> bool {
    let leaf = narrow.leaf || !wide.leaf;
    let level = wide.ttl == 0 || wide.ttl == narrow.ttl;
    let around = wide.addr <= narrow.addr && wide.last() >= narrow.last();
    let page = wide.granule.is_none() && {
        let granule = narrow.granule.map_or(4096, Granule::bytes);
        narrow.bytes <= granule && narrow.addr & !(granule - 1) == wide.addr & !(granule - 1)
    };
    leaf && level && (page || around && wide.granule == narrow.granule)
}

/// Requests as a guest with ATS may cause them; streams are the one that is there, but for `gone`.
pub(crate) fn any_request() -> impl Strategy<Value = Invalidation> {
    let asid = prop_oneof![Just(None), (0u16..4).prop_map(|n| Some(Asid(n)))];
    let granule = prop_oneof![
        1 => Just(None),
        4 => Just(Some(Granule::K4)),
        1 => Just(Some(Granule::K16)),
        1 => Just(Some(Granule::K64)),
    ];
    let addresses = (asid, granule, 0u64..4096, 1u64..40, 0u8..4, any::<bool>()).prop_map(
        |(asid, granule, page, pages, ttl, leaf)| {
            let unit = granule.map_or(4096, Granule::bytes);
            let bytes = granule.map_or(4096, |_| pages * unit);
            let ttl = if granule.is_some() { ttl } else { 0 };
            let range = TlbiRange {
                addr: page * unit,
                bytes,
                granule,
                ttl,
                leaf,
            };
            Scope::Addresses { asid, range }
        },
    );
    let atc =
        (0u8..8, 0u64..1024, proptest::option::of(0u32..4)).prop_map(|(size, page, pasid)| {
            Scope::DeviceTlb {
                stream: STREAM,
                pasid: pasid.map(SubstreamId),
                global: false,
                addr: page << (12 + size),
                size,
            }
        });
    let table = (proptest::option::of(0u32..4), any::<bool>()).prop_map(|(pasid, leaf)| {
        Scope::ContextTable {
            stream: STREAM,
            pasid: pasid.map(SubstreamId),
            leaf,
        }
    });
    prop_oneof![
        12 => addresses,
        2 => (0u16..4).prop_map(|n| Scope::Context(Asid(n))),
        1 => (0u16..4).prop_map(|n| Scope::ContextAndGlobals(Asid(n))),
        1 => Just(Scope::Vmid),
        1 => Just(Scope::All),
        2 => atc,
        1 => table,
    ]
    .prop_map(|scope| match scope {
        Scope::All => Invalidation::everything(),
        scope => request(scope),
    })
}
