//! Stage 1 of a random world.

use super::dice::Dice;
use super::second::SecondStage;
use super::tables::{Arena, Input, Mapping, Tree};
use crate::layout::{PAGES, RAM_END};
use smmu_core::range::Granule;
use smmu_core::spec::cd::{Cd, CdWord0, CdWord1};
use smmu_core::spec::pte::{LeafDescriptor, TableDescriptor};
use smmu_core::spec::ste::{Ste, SteWord0, SteWord1};

/// A context.
#[derive(Clone, Debug)]
pub(super) struct FirstStage {
    lower: Option<Tree>,
    upper: Option<Tree>,
    /// What structures add to addresses of memory, under stage 2.
    shift: u64,
    output_code: u8,
}

/// Blocks and pages that are mapped.
const REGIONS: usize = 6;

/// The level at which a walk of stage 1 starts.
fn start_level(granule: Granule, input_bits: u32) -> u8 {
    (0..=3)
        .rev()
        .find(|&level| input_bits <= granule.leaf_shift(level) + granule.shift() - 3)
        .unwrap_or(0)
}

/// What a half says in word 0 of a CD and in the word of its table, as the lower half says it. The upper
/// one says it 16 bits further up in word 0, and in word 2 as the lower one in word 1 (5.4).
fn words(half: &Tree, granule: u8, no_hierarchy: bool) -> (u64, u64) {
    let sizes = CdWord0::new()
        .with_t0sz(64 - half.input_bits as u8)
        .with_tg0(granule);
    let table = CdWord1::new()
        .with_ttb0(half.named_root() >> 4)
        .with_had0(no_hierarchy);
    (sizes.into_bits(), table.into_bits())
}

impl FirstStage {
    pub(super) fn random(dice: &mut Dice, arena: &mut Arena, second: Option<&SecondStage>) -> Self {
        let shift = second.map_or(0, SecondStage::shift);
        let (lower, upper) = match dice.below(10) {
            0..6 => (true, false),
            6 => (false, true),
            _ => (true, true),
        };
        let mut half = |there: bool, input| {
            there.then(|| {
                let granule = dice.granule();
                let input_bits = dice.one_of(&[25, 30, 32, 36, 39, 40, 42, 44, 47, 48, 48]);
                let start = start_level(granule, input_bits);
                Tree::new(arena, input, granule, start, input_bits, shift)
            })
        };
        let (lower, upper) = (half(lower, Input::Lower), half(upper, Input::Upper));
        Self {
            lower,
            upper,
            shift,
            output_code: dice.size_code(second.map_or(0, SecondStage::table_bits)),
        }
    }

    /// Writes the CD and names it in the STE; where it lies.
    pub(super) fn describe(&self, dice: &mut Dice, arena: &mut Arena, ste: &mut Ste) -> u64 {
        let at = arena.take(Cd::BYTES.max(0x1000));
        let named = at.wrapping_add(self.shift);
        ste.0[0] = SteWord0::from_bits(ste.0[0])
            .with_s1contextptr(named >> 6)
            .into_bits();
        ste.0[1] |= SteWord1::new().with_s1dss(dice.below(3) as u8).into_bits();
        let word = CdWord0::new()
            .with_v(true)
            .with_aa64(true)
            .with_a(true)
            .with_r(dice.percent(95))
            .with_ips(self.output_code)
            .with_affd(dice.percent(15))
            .with_wxn(dice.percent(10))
            .with_tbi0(dice.percent(20))
            .with_tbi1(dice.percent(20))
            .with_asid(dice.one_of(&[0, 1, 0xFF, 0x100, 0xFFFF]))
            .with_epd0(self.lower.is_none())
            .with_epd1(self.upper.is_none());
        let mut word = word.into_bits();
        let (mut first, mut second) = (0, 0);
        if let Some(half) = &self.lower {
            let tg0 = match half.granule {
                Granule::K4 => 0,
                Granule::K64 => 1,
                Granule::K16 => 2,
            };
            let (sizes, table) = words(half, tg0, dice.percent(10));
            (word, first) = (word | sizes, table);
        }
        if let Some(half) = &self.upper {
            let tg1 = match half.granule {
                Granule::K16 => 1,
                Granule::K4 => 2,
                Granule::K64 => 3,
            };
            let (sizes, table) = words(half, tg1, dice.percent(10));
            (word, second) = (word | sizes << 16, table);
        }
        let mair = 0xFF44_0C04_00BB_4400;
        arena.write(at, &[word, first, second, mair]);
        at
    }

    /// Maps some pages and blocks; under stage 2 also there, and everything that stage 1 lies in.
    pub(super) fn fill(
        &self,
        dice: &mut Dice,
        arena: &mut Arena,
        second: Option<&SecondStage>,
        addresses: &mut Vec<u64>,
    ) {
        let halves: Vec<Tree> = self.lower.iter().chain(&self.upper).copied().collect();
        let mut ipas = Vec::new();
        let least_private = dice.percent(25);
        for _ in 0..REGIONS {
            let tree = dice.one_of(&halves);
            let bits = tree.input_bits;
            let input = match dice.below(8) {
                0 => dice.below(0x1_0000),
                1 => (1 << bits) - 1 - dice.below(0x1_0000),
                _ => dice.bits() & ((1 << bits) - 1),
            } & !3;
            let level = leaf_level(dice, &tree);
            let output = match second {
                None => dice.multiple(1 << tree.granule.leaf_shift(level), PAGES, RAM_END),
                Some(second) => second.free_address(dice),
            };
            let attributes = page(dice);
            let mapping = Mapping {
                input,
                level,
                output,
                attributes,
            };
            tree.map(
                arena,
                &mapping,
                || if least_private { table(dice) } else { 0 },
            );
            let mask = (1u64 << tree.granule.leaf_shift(level)) - 1;
            ipas.push(output & !mask | input & mask);
            let high = if tree.input == Input::Upper {
                !0 << bits
            } else {
                0
            };
            addresses.push(input | high);
        }
        if let Some(second) = second {
            second.cover(dice, arena, &ipas);
        }
    }
}

/// A level that may hold a page or block, below or at the start.
fn leaf_level(dice: &mut Dice, tree: &Tree) -> u8 {
    let highest = if tree.granule == Granule::K4 { 1 } else { 2 };
    let level = dice.one_of(&[3, 3, 3, 2, 2, 1]);
    level.clamp(highest, 3).max(tree.start_level)
}

/// Attributes of a page or block.
fn page(dice: &mut Dice) -> u64 {
    LeafDescriptor::new()
        .with_attr_index(dice.below(8) as u8)
        .with_unprivileged(dice.percent(50))
        .with_read_only(dice.percent(20))
        .with_sh(dice.one_of(&[0, 2, 3]))
        .with_af(dice.percent(92))
        .with_ng(dice.percent(50))
        .with_contiguous(dice.percent(10))
        .with_dbm(dice.percent(5))
        .with_pxn(dice.percent(20))
        .with_uxn(dice.percent(20))
        .into_bits()
}

/// Attributes of a table.
fn table(dice: &mut Dice) -> u64 {
    TableDescriptor::new()
        .with_ap_table_read_only(dice.percent(15))
        .with_ap_table_no_unprivileged(dice.percent(15))
        .with_pxn_table(dice.percent(15))
        .with_xn_table(dice.percent(15))
        .into_bits()
}
