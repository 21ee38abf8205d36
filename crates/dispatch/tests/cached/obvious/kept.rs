//! Translations that may be kept: how an access may end by them, and what a walk leaves.

use super::Obvious;
use super::flight::{Flight, Outcome};
use crate::memory::{Choices, Past, Reading};
use crate::naive::attributes::{INCOMING, Memory as Attributes, overridden, through_stage1};
use crate::naive::configuration::{Stage1, granule_of};
use crate::naive::known::canonical;
use crate::naive::model::{Answer, Registers, Request, bit, bits, event};
use crate::naive::second::{Page, Second};
use crate::naive::tables::walk;

/// A translation that may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    pub(super) vmid: u64,
    how: How,
    /// None: global.
    pub(super) asid: Option<u64>,
    /// First address, bits 63 to 56 as bit 55.
    pub(super) base: u64,
    pub(super) bytes: u64,
    /// KiB.
    pub(super) granule: u64,
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
pub(super) struct Context {
    pub(super) vmid: u64,
    pub(super) asid: u64,
    pub(super) stage1: Stage1,
    pub(super) ste: [u64; 8],
    pub(super) cd: [u64; 8],
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
    /// How an access under a context may end by what is kept; and what it finds of stage 2 so.
    pub(super) fn use_kept(&self, context: &Context, words: &Reading, flight: &mut Flight) -> Past {
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
    pub(super) fn keep(&mut self, context: &Context, words: &Reading, flight: &Flight) {
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

/// Both, each once.
pub(super) fn united<T: Clone + PartialEq>(a: &[T], b: &[T]) -> Vec<T> {
    let mut all = a.to_vec();
    for one in b {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}
