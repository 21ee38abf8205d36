//! Stage 2 of a random world.

use super::dice::Dice;
use super::tables::{Arena, Input, Mapping, Tree};
use crate::layout::{PAGES, RAM_END, TABLES};
use smmu_core::range::Granule;
use smmu_core::spec::pte::Stage2LeafDescriptor;
use smmu_core::spec::ste::{Ste, SteWord2, SteWord3};

/// A stage 2.
#[derive(Clone, Debug)]
pub(super) struct SecondStage {
    tree: Tree,
    /// Where the tables of stage 1 appear in it.
    tables_at: u64,
}

/// Pages and blocks that are mapped where stage 1 does not translate.
const REGIONS: usize = 6;
/// Nearer to each other than this, tables of stage 1 lie.
const TABLES_SPAN: u64 = 16 << 20;
/// Log2 of the most tables that stand behind each other at the start.
const MOST_CONCATENATED: u32 = 4;

impl SecondStage {
    pub(super) fn random(dice: &mut Dice, arena: &mut Arena) -> Self {
        let granule = dice.granule();
        let input_bits = dice.one_of(&[28, 30, 32, 34, 36, 39, 40, 41, 42, 43, 44, 44]);
        let stride = granule.shift() - 3;
        let fits = |level: &u8| {
            let entry = granule.leaf_shift(*level);
            (entry + 1..=entry + stride + MOST_CONCATENATED).contains(&input_bits)
        };
        // The codes of S2SL0 reach three levels.
        let highest = if granule == Granule::K4 { 0 } else { 1 };
        let levels: Vec<u8> = (highest..=highest + 2).filter(fits).collect();
        // Few walks start in several tables.
        let start_level = if dice.percent(15) {
            dice.one_of(&levels)
        } else {
            levels[0]
        };
        let tree = Tree::new(
            arena,
            Input::Intermediate,
            granule,
            start_level,
            input_bits,
            0,
        );
        let last = (1u64 << input_bits) - TABLES_SPAN;
        let tables_at = match dice.below(4) {
            0 if last > TABLES => TABLES,
            1 => dice.multiple(TABLES_SPAN, 0, last),
            _ => dice.multiple(TABLES_SPAN, 0, last.min(1 << 36)),
        };
        Self { tree, tables_at }
    }

    /// What stage 1 adds to an address of its tables' memory.
    pub(super) fn shift(&self) -> u64 {
        self.tables_at.wrapping_sub(TABLES)
    }

    /// So many bits name the tables of stage 1.
    pub(super) fn table_bits(&self) -> u32 {
        u64::BITS - (self.tables_at + TABLES_SPAN - 1).leading_zeros()
    }

    /// An intermediate address away from the tables of stage 1, most often.
    pub(super) fn free_address(&self, dice: &mut Dice) -> u64 {
        dice.multiple(0x1000, 0, 1 << self.tree.input_bits)
    }

    /// Writes it into the STE.
    pub(super) fn describe(&self, dice: &mut Dice, ste: &mut Ste) {
        let tree = &self.tree;
        let (base, granule) = match tree.granule {
            Granule::K4 => (2, 0),
            Granule::K64 => (3, 1),
            Granule::K16 => (3, 2),
        };
        let size = dice.size_code(tree.input_bits);
        ste.0[2] = SteWord2::new()
            .with_s2vmid(dice.one_of(&[0, 1, 0xFF, 0x100, 0xFFFF]))
            .with_s2t0sz(64 - tree.input_bits as u8)
            .with_s2sl0(base - tree.start_level)
            .with_s2tg(granule)
            .with_s2ps(size)
            .with_s2aa64(true)
            .with_s2affd(dice.percent(15))
            .with_s2ptw(dice.percent(15))
            .with_s2r(dice.percent(95))
            .into_bits();
        ste.0[3] = SteWord3::new().with_s2ttb(tree.root >> 4).into_bits();
    }

    /// Maps pages and blocks for a stream without stage 1.
    pub(super) fn fill(&self, dice: &mut Dice, arena: &mut Arena, addresses: &mut Vec<u64>) {
        for _ in 0..REGIONS {
            let bits = self.tree.input_bits;
            let input = match dice.below(8) {
                0 => dice.below(0x1_0000),
                1 => (1 << bits) - 1 - dice.below(0x1_0000),
                _ => dice.bits() & ((1 << bits) - 1),
            } & !3;
            self.page(dice, arena, input);
            addresses.push(input);
        }
    }

    /// Maps what a nested translation needs: all tables of stage 1, and where it leads.
    pub(super) fn cover(&self, dice: &mut Dice, arena: &mut Arena, ipas: &[u64]) {
        let block = self.tree.granule.leaf_shift(2);
        let whole = dice.percent(50)
            && self.shift() & ((1 << block) - 1) == 0
            && self.tree.start_level <= 2;
        let level = if whole { 2 } else { 3 };
        let bytes = 1u64 << self.tree.granule.leaf_shift(level);
        // Tables of stage 2 itself lie among them; that they are mapped as well does no harm.
        let used = arena.take(bytes.max(0x1000));
        for at in (TABLES & !(bytes - 1)..used).step_by(bytes as usize) {
            let mapping = Mapping {
                input: at.wrapping_add(self.shift()),
                level,
                output: at,
                attributes: table_page(dice),
            };
            self.tree.map(arena, &mapping, || 0);
        }
        for &ipa in ipas {
            if dice.percent(93) && ipa >> self.tree.input_bits == 0 {
                self.page(dice, arena, ipa);
            }
        }
    }

    fn page(&self, dice: &mut Dice, arena: &mut Arena, input: u64) {
        let highest = if self.tree.granule == Granule::K4 {
            1
        } else {
            2
        };
        let level = dice.one_of(&[3, 3, 3, 2, 2, 1]);
        let level = level.clamp(highest, 3).max(self.tree.start_level);
        let mapping = Mapping {
            input,
            level,
            output: dice.multiple(1 << self.tree.granule.leaf_shift(level), PAGES, RAM_END),
            attributes: page(dice),
        };
        self.tree.map(arena, &mapping, || 0);
    }
}

fn page(dice: &mut Dice) -> u64 {
    Stage2LeafDescriptor::new()
        .with_mem_attr(dice.below(16) as u8)
        .with_readable(dice.percent(85))
        .with_writable(dice.percent(85))
        .with_sh(dice.one_of(&[0, 2, 3]))
        .with_af(dice.percent(92))
        .with_contiguous(dice.percent(10))
        .with_dbm(dice.percent(5))
        .with_xn(dice.below(4) as u8)
        .into_bits()
}

/// Of a page with tables of stage 1: seldom in the way.
fn table_page(dice: &mut Dice) -> u64 {
    Stage2LeafDescriptor::new()
        .with_mem_attr(if dice.percent(97) { 0xF } else { 1 })
        .with_readable(dice.percent(98))
        .with_writable(dice.percent(50))
        .with_af(dice.percent(98))
        .into_bits()
}
