//! A device with a translation cache of its own (ATS), as a test makes it.

use dispatch::backend::{DeviceCache, DeviceTimeout};
use smmu_core::SubstreamId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE_SHIFT: u32 = 12;

/// Keeps a number for each page of each PASID. Always answers.
#[derive(Debug, Default)]
pub(crate) struct DeviceModel(Mutex<Pages>);

/// PASID, page number → token. `None` is a translation without PASID.
type Pages = BTreeMap<(Option<SubstreamId>, u64), u64>;

impl DeviceModel {
    pub(crate) fn put(&self, pasid: Option<SubstreamId>, addr: u64, token: u64) {
        self.pages().insert((pasid, addr >> PAGE_SHIFT), token);
    }

    pub(crate) fn get(&self, pasid: Option<SubstreamId>, addr: u64) -> Option<u64> {
        self.pages().get(&(pasid, addr >> PAGE_SHIFT)).copied()
    }

    pub(crate) fn remove(&self, pasid: Option<SubstreamId>, addr: u64) {
        self.pages().remove(&(pasid, addr >> PAGE_SHIFT));
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeviceCache for DeviceModel {
    fn invalidate(
        &self,
        pasid: Option<SubstreamId>,
        global: bool,
        addr: u64,
        size: u8,
    ) -> Result<(), DeviceTimeout> {
        let first = addr >> PAGE_SHIFT;
        let last = match size {
            0..52 => first | ((1 << size) - 1),
            _ => u64::MAX,
        };
        let every = pasid.is_none() || global;
        self.pages()
            .retain(|(own, page), _| !((every || *own == pasid) && (first..=last).contains(page)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_forgets_what_it_is_told_to_and_no_more() {
        let device = DeviceModel::default();
        let (own, other) = (Some(SubstreamId(1)), Some(SubstreamId(2)));
        let fill = || {
            for pasid in [own, other, None] {
                (0..4).for_each(|page| device.put(pasid, page << 12, page));
            }
        };
        let left = || device.pages().len();
        fill();
        device.invalidate(own, false, 0, 1).expect("answers");
        assert_eq!(
            (left(), device.get(own, 0x1000), device.get(own, 0x2000)),
            (10, None, Some(2))
        );
        device.invalidate(own, true, 0x3000, 0).expect("answers");
        assert_eq!(left(), 7);
        device.invalidate(None, false, 0, 52).expect("answers");
        assert_eq!(left(), 0);
    }
}
