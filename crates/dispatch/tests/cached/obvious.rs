//! What an SMMU could have cached, as lists, and what a command must remove from them.
//!
//! Whatever an access has read may be kept until a command names it, and may have been
//! forgotten at any time. So there is no single right answer, but a set of them: for every
//! configuration that may be kept, the walk of the present tables, and every translation that
//! may be kept and fits.

use crate::memory::{Memory, Reading, View};
use crate::naive::configuration::{
    Stage1, check_cd, check_ste, choose_cd, find_cd, find_ste, granule_of, stage1_of,
};
use crate::naive::model::{Answer, Registers, Request, bit, bits, size_of_code, translate};
use crate::naive::second::Second;
use crate::world::CONFIGURATION_END;
use std::sync::Arc;

/// How an access ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Abort,
    At {
        address: u64,
        /// How many bytes from there on belong to it.
        bytes: u64,
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
    /// None: global.
    asid: Option<u64>,
    /// First address, bits 63 to 56 as bit 55.
    base: u64,
    bytes: u64,
    /// KiB.
    granule: u64,
    output: u64,
    /// As [`kinds`] has them.
    allowed: [bool; 6],
}

/// What of a configuration tags and admits accesses.
struct Context {
    vmid: u64,
    asid: u64,
    cd: [u64; 8],
}

/// An access that is under way.
#[derive(Debug)]
pub(crate) struct Flight {
    request: Request,
    /// Configurations that it may be using.
    readings: Vec<Reading>,
    /// How it may end, by the present tables.
    pub(crate) fresh: Vec<Outcome>,
    /// How it may end otherwise.
    pub(crate) kept: Vec<Outcome>,
}

impl Flight {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            request: *request,
            readings: Vec::new(),
            fresh: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub(crate) fn allows(&self, outcome: &Outcome) -> bool {
        self.fresh.contains(outcome) || self.kept.contains(outcome)
    }
}

/// The obvious SMMU.
pub(crate) struct Obvious {
    memory: Arc<Memory>,
    registers: Registers,
    configured: Vec<Configured>,
    translations: Vec<Translation>,
}

