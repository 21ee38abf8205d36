//! One invalidation, in nobody's dialect.

use smmu_core::command::{AtcInv, Cfgi, Tlbi};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, StreamId, SubstreamId, Vmid};

/// Which stage's translations go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Stage 1, and entries that combine both.
    One,
    /// Stage 2 alone (intermediate to physical).
    Two,
    /// Everything of the VMID.
    Both,
    /// Stage 1 of EL2 and EL2-E2H, which is apart from every VMID; the number of the VMID is 0. "Of the
    /// VMID" means all of EL2.
    El2,
}

/// What an invalidation removes.
///
/// | scope | Arm | VT-d, first stage |
/// |---|---|---|
/// | `All` | NSNH_ALL | IOTLB, domain-selective, every domain of the guest |
/// | `Vmid` | NH_ALL, S12_VMALL, EL2_ALL | IOTLB, domain-selective |
/// | `Context` | NH_ASID, EL2_ASID | (spares globals: rounded up to the next row) |
/// | `ContextAndGlobals` | NH_ASID and every global entry; no single command | PASID-selective |
/// | `Addresses`, with ASID | NH_VA, EL2_VA | page-selective within PASID |
/// | `Addresses`, without | NH_VAA, S2_IPA, EL2_VAA | page-selective, for every PASID |
/// | `DeviceTlb` | ATC_INV | device-TLB invalidate |
/// | `ContextTable` | CFGI_CD, CFGI_CD_ALL | PASID cache |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything that the guest's streams have cached.
    All,
    /// Everything of the VMID, in the given stage.
    Vmid,
    /// Non-global entries of an ASID.
    Context(Asid),
    /// Entries of an ASID and all global entries of the VMID: a request of our own, which is
    /// what many `Addresses` of one ASID may be replaced by (law 7).
    ContextAndGlobals(Asid),
    /// Entries that map addresses: those of the ASID and global ones, or with `None` of
    /// every ASID.
    Addresses {
        /// The address space.
        asid: Option<Asid>,
        /// The addresses, granule, level hint and leaf.
        range: TlbiRange,
    },
    /// A device's own translation cache.
    DeviceTlb {
        /// The device, as the guest knows it (vSID).
        stream: StreamId,
        /// Its PASID; `None` means with and without.
        pasid: Option<SubstreamId>,
        /// Every PASID.
        global: bool,
        /// First address.
        addr: u64,
        /// log2 of the number of 4 KiB pages; 52 is everything.
        size: u8,
    },
    /// Context descriptors that a host may have cached.
    ContextTable {
        /// The device, as the guest knows it (vSID).
        stream: StreamId,
        /// One of its address spaces, or all.
        pasid: Option<SubstreamId>,
        /// Only the descriptor, not the table above it.
        leaf: bool,
    },
}

/// One request to a backend. The VMID is the guest's own number (law 2): the backend
/// knows which host VMID its instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Invalidation {
    /// Name space of ASIDs and addresses.
    pub vmid: Vmid,
    /// Which stage.
    pub stage: Stage,
    /// What goes.
    pub scope: Scope,
}

impl Invalidation {
    /// What a TLBI asks for. NSNH_ALL takes EL2's translations too, which it need not.
    #[inline]
    #[must_use]
    pub fn from_tlbi(tlbi: Tlbi) -> Self {
        let stage_one = |vmid, scope| Self {
            vmid,
            stage: Stage::One,
            scope,
        };
        let el2 = |scope| Self {
            vmid: Vmid(0),
            stage: Stage::El2,
            scope,
        };
        let addresses = |asid, range| Scope::Addresses { asid, range };
        match tlbi {
            Tlbi::NhVa { vmid, asid, range } => stage_one(vmid, addresses(Some(asid), range)),
            Tlbi::NhVaa { vmid, range } => stage_one(vmid, addresses(None, range)),
            Tlbi::NhAsid { vmid, asid } => stage_one(vmid, Scope::Context(asid)),
            Tlbi::NhAll { vmid } => stage_one(vmid, Scope::Vmid),
            Tlbi::S12VmAll { vmid } => Self {
                vmid,
                stage: Stage::Both,
                scope: Scope::Vmid,
            },
            Tlbi::S2Ipa { vmid, range } => Self {
                vmid,
                stage: Stage::Two,
                scope: addresses(None, range),
            },
            Tlbi::El2Va { asid, range } => el2(addresses(Some(asid), range)),
            Tlbi::El2Vaa { range } => el2(addresses(None, range)),
            Tlbi::El2Asid { asid } => el2(Scope::Context(asid)),
            Tlbi::El2All => el2(Scope::Vmid),
            Tlbi::NsnhAll => Self::everything(),
        }
    }

    /// What an ATC_INV asks for.
    #[must_use]
    pub fn from_atc_inv(inv: &AtcInv) -> Self {
        Self {
            vmid: Vmid(0),
            stage: Stage::One,
            scope: Scope::DeviceTlb {
                stream: inv.stream,
                pasid: inv.substream,
                global: inv.global,
                addr: inv.addr,
                size: inv.size,
            },
        }
    }

    /// What a backend that caches context descriptors must hear of a CFGI, if anything.
    #[must_use]
    pub fn from_cfgi(cfgi: &Cfgi) -> Option<Self> {
        let scope = match *cfgi {
            Cfgi::Cd {
                stream,
                substream,
                leaf,
            } => Scope::ContextTable {
                stream,
                pasid: Some(substream),
                leaf,
            },
            Cfgi::CdAll { stream } => Scope::ContextTable {
                stream,
                pasid: None,
                leaf: false,
            },
            _ => return None,
        };
        Some(Self {
            vmid: Vmid(0),
            stage: Stage::One,
            scope,
        })
    }

    /// The widest request there is.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            vmid: Vmid(0),
            stage: Stage::Both,
            scope: Scope::All,
        }
    }

    /// The stream that the request names, if any: then it goes to that stream's instance only.
    #[must_use]
    pub fn stream(&self) -> Option<StreamId> {
        match self.scope {
            Scope::DeviceTlb { stream, .. } | Scope::ContextTable { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// The granule of the entries, where the request says.
    #[must_use]
    pub fn granule(&self) -> Option<Granule> {
        match self.scope {
            Scope::Addresses { range, .. } => range.granule,
            _ => None,
        }
    }
}
