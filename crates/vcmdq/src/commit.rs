//! Group commit: the windows of several rings of a frame, and one call to the backends for all of them.
//!
//! A call that costs microseconds is worth filling. While one is under way, other rings come to have
//! SYNCs that wait; they are taken together:
//!
//! 1. Every ring that can be claimed is *opened*: fetch, decode, first pass. All push into one coalescer,
//!    one after the other, so a position in the window says whose command it is. Who cannot be claimed
//!    is somebody's who goes round again ([`ClaimCell`](vcmdq_sync::claim::ClaimCell)).
//! 2. Each SYNC is given what it covers of other rings of its VINTF (law 3), but for what those have in
//!    the window themselves.
//! 3. Who needs nothing of the call is finished before it.
//! 4. One `dispatch_window` for all. When it returns every request is done, widened or failed closed,
//!    also those behind one that was refused (law 4); so nothing is uncertain for anybody.
//! 5. Each ring is *finished* by itself: its own barrier, its own SYNCs, its own CONS. A device that did
//!    not answer is charged to the rings that asked it, and to no others.
//! 6. Then each ring's own end: its error, or its effect. Last, because an effect may fill the window
//!    anew.
//!
//! A ring that waits for an access, or has stopped, delays and stops no other. The window's room is shared
//! evenly: who needs less leaves it to those behind it. A ring that goes on
//! is opened again in the next round, until its slice is used up.

use crate::budget::{self, Budget};
use crate::cmdqv::cover::Taken;
use crate::complete::Completed;
use crate::consumer::Consumer;
use crate::ring::{Again, Ring};
use crate::window::{Desk, Part, window_limit};
use arrayvec::ArrayVec;
use dispatch::MAX_WAITERS;
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::claim::Claim;

/// A ring whose claim is held, and what it has in the window.
struct Member<'r> {
    ring: &'r Ring,
    claim: Claim<'r, Consumer>,
    /// Dropped behind the claim.
    _again: Again<'r>,
    published: u32,
    part: Option<Part>,
    completed: Option<Completed>,
    /// What is left of its slice.
    budget: Budget,
    /// What its part of the window costs.
    cost: u64,
    goes_on: bool,
}

/// Rings that share windows.
type Members<'r> = ArrayVec<Member<'r>, MAX_WAITERS>;

/// Serves rings of one frame together, each until it is idle or has had its share of `slice`, and rings
/// the bell for those that have more. Whether anything was consumed. Rings that are not of the first
/// one's frame are left to others.
pub(crate) fn serve_together<'r>(
    rings: impl IntoIterator<Item = &'r Ring>,
    desk: &mut Desk,
    slice: Duration,
) -> bool {
    let mut rings = rings.into_iter().filter_map(Member::claim);
    let mut worked = false;
    loop {
        let members: Members<'r> = rings.by_ref().take(MAX_WAITERS).collect();
        if members.is_empty() {
            return worked;
        }
        let same = without_strangers(members).into_iter();
        let mut members: Members<'r> = same.filter_map(|m| m.begin(desk, slice)).collect();
        loop {
            members = members
                .into_iter()
                .filter_map(|m| m.look(desk, &mut worked))
                .collect();
            if members.is_empty() {
                break;
            }
            round(&mut members, desk);
        }
    }
}

