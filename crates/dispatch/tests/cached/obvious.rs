//! What an SMMU could have cached, as lists, and what a command must remove from them.
//!
//! Whatever an access has read may be kept until a command names it, and may have been
//! forgotten at any time. So there is no single right answer, but a set of them: for every
//! configuration that may be kept, the walk of the present tables, and every translation that
//! may be kept and fits; under stage 2, each with every page of stage 2 that may be kept, for each table
//! on the way. And each of these walks may start from any table that may be kept, of either stage, which a
//! command that names an address with Leaf=1 leaves.

use crate::memory::{Choices, Configuration, Memory, Past, Reading, View};
use crate::naive::attributes::{INCOMING, Memory as Attributes, overridden, through_stage1};
use crate::naive::configuration::{
    Stage1, check_cd, check_ste, choose_cd, find_cd, find_ste, granule_of, stage1_of,
};
use crate::naive::known::{Table, canonical};
use crate::naive::model::{Answer, Registers, Request, bit, bits, event, size_of_code, translate};
use crate::naive::second::{Page, Second};
use crate::naive::tables::walk;
use std::sync::Arc;

/// How an access ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Abort,
    At {
        address: u64,
        /// How many bytes from there on belong to it.
        bytes: u64,
        memory: Attributes,
    },
    Event([u64; 4]),
}

/// A configuration that may be kept.
#[derive(Debug, PartialEq, Eq)]
struct Configured {
    stream: u32,
    substream: Option<u32>,
    words: Reading,
}

/// A translation that may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Translation {
    vmid: u64,
    how: How,
    /// None: global.
    asid: Option<u64>,
    /// First address, bits 63 to 56 as bit 55.
    base: u64,
    bytes: u64,
    /// KiB.
    granule: u64,
    output: u64,
    /// As stage 1 has them.
    memory: Attributes,
    /// As [`kinds`] has them.
    allowed: [bool; 6],
}

/// Where an intermediate address may lie and how many bytes from there on belong to it, or how the access
/// ends; and the page of stage 2.
type Onward = (Result<(u64, u64, Page), Outcome>, Option<Page>);

/// Which stages a translation has been through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Stage 1, and there is no other.
    Alone,
    /// Stage 1; the output is an intermediate address.
    First,
    /// Stage 1, and this page of stage 2.
    Both(Page),
}

/// What of a configuration tags and admits accesses.
struct Context {
    vmid: u64,
    asid: u64,
    stage1: Stage1,
    ste: [u64; 8],
    cd: [u64; 8],
}

/// An access that is under way.
#[derive(Debug)]
pub(crate) struct Flight {
    request: Request,
    /// Configurations that it may be using.
    readings: Vec<Reading>,
    /// Pages of stage 2, tables and translations, that it may be using.
    past: Past,
    translations: Vec<Translation>,
    /// How it may end, by the present tables.
    pub(crate) fresh: Vec<Outcome>,
    /// How it may end by what is kept of tables of stage 1.
    pub(crate) from_tables: Vec<Outcome>,
    /// How it may end otherwise.
    pub(crate) kept: Vec<Outcome>,
}

impl Flight {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            request: *request,
            readings: Vec::new(),
            past: Past::default(),
            translations: Vec::new(),
            fresh: Vec::new(),
            from_tables: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub(crate) fn allows(&self, outcome: &Outcome) -> bool {
        let all = [&self.fresh, &self.from_tables, &self.kept];
        all.iter().any(|some| some.contains(outcome))
    }
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

/// Reads, writes and fetches, without and with privilege.
fn kinds(request: &Request) -> [Request; 6] {
    std::array::from_fn(|kind| Request {
        write: kind / 2 == 1,
        execute: kind / 2 == 2,
        privileged: kind % 2 == 1,
        // Which changes nothing of what stage 1 says.
        incoming: INCOMING,
        ..*request
    })
}

fn kind(request: &Request) -> usize {
    let operation = match (request.write, request.execute) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 0,
    };
    2 * operation + usize::from(request.privileged)
}

