//! The obvious SMMU's stage 2.

use super::Ram;
use super::attributes::{self, Memory};
use super::known::{Table, Tag, Way};
use super::model::{Registers, Request, Wrong, bit, bits, size_of_code};
use super::tables::{address_in, is_block, spans};

/// What of an STE and the registers stage 2 needs. Off, it maps everything to itself.
pub(crate) struct Second<'a> {
    pub(crate) on: bool,
    pub(crate) ste: [u64; 8],
    pub(crate) regs: &'a Registers,
}

/// A page of stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Where its descriptor lies.
    pub(crate) at: u64,
    pub(crate) descriptor: u64,
    /// Where it lies.
    pub(crate) base: u64,
    pub(crate) bytes: u64,
    /// KiB, of the tables.
    pub(crate) granule: u64,
}

const CD: u8 = 0;
const TT: u8 = 1;
const IN: u8 = 2;

/// KiB of S2TG.
fn granule_of(ste: &[u64; 8]) -> Option<u64> {
    [Some(4), Some(64), Some(16), None][bits(ste[2], 47, 46) as usize]
}

fn is_wide(ste: &[u64; 8], regs: &Registers, granule: u64) -> bool {
    bit(regs.idr5.into(), 7) && bit(ste[3], 3) && granule != 64
}

fn output_width(ste: &[u64; 8], regs: &Registers, granule: u64) -> u32 {
    let oas = size_of_code(bits(regs.idr5.into(), 2, 0));
    let cap = if granule == 64 || is_wide(ste, regs, granule) {
        52
    } else {
        48
    };
    size_of_code(bits(ste[2], 50, 48)).min(oas).min(cap)
}

/// The table of start levels: the level that S2SL0 means, and which sizes of IPA it allows.
fn start(ste: &[u64; 8], regs: &Registers, granule: u64) -> Option<(i32, u32, u32)> {
    let wide = is_wide(ste, regs, granule);
    let small = bit(regs.idr3.into(), 9);
    let top = if wide || granule == 64 { 52 } else { 48 };
    match (granule, bits(ste[2], 39, 38)) {
        (4, 0) if wide && bit(ste[3], 2) => Some((-1, 49, 52)),
        (4, 0) => Some((2, 22, 34)),
        (4, 1) => Some((1, 31, 43)),
        (4, 2) => Some((0, 40, top)),
        (4, 3) if small => Some((3, 13, 25)),
        (16, 0) => Some((3, 15, 29)),
        (16, 1) => Some((2, 26, 40)),
        (16, 2) => Some((1, 37, top.min(51))),
        (16, 3) if wide => Some((0, 48, 52)),
        (64, 0) => Some((3, 17, 33)),
        (64, 1) => Some((2, 30, 46)),
        (64, 2) => Some((1, 43, 52)),
        _ => None,
    }
}

/// The conditions of C_BAD_STE under Config=11x.
pub(crate) fn is_wrong(ste: &[u64; 8], regs: &Registers) -> bool {
    let (idr0, idr5) = (u64::from(regs.idr0), u64::from(regs.idr5));
    let Some(granule) = granule_of(ste) else {
        return true;
    };
    let supported = match granule {
        4 => bit(idr5, 4),
        16 => bit(idr5, 5),
        _ => bit(idr5, 6),
    };
    let oas = size_of_code(bits(idr5, 2, 0));
    let ias = if bit(idr0, 2) { oas.max(40) } else { oas };
    let t0sz = bits(ste[2], 37, 32) as u32;
    let large = granule == 64 || is_wide(ste, regs, granule);
    let smallest = (64 - ias).max(if large { 12 } else { 16 });
    let largest = match (bit(regs.idr3.into(), 9), granule) {
        (false, _) => 39,
        (true, 64) => 47,
        (true, _) => 48,
    };
    let size_fits = start(ste, regs, granule)
        .is_some_and(|(_, least, most)| (least..=most).contains(&(64 - t0sz)));
    let httu = bits(idr0, 7, 6);
    let (stall, big) = (bit(ste[2], 57), bit(ste[2], 52));
    let mut wrong = !bit(ste[2], 51) || !bit(idr0, 3) || !supported || !size_fits;
    wrong |= t0sz < smallest || t0sz > largest;
    wrong |= bits(ste[3], 55, 4) << 4 >= 1 << output_width(ste, regs, granule);
    wrong |= bit(ste[2], 56) && httu < 1;
    wrong |= bit(ste[2], 55) && httu < 2;
    wrong |= (bits(idr0, 22, 21) == 2 && big) || (bits(idr0, 22, 21) == 3 && !big);
    wrong |= match bits(idr0, 25, 24) {
        0 => false,
        2 => !stall,
        _ => stall,
    };
    wrong | (bits(ste[2], 15, 8) != 0 && !bit(idr0, 18))
}

