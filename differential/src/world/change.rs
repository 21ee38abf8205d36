//! What the guest changes when both SMMUs have cached a world, and the narrowest commands that are
//! due then.

use super::dice::Dice;
use super::tables::{ADDRESS, Arena, Descriptor, Input, Words};
use super::{Kind, Request, World};
use crate::layout::{PAGES, RAM_END, READER_SLOT, WRITER_SLOT, stream_of};
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::range::TlbiRange;
use smmu_core::spec::cd::CdWord0;
use smmu_core::spec::ste::{Ste, SteWord2};
use smmu_core::{Asid, StreamId, SubstreamId, Vmid};

/// A change of memory, and what is to be sent before anybody relies on it.
#[derive(Clone, Debug)]
pub struct Change {
    /// The words that differ afterwards.
    pub words: Words,
    /// The entry of both streams afterwards.
    pub ste: Ste,
    /// In order.
    pub commands: Vec<Command>,
}

/// Bits of leaf descriptors of both stages: valid, the access flag, the right to write.
const VALID: u64 = 1;
const ACCESS_FLAG: u64 = 1 << 10;
const WRITE: u64 = 1 << 7;
/// Of tables of stage 1: APTable\[1\].
const TABLE_READ_ONLY: u64 = 1 << 62;

/// What a world is made of when it is whole.
pub(super) struct Whole<'a> {
    pub arena: &'a Arena,
    pub kind: Kind,
    pub ste: Ste,
    /// Where both streams' entries lie.
    pub entries: [u64; 2],
    pub cd: Option<u64>,
    /// What structures of stage 1 add to their addresses.
    pub shift: u64,
}