fn permission_fault(request: &Request) -> Outcome {
    let substream = request
        .substream
        .map_or(0, |substream| u64::from(substream) << 12 | 1 << 11);
    let how = u64::from(request.privileged) << 33
        | u64::from(request.execute) << 34
        | u64::from(!request.write) << 35;
    let class_in = 2 << 40;
    Outcome::Event([
        0x13 | substream | u64::from(request.stream) << 32,
        how | class_in,
        request.address,
        0,
    ])
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
        let stage1: Stage1 = stage1_of(&ste, regs).ok()?;
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

    /// How an access under a context may end by what is kept; and what it finds of stage 2 so.
    fn use_kept(&self, context: &Context, words: &Reading, flight: &mut Flight) -> Past {
        let request = &flight.request;
        let mut found = Past::default();
        if !context.admits(request.address) {
            return found;
        }
        let address = canonical(request.address);
        let input = overridden(&context.ste, &self.registers, request.incoming);
        let second = context.second(&self.registers);
        for kept in &flight.translations {
            let offset = address.wrapping_sub(kept.base);
            let mine = kept.vmid == context.vmid && kept.asid.is_none_or(|own| own == context.asid);
            let nested = kept.how != How::Alone;
            if !mine || offset >= kept.bytes || nested != context.is_nested() {
                continue;
            }
            let (to, bytes) = (kept.output + offset, kept.bytes - offset);
            let memory = through_stage1(kept.memory, input);
            match kept.how {
                _ if !kept.allowed[kind(request)] => flight.kept.push(permission_fault(request)),
                How::Alone => flight.kept.push(Outcome::At {
                    address: to,
                    bytes,
                    memory,
                }),
                How::First => {
                    let (onwards, pages) = self.on(context, words, &flight.past, to, request);
                    found.add(&pages);
                    for (onward, _) in onwards {
                        flight.kept.push(match onward {
                            Ok((address, more, page)) => Outcome::At {
                                address,
                                bytes: bytes.min(more),
                                memory: second.attributes(&page, memory),
                            },
                            Err(fault) => fault,
                        });
                    }
                }
                How::Both(page) => {
                    // If stage 2 refuses, the access is walked.
                    if second.allows(&page, request) {
                        flight.kept.push(Outcome::At {
                            address: page.base + to % page.bytes,
                            bytes,
                            memory: second.attributes(&page, memory),
                        });
                    }
                }
            }
        }
        found
    }

    /// On from an intermediate address, in all ways; and what the tables have of it.
    fn on(
        &self,
        context: &Context,
        words: &Reading,
        kept: &Past,
        ipa: u64,
        request: &Request,
    ) -> (Vec<Onward>, Past) {
        let second = context.second(&self.registers);
        let (mut choices, mut all) = (Choices::default(), Vec::new());
        let mut found = Past::default();
        loop {
            let view = self.view(words).with_kept(kept, choices);
            let result = second.of_input(&view, ipa, request);
            let result = result
                .map(|(address, page)| (address, page.bytes - ipa % page.bytes, page))
                .map_err(|wrong| Outcome::Event(event(&wrong, request)));
            choices = view.made().0;
            choices.again();
            let view = self.view(words).with_kept(kept, choices);
            let page = second.page(&view, ipa, 2).ok();
            let some;
            (choices, some) = view.made();
            found.add(&some);
            all.push((result, page));
            if !choices.advance() {
                return (all, found);
            }
        }
    }

    /// Walks stage 1, and keeps what there is to find.
    fn keep(&mut self, context: &Context, words: &Reading, flight: &Flight) {
        let request = &flight.request;
        let second = context.second(&self.registers);
        let (mut choices, mut new) = (Choices::default(), Vec::new());
        loop {
            let mut answers = Vec::new();
            for request in kinds(request) {
                choices.again();
                let view = self.view(words).with_kept(&flight.past, choices);
                let (cd, stage1) = (&context.cd, &context.stage1);
                answers.push(walk(&view, &second, cd, stage1, &request).ok());
                choices = view.made().0;
            }
            new.extend(context.found(request, &answers));
            if !choices.advance() {
                break;
            }
        }
        if context.is_nested() {
            let both = new.iter().flat_map(|first| {
                let to = first.output + (canonical(request.address) - first.base);
                let (pages, _) = self.on(context, words, &flight.past, to, request);
                let pages = pages.into_iter().filter_map(|(_, page)| page);
                let whole = pages.filter(|page| page.bytes >= first.bytes);
                whole.map(|page| Translation {
                    how: How::Both(page),
                    ..first.clone()
                })
            });
            let both: Vec<_> = both.collect();
            new.extend(both);
        }
        self.translations = united(&self.translations, &new);
    }

    /// Removes what a command (two raw words) demands.
    pub(crate) fn command(&mut self, [low, high]: [u64; 2]) {
        let stream = bits(low, 63, 32) as u32;
        let substream = bits(low, 31, 12) as u32;
        let (vmid, asid) = (self.vmid(bits(low, 47, 32)), bits(low, 63, 48));
        let (configured, translations) = (&mut self.configured, &mut self.translations);
        let Past { pages, tables } = &mut self.past;
        tables.retain(|table| !is_removed(table, vmid, asid, [low, high]));
        let of_vmid = |t: &Translation| t.vmid == vmid;
        if bits(low, 7, 0) == 0x28 {
            pages.retain(|kept| kept.vmid != vmid);
        }
        match bits(low, 7, 0) {
            0x03 => configured.retain(|c| c.stream != stream),
            0x04 => {
                let count = 1u64 << (bits(high, 4, 0) + 1);
                configured.retain(|c| u64::from(c.stream) / count != u64::from(stream) / count);
            }
            0x05 => {
                configured.retain(|c| c.stream != stream || c.substream.unwrap_or(0) != substream);
            }
            0x06 => configured.retain(|c| c.stream != stream),
            0x10 | 0x28 => translations.retain(|t| !of_vmid(t)),
            0x11 => translations.retain(|t| !(of_vmid(t) && t.asid == Some(asid))),
            0x12 => translations.retain(|t| {
                let mine = of_vmid(t) && t.asid.is_none_or(|own| own == asid);
                !(mine && t.is_in_range(low, high))
            }),
            0x13 => translations.retain(|t| !(of_vmid(t) && t.is_in_range(low, high))),
            0x30 => {
                translations.clear();
                pages.clear();
            }
            // What combines both stages may stay.
            0x2a => pages.retain(|kept| {
                let Page { bytes, granule, .. } = kept.page;
                kept.vmid != vmid || !is_in_range((kept.ipa, bytes, granule), low, high)
            }),
            other => panic!("{other:#x} is none of the commands"),
        }
    }
}

