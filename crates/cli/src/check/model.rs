//! What the architecture demands of a submission (IHI 0070, 4.4 and 4.5), as plainly as it
//! can be said, and where to look for it.

use dispatch::{Invalidation, Scope, Stage};
use smmu_core::command::{AtcInv, Command, Tlbi};
use smmu_core::decode::decode;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::{PageClass, Space};
use smmu_core::{Asid, Capabilities, StreamId, SubstreamId, Vmid};

/// The checks look into the cache, not through a device.
pub(super) const ANY_STREAM: StreamId = StreamId(0);

/// An ASID that no guest here uses: through it, only global entries are seen.
const NOBODY: Asid = Asid(0xFFFE);

/// The first of the ASIDs that belong to the checks, one for each producer.
const STRANGERS: u16 = 0xC000;

/// Where each producer's own pages begin, for commands that name no address.
const OWN_PAGES: u64 = 0x7E00_0000_0000;

/// So much of one address space in one submission may be answered by something wider than
/// addresses; its neighbours in that address space prove nothing.
const WIDE: u64 = 4 << 20;

/// Where an entry can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the SMMU's translation cache.
    Page(Page),
    /// In a device's own.
    Device {
        stream: StreamId,
        pasid: Option<SubstreamId>,
        addr: u64,
    },
}

/// A cached page or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) space: Space,
    pub(super) va: u64,
    pub(super) class: PageClass,
}

impl Page {
    /// The ASID through which the entry is seen.
    pub(super) fn reader(&self) -> Asid {
        match self.space {
            Space::Asid(asid) => asid,
            Space::Global | Space::Stage2 => NOBODY,
        }
    }

    /// A request that takes the page away.
    pub(super) fn removal(&self) -> Invalidation {
        let range = TlbiRange {
            addr: self.va,
            bytes: self.class.granule().bytes(),
            granule: Some(self.class.granule()),
            ttl: 0,
            leaf: true,
        };
        let scope = Scope::Addresses {
            asid: Some(self.reader()),
            range,
        };
        Invalidation {
            vmid: Vmid(0),
            stage: Stage::One,
            scope,
        }
    }

    fn is_hit(&self, range: &TlbiRange) -> bool {
        let shift = self.class.shift();
        range.hits(self.va >> shift << shift, shift, self.class.granule())
    }
}

/// The legal commands of one submission.
pub(super) struct Submission(Vec<Command>);

impl Submission {
    pub(super) fn of(commands: &[RawCommand], caps: &Capabilities) -> Self {
        Self(
            commands
                .iter()
                .filter_map(|raw| decode(*raw, caps).ok())
                .collect(),
        )
    }

    /// Whether an entry may not be found any more when the submission's SYNC is done.
    pub(super) fn removes(&self, place: &Place) -> bool {
        self.0.iter().any(|command| match (command, place) {
            (Command::Tlbi(tlbi), Place::Page(page)) => tlbi_removes(tlbi, page),
            (
                Command::AtcInv(inv),
                Place::Device {
                    stream,
                    pasid,
                    addr,
                },
            ) => atc_inv_removes(inv, *stream, *pasid, *addr),
            _ => false,
        })
    }

    /// Whether something wider, which is allowed, would take an entry that need not go.
    pub(super) fn may_be_widened_to(&self, place: &Place) -> bool {
        let Place::Page(page) = place else {
            return false;
        };
        let bytes: u64 = self
            .0
            .iter()
            .filter_map(|command| match command {
                Command::Tlbi(Tlbi::NhVa { asid, range, .. })
                    if page.space == Space::Asid(*asid) || page.space == Space::Global =>
                {
                    Some(range.bytes)
                }
                Command::Tlbi(Tlbi::NhVaa { range, .. }) => Some(range.bytes),
                _ => None,
            })
            .fold(0, u64::saturating_add);
        bytes > WIDE
    }