impl Second<'_> {
    /// Where a CD lies.
    pub(crate) fn of_cd(&self, ram: &Ram, ipa: u64) -> Result<u64, Wrong> {
        self.of_structure(ram, ipa, CD)
    }

    /// Where a descriptor of stage 1 lies.
    pub(crate) fn of_table(&self, ram: &Ram, ipa: u64) -> Result<u64, Wrong> {
        self.of_structure(ram, ipa, TT)
    }

    fn of_structure(&self, ram: &Ram, ipa: u64, class: u8) -> Result<u64, Wrong> {
        if !self.on {
            return Ok(ipa);
        }
        let page = self.page(ram, ipa, class)?;
        let Page {
            descriptor,
            base,
            bytes,
            ..
        } = page;
        let device = attributes::is_device(descriptor, self.forces());
        if !bit(descriptor, 6) || (bit(self.ste[2], 54) && device) {
            return Err(Wrong::Second(0x13, class, ipa));
        }
        self.update(ram, &page, false);
        Ok(base + ipa % bytes)
    }

    /// A descriptor of stage 1 at an IPA is going to be written.
    pub(crate) fn before_update(&self, ram: &Ram, ipa: u64) -> Result<(), Wrong> {
        if !self.on {
            return Ok(());
        }
        let page = self.page(ram, ipa, TT)?;
        if !self.writable(page.descriptor) {
            return Err(Wrong::SecondUpdate(ipa));
        }
        self.update(ram, &page, true);
        Ok(())
    }

    /// S2AP[1], or what the hardware may make of it (S2HA, S2HD, DBM).
    fn writable(&self, descriptor: u64) -> bool {
        let hardware = bit(self.ste[2], 56) && bit(self.ste[2], 55) && bit(descriptor, 51);
        bit(descriptor, 7) || hardware
    }

    fn update(&self, ram: &Ram, page: &Page, write: bool) {
        let mut new = page.descriptor;
        if bit(self.ste[2], 56) {
            new |= 1 << 10;
        }
        if write {
            new |= 1 << 7;
        }
        if new != page.descriptor {
            let big = u64::from_be_bytes(new.to_le_bytes());
            ram.update(page.at, if bit(self.ste[2], 52) { big } else { new });
        }
    }

    /// FWB.
    fn forces(&self) -> bool {
        bit(self.regs.idr3.into(), 8) && bit(self.ste[1], 25)
    }

    /// What a page makes of the attributes that come in.
    pub(crate) fn attributes(&self, page: &Page, first: Memory) -> Memory {
        let sh = if is_wide(&self.ste, self.regs, page.granule) {
            bits(self.ste[2], 45, 44)
        } else {
            bits(page.descriptor, 9, 8)
        };
        attributes::through_stage2(first, page.descriptor, sh, self.forces())
    }

    /// Where the transaction itself goes, and its page.
    pub(crate) fn of_input(
        &self,
        ram: &Ram,
        ipa: u64,
        request: &Request,
    ) -> Result<(u64, Page), Wrong> {
        let page = self.page(ram, ipa, IN)?;
        if self.allows(&page, request) {
            self.update(ram, &page, request.write);
            Ok((page.base + ipa % page.bytes, page))
        } else {
            Err(Wrong::Second(0x13, IN, ipa))
        }
    }

    /// Whether stage 2 lets a transaction into a page.
    pub(crate) fn allows(&self, page: &Page, request: &Request) -> bool {
        let descriptor = page.descriptor;
        let executable = match bits(descriptor, 54, 53) {
            0 => true,
            1 => !bit(self.regs.idr3.into(), 4) || !request.privileged,
            2 => false,
            _ => bit(self.regs.idr3.into(), 4) && request.privileged,
        };
        match (request.write, request.execute) {
            (true, _) => self.writable(descriptor),
            (false, true) => executable,
            (false, false) => bit(descriptor, 6),
        }
    }

    /// The page of an IPA, by the tables or by what is kept of them. Places of CDs are part of the
    /// configuration.
    pub(crate) fn page(&self, ram: &Ram, ipa: u64, class: u8) -> Result<Page, Wrong> {
        let walked = self.walk(ram, ipa, class);
        let input_width = 64 - bits(self.ste[2], 37, 32) as u32;
        if class == CD || ipa >= 1 << input_width {
            return walked;
        }
        let granule = granule_of(&self.ste).expect("checked");
        let known = ram.known_tables(self.way(granule, ipa)).into_iter();
        let through_known = known.map(|table| self.walk_from(ram, ipa, class, Some(&table)));
        let found: Vec<_> = [walked].into_iter().chain(through_known).collect();
        let instead = ram.instead(bits(self.ste[2], 15, 0), ipa, &found);
        instead.unwrap_or_else(|| found[0].clone())
    }

    fn way(&self, granule: u64, ipa: u64) -> Way {
        let tag = Tag {
            vmid: bits(self.ste[2], 15, 0),
            asid: None,
            nested: false,
        };
        Way {
            tag,
            granule,
            address: ipa,
        }
    }

    /// A page, unless its access flag is a fault.
    fn used(&self, page: Page) -> Option<Page> {
        let faults = !bit(self.ste[2], 53) && !bit(self.ste[2], 56);
        (bit(page.descriptor, 10) || !faults).then_some(page)
    }

    /// The page of an IPA by the tables.
    fn walk(&self, ram: &Ram, ipa: u64, class: u8) -> Result<Page, Wrong> {
        self.walk_from(ram, ipa, class, None)
    }

    /// The same from a table that is known.
    fn walk_from(
        &self,
        ram: &Ram,
        ipa: u64,
        class: u8,
        known: Option<&Table>,
    ) -> Result<Page, Wrong> {
        let (ste, regs) = (&self.ste, self.regs);
        let granule = granule_of(ste).expect("checked");
        let (mut level, ..) = start(ste, regs, granule).expect("checked");
        let input_width = 64 - bits(ste[2], 37, 32) as u32;
        if ipa >= 1 << input_width {
            return Err(Wrong::Second(0x10, class, ipa));
        }
        let width = output_width(ste, regs, granule);
        let wide = is_wide(ste, regs, granule);
        let oas52 = size_of_code(bits(regs.idr5.into(), 2, 0)) == 52;
        let span = |level: i32| spans(granule)[(3 - level) as usize];
        let mut start_bytes = 8u64 << (input_width - span(level));
        if width > 48 {
            start_bytes = start_bytes.max(64);
        }
        let mut table = (bits(ste[3], 55, 4) << 4) / start_bytes * start_bytes;
        let mut entries = u64::MAX;
        if let Some(known) = known {
            (table, level, entries) = (known.at, 3 - known.depth as i32, granule * 1024 / 8);
        }
        loop {
            let at = table + 8 * ((ipa >> span(level)) % entries);
            entries = granule * 1024 / 8;
            let mut descriptor = ram.get(at).ok_or(Wrong::SecondWalk(class, at))?;
            if bit(ste[2], 52) {
                descriptor = u64::from_be_bytes(descriptor.to_le_bytes());
            }
            let kind = bits(descriptor, 1, 0);
            let next = kind == 3 && level < 3;
            let page = kind == 3 && level == 3;
            let block = kind == 1 && is_block(granule, level, wide, oas52);
            if !(next || page || block) {
                return Err(Wrong::Second(0x10, class, ipa));
            }
            let address = address_in(descriptor, granule, wide, oas52);
            if address >= 1 << width {
                return Err(Wrong::Second(0x11, class, ipa));
            }
            if next {
                table = address;
                level += 1;
                ram.found_table(self.way(granule, ipa).table((3 - level) as usize, table, 0));
                continue;
            }
            let bytes = 1u64 << span(level);
            let page = Page {
                at,
                descriptor,
                base: address / bytes * bytes,
                bytes,
                granule,
            };
            return self.used(page).ok_or(Wrong::Second(0x12, class, ipa));
        }
    }
}