/// Reads, writes and fetches, without and with privilege.
fn kinds(request: &Request) -> [Request; 6] {
    std::array::from_fn(|kind| Request {
        write: kind / 2 == 1,
        execute: kind / 2 == 2,
        privileged: kind % 2 == 1,
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

/// Bits 63 to 56 as bit 55.
fn canonical(address: u64) -> u64 {
    if bit(address, 55) {
        address | 0xff << 56
    } else {
        address & !(0xff << 56)
    }
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
    pub(crate) fn new(memory: Arc<Memory>, registers: Registers) -> Self {
        Self {
            memory,
            registers,
            configured: Vec::new(),
            translations: Vec::new(),
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
        for words in &readings {
            let walked = self.outcome(
                &translate(&self.view(words), &self.registers, &request),
                &request,
            );
            if *words == present {
                flight.fresh.push(walked);
            } else {
                flight.kept.push(walked);
            }
            if let Some(context) = self.context(&self.view(words), &request) {
                self.use_kept(&context, &request, &mut flight.kept);
                // What a command has named since may still be used, but leaves nothing behind.
                if still_true.contains(words) {
                    self.keep(&context, words, &request);
                }
            }
        }
        flight.readings = readings;
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

    fn view<'a>(&'a self, words: &'a Reading) -> View<'a> {
        View::new(&self.memory, words, CONFIGURATION_END)
    }

    /// The present configuration, and where the access goes by it and the present tables.
    fn read(&self, request: &Request) -> (Reading, Answer) {
        let view = View::new(&self.memory, &[], CONFIGURATION_END);
        let answer = translate(&view, &self.registers, request);
        (view.noted(), answer)
    }

    fn outcome(&self, answer: &Answer, request: &Request) -> Outcome {
        match *answer {
            Answer::SilentAbort => Outcome::Abort,
            Answer::Bypass(address) => {
                let width = size_of_code(bits(self.registers.idr5.into(), 2, 0));
                let bytes = (1 << width) - address;
                Outcome::At { address, bytes }
            }
            Answer::Page { output, bytes, .. } => Outcome::At {
                address: output,
                bytes: bytes - request.address % bytes,
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
        let on = false;
        if !bit(ste[0], 0) || bits(ste[0], 3, 1) != 5 || check_ste(&ste, regs).is_err() {
            return None;
        }
        let stage1: Stage1 = stage1_of(&ste, regs).ok()?;
        let index = choose_cd(&stage1, request.substream).ok()??;
        let cd = fetch(find_cd(view, &stage1, index, &Second { on, ste, regs }).ok()?)?;
        check_cd(&cd, regs, &stage1).ok()?;
        Some(Context {
            vmid: self.vmid(bits(ste[2], 15, 0)),
            asid: bits(cd[0], 63, 48),
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

    /// How an access under a context may end by what is kept.
    fn use_kept(&self, context: &Context, request: &Request, into: &mut Vec<Outcome>) {
        if !context.admits(request.address) {
            return;
        }
        let address = canonical(request.address);
        for kept in &self.translations {
            let offset = address.wrapping_sub(kept.base);
            let mine = kept.vmid == context.vmid && kept.asid.is_none_or(|own| own == context.asid);
            if !mine || offset >= kept.bytes {
                continue;
            }
            into.push(if kept.allowed[kind(request)] {
                Outcome::At {
                    address: kept.output + offset,
                    bytes: kept.bytes - offset,
                }
            } else {
                permission_fault(request)
            });
        }
    }

    /// Walks, and keeps what there is to find.
    fn keep(&mut self, context: &Context, words: &Reading, request: &Request) {
        let answers =
            kinds(request).map(|request| translate(&self.view(words), &self.registers, &request));
        let page = answers.iter().find_map(|answer| match *answer {
            Answer::Page {
                output,
                bytes,
                global,
                ..
            } => Some((output, bytes, global)),
            _ => None,
        });
        let Some((output, bytes, global)) = page else {
            return;
        };
        let new = Translation {
            vmid: context.vmid,
            asid: (!global).then_some(context.asid),
            base: canonical(request.address) / bytes * bytes,
            bytes,
            granule: granule_of(&context.cd, bit(request.address, 55)).expect("it was walked"),
            output: output / bytes * bytes,
            allowed: answers.map(|answer| matches!(answer, Answer::Page { .. })),
        };
        if !self.translations.contains(&new) {
            self.translations.push(new);
        }
    }

    /// Removes what a command (two raw words) demands.
    pub(crate) fn command(&mut self, [low, high]: [u64; 2]) {
        let stream = bits(low, 63, 32) as u32;
        let substream = bits(low, 31, 12) as u32;
        let (vmid, asid) = (self.vmid(bits(low, 47, 32)), bits(low, 63, 48));
        let (configured, translations) = (&mut self.configured, &mut self.translations);
        let of_vmid = |t: &Translation| t.vmid == vmid;
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
            0x30 => translations.clear(),
            // Entries of stage 2 alone are not kept.
            0x2a => {}
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

impl Translation {
    /// Whether a TLBI by address (4.4.1) has to remove it.
    fn is_in_range(&self, low: u64, high: u64) -> bool {
        let address = bits(high, 63, 12) << 12;
        let (first, end) = (
            u128::from(self.base),
            u128::from(self.base) + u128::from(self.bytes),
        );
        let granule = match bits(high, 11, 10) {
            0 => return (first..end).contains(&u128::from(address)),
            code => 1 << (2 * code),
        };
        let ttl = bits(high, 9, 8);
        let unit = granule * 1024;
        let from = u128::from(address / unit * unit);
        let length = (u128::from(bits(low, 16, 12) + 1) * u128::from(unit)) << bits(low, 24, 20);
        granule == self.granule
            && (ttl == 0 || ttl == self.level())
            && first < from + length
            && from < end
    }

    /// The level of its descriptor.
    fn level(&self) -> u64 {
        let stride = (self.granule * 1024 / 8).trailing_zeros();
        let above_a_page = (self.bytes / (self.granule * 1024)).trailing_zeros();
        3 - u64::from(above_a_page / stride)
    }
}