impl Whole<'_> {
    /// A change that takes one word, in a world in which nothing has been spoilt: there each descriptor
    /// translates the addresses that it was written for, and no others. Mostly one that an access meets.
    pub(super) fn change(&self, dice: &mut Dice, accesses: &[Request]) -> Option<Change> {
        match (dice.below(10), self.kind) {
            (0, Kind::First | Kind::Nested) => self.context(dice),
            (1, Kind::Second | Kind::Nested) => Some(self.entry(dice)),
            _ => {
                let met = |one: &&Descriptor| {
                    accesses.iter().any(|access| one.translates(access.address))
                };
                let all = &self.arena.descriptors;
                let some: Vec<Descriptor> = match dice.percent(60) {
                    true => all.iter().filter(met).copied().collect(),
                    false => all.clone(),
                };
                if some.is_empty() {
                    return None;
                }
                let chosen = dice.one_of(&some);
                Some(self.descriptor(dice, &chosen))
            }
        }
    }

    fn descriptor(&self, dice: &mut Dice, chosen: &Descriptor) -> Change {
        let old = self.arena.word(chosen.at);
        // A later mapping may have put a block where a table was.
        let leaf = chosen.level == 3 || old & 2 == 0;
        let second = chosen.input == Input::Intermediate;
        let moves = (second && old & ADDRESS >= PAGES) || self.kind == Kind::First;
        let new = match (leaf, dice.below(4)) {
            (_, 0) => old & !VALID,
            (true, 1) => old ^ ACCESS_FLAG,
            (true, 2 | 3) if moves => {
                let output = dice.multiple(1 << chosen.shift(), PAGES, RAM_END);
                old & !ADDRESS | output & ADDRESS
            }
            (true, _) => old ^ WRITE,
            (false, _) if second => old & !VALID,
            (false, _) => old ^ TABLE_READ_ONLY,
        };
        let range = range(dice, chosen, leaf);
        let commands = match second {
            true => self.second_stage(dice, chosen, range),
            false => vec![self.first_stage(dice, range)],
        };
        Change {
            words: [(chosen.at, new)].into(),
            ste: self.ste,
            commands,
        }
    }

    /// Entries of stage 1 and those combined with it, by address.
    fn first_stage(&self, dice: &mut Dice, range: TlbiRange) -> Command {
        let (vmid, asid) = (self.vmid(), self.asid());
        Command::Tlbi(match dice.percent(80) {
            true => Tlbi::NhVa { vmid, asid, range },
            false => Tlbi::NhVaa { vmid, range },
        })
    }

    /// Entries of stage 2 by address, and what may be combined with them; or both at once. A context that
    /// lies there is read anew.
    fn second_stage(&self, dice: &mut Dice, chosen: &Descriptor, range: TlbiRange) -> Vec<Command> {
        let vmid = self.vmid();
        let by_address = Command::Tlbi(Tlbi::S2Ipa { vmid, range });
        if self.kind == Kind::Second {
            return vec![by_address];
        }
        let mut commands = match dice.percent(80) {
            true => vec![by_address, Command::Tlbi(Tlbi::NhAll { vmid })],
            false => vec![Command::Tlbi(Tlbi::S12VmAll { vmid })],
        };
        let context = self.cd.map(|at| at.wrapping_add(self.shift));
        if context.is_some_and(|ipa| chosen.translates(ipa)) {
            commands.splice(0..0, self.of_contexts());
        }
        commands
    }

    /// Another ASID, of which nothing is cached; or a field that entries may have been made with.
    fn context(&self, dice: &mut Dice) -> Option<Change> {
        let at = self.cd?;
        let old = CdWord0::from_bits(self.arena.word(at));
        let mut commands = self.of_contexts();
        let new = if dice.percent(50) {
            old.with_asid(old.asid() ^ 0x5A5A)
        } else {
            let vmid = self.vmid();
            commands.push(Command::Tlbi(Tlbi::NhAll { vmid }));
            old.with_affd(!old.affd())
        };
        Some(Change {
            words: [(at, new.into_bits())].into(),
            ste: self.ste,
            commands,
        })
    }

    /// Another VMID, of which nothing is cached; or a field that entries may have been made with.
    fn entry(&self, dice: &mut Dice) -> Change {
        let old = SteWord2::from_bits(self.ste.0[2]);
        let mut commands: Vec<Command> = streams()
            .map(|stream| Command::Cfgi(Cfgi::Ste { stream, leaf: true }))
            .into();
        let new = if dice.percent(50) {
            old.with_s2vmid(old.s2vmid() ^ 0x5A5A)
        } else {
            let vmid = self.vmid();
            commands.push(Command::Tlbi(Tlbi::S12VmAll { vmid }));
            old.with_s2affd(!old.s2affd())
        };
        let mut ste = self.ste;
        ste.0[2] = new.into_bits();
        Change {
            words: self.entries.map(|at| (at + 16, ste.0[2])).into(),
            ste,
            commands,
        }
    }

    fn of_contexts(&self) -> Vec<Command> {
        let of = |stream| Cfgi::Cd {
            stream,
            substream: SubstreamId(0),
            leaf: true,
        };
        streams().map(|stream| Command::Cfgi(of(stream))).into()
    }

    fn vmid(&self) -> Vmid {
        Vmid(SteWord2::from_bits(self.ste.0[2]).s2vmid())
    }

    fn asid(&self) -> Asid {
        let word = self.cd.map_or(0, |at| self.arena.word(at));
        Asid(CdWord0::from_bits(word).asid())
    }
}

fn streams() -> [StreamId; 2] {
    [WRITER_SLOT, READER_SLOT].map(|slot| StreamId(stream_of(slot)))
}

/// What the descriptor translates: of a page or block by one of its addresses, or with its granule and
/// level; of a table all that lies below, table descriptors too.
fn range(dice: &mut Dice, chosen: &Descriptor, leaf: bool) -> TlbiRange {
    let granule = chosen.granule;
    let bytes = 1 << chosen.shift();
    let whole = TlbiRange {
        addr: chosen.first,
        bytes,
        granule: Some(granule),
        ttl: 0,
        leaf,
    };
    match (leaf, dice.below(3)) {
        (true, 0) => TlbiRange {
            addr: chosen.first + dice.below(bytes >> 12) * 0x1000,
            bytes: 0x1000,
            granule: None,
            ..whole
        },
        // One granule of no level is no command.
        (true, _) if bytes == granule.bytes() => TlbiRange {
            ttl: chosen.level,
            ..whole
        },
        (true, 1) => TlbiRange {
            bytes: granule.bytes(),
            ttl: chosen.level,
            ..whole
        },
        _ => whole,
    }
}

impl World {
    /// The world behind its change. Nothing but the change's commands has been sent.
    #[must_use]
    pub fn after(&self, change: &Change) -> Self {
        let mut world = self.clone();
        world.words.extend(&change.words);
        world.ste = change.ste;
        world.change = None;
        world.sent.clone_from(&change.commands);
        world
    }
}
