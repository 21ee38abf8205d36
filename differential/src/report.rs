//! Counts.

use crate::known::{self, Difference, FIELDS};
use crate::ours;
use crate::words::{context, list, recorded, words};
use crate::world::World;
use std::collections::BTreeMap;
use std::fmt;
use vcmdq_wording::count;

/// What a run has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Accesses that were compared.
    pub cases: u64,
    /// Those of them behind a change and the narrowest invalidation of it, with everything else cached.
    pub behind_changes: u64,
    /// Accesses that were not made, because they could have written to a table or a device of QEMU.
    pub left_out: u64,
    /// By kind of stream and what the engine says.
    pub kinds: BTreeMap<String, u64>,
    /// By known deviation.
    pub deviations: BTreeMap<&'static str, u64>,
    /// Differences that are not known.
    pub unknown: u64,
    /// One of each sort of them, and how many there are.
    pub sorts: BTreeMap<String, (u64, String)>,
}

impl Report {
    pub(crate) fn count(&mut self, world: &World, ours: &ours::Outcome) {
        self.cases += 1;
        let what = match (&ours.fault, ours.reached) {
            (Some(fault), _) => fault.event().name(),
            (None, Some(_)) => "done",
            (None, None) => "aborted",
        };
        *self
            .kinds
            .entry(format!("{}: {what}", world.kind))
            .or_default() += 1;
    }

    pub(crate) fn known(&mut self, name: &'static str) {
        *self.deviations.entry(name).or_default() += 1;
    }

    pub(crate) fn unknown(&mut self, number: u64, difference: &Difference<'_>) {
        let Difference {
            world,
            request,
            ours,
            theirs,
            ..
        } = difference;
        let done = match ours.reached {
            Some(_) => "done",
            None => "not done",
        };
        let sort = format!(
            "{}: engine {done}, {}; QEMU {}, {}",
            world.kind,
            recorded(ours.record.as_slice()),
            theirs.landed,
            recorded(&theirs.records)
        );
        let caches = match world.warm {
            true => "keeps",
            false => "forgets",
        };
        let behind = match world.sent.is_empty() {
            true => String::new(),
            false => format!(", behind a change and {}", list(&world.sent)),
        };
        let text = format!(
            "world {number}: {request}; QEMU {caches} what it has cached{behind}\n  STE {}\n  CD {}\n  engine: {ours}\n  QEMU: {theirs}",
            words(&world.ste.0),
            context(world),
        );
        self.unknown += 1;
        self.sorts.entry(sort).or_insert((0, text)).0 += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} compared, {} of them behind a change and its invalidation, {} left out",
            count(self.cases, "access"),
            self.behind_changes,
            self.left_out
        )?;
        for (what, number) in &self.kinds {
            writeln!(f, "{number:>9}  {what}")?;
        }
        writeln!(f, "known deviations of QEMU:")?;
        let fields = FIELDS.iter().map(|field| (field.name, field.why));
        let others = known::all().map(|known| (known.name, known.why));
        for (name, why) in fields.chain(others) {
            let number = self.deviations.get(name).copied().unwrap_or(0);
            writeln!(f, "{number:>9}  {name}: {why}")?;
        }
        for (sort, (times, example)) in &self.sorts {
            writeln!(
                f,
                "DIFFERENCE, {}: {sort}\n  such as in {example}",
                count(*times, "time")
            )?;
        }
        writeln!(f, "{}", count(self.unknown, "unknown difference"))
    }
}
