//! The commands that are executed together, and what a worker keeps them in.

use crate::budget::{self, Budget};
use crate::fetch::Entries;
use crate::looks::Looks;
use dispatch::coalesce::Coalescer;
use dispatch::dispatch::Report;
use dispatch::{BackendCapabilities, Batch, MAX_BATCH};
use smmu_core::command::{Cfgi, Command, PriResponse, ResumeAction};
use smmu_core::decode::Illegal;
use smmu_core::queue_index::{Geometry, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Gpa, Stag, StreamId, SubstreamId};
use std::ops::Range;
use std::time::Duration;

/// The most commands in a window of a frame whose backends' calls are made for whole windows.
pub(crate) const MAX_WINDOW: u32 = MAX_BATCH as u32;
/// The most commands in any other window. A slice bounds what it costs, but not to the last command
/// ([`Window::exceeds`]), and nothing is gained by more.
#[cfg(not(loom))]
pub(crate) const SHORT_WINDOW: u32 = 256;
/// Small enough for the state space of a model.
#[cfg(loom)]
pub(crate) const SHORT_WINDOW: u32 = MAX_WINDOW;

/// The most commands in a window.
#[inline]
pub(crate) fn window_limit(in_lane: bool) -> u32 {
    if in_lane { MAX_WINDOW } else { SHORT_WINDOW }
}

/// A SYNC and its place in its ring's part of the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncPoint {
    pub(crate) at: u32,
    /// The command, as it was read once (law 6); legal.
    pub(crate) raw: RawCommand,
}

/// Why a window ends before its last published command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The command behind it is illegal.
    Illegal(Illegal),
    /// The entry behind it cannot be read.
    Unreadable,
    /// The command behind it is an ATC_INV behind a SYNC: the device hears of it when that SYNC is
    /// complete, and what becomes of it is the next SYNC's to say.
    AfterSync,
    /// The command behind it has an effect that the guest could tell: everything before comes
    /// first.
    Effect(Effect),
}

/// A command that is neither an invalidation of translations nor a SYNC nor a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Configuration(Cfgi),
    Resume(StreamId, Stag, ResumeAction),
    TerminateStalls(StreamId),
    PageResponse(StreamId, Option<SubstreamId>, u16, PriResponse),
}

impl Effect {
    pub(crate) fn of(command: &Command) -> Option<Self> {
        match *command {
            Command::Cfgi(cfgi) => Some(Self::Configuration(cfgi)),
            Command::Resume {
                stream,
                stag,
                action,
            } => Some(Self::Resume(stream, stag, action)),
            Command::StallTerm { stream } => Some(Self::TerminateStalls(stream)),
            Command::PriResp {
                stream,
                substream,
                group,
                response,
            } => Some(Self::PageResponse(stream, substream, group, response)),
            _ => None,
        }
    }
}

/// A command that, coming once more, would be the last one `step` bytes further on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stride {
    pub(crate) dw0: u64,
    pub(crate) dw1: u64,
    pub(crate) step: u64,
}

/// One ring's part of a window.
#[derive(Debug)]
pub(crate) struct Part {
    /// CONS when it was opened.
    pub(crate) start: QueueIndex,
    /// Its first command's place in the window: zero unless several rings share it.
    pub(crate) base: u32,
    /// Commands of its own, invalidations among them.
    pub(crate) len: u32,
    pub(crate) invalidations: u32,
    /// Entries of other rings behind them, which are executed for its SYNCs.
    pub(crate) others: u32,
    /// Its SYNCs among those of the window.
    syncs: Range<u32>,
    pub(crate) stop: Option<Stop>,
}

impl Part {
    /// Entries of its own that have been looked at.
    #[inline]
    pub(crate) fn fetched(&self) -> u32 {
        let stopped = !matches!(self.stop, None | Some(Stop::AfterSync));
        self.len + u32::from(stopped)
    }

    #[inline]
    pub(crate) fn has_no_sync(&self) -> bool {
        self.syncs.is_empty()
    }
}

/// Commands up to the first that is neither an invalidation nor a SYNC.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) coalescer: Coalescer,
    pub(crate) syncs: Vec<SyncPoint>,
    pub(crate) stride: Stride,
    /// How many SYNCs other parts have.
    others_syncs: u32,
    /// Commands looked at, of all parts, and what was added to them of other rings.
    pub(crate) len: u32,
    pub(crate) invalidations: u32,
    /// Where the ring lies of which commands are taken: what its SYNCs cost depends on it.
    pub(crate) ring: Entries,
    /// What they cost beside the backends' work, in nanoseconds.
    pub(crate) own_cost: u64,
    /// What the window may cost: it ends with the command that exceeds it.
    budget: u64,
}

impl Window {
    #[inline]
    pub(crate) fn restart(&mut self, capabilities: &BackendCapabilities) {
        self.coalescer.restart(capabilities);
        self.syncs.clear();
        self.stride = Stride::default();
        self.others_syncs = 0;
        self.len = 0;
        self.invalidations = 0;
        self.own_cost = 0;
        self.budget = u64::MAX;
    }

    /// From here on so many nanoseconds may be added.
    #[inline]
    pub(crate) fn allow(&mut self, share: u64) {
        self.budget = self.cost().saturating_add(share);
    }

