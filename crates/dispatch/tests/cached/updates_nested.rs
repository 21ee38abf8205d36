//! Access flags and dirty state of both stages, with a warm cache, at random.
//!
//! An access goes by the tables, or by what has been true since the last invalidation, for each page of stage
//! 2 on its way and for its page of stage 1: any such choice is right, with the updates of exactly that
//! choice. What is cached is never updated; who would have to has to walk.

use crate::memory::{Choices, Configuration, Past, View};
use crate::naive::configuration::stage1_of;
use crate::naive::model::{Answer, Request, translate};
use crate::naive::second::Second;
use crate::naive::tables::walk;
use crate::stages::{ALONE, CDS, ONE, Who};
use crate::updates::{
    DBM, HA, HD, IPAS, NSNH_ALL, READ_ONLY, S2HA, S2HD, Updated, VAS, leaf_of, request,
};
use crate::world::Dice;
use smmu_core::access::Operation;
use std::collections::BTreeMap;

const ALL: [Operation; 3] = [Operation::Read, Operation::Write, Operation::Execute];

/// Descriptors that are updated, as they are then.
type Updates = BTreeMap<u64, u64>;

/// How an access ends: where, if it does not fault, and what it updates.
type Ending = (Option<u64>, Updates);

/// A page of stage 1 that may be cached.
#[derive(Clone, Debug, PartialEq)]
struct First {
    va: u64,
    ipa: u64,
    allowed: [bool; 3],
    /// A write asks the tables.
    clean: bool,
}

/// What may be cached.
#[derive(Debug, Default)]
struct Cache {
    first: Vec<First>,
    /// Pages of stage 2, and tables of both.
    tables: Past,
}

/// The address of a descriptor that is cached: an update there is none that happens.
const CACHED: u64 = 1;

struct Run {
    world: Updated,
    nothing: Configuration,
    cache: Cache,
    has_dirty_state: bool,
}

impl Run {
    fn new(dice: &mut Dice) -> Self {
        let world = Updated::new(
            dice.pick(&[0, HA, HA | HD, HA | HD, HA | HD]),
            dice.pick(&[0, S2HA, S2HA | S2HD, S2HA | S2HD, S2HA | S2HD]),
        );
        let cd = world.get(CDS + 64);
        Self {
            world,
            nothing: Configuration {
                end: 0,
                words: Vec::new(),
            },
            cache: Cache::default(),
            has_dirty_state: cd & HA != 0 && cd & HD != 0,
        }
    }

    fn words(&self, at: u64) -> [u64; 8] {
        std::array::from_fn(|n| self.world.get(at + 8 * n as u64))
    }

