//! Tables, contexts and streams that share ASIDs, and random changes of them.

pub(crate) use crate::naive::dice::Dice;

use crate::memory::{Configuration, Memory};
use crate::naive::attributes::{INCOMING, Memory as Attributes, STREAMING};
use crate::naive::model::{Registers, Request};
use crate::second::Second;
use smmu_core::caps::Capabilities;
use smmu_core::config::StreamTable;
use smmu_core::spec::register::{StrtabBase, StrtabBaseCfg};
use smmu_core::translate::Setup;
use std::collections::BTreeMap;

/// Configuration lies below, translation tables from here on.
pub(crate) const CONFIGURATION_END: u64 = 0x1_0000;
pub(crate) const RAM_BYTES: u64 = 0x18_0000;
/// Where STEs can lie: in a linear table, or in one of two second levels.
const STES: [u64; 3] = [0, 0x1000, 0x1400];
/// CD tables: linear ones, a first level, and second levels.
const LINEAR_CDS: [u64; 2] = [0x2000, 0x2400];
const FIRST_CDS: u64 = 0x3000;
const SECOND_CDS: [u64; 2] = [0x4000, 0x5000];

pub(crate) const STREAMS: [u32; 5] = [0, 1, 2, 5, 11];
pub(crate) const SUBSTREAMS: [u32; 3] = [0, 1, 2];
pub(crate) const ASIDS: [u64; 3] = [1, 2, 0x0103];
pub(crate) const VMIDS: [u64; 2] = [0, 3];
/// 4 KiB pages within 2 MiB that are of interest: groups of eight, and one 16 and 64 KiB
/// page and the next.
pub(crate) const PAGES: [u64; 8] = [0, 1, 3, 4, 7, 8, 15, 16];

/// Outputs of stage 1, in pages of each size: the first, and how many. They lie beyond the memory.
pub(crate) const FIRST_OUTPUT: u64 = 384;
pub(crate) const OUTPUTS: u64 = 6;

/// MemAttr, MTCFG, ALLOCCFG and SHCFG of an STE, from its bit 32 on: nothing, Device-nGnRE, write-through
/// and outer shareable, no allocation.
const OVERRIDES: [u64; 4] = [1 << 12, 0x11 | 1 << 12, 0x1a | 2 << 12, 8 << 5 | 1 << 12];

/// The address bits that choose table entries.
const LOW: u64 = (1 << 39) - 1;

/// A translation table's entry that addresses of interest use.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    /// log2 of what it maps.
    span: u32,
    /// The table below; at the last level there is none.
    next: Option<u64>,
}

/// The start of a tree of tables.
#[derive(Clone, Copy, Debug)]
struct Root {
    at: u64,
    /// KiB.
    granule: u64,
}

/// Values to be written to addresses.
pub(crate) type Change = Vec<(u64, u64)>;

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) registers: Registers,
    two_level: bool,
    roots: Vec<Root>,
    entries: Vec<Entry>,
    /// The guest's own stage 2, in as many ways.
    second: Second,
}

impl World {
    /// Memory and what lies where in it.
    pub(crate) fn new(dice: &mut Dice) -> (Self, Memory) {
        let memory = Memory::new(RAM_BYTES);
        let two_level = dice.percent(40);
        let mut caps = Capabilities::default();
        caps.idr0.set_s2p(dice.percent(65));
        caps.idr0.set_vmid16(caps.idr0.s2p());
        caps.idr5.set_gran16k(true);
        caps.idr5.set_gran64k(true);
        caps.idr1.set_attr_types_ovr(true);
        caps.idr3.set_fwb(dice.percent(50));
        let base = StrtabBase::from_bits(STES[0]);
        let cfg = StrtabBaseCfg::from_bits(4 | 6 << 6 | u32::from(two_level) << 16);
        let mut world = Self {
            setup: Setup {
                streams: StreamTable::from_registers(base, cfg, &caps),
                caps,
                e2h: false,
                record_bad_stream_id: true,
            },
            registers: Registers {
                idr0: caps.idr0.into_bits(),
                idr1: caps.idr1.into_bits(),
                idr3: caps.idr3.into_bits(),
                idr5: caps.idr5.into_bits(),
                strtab_base: base.into_bits(),
                strtab_base_cfg: cfg.into_bits(),
                e2h: false,
            },
            two_level,
            roots: Vec::new(),
            entries: Vec::new(),
            second: Second::default(),
        };
        world.lay_out();
        world.fill(dice, &memory);
        (world, memory)
    }