    /// Entries to plant: what the first, the middle and the last command remove, and what lies
    /// beside it. Few, because a set of the cache has eight ways and entries side by side share it.
    pub(super) fn places(&self, producer: u16) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        let middle = self.0.get(self.0.len() / 2);
        let looked_at = self
            .0
            .first()
            .into_iter()
            .chain(middle)
            .chain(self.0.last());
        for (at, command) in looked_at.enumerate() {
            let wanted = places_of(command, producer);
            let others = wanted.others.into_iter().filter(|_| at == 0);
            let beside = wanted
                .beside
                .into_iter()
                .filter(|place| !self.removes(place));
            for place in wanted.edges.into_iter().chain(others).chain(beside) {
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
        places
    }
}

/// Where to look for what one command does.
#[derive(Default)]
struct Places {
    /// The ends of what it covers.
    edges: Vec<Place>,
    /// Of another address space, or global.
    others: Vec<Place>,
    /// Before and behind what it covers.
    beside: Vec<Place>,
}

fn tlbi_removes(tlbi: &Tlbi, page: &Page) -> bool {
    match *tlbi {
        Tlbi::NhAll { .. } | Tlbi::NsnhAll | Tlbi::S12VmAll { .. } => true,
        Tlbi::NhAsid { asid, .. } => page.space == Space::Asid(asid),
        Tlbi::NhVa {
            asid, ref range, ..
        } => (page.space == Space::Asid(asid) || page.space == Space::Global) && page.is_hit(range),
        Tlbi::NhVaa { ref range, .. } => page.is_hit(range),
        // Another regime, or stage 2 alone.
        Tlbi::El2All
        | Tlbi::El2Asid { .. }
        | Tlbi::El2Va { .. }
        | Tlbi::El2Vaa { .. }
        | Tlbi::S2Ipa { .. } => false,
    }
}

fn atc_inv_removes(inv: &AtcInv, stream: StreamId, pasid: Option<SubstreamId>, addr: u64) -> bool {
    let every = inv.substream.is_none() || inv.global;
    inv.stream == stream
        && (every || inv.substream == pasid)
        && (inv.addr..=inv.last()).contains(&addr)
}

fn places_of(command: &Command, producer: u16) -> Places {
    match command {
        Command::Tlbi(Tlbi::NhVa { asid, range, .. }) => pages_of(Some(*asid), range, producer),
        Command::Tlbi(Tlbi::NhVaa { range, .. }) => pages_of(None, range, producer),
        Command::Tlbi(Tlbi::NhAsid { asid, .. }) => own_pages(*asid, producer),
        Command::Tlbi(Tlbi::NhAll { .. } | Tlbi::NsnhAll) => {
            own_pages(stranger(producer), producer)
        }
        Command::AtcInv(inv) => device_pages(inv),
        _ => Places::default(),
    }
}

/// An ASID that only this producer's checks use.
fn stranger(producer: u16) -> Asid {
    Asid(STRANGERS + producer)
}

/// The first and the last page of a range, those before and behind it, the same page of another
/// address space and as a global one.
fn pages_of(asid: Option<Asid>, range: &TlbiRange, producer: u16) -> Places {
    let granule = range.granule.unwrap_or(Granule::K4);
    let level = if range.ttl == 0 { 3 } else { range.ttl };
    let Some(class) = PageClass::of(granule, level) else {
        return Places::default();
    };
    let size = 1u64 << class.shift();
    let own = Space::Asid(asid.unwrap_or(stranger(producer)));
    let page = |space, va: u64| {
        Place::Page(Page {
            space,
            va: va & !(size - 1),
            class,
        })
    };
    // Bits above 52 are copies: the page behind the top is none.
    let behind = range.last().checked_add(1).filter(|va| *va < 1 << 52);
    Places {
        edges: vec![page(own, range.addr), page(own, range.last())],
        others: vec![
            page(Space::Global, range.addr),
            page(Space::Asid(stranger(producer)), range.addr),
        ],
        beside: range
            .addr
            .checked_sub(size)
            .into_iter()
            .chain(behind)
            .map(|va| page(own, va))
            .collect(),
    }
}

/// Two pages of an address space, one of a stranger's and a global one.
fn own_pages(asid: Asid, producer: u16) -> Places {
    let base = OWN_PAGES + (u64::from(producer) << 32);
    let page = |space, number: u64| {
        Place::Page(Page {
            space,
            va: base + (number << 12),
            class: PageClass::Page4K,
        })
    };
    Places {
        edges: vec![page(Space::Asid(asid), 0), page(Space::Asid(asid), 77)],
        others: vec![
            page(Space::Asid(stranger(producer)), 1),
            page(Space::Global, 2),
        ],
        beside: Vec::new(),
    }
}

/// The first and the last page of a span, those beside it, and the first of another PASID.
fn device_pages(inv: &AtcInv) -> Places {
    let place = |pasid, addr: u64| Place::Device {
        stream: inv.stream,
        pasid,
        addr: addr & !0xFFF,
    };
    let other = inv
        .substream
        .map(|SubstreamId(own)| SubstreamId(own ^ 0x8_0000));
    let before = inv.addr.checked_sub(4096);
    let behind = inv.last().checked_add(1);
    Places {
        edges: vec![
            place(inv.substream, inv.addr),
            place(inv.substream, inv.last()),
        ],
        others: vec![place(other, inv.addr)],
        beside: before
            .into_iter()
            .chain(behind)
            .map(|addr| place(inv.substream, addr))
            .collect(),
    }
}
