//! Counts.

use crate::known::{self, Difference, FIELDS};
use crate::ours;
use crate::world::World;
use smmu_core::spec::event::EventRecord;
use std::collections::BTreeMap;
use std::fmt;

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
            (Some(fault), _) => format!("{:?}", fault.event()),
            (None, Some(_)) => "done".to_owned(),
            (None, None) => "aborted".to_owned(),
        };
        *self
            .kinds
            .entry(format!("{:?}: {what}", world.kind))
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
        let said = |record: Option<&EventRecord>| {
            record.map(|record| {
                let word = record.dw1();
                (record.dw0().id(), word.s2(), word.class())
            })
        };
        let sort = format!(
            "{:?}: engine {:x?} {}, QEMU {:?} {:x?}",
            world.kind,
            said(ours.record.as_ref()),
            if ours.reached.is_some() {
                "done"
            } else {
                "not done"
            },
            theirs.landed,
            said(theirs.records.first())
        );
        let text = format!(
            "world {number}, {request:x?}, warm {}, behind {:x?}\n  STE {:x?}\n  CD {:x?}\n  engine {ours:x?}\n  QEMU {theirs:x?}",
            world.warm,
            world.sent,
            world.ste.0,
            world.context()
        );
        self.unknown += 1;
        self.sorts.entry(sort).or_insert((0, text)).0 += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} accesses compared, {} of them behind a change and its invalidation, {} left out",
            self.cases, self.behind_changes, self.left_out
        )?;
        for (what, count) in &self.kinds {
            writeln!(f, "{count:>9}  {what}")?;
        }
        writeln!(f, "known deviations of QEMU:")?;
        let fields = FIELDS.iter().map(|field| (field.name, field.why));
        let others = known::all().map(|known| (known.name, known.why));
        for (name, why) in fields.chain(others) {
            let count = self.deviations.get(name).copied().unwrap_or(0);
            writeln!(f, "{count:>9}  {name}: {why}")?;
        }
        for (sort, (count, example)) in &self.sorts {
            writeln!(
                f,
                "DIFFERENCE, {count} times: {sort}\n  such as in {example}"
            )?;
        }
        writeln!(f, "{} unknown differences", self.unknown)
    }
}