impl Context {
    /// Whether an address is one of the context's (and not of a half that is switched off).
    fn admits(&self, address: u64) -> bool {
        let upper = bit(address, 55);
        let (disabled, top_ignored, size_at) = if upper { (30, 39, 16) } else { (14, 38, 0) };
        let top = if bit(self.cd[0], top_ignored) { 55 } else { 63 };
        let width = 64 - bits(self.cd[0], size_at + 5, size_at) as u32;
        !bit(self.cd[0], disabled) && (width..=top).all(|at| bit(address, at) == upper)
    }
}

impl Context {
    fn is_nested(&self) -> bool {
        bits(self.ste[0], 3, 1) == 7
    }

    fn second<'a>(&self, regs: &'a Registers) -> Second<'a> {
        Second {
            on: self.is_nested(),
            ste: self.ste,
            regs,
        }
    }

    /// What walks for each [kind](kinds) of access say of a page.
    fn found(&self, request: &Request, answers: &[Option<Answer>]) -> Option<Translation> {
        let page = answers.iter().find_map(|answer| match *answer {
            Some(Answer::Page {
                output,
                bytes,
                global,
                memory,
            }) => Some((output, bytes, global, memory)),
            _ => None,
        });
        let (output, bytes, global, memory) = page?;
        Some(Translation {
            vmid: self.vmid,
            how: if self.is_nested() {
                How::First
            } else {
                How::Alone
            },
            asid: (!global).then_some(self.asid),
            base: canonical(request.address) / bytes * bytes,
            bytes,
            granule: granule_of(&self.cd, bit(request.address, 55)).expect("it was walked"),
            output: output / bytes * bytes,
            memory,
            allowed: std::array::from_fn(|kind| answers[kind].is_some()),
        })
    }
}

impl Translation {
    /// Whether a TLBI by address (4.4.1) has to remove it.
    fn is_in_range(&self, low: u64, high: u64) -> bool {
        is_in_range((self.base, self.bytes, self.granule), low, high)
    }
}

/// Whether a TLBI by address (4.4.1) names a page of so many bytes, of tables of so many KiB.
fn is_in_range((base, bytes, own_granule): (u64, u64, u64), low: u64, high: u64) -> bool {
    let address = bits(high, 63, 12) << 12;
    let (first, end) = (u128::from(base), u128::from(base) + u128::from(bytes));
    let granule = match bits(high, 11, 10) {
        0 => return (first..end).contains(&u128::from(address)),
        code => 1 << (2 * code),
    };
    let ttl = bits(high, 9, 8);
    let unit = granule * 1024;
    let from = u128::from(address / unit * unit);
    let length = (u128::from(bits(low, 16, 12) + 1) * u128::from(unit)) << bits(low, 24, 20);
    granule == own_granule
        && (ttl == 0 || ttl == level(bytes, own_granule))
        && first < from + length
        && from < end
}

/// Whether a command removes a table (Arm ARM D8.17): by address those on the way to it, whatever the level of
/// the page is said to be, but not with Leaf=1; of stage 1 an ASID's own, also where it has led to global pages.
fn is_removed(table: &Table, vmid: u64, asid: u64, [low, high]: [u64; 2]) -> bool {
    let is_first = table.tag.asid.is_some();
    let own = table.tag.asid == Some(asid);
    let level_unknown = high & !(3 << 8);
    let place = (table.first, table.bytes, table.granule);
    let on_the_way = !bit(high, 0) && is_in_range(place, low, level_unknown);
    let of_vmid = match bits(low, 7, 0) {
        0x10 => is_first,
        0x11 => is_first && own,
        0x12 => is_first && own && on_the_way,
        0x13 => is_first && on_the_way,
        0x28 => true,
        0x2a => !is_first && on_the_way,
        0x30 => return true,
        _ => false,
    };
    of_vmid && table.tag.vmid == vmid
}

/// The level of the descriptor of such a page.
fn level(bytes: u64, granule: u64) -> u64 {
    let stride = (granule * 1024 / 8).trailing_zeros();
    let above_a_page = (bytes / (granule * 1024)).trailing_zeros();
    3 - u64::from(above_a_page / stride)
}

/// Both, each once.
fn united<T: Clone + PartialEq>(a: &[T], b: &[T]) -> Vec<T> {
    let mut all = a.to_vec();
    for one in b {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}
