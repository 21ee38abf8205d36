//! Random worlds: a stream table entry, contexts, page tables of one or two stages, and accesses to
//! them. Most are what a driver would write, with one or a few things wrong.

mod change;
mod dice;
mod first;
mod second;
mod spoil;
mod tables;

pub use change::Change;
pub use dice::Dice;
pub use tables::Words;

use crate::layout::{
    PAGES, RAM_END, READER_SLOT, STREAMS, STREAMS_SECOND, STREAMS_SPLIT, WRITER_SLOT, stream_of,
};
use change::Whole;
use first::FirstStage;
use second::SecondStage;
use smmu_core::command::Command;
use smmu_core::spec::pte::L1Std;
use smmu_core::spec::ste::{Ste, SteWord0, config};
use tables::Arena;

/// What a stream does in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// STE.Config says abort.
    Abort,
    /// Neither stage.
    Bypass,
    /// Stage 1.
    First,
    /// Stage 2.
    Second,
    /// Both.
    Nested,
}

impl Kind {
    /// STE.Config.
    fn code(self) -> u8 {
        match self {
            Self::Abort => config::ABORT,
            Self::Bypass => config::BYPASS,
            Self::First => config::STAGE1,
            Self::Second => config::STAGE2,
            Self::Nested => config::NESTED,
        }
    }
}

/// One access of four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The input address.
    pub address: u64,
    /// It reads; otherwise it writes.
    pub read: bool,
}

/// Memory and accesses.
#[derive(Clone, Debug)]
pub struct World {
    /// Before anything was spoilt.
    pub kind: Kind,
    /// Every word that is not zero.
    pub words: Words,
    /// The entry of both streams.
    pub ste: Ste,
    /// The context of both streams, if there is one.
    pub cd: Option<u64>,
    /// The accesses, in order.
    pub requests: Vec<Request>,
    /// Nothing is invalidated between them.
    pub warm: bool,
    /// What is changed behind them, before they are made again.
    pub change: Option<Change>,
    /// In a world behind its change, which caches remember as it was: what has been sent.
    pub sent: Vec<Command>,
}

/// Accesses of a world.
const REQUESTS: usize = 16;

impl World {
    /// The world of these dice. `two_level` says which form the stream table has.
    #[must_use]
    pub fn random(dice: &mut Dice, two_level: bool) -> Self {
        let mut arena = Arena::default();
        let kind = match dice.below(100) {
            0..2 => Kind::Abort,
            2..6 => Kind::Bypass,
            6..40 => Kind::First,
            40..62 => Kind::Second,
            _ => Kind::Nested,
        };
        let mut ste = Ste::default();
        let mut addresses = Vec::new();
        let mut cd = None;
        ste.0[0] = SteWord0::new()
            .with_v(true)
            .with_config(kind.code())
            .into_bits();
        let second = match kind {
            Kind::Second | Kind::Nested => Some(SecondStage::random(dice, &mut arena)),
            _ => None,
        };
        if let Some(second) = &second {
            second.describe(dice, &mut ste);
        }
        match (kind, &second) {
            (Kind::First | Kind::Nested, _) => {
                let first = FirstStage::random(dice, &mut arena, second.as_ref());
                cd = Some(first.describe(dice, &mut arena, &mut ste));
                first.fill(dice, &mut arena, second.as_ref(), &mut addresses);
            }
            (_, Some(second)) => second.fill(dice, &mut arena, &mut addresses),
            _ => addresses.extend((0..4).map(|_| dice.multiple(4, PAGES, RAM_END))),
        }
        let spoilt = spoil::world(dice, &mut arena, &mut ste, cd);
        let entries = stream_table(dice, &mut arena, &ste, two_level);
        let requests: Vec<Request> = (0..REQUESTS)
            .map(|_| spoil::request(dice, &addresses))
            .collect();
        let warm = dice.percent(30);
        let whole = Whole {
            arena: &arena,
            kind,
            ste,
            entries,
            cd,
            shift: second.as_ref().map_or(0, SecondStage::shift),
        };
        let change = match warm && !spoilt {
            true => whole.change(dice, &requests),
            false => None,
        };
        Self {
            kind,
            words: arena.words,
            ste,
            cd,
            requests,
            warm,
            change,
            sent: Vec::new(),
        }
    }

    /// Whether everything is forgotten before the `nth` access.
    #[must_use]
    pub fn forgets(&self, nth: usize) -> bool {
        self.sent.is_empty() && (nth == 0 || !self.warm)
    }

    /// The words of the context, if there is one.
    #[must_use]
    pub fn context(&self) -> Option<[u64; 8]> {
        let at = self.cd?;
        let word = |n: u64| self.words.get(&(at + 8 * n)).copied().unwrap_or(0);
        Some([0, 1, 2, 3, 4, 5, 6, 7].map(word))
    }
}

/// Both streams have the same entry; where they lie.
fn stream_table(dice: &mut Dice, arena: &mut Arena, ste: &Ste, two_level: bool) -> [u64; 2] {
    let table = if two_level {
        let span = if dice.percent(70) {
            STREAMS_SPLIT + 1
        } else {
            dice.below(32) as u8
        };
        let first = L1Std::new().with_span(span).with_l2ptr(STREAMS_SECOND >> 6);
        arena.words.insert(STREAMS, first.into_bits());
        STREAMS_SECOND
    } else {
        STREAMS
    };
    [WRITER_SLOT, READER_SLOT].map(|slot| {
        let at = table + u64::from(stream_of(slot)) * Ste::BYTES;
        arena.write(at, &ste.0);
        at
    })
}