/// Only rings with the same backends behind them can share a call.
fn without_strangers(members: Members<'_>) -> Members<'_> {
    let mut first = None;
    let same = members.into_iter().filter_map(|mut member| {
        let behind = member
            .claim
            .with(|consumer| (consumer.frame.clone(), consumer.instances.len()));
        let first = first.get_or_insert_with(|| behind.clone());
        if Arc::ptr_eq(&behind.0, &first.0) && behind.1 == first.1 {
            return Some(member);
        }
        member.leave_the_rest();
        None
    });
    same.collect()
}

/// One window with a part of every member.
fn round(members: &mut Members<'_>, desk: &mut Desk) {
    open(members, desk);
    cover(members, desk);
    for (nth, member) in (0..).zip(members.iter_mut()) {
        if !member.needs_the_call() {
            member.finish(nth, desk);
        }
    }
    call(members, desk);
    for (nth, member) in (0..).zip(members.iter_mut()) {
        member.finish(nth, desk);
    }
    for member in members.iter_mut() {
        member.end(desk);
    }
}

/// Step 1; and 2 for those that had begun it in an earlier round: they have their share before a ring
/// that comes with more can fill the window.
fn open(members: &mut Members<'_>, desk: &mut Desk) {
    desk.report.clear();
    if let Some(first) = members.first_mut() {
        let window = &mut desk.window;
        first
            .claim
            .with(|consumer| window.restart(&consumer.capabilities));
    }
    let count = members.len() as u32;
    for (nth, member) in (0..).zip(members.iter_mut()) {
        let (ring, published) = (member.ring, member.published);
        let in_lane = member.claim.with(|consumer| consumer.calls_in_lane);
        let share = window_limit(in_lane).saturating_sub(desk.window.len) / (count - nth);
        desk.window.coalescer.begin_ring(nth);
        let before = desk.window.cost();
        desk.window.allow(member.budget.of_window(in_lane));
        member.part = Some(member.claim.with(|consumer| {
            let covering = consumer.is_covering();
            let mut part = consumer.open::<true>(ring, desk, published, published.min(share));
            if covering {
                let room = share.saturating_sub(part.len);
                consumer.cover_others(ring, desk, &mut part, room, &[]);
            }
            part
        }));
        member.cost = desk.window.cost() - before;
    }
}

/// Step 2.
fn cover(members: &mut Members<'_>, desk: &mut Desk) {
    let taken = members.iter().filter_map(|member| {
        let (ring, entries) = (member.ring.index, member.part.as_ref()?.len);
        Some(Taken { ring, entries })
    });
    let taken: ArrayVec<Taken, MAX_WAITERS> = taken.collect();
    for (nth, member) in (0..).zip(members.iter_mut()) {
        let (ring, Some(part)) = (member.ring, &mut member.part) else {
            continue;
        };
        let in_lane = member.claim.with(|consumer| consumer.calls_in_lane);
        let room = window_limit(in_lane).saturating_sub(desk.window.len);
        desk.window.coalescer.begin_ring(nth);
        let before = desk.window.cost();
        let left = member.budget.less(member.cost);
        desk.window.allow(left.of_window(in_lane));
        member.claim.with(|consumer| {
            if !consumer.is_covering() {
                consumer.cover_others(ring, desk, part, room, &taken);
            }
        });
        member.cost += desk.window.cost() - before;
    }
}

/// Step 4.
fn call(members: &mut Members<'_>, desk: &mut Desk) {
    let rings: ArrayVec<&Ring, MAX_WAITERS> = members.iter().map(|member| member.ring).collect();
    let sharing = members.iter().filter(|member| member.has_invalidations());
    let sharing: ArrayVec<&Ring, MAX_WAITERS> = sharing.map(|member| member.ring).collect();
    let (Some(first), Some(&payer)) = (members.first_mut(), sharing.first()) else {
        return;
    };
    first
        .claim
        .with(|consumer| consumer.dispatch_window(&rings, payer, desk));
    if sharing.len() > 1 {
        payer.counters.shared_calls.add(desk.report.calls);
        for ring in sharing {
            ring.counters.shared_windows.add(1);
        }
    }
}

impl<'r> Member<'r> {
    fn claim(ring: &'r Ring) -> Option<Self> {
        Some(Self {
            ring,
            claim: ring.consumer.enter()?,
            _again: Again(ring),
            published: 0,
            part: None,
            completed: None,
            budget: Budget::of(Duration::ZERO),
            cost: 0,
            goes_on: true,
        })
    }

    /// Does what comes before the first window.
    fn begin(mut self, desk: &mut Desk, slice: Duration) -> Option<Self> {
        self.budget = Budget::of(slice);
        // Who serves together may block, whatever was left to others at this desk before.
        desk.defers_effects = false;
        let ring = self.ring;
        let begun = self.with_budget(desk, |consumer, desk| consumer.begin_slice(ring, desk));
        if !begun {
            self.leave_the_rest();
            return None;
        }
        Some(self)
    }

    /// Looks for what is published. Whoever has nothing, or has had its slice, is left.
    fn look(mut self, desk: &mut Desk, worked: &mut bool) -> Option<Self> {
        loop {
            let ring = self.ring;
            if self.goes_on {
                *worked |= self.claim.with(|consumer| consumer.configuring.is_some());
                let published = self.with_budget(desk, |consumer, desk| consumer.look(ring, desk));
                match published {
                    Some(0) => {}
                    Some(published) if !self.budget.is_spent() => {
                        self.published = published;
                        *worked = true;
                        return Some(self);
                    }
                    _ => {
                        self.leave_the_rest();
                        return None;
                    }
                }
            }
            self.claim = self.claim.leave().err()?;
            self.goes_on = true;
        }
    }

    /// Works on the consumer at the expense of its own slice.
    fn with_budget<R>(
        &mut self,
        desk: &mut Desk,
        work: impl FnOnce(&mut Consumer, &mut Desk) -> R,
    ) -> R {
        desk.budget = self.budget;
        let result = self.claim.with(|consumer| work(consumer, desk));
        self.budget = desk.budget;
        result
    }

    /// What is left is for whoever takes the ring next.
    fn leave_the_rest(self) {
        drop(self.claim);
        self.ring.rouse();
    }

    fn has_invalidations(&self) -> bool {
        let count = |part: &Part| part.invalidations + part.others;
        self.part.as_ref().is_some_and(|part| count(part) != 0)
    }

    /// Whether its SYNCs wait for what is in the window, perhaps as another ring's of its VINTF.
    fn needs_the_call(&mut self) -> bool {
        let covers = |consumer: &mut Consumer| consumer.cover.is_some() && !consumer.waiting;
        self.has_invalidations() || self.claim.with(covers)
    }

    /// Step 5, or 3.
    fn finish(&mut self, nth: u32, desk: &mut Desk) {
        let (ring, Some(part)) = (self.ring, &self.part) else {
            return;
        };
        if self.completed.is_none() {
            let finish = |consumer: &mut Consumer| consumer.finish::<true>(ring, desk, nth, part);
            self.completed = Some(self.claim.with(finish));
        }
    }

    /// Step 6.
    fn end(&mut self, desk: &mut Desk) {
        let (Some(part), Some(completed)) = (self.part.take(), self.completed.take()) else {
            return;
        };
        let ring = self.ring;
        self.budget.spend(budget::WINDOW + self.cost);
        self.goes_on = self.with_budget(desk, |consumer, desk| {
            consumer.end::<true>(ring, desk, completed, &part)
        });
    }
}
