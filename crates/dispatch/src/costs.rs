//! What an invalidation costs, roughly: what a worker's slices are made of (law 8).

use crate::invalidation::{Invalidation, Scope};
use smmu_core::range::Granule;

/// What a backend's work costs the worker's thread, in nanoseconds.
///
/// An estimate, of a machine of today: it decides when a worker looks at its other rings, nothing
/// else. Too low by a factor makes slices that much longer, too high makes windows shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// A call, whatever is in it.
    pub call: u32,
    /// A request, whatever it names.
    pub request: u32,
    /// On top of it for addresses of one ASID.
    pub addresses: AddressCosts,
    /// On top of it for addresses of every ASID.
    pub addresses_of_all: AddressCosts,
    /// What addresses cost at most: what would cost more is replaced by something wider.
    pub most: u32,
    /// A request that names a stream: a call of the device's own cache.
    pub device: u32,
}

/// What addresses cost, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressCosts {
    /// By TG, the granule of the entries, of which the first is "unknown".
    pub first: [u32; 4],
    /// On top of it for every eight granules of a range.
    pub further: u32,
}

impl AddressCosts {
    fn and(self, other: Self) -> Self {
        Self {
            first: std::array::from_fn(|tg| self.first[tg].saturating_add(other.first[tg])),
            further: self.further.saturating_add(other.further),
        }
    }

    #[inline]
    fn of(&self, granule: Option<Granule>, bytes: u64) -> u64 {
        let (tg, shift, sizes) = match granule {
            Some(granule) => (granule as usize & 3, granule.shift(), 1),
            // Groups of 4 KiB, and fewer of each larger size.
            None => (0, Granule::K4.shift(), 2),
        };
        let groups = (bytes >> (shift + 3)).saturating_mul(sizes);
        let further = groups.saturating_mul(u64::from(self.further));
        further.saturating_add(u64::from(self.first[tg]))
    }
}

impl Default for Costs {
    /// A backend that says nothing: some work for each request, and a callback for each device.
    fn default() -> Self {
        Self {
            call: 200,
            request: 50,
            addresses: AddressCosts::default(),
            addresses_of_all: AddressCosts::default(),
            most: u32::MAX,
            device: 500,
        }
    }
}

const NO_ADDRESSES: AddressCosts = AddressCosts {
    first: [0; 4],
    further: 0,
};

impl Costs {
    /// Of what costs nothing: the beginning of a sum.
    pub const NOTHING: Self = Self {
        call: 0,
        request: 0,
        addresses: NO_ADDRESSES,
        addresses_of_all: NO_ADDRESSES,
        most: 0,
        device: 0,
    };

    /// Of both: of requests that go to several backends.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            call: self.call.saturating_add(other.call),
            request: self.request.saturating_add(other.request),
            addresses: self.addresses.and(other.addresses),
            addresses_of_all: self.addresses_of_all.and(other.addresses_of_all),
            most: self.most.saturating_add(other.most),
            device: self.device.saturating_add(other.device),
        }
    }

    /// From here on a call is worth waking another thread for, which goes on with the caller's other
    /// work, in nanoseconds.
    pub const LONG_CALL: u32 = 2_000;

    /// Whether a call alone lasts so long that it is to be treated like one that can block: other rings
    /// are served meanwhile, and those of the same frame that come meanwhile share the next call.
    #[must_use]
    pub fn is_long_call(&self) -> bool {
        self.call >= Self::LONG_CALL
    }

    /// Of a request, in nanoseconds.
    #[must_use]
    pub fn of(&self, request: &Invalidation) -> u64 {
        let more = match request.scope {
            Scope::Addresses { asid, range } => {
                self.of_addresses(asid.is_none(), range.granule, range.bytes)
            }
            Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => u64::from(self.device),
            _ => 0,
        };
        u64::from(self.request) + more
    }

    /// Of the addresses of a request alone.
    #[inline]
    pub(crate) fn of_addresses(&self, every: bool, granule: Option<Granule>, bytes: u64) -> u64 {
        let costs = if every {
            &self.addresses_of_all
        } else {
            &self.addresses
        };
        costs.of(granule, bytes).min(u64::from(self.most))
    }
}
