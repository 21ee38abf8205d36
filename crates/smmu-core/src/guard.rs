//! Guards: who uses a translation, so that a SYNC can wait for them (law 3).
//!
//! Whoever uses what was translated holds a slot of this table open meanwhile, and says in it
//! what it uses: stream, ASID, addresses. The protocol:
//!
//! 1. A user writes its [`Use`], opens the slot, issues a full fence, and only then looks up.
//! 2. Whoever invalidates does so, issues a full fence, and only then looks at the slots. An open
//!    one whose use the invalidation could match gets the *mark* of the ring that asked. So either
//!    the lookup saw the invalidation or the slot is marked: the two fences are totally ordered.
//! 3. A SYNC of a ring waits until no open slot has the ring's mark. It notes the ring as waiting
//!    and sets `WAITED` on one such slot by compare-and-swap.
//! 4. Closing a slot is a swap. Whoever closes one that was `WAITED` wakes the rings noted as
//!    waiting; they ask again.
//!
//! A slot belongs to one user at a time; opening and closing it writes that one cache line. So that
//! an invalidation of other ASIDs does not take that line from a busy user, what the slot is used for
//! is said once more beside it, roughly ([`Interest`]), in a word that only changes when its user
//! turns to another ASID; and the marks lie apart. Idle slots cost a SYNC a read or two each, slots
//! that were never leased nothing.

mod earlier;
mod interest;
mod usage;
mod words;

pub use earlier::Earlier;
pub use interest::Interest;
pub use usage::Use;

use crate::ids::{Asid, StreamId, Vmid};
use alloc::boxed::Box;
use core::ops::ControlFlow;
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use vcmdq_sync::weak::{Site, fence_at, full_fence, order, taken};
use words::{ROW, Words};

/// The most slots in a table.
#[cfg(not(loom))]
pub const MAX_SLOTS: usize = 4096;
/// The most slots in a table.
#[cfg(loom)]
pub const MAX_SLOTS: usize = 64;
/// Rings that can be noted as waiting; larger numbers share.
const RINGS: usize = MAX_SLOTS;

const OPEN: u64 = 1;
const WAITED: u64 = 2;
/// Counts openings, above the two bits.
const LAP: u64 = 4;

/// A leased slot of a [`Guards`] table. Not `Clone`: it is given back by value.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// The mark of a ring on the guards that it has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    ring: u32,
    bits: u64,
}

impl Mark {
    /// The mark of nobody in particular: every ring's next SYNC waits for what has it.
    pub const EVERYBODY: Self = Self {
        ring: 0,
        bits: u64::MAX,
    };

    /// The mark of a ring, by its number. Rings whose numbers differ by a multiple of 64 share
    /// one, which makes them wait for each other's guards at most.
    #[must_use]
    pub fn of(ring: u32) -> Self {
        Self {
            ring,
            bits: 1 << (ring % 64),
        }
    }

    /// The marks of both. Only to be [put](Guards::mark_each) on guards: who waits, waits for its own.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            bits: self.bits | other.bits,
            ..self
        }
    }
}

#[derive(Debug, Default)]
struct Line {
    state: AtomicU64,
    /// Stream, VMID and ASID.
    who: AtomicU64,
    /// First and last address; the low bits of the first say whether the ASID is any, and whether
    /// global entries may be used.
    first: AtomicU64,
    last: AtomicU64,
    /// What the slot's word of `interests` says: read by its user, who would otherwise fetch that.
    interest: AtomicU64,
}

const ANY_ASID: u64 = 1;
const GLOBAL: u64 = 2;

/// The guards of one instance. See the [module](self).
#[derive(Debug)]
pub struct Guards {
    lines: Box<[CachePadded<Line>]>,
    /// What each slot is used for, at least.
    interests: Words,
    /// Which rings wait for a slot, if it is still open.
    marks: Words,
    /// One bit for each slot that is leased.
    leased: Box<[AtomicU64]>,
    /// Slots `..used` have been leased at some time; the others are not looked at.
    used: AtomicU32,
    waiting: Box<[AtomicU64]>,
}

