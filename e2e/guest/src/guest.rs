//! What a guest's kernel has, as far as the device is concerned: tables of stage 1, contexts, and commands that make
//! the SMMU forget what they said before.

use crate::driver::Driver;
use crate::memory::{Memory, PAGE};
use crate::tables::{self, Tables};
use crate::transfers::{END, WINDOW};
use crate::vmm::Vmm;
use crate::{VA, VA_WINDOW, driver};
use anyhow::Result;
use smmu_core::command::{AtcInv, Cfgi, Command, Tlbi};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, StreamId, SubstreamId, Vmid};
use std::ops::Range;

/// The device's stream in the guest, which is neither its own nor the one of the checks before.
pub(crate) const VSID: StreamId = StreamId(0x23);
/// Where the guest has its memory. Not where the checks before had theirs: what is left of those in a cache must
/// not pass for it.
pub(crate) const IPA: u64 = 0x35_7910_0000;
/// The guest's ASID, the only one that the host sees of it.
const ASID: u16 = 0x2B1;
/// The driver puts one there that the guest has no business to name.
const VMID: Vmid = Vmid(0);

/// The guest's pages of memory: what the device uses, two address spaces, its driver.
const SPACES: [usize; 2] = [END / PAGE, END / PAGE + tables::PAGES];
const DRIVER: usize = SPACES[1] + tables::PAGES;
/// All of them.
pub(crate) const PAGES: usize = DRIVER + driver::PAGES;

/// Ways to have the window forgotten; one more than these is everything, and the last is another context.
const BY_ASID: usize = 0;
pub(crate) const BY_PAGE: usize = 1;
const BY_RANGE: usize = 2;
const BY_ADDRESS: usize = 3;
pub(crate) const WAYS: usize = 6;
pub(crate) const CONTEXT: usize = WAYS - 1;

/// See the [module](self).
pub(crate) struct Guest<'a> {
    pub(crate) driver: Driver<'a>,
    /// Two address spaces with one ASID, the same but for the window.
    spaces: [Tables<'a>; 2],
    /// Whose context descriptor the stream has, and whose tables that leads to.
    used: usize,
    walked: usize,
    /// Its SMMU has range invalidation.
    ranges: bool,
}

impl<'a> Guest<'a> {
    /// Boots: the SMMU translates, and no stream has an entry yet.
    pub(crate) fn boot(memory: &'a Memory, vmm: &Vmm) -> Result<Self> {
        let space = |page| -> Result<Tables<'a>> {
            let mut tables = Tables::new(memory, page, IPA, ASID.into())?;
            tables.map(VA, IPA, memory.len())?;
            Ok(tables)
        };
        Ok(Self {
            spaces: [space(SPACES[0])?, space(SPACES[1])?],
            driver: Driver::boot(memory, DRIVER, IPA, &vmm.registers)?,
            used: 0,
            walked: 0,
            ranges: vmm.caps.idr3.ril(),
        })
    }

    /// Has the stream be what the entry says.
    pub(crate) fn configure(&mut self, entry: [u64; 2]) -> Result<()> {
        self.driver.configure(VSID, entry)
    }

    /// Leads the window to a part of memory, and has what is cached of it forgotten in one of several ways.
    pub(crate) fn remap(&mut self, way: usize, part: &Range<usize>) -> Result<()> {
        let ipa = IPA + part.start as u64;
        if way == CONTEXT {
            self.walk_others(ipa)?;
            let root = self.spaces[self.walked].root();
            self.spaces[self.used].begin_at(root)?;
            return self.driver.issue(&[change_of_context(), of_asid()]);
        }
        let tables = &mut self.spaces[self.walked];
        tables.clear(VA_WINDOW, WINDOW)?;
        self.driver.issue(&forgetting(way, self.ranges))?;
        tables.map(VA_WINDOW, ipa, WINDOW)
    }

    /// The same through another context descriptor of the stream's.
    pub(crate) fn exchange(&mut self, part: &Range<usize>) -> Result<()> {
        self.walk_others(IPA + part.start as u64)?;
        self.used = 1 - self.used;
        let root = self.spaces[self.walked].root();
        self.spaces[self.used].begin_at(root)?;
        self.configure(self.entry())?;
        self.driver.issue(&[of_asid()])
    }

    /// From now on the other tables are to be walked, in which the window leads to `ipa`. It stays where it was in
    /// those before, for whoever still walks them.
    fn walk_others(&mut self, ipa: u64) -> Result<()> {
        self.walked = 1 - self.walked;
        self.spaces[self.walked].map(VA_WINDOW, ipa, WINDOW)
    }

    /// The stream table entry.
    pub(crate) fn entry(&self) -> [u64; 2] {
        self.spaces[self.used].entry()
    }
}

/// What makes the window be forgotten; without range invalidation always page by page.
fn forgetting(way: usize, ranges: bool) -> Vec<Command> {
    let (vmid, asid) = (VMID, Asid(ASID));
    let whole = TlbiRange {
        bytes: WINDOW as u64,
        granule: Some(Granule::K4),
        ..TlbiRange::page(VA_WINDOW)
    };
    let parts = match ranges && way != BY_PAGE {
        true => vec![whole],
        false => (0..WINDOW as u64)
            .step_by(PAGE)
            .map(|offset| TlbiRange::page(VA_WINDOW + offset))
            .collect(),
    };
    let one = |range| match way {
        BY_PAGE | BY_RANGE => Tlbi::NhVa { vmid, asid, range },
        _ => Tlbi::NhVaa { vmid, range },
    };
    match way {
        BY_ASID => vec![of_asid()],
        BY_PAGE | BY_RANGE | BY_ADDRESS => parts.into_iter().map(one).map(Command::Tlbi).collect(),
        _ => vec![Command::Tlbi(Tlbi::NhAll { vmid })],
    }
}

fn of_asid() -> Command {
    let asid = Asid(ASID);
    Command::Tlbi(Tlbi::NhAsid { vmid: VMID, asid })
}

/// The context descriptor has changed.
pub(crate) fn change_of_context() -> Command {
    Command::Cfgi(Cfgi::Cd {
        stream: VSID,
        substream: SubstreamId(0),
        leaf: true,
    })
}

/// All that the device has cached of its own. This one caches nothing.
pub(crate) fn whole_device() -> Command {
    Command::AtcInv(AtcInv {
        stream: VSID,
        substream: None,
        global: false,
        addr: 0,
        size: 52,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_but_the_last_has_commands_of_its_own() {
        for (ranges, of_range) in [(true, 1), (false, WINDOW / PAGE)] {
            let ways: Vec<_> = (0..CONTEXT).map(|way| forgetting(way, ranges)).collect();
            let lengths: Vec<_> = ways.iter().map(Vec::len).collect();
            assert_eq!(lengths, [1, WINDOW / PAGE, of_range, of_range, 1]);
            let other = |way: usize| ways[..way].iter().all(|before| *before != ways[way]);
            let same = |way| way == BY_RANGE && !ranges;
            assert!((0..CONTEXT).all(|way| other(way) != same(way)), "{ways:?}");
        }
    }
}