    /// What the window costs so far, in nanoseconds.
    #[inline(always)]
    pub(crate) fn cost(&self) -> u64 {
        self.coalescer.spent() + self.own_cost + u64::from(self.len) * budget::ENTRY
    }

    /// Whether the budget is spent, if that is the own cost of everything but followed entries; of
    /// those there are too few to matter.
    #[inline(always)]
    pub(crate) fn exceeds(&self, own_cost: u64) -> bool {
        self.coalescer.spent() + own_cost >= self.budget
    }

    #[inline(always)]
    pub(crate) fn is_spent(&self) -> bool {
        self.cost() >= self.budget
    }

    /// Whether a SYNC's word lies in the ring itself.
    #[inline(always)]
    pub(crate) fn has_word(&self, at: Gpa) -> bool {
        self.ring.contains(at)
    }

    /// A ring that stands at `cons` adds its commands from here on.
    #[inline]
    pub(crate) fn part(&mut self, cons: QueueIndex) -> Part {
        // The next command does not continue another ring's.
        self.stride = Stride::default();
        let syncs = self.syncs.len() as u32;
        self.others_syncs = syncs;
        Part {
            start: cons,
            base: self.len,
            len: 0,
            invalidations: self.invalidations,
            others: 0,
            syncs: syncs..syncs,
            stop: None,
        }
    }

    /// Whether the part that is being filled has a SYNC.
    #[inline]
    pub(crate) fn has_sync(&self) -> bool {
        self.syncs.len() as u32 > self.others_syncs
    }

    /// The part has all of its own commands.
    #[inline]
    pub(crate) fn fetched(&mut self, part: &mut Part) {
        part.len = self.len - part.base;
        part.invalidations = self.invalidations - part.invalidations;
        part.syncs.end = self.syncs.len() as u32;
        if part.base != 0 {
            for sync in &mut self.syncs[part.syncs.start as usize..] {
                sync.at -= part.base;
            }
        }
    }

    /// A part's SYNCs, with their places in the part.
    #[inline]
    pub(crate) fn syncs_of(&self, part: &Part) -> &[SyncPoint] {
        &self.syncs[part.syncs.start as usize..part.syncs.end as usize]
    }
}

/// A worker's desk: everything that a window needs, allocated once.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) window: Window,
    pub(crate) batch: Batch,
    pub(crate) report: Report,
    /// What is left of the slice.
    pub(crate) budget: Budget,
    /// What the worker's time went into, if that is measured.
    pub(crate) looks: Looks,
    /// How many more commands may be looked at at an inline desk; the only one at which it changes.
    pub(crate) left: u32,
    /// Who sits here may make calls that block: others do its other work meanwhile (law 11).
    pub(crate) may_block: bool,
    /// The command at CONS ends in a call that may block, and has to wait for who may.
    pub(crate) deferred: bool,
    /// Such commands are left to others.
    pub(crate) defers_effects: bool,
    inline: bool,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let nothing = BackendCapabilities {
            ranges: true,
            ranges_of_any_granule: false,
            caches_contexts: false,
            may_block: false,
            widen_above: u64::MAX,
        };
        Self {
            window: Window {
                coalescer: Coalescer::new(&nothing),
                syncs: Vec::with_capacity(MAX_BATCH),
                stride: Stride::default(),
                others_syncs: 0,
                len: 0,
                invalidations: 0,
                ring: Entries::new(Gpa(0), Geometry::capped(0, 0)),
                own_cost: 0,
                budget: u64::MAX,
            },
            batch: Batch::new(),
            report: Report::default(),
            budget: Budget::of(Duration::ZERO),
            looks: Looks::default(),
            left: SHORT_WINDOW,
            may_block: true,
            deferred: false,
            defers_effects: false,
            inline: false,
        }
    }

    /// A desk of a worker: whoever sits here has to give up other work before a call that can block.
    pub(crate) fn of_worker() -> Self {
        Self {
            may_block: false,
            ..Self::new()
        }
    }

    /// Nothing is left of what was begun here.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            may_block: self.may_block,
            inline: self.inline,
            ..Self::new()
        };
    }

    /// A desk at which a doorbell consumes: with a limit, and no command that has an effect.
    pub(crate) fn inline() -> Self {
        Self {
            inline: true,
            ..Self::new()
        }
    }

    /// The most commands in a window here.
    #[inline]
    pub(crate) fn most(&self, in_lane: bool) -> u32 {
        if self.inline {
            self.left
        } else {
            window_limit(in_lane)
        }
    }

    /// Whether it is a doorbell's.
    #[inline]
    pub(crate) fn is_inline(&self) -> bool {
        self.inline
    }

    /// Whether a command with an effect is left to others: to a worker, or to who may block.
    #[inline]
    pub(crate) fn defers(&mut self, stop: &Stop) -> bool {
        let defers = (self.inline || self.defers_effects) && matches!(stop, Stop::Effect(_));
        self.deferred |= defers && !self.inline;
        defers
    }

    /// A window is done: so many commands have been looked at.
    #[inline]
    pub(crate) fn looked_at(&mut self, commands: u32) {
        self.budget.spend(budget::WINDOW + self.window.cost());
        if self.inline {
            self.left = self.left.saturating_sub(commands);
        }
    }
}