/// All slots are leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {0} guard slots are in use: raise the instance's number of guards")]
pub struct NoSlot(pub usize);

impl Guards {
    /// A table of `slots`, 1 to [`MAX_SLOTS`].
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, MAX_SLOTS);
        let words = |bits: usize| (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self {
            lines: (0..slots).map(|_| CachePadded::default()).collect(),
            interests: Words::new(slots),
            marks: Words::new(slots),
            leased: words(slots),
            used: AtomicU32::new(0),
            waiting: words(RINGS),
        }
    }

    /// Whether no slot has ever been leased: then nobody can have to be waited for.
    #[must_use]
    #[inline]
    pub fn is_unused(&self) -> bool {
        // For who has called `mark` since its invalidation: a slot that was opened before the fence in
        // there is seen here, too.
        self.used.load(Ordering::Relaxed) == 0
    }

    /// Leases a slot: for a thread of a device model, or for one guard that outlives a call.
    pub fn lease(&self) -> Result<Slot, NoSlot> {
        for (index, word) in self.leased.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != u64::MAX {
                let slot = index * 64 + bits.trailing_ones() as usize;
                if slot >= self.lines.len() {
                    break;
                }
                let next = bits | 1 << (slot % 64);
                // Acquire pairs with the release in `give_back`.
                match word.compare_exchange(bits, next, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => {
                        // Before the slot is opened; the fence of `open` orders it against the fence
                        // of `mark`.
                        self.used.fetch_max(slot as u32 + 1, Ordering::Relaxed);
                        return Ok(Slot(slot as u32));
                    }
                    Err(now) => bits = now,
                }
            }
        }
        Err(NoSlot(self.lines.len()))
    }

    /// Gives a closed slot back.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever gives it back has it no more"
    )]
    pub fn give_back(&self, slot: Slot) {
        let Slot(slot) = slot;
        self.leased[slot as usize / 64].fetch_and(!(1 << (slot % 64)), Ordering::Release);
    }

    /// Rule 1. Behind this, lookups are safe until [`close`](Self::close). A slot that is open, because
    /// its guard was leaked, is in its next lap then.
    // Into its caller, so that what is said stays in registers on its way into the slot.
    #[inline(always)]
    pub fn open(&self, slot: &Slot, what: &Use) {
        let index = slot.0 as usize;
        let line = &self.lines[index];
        // Pairs with the acquires in `mark` and `quiesced`: who reads what is written below, and
        // then thinks that the slot is in its last lap, or that nobody uses it for what it was used
        // for then, sees that it was closed. Model: `guard_turned_to_another_asid`.
        fence_at(Site::GuardReopen, Ordering::Release);
        let marks = self.marks.of(index);
        if marks.load(Ordering::Relaxed) != 0 {
            marks.store(0, Ordering::Relaxed);
        }
        self.say(line, index, what.interest());
        Self::write(line, what);
        let state = line.state.load(Ordering::Relaxed);
        if state & OPEN == 0 || !taken(Site::GuardLeaked) {
            // Release: whoever sees the slot open sees what it uses.
            line.state.store((state + LAP) | OPEN, Ordering::Release);
        } else {
            Self::open_again(line);
        }
        // Pairs with the fence in `mark` (rule 2). Model: `guard_against_sync`.
        full_fence(Site::GuardFence);
    }

    /// A waiter may set `WAITED` at the same time, which must stay. Model:
    /// `law3_guard_leaked_and_opened_again_wakes`.
    #[cold]
    fn open_again(line: &Line) {
        line.state.fetch_add(LAP, Ordering::Release);
    }

    /// Changes what an open slot says that it uses; the caller must look up again behind this.
    #[inline(always)]
    pub fn restate(&self, slot: &Slot, what: &Use) {
        let index = slot.0 as usize;
        let line = &self.lines[index];
        self.say(line, index, what.interest());
        Self::write(line, what);
        // Pairs with the fence in `mark`. Model: `law3_port_says_more_and_looks_again`.
        full_fence(Site::GuardRestate);
    }

    /// Says of an open slot that no more of its addresses are used from now on than those of `what`, and
    /// no table by which they were found. A SYNC that has marked it already waits all the same.
    #[inline]
    pub fn narrow(&self, slot: &Slot, what: &Use) {
        let line = &self.lines[slot.0 as usize];
        let flags = line.first.load(Ordering::Relaxed) & 3;
        // Release pairs with the acquire fence in `mark_one`: who reads either of the two knows that the
        // walk has ended (loom moves no load behind a store, so no model can miss it). Who reads one new
        // and one old address reads more than both new ones say.
        line.last.store(what.last, Ordering::Release);
        line.first.store(what.first & !3 | flags, Ordering::Release);
    }

    /// Before the fence behind which its user looks up.
    #[inline(always)]
    fn say(&self, line: &Line, slot: usize, interest: Interest) {
        let said = Interest::from_word(line.interest.load(Ordering::Relaxed));
        if !said.does_for(interest) {
            self.say_more(slot, interest.grown_from(said));
        }
    }

    #[cold]
    fn say_more(&self, slot: usize, interest: Interest) {
        let word = interest.word();
        self.lines[slot].interest.store(word, Ordering::Relaxed);
        self.interests.of(slot).store(word, Ordering::Relaxed);
    }

    #[inline(always)]
    fn write(line: &Line, what: &Use) {
        let who = u64::from(what.stream.0) << 32
            | u64::from(what.vmid.0) << 16
            | u64::from(what.asid.map_or(0, |asid| asid.0));
        let any = if what.asid.is_none() { ANY_ASID } else { 0 };
        let global = if what.global { GLOBAL } else { 0 };
        line.who.store(who, Ordering::Relaxed);
        line.first
            .store(what.first & !3 | any | global, Ordering::Relaxed);
        line.last.store(what.last, Ordering::Relaxed);
    }

    fn read(line: &Line) -> Use {
        let who = line.who.load(Ordering::Relaxed);
        let first = line.first.load(Ordering::Relaxed);
        Use {
            stream: StreamId((who >> 32) as u32),
            vmid: Vmid((who >> 16) as u16),
            asid: (first & ANY_ASID == 0).then_some(Asid(who as u16)),
            global: first & GLOBAL != 0,
            first: first & !3,
            last: line.last.load(Ordering::Relaxed),
        }
    }

    /// Rule 4. Whether somebody waits: then [`wake`](Self::wake) has to be called.
    #[inline]
    #[must_use]
    pub fn close(&self, slot: &Slot) -> bool {
        let line = &self.lines[slot.0 as usize];
        let lap = line.state.load(Ordering::Relaxed) & !(OPEN | WAITED);
        // Release: what the user did with the translation happened before a SYNC that sees the
        // slot closed. Acquire: the rings noted as waiting are seen by `wake`.
        let close = order(Site::GuardClose, Ordering::AcqRel);
        line.state.swap(lap, close) & WAITED != 0
    }

    /// Calls `wake` with the number of every ring that is noted as waiting.
    pub fn wake(&self, mut wake: impl FnMut(u32)) {
        for (index, word) in (0u32..).zip(&self.waiting) {
            let mut bits = word.load(Ordering::Relaxed);
            if bits != 0 {
                bits = word.swap(0, Ordering::AcqRel);
            }
            while bits != 0 {
                wake(index * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }

    /// Rule 2, after an invalidation: marks every open slot whose use `matches`. `whom` must meet the
    /// interest of every use that does.
    #[inline]
    pub fn mark(&self, mark: Mark, whom: Interest, mut matches: impl FnMut(&Use) -> bool) {
        self.mark_each(whom, |used| matches(used).then_some(mark));
    }

    /// The same for several rings at once: `marks` says for each use which of them it concerns.
    #[inline]
    pub fn mark_each(&self, whom: Interest, mut marks: impl FnMut(&Use) -> Option<Mark>) {
        // Pairs with the fence in `open`.
        fence(Ordering::SeqCst);
        let used = self.used.load(Ordering::Relaxed) as usize;
        for (row, first) in self.interests.rows().zip((0..used).step_by(ROW)) {
            for (interest, slot) in row.iter().zip(first..used) {
                // Acquire: a slot that was used for this and now is for something else has been
                // closed in between, and what its user did is seen from here on.
                if Interest::from_word(interest.load(Ordering::Acquire)).meets(whom) {
                    self.mark_one(slot, &mut marks);
                }
            }
        }
    }

    #[inline]
    fn mark_one(&self, slot: usize, marks: &mut impl FnMut(&Use) -> Option<Mark>) {
        let line = &self.lines[slot];
        // Acquire: what the slot says that it uses.
        let state = line.state.load(Ordering::Acquire);
        if state & OPEN == 0 {
            return;
        }
        let what = Self::read(line);
        fence(Ordering::Acquire);
        // A slot that was opened again meanwhile was opened after the fence in `mark`, so its lookups
        // see the invalidation. Marking it by mistake makes a SYNC wait once too often.
        // Acquire again: if it was closed instead, what its user did is seen from here on.
        let same = line.state.load(Ordering::Acquire) & !WAITED == state & !WAITED;
        if let Some(mark) = same.then(|| marks(&what)).flatten() {
            self.marks.of(slot).fetch_or(mark.bits, Ordering::AcqRel);
        }
    }

    /// Calls `each` with slots that are open and have the ring's mark, until it breaks.
    #[inline]
    fn marked<'a>(
        &'a self,
        mark: Mark,
        mut each: impl FnMut(&'a Line) -> ControlFlow<&'a Line>,
    ) -> Option<&'a Line> {
        let used = self.used.load(Ordering::Acquire) as usize;
        for (row, lines) in self.marks.rows().zip(self.lines[..used].chunks(ROW)) {
            // Nearly always nothing. Acquire, as below.
            let all = row.iter().fold(0, |all, m| all | m.load(Ordering::Acquire));
            if all & mark.bits == 0 {
                continue;
            }
            for (marks, line) in row.iter().zip(lines) {
                let marked = marks.load(Ordering::Acquire) & mark.bits != 0;
                if marked && line.state.load(Ordering::Acquire) & OPEN != 0 {
                    if let ControlFlow::Break(line) = each(line) {
                        return Some(line);
                    }
                }
            }
        }
        None
    }

    /// Rule 3: whether no open slot has the ring's mark. If one has, whoever closes it wakes the
    /// ring.
    pub fn quiesced(&self, mark: Mark) -> bool {
        let ring = mark.ring as usize % RINGS;
        while let Some(line) = self.marked(mark, ControlFlow::Break) {
            self.waiting[ring / 64].fetch_or(1 << (ring % 64), Ordering::AcqRel);
            if !taken(Site::GuardWaited) || Self::ask_to_be_woken(line) {
                return false;
            }
            // Closed meanwhile: there may be another one.
        }
        true
    }

    /// Sets `WAITED` on an open slot; false if it has been closed.
    fn ask_to_be_woken(line: &Line) -> bool {
        let mut state = line.state.load(Ordering::Relaxed);
        while state & OPEN != 0 {
            // Release: whoever closes the slot and finds `WAITED` sees the ring noted as waiting.
            let waited = state | WAITED;
            match line
                .state
                .compare_exchange(state, waited, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Slots that are open and have the ring's mark, with what they use.
    pub fn overdue(&self, mark: Mark, mut tell: impl FnMut(&Use)) {
        let _all = self.marked(mark, |line| {
            tell(&Self::read(line));
            ControlFlow::Continue(())
        });
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let words = self.interests.bytes() + self.marks.bytes();
        let few = size_of_val(&*self.leased) + size_of_val(&*self.waiting);
        size_of_val(&*self.lines) + words + few
    }
}