    /// Places the tables of 39-bit trees: three of 4 KiB, one each of 16 and 64 KiB.
    fn lay_out(&mut self) {
        let mut free = CONFIGURATION_END;
        let mut take = |bytes: u64| {
            let at = free.next_multiple_of(bytes);
            free = at + bytes;
            at
        };
        for granule in [4, 4, 4, 16, 64] {
            let spans: &[u32] = match granule {
                4 => &[30, 21, 12],
                16 => &[36, 25, 14],
                _ => &[29, 16],
            };
            let root = take((8u64 << (39 - spans[0])).max(64));
            self.roots.push(Root { at: root, granule });
            let mut known: BTreeMap<u64, Option<u64>> = BTreeMap::new();
            for address in addresses() {
                let mut table = root;
                for &span in spans {
                    let index = (address & LOW) >> span;
                    let index = if table == root {
                        index
                    } else {
                        index % (granule * 128)
                    };
                    let at = table + 8 * index;
                    let last = span == spans[spans.len() - 1];
                    let next = *known.entry(at).or_insert_with(|| {
                        let next = (!last).then(|| take(granule * 1024));
                        self.entries.push(Entry { at, span, next });
                        next
                    });
                    table = next.unwrap_or(0);
                }
            }
        }
        self.second = Second::lay_out(free);
    }

    /// Everything gets its first value.
    fn fill(&self, dice: &mut Dice, memory: &Memory) {
        for entry in &self.entries {
            memory.set(entry.at, descriptor(dice, entry));
        }
        self.second.fill(dice, memory);
        let first_levels = self.first_levels();
        for (at, value) in first_levels {
            memory.set(at, value);
        }
        for at in self.ste_places() {
            memory.set_all(at, &self.ste(dice));
        }
        for at in cd_places() {
            memory.set_all(at, &self.cd(dice));
        }
    }

    /// First-level descriptors of streams and contexts, all valid.
    fn first_levels(&self) -> Change {
        let mut all = vec![
            (FIRST_CDS, SECOND_CDS[0] | 1),
            (FIRST_CDS + 8, SECOND_CDS[1] | 1),
        ];
        if self.two_level {
            all.push((STES[0], STES[1] | 5));
        }
        all
    }

    fn ste_places(&self) -> Vec<u64> {
        let tables = if self.two_level {
            &STES[1..]
        } else {
            &STES[..1]
        };
        let places = tables
            .iter()
            .flat_map(|table| STREAMS.map(|stream| table + 64 * u64::from(stream)));
        places.collect()
    }

    /// Where configuration lies.
    pub(crate) fn configuration(&self) -> Configuration {
        let mut words = self.second.places_of_cds();
        words.sort_unstable();
        Configuration {
            end: CONFIGURATION_END,
            words,
        }
    }

    /// An intermediate address of interest.
    pub(crate) fn ipa(&self, dice: &mut Dice) -> u64 {
        self.second.ipa(dice)
    }

    /// The first intermediate address of an entry, if it is one of stage 2.
    pub(crate) fn ipa_at(&self, at: u64) -> Option<u64> {
        self.second.ipa_at(at)
    }

    /// What another configuration or another table would be; in the middle of an access
    /// (`torn`) never more than one word, since a structure is not read in one piece.
    pub(crate) fn change(&self, dice: &mut Dice, torn: bool) -> Change {
        match dice.below(100) {
            0..25 if self.setup.caps.idr0.s2p() => self.second.change(dice),
            0..70 => {
                let entry = dice.pick(&self.entries);
                vec![(entry.at, descriptor(dice, &entry))]
            }
            70..88 => {
                let at = dice.pick(&cd_places());
                let cd = self.cd(dice);
                structure(dice, at, &cd, torn.then_some(3))
            }
            88..97 => {
                let at = dice.pick(&self.ste_places());
                let ste = self.ste(dice);
                // Stage 2's words belong together: a table that is read by another granule than its own
                // could lead to the configuration.
                structure(dice, at, &ste, torn.then_some(2))
            }
            _ => {
                let (at, value) = dice.pick(&self.first_levels());
                let other = if at < FIRST_CDS {
                    STES[2] | 5
                } else {
                    SECOND_CDS[0] | 1
                };
                vec![(at, dice.pick(&[value, value, other, 0]))]
            }
        }
    }

    /// Another value for an entry of a table; if it is one of stage 2, also its first intermediate
    /// address.
    pub(crate) fn change_at(&self, dice: &mut Dice, at: u64) -> Option<(Change, Option<u64>)> {
        if let Some((change, ipa)) = self.second.change_at(dice, at) {
            return Some((change, Some(ipa)));
        }
        let entry = self.entries.iter().find(|entry| entry.at == at)?;
        Some((vec![(at, descriptor(dice, entry))], None))
    }

