//! What an SMMU could have cached, as lists, and what a command must remove from them.
//!
//! Whatever an access has read may be kept until a command names it, and may have been
//! forgotten at any time. So there is no single right answer, but a set of them: for every
//! configuration that may be kept, the walk of the present tables, and every translation that
//! may be kept and fits; under stage 2, each with every page of stage 2 that may be kept, for each table
//! on the way. And each of these walks may start from any table that may be kept, of either stage, which a
//! command that names an address with Leaf=1 leaves.

mod flight;
mod kept;
mod removal;

pub(crate) use flight::{Flight, Outcome};

use crate::memory::{Choices, Configuration, Memory, Past, Reading, View};
use crate::naive::configuration::{check_cd, check_ste, choose_cd, find_cd, find_ste, stage1_of};
use crate::naive::model::{Answer, Registers, Request, bit, bits, size_of_code, translate};
use crate::naive::second::Second;
use kept::{Context, Translation, united};
use std::sync::Arc;

/// A configuration that may be kept.
#[derive(Debug, PartialEq, Eq)]
struct Configured {
    stream: u32,
    substream: Option<u32>,
    words: Reading,
}

/// The obvious SMMU.
pub(crate) struct Obvious {
    memory: Arc<Memory>,
    registers: Registers,
    configuration: Configuration,
    configured: Vec<Configured>,
    translations: Vec<Translation>,
    past: Past,
}

impl Obvious {
    pub(crate) fn new(
        memory: Arc<Memory>,
        registers: Registers,
        configuration: Configuration,
    ) -> Self {
        Self {
            memory,
            registers,
            configuration,
            configured: Vec::new(),
            translations: Vec::new(),
            past: Past::default(),
        }
    }

    /// A moment of an access: whatever may be read, used and kept now.
    pub(crate) fn moment(&mut self, flight: &mut Flight) {
        let request = flight.request;
        let (present, answer) = self.read(&request);
        let fetch_failed =
            matches!(answer, Answer::Event([id, ..]) if [3, 9].contains(&(id & 0xff)));
        if !fetch_failed {
            let new = Configured {
                stream: request.stream,
                substream: request.substream,
                words: present.clone(),
            };
            if !self.configured.contains(&new) {
                self.configured.push(new);
            }
        }
        let mut readings = std::mem::take(&mut flight.readings);
        let mine = self
            .configured
            .iter()
            .filter(|c| c.stream == request.stream && c.substream == request.substream);
        let mine = mine.map(|configured| configured.words.clone());
        let still_true: Vec<Reading> = mine.chain([present.clone()]).collect();
        for words in &still_true {
            if !readings.contains(words) {
                readings.push(words.clone());
            }
        }
        flight.past.add(&self.past);
        for words in &readings {
            let here = still_true.contains(words);
            self.walks(words, *words == present, flight, here);
            if let Some(context) = self.context(&self.view(words), &request) {
                flight.translations = united(&flight.translations, &self.translations);
                // Behind a page of stage 1 that is kept, stage 2 may be walked.
                let found = self.use_kept(&context, words, flight);
                flight.past.add(&found);
                if here {
                    self.past.add(&found);
                }
                // What a command has named since may still be used, but leaves nothing behind.
                if here {
                    self.keep(&context, words, flight);
                }
            }
        }
        flight.readings = readings;
    }

    /// The present tables by a configuration, with whatever may be kept of stage 2.
    fn walks(&mut self, words: &Reading, is_present: bool, flight: &mut Flight, keep: bool) {
        let mut choices = Choices::default();
        let mut found = Past::default();
        loop {
            let view = self.view(words).with_kept(&flight.past, choices);
            let answer = translate(&view, &self.registers, &flight.request);
            let outcome = self.outcome(&answer, &flight.request);
            let has_skipped = view.has_skipped();
            let some;
            (choices, some) = view.made();
            found.add(&some);
            let into = if is_present && choices.is_first() {
                &mut flight.fresh
            } else if has_skipped {
                &mut flight.from_tables
            } else {
                &mut flight.kept
            };
            if !into.contains(&outcome) {
                into.push(outcome);
            }
            if !choices.advance() {
                break;
            }
        }
        flight.past.add(&found);
        if keep {
            self.past.add(&found);
        }
    }

    /// Whether a walk meets a word twice, because tables lead back to themselves. If it changes in
    /// between, the walk is by two values of it, and neither the past's nor the present's.
    pub(crate) fn meets_twice(&self, flight: &Flight, at: u64) -> bool {
        flight.readings.iter().any(|words| {
            let view = self.view(words);
            translate(&view, &self.registers, &flight.request);
            view.count(at) > 1
        })
    }

    /// The words of the present tables by which an access goes.
    pub(crate) fn on_the_way(&self, request: &Request) -> Vec<u64> {
        let view = View::new(&self.memory, &[], &self.configuration);
        translate(&view, &self.registers, request);
        view.on_the_way()
    }

    fn view<'a>(&'a self, words: &'a Reading) -> View<'a> {
        View::new(&self.memory, words, &self.configuration)
    }

    /// The present configuration, and where the access goes by it and the present tables.
    fn read(&self, request: &Request) -> (Reading, Answer) {
        let view = View::new(&self.memory, &[], &self.configuration);
        let answer = translate(&view, &self.registers, request);
        (view.noted(), answer)
    }

    fn outcome(&self, answer: &Answer, request: &Request) -> Outcome {
        match *answer {
            Answer::SilentAbort => Outcome::Abort,
            Answer::Bypass(address, memory) => {
                let width = size_of_code(bits(self.registers.idr5.into(), 2, 0));
                let bytes = (1 << width) - address;
                Outcome::At {
                    address,
                    bytes,
                    memory,
                }
            }
            Answer::Page {
                output,
                bytes,
                memory,
                ..
            } => Outcome::At {
                address: output,
                bytes: bytes - request.address % bytes,
                memory,
            },
            Answer::Event(words) => Outcome::Event(words),
        }
    }

    fn context(&self, view: &View<'_>, request: &Request) -> Option<Context> {
        let regs = &self.registers;
        let fetch = |at: u64| -> Option<[u64; 8]> {
            let mut words = [0; 8];
            for (index, word) in words.iter_mut().enumerate() {
                *word = view.get(at + 8 * index as u64)?;
            }
            Some(words)
        };
        let ste = fetch(find_ste(view, regs, request.stream).ok()?)?;
        let config = bits(ste[0], 3, 1);
        if !bit(ste[0], 0) || ![5, 7].contains(&config) || check_ste(&ste, regs).is_err() {
            return None;
        }
        let second = Second {
            on: config == 7,
            ste,
            regs,
        };
        let stage1 = stage1_of(&ste, regs).ok()?;
        let index = choose_cd(&stage1, request.substream).ok()??;
        let at = find_cd(view, &stage1, index, &second).ok()?;
        let cd = fetch(second.of_cd(view, at).ok()?)?;
        check_cd(&cd, regs, &stage1).ok()?;
        Some(Context {
            vmid: self.vmid(bits(ste[2], 15, 0)),
            asid: bits(cd[0], 63, 48),
            stage1,
            ste,
            cd,
        })
    }

    /// Without stage 2 there are no VMIDs.
    fn vmid(&self, field: u64) -> u64 {
        if bit(self.registers.idr0.into(), 0) {
            field
        } else {
            0
        }
    }
}
