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
//! A slot belongs to one user at a time; opening and closing it writes that one cache line.
//! Idle slots cost a SYNC one read each, slots that were never leased nothing.

mod earlier;

pub use earlier::Earlier;

use crate::ids::{Asid, StreamId, Vmid};
use crate::range::TlbiRange;
use alloc::boxed::Box;
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use vcmdq_sync::weak::{Site, full_fence, order, taken};

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

/// What the user of a translation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The device.
    pub stream: StreamId,
    /// Name space of the ASID.
    pub vmid: Vmid,
    /// Whose translations; `None` is "any", for a context that is not known yet.
    pub asid: Option<Asid>,
    /// It may use a global entry: then addresses of every ASID concern it.
    pub global: bool,
    /// First byte.
    pub first: u64,
    /// Last byte.
    pub last: u64,
}

/// The top byte does not count: it is ignored or was checked (as in the translation cache).
const ADDRESS: u64 = (1 << 56) - 1;

impl Use {
    /// Of a stream whose addresses are not translated: nothing that an invalidation of
    /// translations could match, but its configuration is used.
    #[must_use]
    pub fn untranslated(stream: StreamId, vmid: Vmid) -> Self {
        Self {
            stream,
            vmid,
            asid: Some(Asid(0)),
            global: false,
            first: 4,
            last: 0,
        }
    }

    /// Whether everything that `other` says is said here, too.
    #[must_use]
    #[inline]
    pub fn covers(&self, other: &Self) -> bool {
        self.stream == other.stream
            && self.vmid == other.vmid
            && (self.asid.is_none() || self.asid == other.asid)
            && (self.global || !other.global)
            && self.first <= other.first
            && other.last <= self.last
    }

    /// Whether an invalidation by address could match.
    #[must_use]
    pub fn touched_by(&self, vmid: Vmid, asid: Option<Asid>, range: &TlbiRange) -> bool {
        let whose = self.global || asid.is_none() || self.asid.is_none() || self.asid == asid;
        let (first, last) = (range.addr & ADDRESS, range.last() & ADDRESS);
        let overlap = first <= self.last & ADDRESS && self.first & ADDRESS <= last;
        self.vmid == vmid && !self.is_nothing() && whose && (overlap || last < first)
    }

    /// No address: what [`untranslated`](Self::untranslated) says. A guard that is being changed may
    /// look so for a moment; whoever changes it looks up again behind a fence.
    fn is_nothing(&self) -> bool {
        self.first > self.last
    }

    /// Whether an invalidation of an ASID could match; `globals` if it takes those, too.
    #[must_use]
    pub fn in_context(&self, vmid: Vmid, asid: Asid, globals: bool) -> bool {
        let own = self.asid.is_none() || self.asid == Some(asid);
        self.vmid == vmid && !self.is_nothing() && (own || globals && self.global)
    }
}

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
    /// The mark of nobody in particular: every ring's next SYNC waits for what has it, and so does
    /// a control path.
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
    marks: AtomicU64,
}

const ANY_ASID: u64 = 1;
const GLOBAL: u64 = 2;

/// The guards of one instance. See the [module](self).
#[derive(Debug)]
pub struct Guards {
    lines: Box<[CachePadded<Line>]>,
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
            leased: words(slots),
            used: AtomicU32::new(0),
            waiting: words(RINGS),
        }
    }

    /// Whether no slot has ever been leased: then nobody can have to be waited for.
    #[must_use]
    #[inline]
    pub fn is_unused(&self) -> bool {
        // Behind a full fence of the caller, or followed by one in `mark`: a slot that is opened
        // later looks up behind the invalidation.
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

    /// Rule 1. The slot must be closed. Behind this, lookups are safe until [`close`](Self::close).
    #[inline]
    pub fn open(&self, slot: &Slot, what: &Use) {
        let line = &self.lines[slot.0 as usize];
        // Pairs with the acquire fence in `mark`: who reads what is written below and then still
        // sees the slot in its last lap is wrong, and this makes it see that it was closed.
        fence(Ordering::Release);
        line.marks.store(0, Ordering::Relaxed);
        Self::write(line, what);
        let lap = line.state.load(Ordering::Relaxed) + LAP;
        // Release: whoever sees the slot open sees what it uses.
        line.state.store(lap | OPEN, Ordering::Release);
        // Pairs with the fence in `mark` (rule 2). Model: `guard_against_sync`.
        full_fence(Site::GuardFence);
    }

    /// Changes what an open slot says that it uses; the caller must look up again behind this.
    pub fn restate(&self, slot: &Slot, what: &Use) {
        Self::write(&self.lines[slot.0 as usize], what);
        // Pairs with the fence in `mark`. Model: `law3_port_says_more_and_looks_again`.
        full_fence(Site::GuardRestate);
    }

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

    /// Rule 2, after an invalidation: marks every open slot whose use `matches`.
    #[inline]
    pub fn mark(&self, mark: Mark, mut matches: impl FnMut(&Use) -> bool) {
        // Pairs with the fence in `open`.
        fence(Ordering::SeqCst);
        let used = self.used.load(Ordering::Relaxed) as usize;
        for line in &self.lines[..used] {
            // Acquire: what the slot says that it uses.
            let state = line.state.load(Ordering::Acquire);
            if state & OPEN == 0 {
                continue;
            }
            let what = Self::read(line);
            fence(Ordering::Acquire);
            // A slot that was opened again meanwhile was opened after the fence above, so its
            // lookups see the invalidation. Marking it by mistake makes a SYNC wait once too often.
            // Acquire again: if it was closed instead, what its user did is seen from here on.
            let same = line.state.load(Ordering::Acquire) & !WAITED == state & !WAITED;
            if same && matches(&what) {
                line.marks.fetch_or(mark.bits, Ordering::AcqRel);
            }
        }
    }

    /// Rule 3: whether no open slot has the ring's mark. If one has, whoever closes it wakes the
    /// ring.
    pub fn quiesced(&self, mark: Mark) -> bool {
        let ring = mark.ring as usize % RINGS;
        let used = self.used.load(Ordering::Acquire) as usize;
        let marked = |line: &&CachePadded<Line>| {
            line.marks.load(Ordering::Acquire) & mark.bits != 0
                && line.state.load(Ordering::Acquire) & OPEN != 0
        };
        while let Some(line) = self.lines[..used].iter().find(marked) {
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
        let used = self.used.load(Ordering::Acquire) as usize;
        for line in &self.lines[..used] {
            if line.marks.load(Ordering::Acquire) & mark.bits != 0
                && line.state.load(Ordering::Acquire) & OPEN != 0
            {
                tell(&Self::read(line));
            }
        }
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.leased) + size_of_val(&*self.waiting)
    }
}