    fn ste(&self, dice: &mut Dice) -> [u64; 4] {
        let config = if dice.percent(92) {
            if self.setup.caps.idr0.s2p() {
                dice.pick(&[5, 5, 5, 7, 7, 7, 7, 6])
            } else {
                5
            }
        } else {
            dice.pick(&[0, 4])
        };
        let log2size = dice.pick(&[0, 3, 3]);
        // Alone, linear, two levels of 64.
        let (table, format, log2size) = dice.pick(&[
            (LINEAR_CDS[0], 0, log2size),
            (LINEAR_CDS[0], 0, 3),
            (LINEAR_CDS[1], 0, 3),
            (FIRST_CDS, 1, 7),
        ]);
        let stage2 = self.second.ste(dice);
        let first = dice.flag(0, 97) | config << 1 | format << 4 | table | log2size << 59;
        [
            first,
            // S1DSS; S2FWB, which all streams of a VMID have to agree about; overrides.
            dice.pick(&[0, 1, 2, 2, 2, 2, 2, 2]) | 1 << 25 | dice.pick(&OVERRIDES) << 32,
            dice.pick(&VMIDS) | stage2[0],
            stage2[1],
        ]
    }

    fn cd(&self, dice: &mut Dice) -> [u64; 4] {
        let (lower, upper) = (dice.pick(&self.roots), dice.pick(&self.roots));
        let granule_code = |root: &Root, codes: [u64; 3]| match root.granule {
            4 => codes[0],
            16 => codes[1],
            _ => codes[2],
        };
        let size = dice.pick(&[25, 25, 25, 25, 25, 30]);
        let mut first = size | size << 16 | 5 << 32 | 1 << 41 | 1 << 46;
        first |= granule_code(&lower, [0, 2, 1]) << 6 | granule_code(&upper, [2, 1, 3]) << 22;
        first |= dice.flag(31, 97) | dice.flag(14, 4) | dice.flag(30, 4) | dice.flag(45, 50);
        first |= dice.flag(36, 10) | dice.flag(40, 10) | dice.flag(38, 50) | dice.flag(39, 50);
        first |= dice.pick(&ASIDS) << 48;
        [
            first,
            lower.at | dice.flag(1, 20),
            upper.at | dice.flag(1, 20),
            0xf404_ff44,
        ]
    }

    pub(crate) fn request(&self, dice: &mut Dice) -> Request {
        let mut address = address(dice) | dice.below(4096);
        if dice.percent(12) {
            address ^= dice.word() << 56;
        }
        if dice.percent(3) {
            address ^= 1 << dice.below(64);
        }
        let write = dice.percent(35);
        let stream = if dice.percent(99) {
            dice.pick(&STREAMS)
        } else {
            dice.pick(&[20, 0x10_0000])
        };
        Request {
            stream,
            substream: dice.percent(60).then(|| {
                if dice.percent(96) {
                    dice.pick(&[1, 1, 1, 2, 2, 2, 0])
                } else {
                    dice.pick(&[65, 0xfffff])
                }
            }),
            address,
            write,
            execute: !write && dice.percent(30),
            privileged: dice.percent(50),
            incoming: incoming_of(stream),
        }
    }
}

/// What a device's accesses come with.
pub(crate) fn incoming_of(stream: u32) -> Attributes {
    if stream % 2 == 0 { INCOMING } else { STREAMING }
}

/// A page of interest.
pub(crate) fn address(dice: &mut Dice) -> u64 {
    let low = dice.below(2) << 30 | dice.below(2) << 21 | dice.pick(&PAGES) << 12;
    if dice.percent(35) {
        low | !0 << 39
    } else {
        low
    }
}

fn addresses() -> impl Iterator<Item = u64> {
    let blocks = (0..4u64).map(|n| (n & 1) << 30 | (n >> 1) << 21);
    blocks.flat_map(|block| PAGES.map(|page| block | page << 12))
}

fn cd_places() -> Vec<u64> {
    let tables = LINEAR_CDS.iter().chain(&SECOND_CDS);
    let places = tables.flat_map(|table| SUBSTREAMS.map(|n| table + 64 * u64::from(n)));
    places.collect()
}

/// New words for a structure, or only one of the first so many.
fn structure(dice: &mut Dice, at: u64, words: &[u64; 4], torn: Option<usize>) -> Change {
    let places = (0..4).map(|index| (at + 8 * index as u64, words[index]));
    let all: Change = places.collect();
    match torn {
        Some(first) => vec![dice.pick(&all[..first])],
        None => all,
    }
}

fn descriptor(dice: &mut Dice, entry: &Entry) -> u64 {
    if dice.percent(4) {
        return dice.pick(&[0, 2]);
    }
    if let Some(next) = entry.next {
        if dice.percent(80) {
            let limits = if dice.percent(10) {
                dice.below(32) << 59
            } else {
                0
            };
            return next | 3 | limits;
        }
    }
    // Outputs lie beyond the memory: a walk that takes one for a table, by another granule than the
    // tables' own, never comes to the configuration, which the past has its own version of.
    let mut leaf = (FIRST_OUTPUT + dice.below(OUTPUTS)) << entry.span
        | if entry.next.is_none() { 3 } else { 1 };
    leaf |= dice.flag(6, 80) | dice.flag(7, 25) | dice.flag(10, 96) | dice.flag(11, 65) | 3 << 8;
    leaf | dice.flag(53, 20) | dice.flag(54, 20) | dice.below(8) << 2
}