    fn second(&self, who: Who) -> Second<'_> {
        Second {
            on: true,
            ste: self.words(64 * u64::from(who.0)),
            regs: &self.world.registers,
        }
    }

    /// All endings of something that looks at tables, with every choice of what is cached of stage 2;
    /// the first is by the tables alone. And what the tables have.
    fn endings(&self, look: impl Fn(&View<'_>) -> Option<u64>) -> (Vec<Ending>, Past) {
        let (mut choices, mut endings) = (Choices::default(), Vec::new());
        let mut found = Past::default();
        loop {
            let view = View::new(&self.world.stages.memory, &[], &self.nothing)
                .with_kept(&self.cache.tables, choices);
            let output = look(&view);
            let updates: Updates = view.updated().into_iter().collect();
            let some;
            (choices, some) = view.made();
            found.add(&some);
            if updates.keys().all(|at| at & CACHED == 0) {
                endings.push((output, updates));
            }
            if !choices.advance() {
                return (endings, found);
            }
        }
    }

    fn walked(&self, request: &Request) -> (Vec<Ending>, Past) {
        self.endings(
            |view| match translate(view, &self.world.registers, request) {
                Answer::Page { output, .. } => Some(output),
                Answer::Event(_) => None,
                other => panic!("{other:?}"),
            },
        )
    }

    /// Behind a page of stage 1 that is cached. Its CD is looked up first, each time.
    fn behind(&self, first: &First, kind: usize, who: Who, request: &Request) -> Vec<Ending> {
        let second = self.second(who);
        let cd = CDS + 64 * u64::from(who.1.unwrap_or(0));
        let on = |view: &View<'_>| {
            second.of_cd(view, cd).ok()?;
            if !first.allowed[kind] {
                return None;
            }
            let found = second.of_input(view, first.ipa, request);
            found.ok().map(|(output, _)| output)
        };
        if !first.allowed[kind] && first.clean && request.write {
            return Vec::new();
        }
        self.endings(on).0
    }

    /// What a walk of stage 1 finds of a page, as everything is now.
    fn first(&self, who: Who, va: u64) -> Option<First> {
        let (ste, cd) = (
            self.words(64 * u64::from(who.0)),
            self.words(CDS + 64 * u64::from(who.1?)),
        );
        let stage1 = stage1_of(&ste, &self.world.registers).ok()?;
        let second = self.second(who);
        // Its tables may lie in pages of stage 2 that are cached.
        let answers = ALL.map(|operation| {
            let request = request(who, va, operation);
            let (endings, _) =
                self.endings(|view| match walk(view, &second, &cd, &stage1, &request) {
                    Ok(Answer::Page { output, .. }) => Some(output),
                    _ => None,
                });
            endings.into_iter().find_map(|(output, _)| output)
        });
        let leaf = self.world.get(leaf_of(va));
        let clean = self.has_dirty_state && leaf & DBM != 0 && leaf & READ_ONLY != 0;
        let mut allowed = answers.map(|answer| answer.is_some());
        allowed[1] &= !clean;
        Some(First {
            va,
            ipa: answers.into_iter().flatten().next()?,
            allowed,
            clean,
        })
    }

    /// What the tables had, as a cache has it now that it has been used.
    fn keep(&mut self, mut found: Past) {
        for kept in &mut found.pages {
            if kept.page.at & CACHED == 0 {
                kept.page.descriptor = self.world.get(kept.page.at);
                kept.page.at |= CACHED;
            }
        }
        self.cache.tables.add(&found);
    }

    /// One access. Whether it went by what is cached, and how many descriptors it updated.
    fn access(&mut self, who: Who, address: u64, kind: usize) -> (bool, usize) {
        let request = request(who, address, ALL[kind]);
        let (mut right, mut found) = self.walked(&request);
        let by_tables = right[0].clone();
        let cached = self.cache.first.iter();
        let mine = cached.filter(|first| who == ONE && first.va == address);
        for first in mine {
            right.extend(self.behind(first, kind, who, &request));
            let second = self.second(who);
            let page = |view: &View<'_>| second.page(view, first.ipa, 2).ok().map(|_| 0);
            found.add(&self.endings(page).1);
        }
        let output = self.world.stages.access(who, address, ALL[kind]).ok();
        let ending = (output, self.world.stages.memory.take_updated());
        assert!(
            right.contains(&ending),
            "{request:x?} {ending:x?} is none of {right:x?}, {:x?}",
            self.cache
        );
        self.keep(found);
        if output.is_some() && who == ONE {
            let new = self.first(who, address);
            let known = new.iter().any(|new| self.cache.first.contains(new));
            self.cache.first.extend(new.filter(|_| !known));
        }
        (ending != by_tables, ending.1.len())
    }
}

#[test]
fn law3_what_is_cached_of_both_stages_loses_no_update() {
    let (mut by_cache, mut updated, mut to_second) = (0, 0, 0);
    for seed in 0..60 {
        let mut dice = Dice::new(2000 + seed);
        let mut run = Run::new(&mut dice);
        for _ in 0..120 {
            if dice.percent(25) {
                run.world.change(&mut dice);
            }
            if dice.percent(12) {
                run.world.stages.execute(&[NSNH_ALL]);
                run.cache = Cache::default();
            }
            let (who, address) = if dice.percent(25) {
                (ALONE, dice.pick(&IPAS[4..]))
            } else {
                (ONE, dice.pick(&VAS))
            };
            let (cached, updates) = run.access(who, address, dice.below(3) as usize);
            by_cache += usize::from(cached);
            updated += updates;
            to_second += usize::from(updates > 0 && who == ALONE);
        }
    }
    assert!(
        by_cache > 300 && updated > 300 && to_second > 30,
        "{by_cache} {updated} {to_second}"
    );
}
