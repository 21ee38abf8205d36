//! A look at a ring's stream while it runs, for recorders.
//!
//! Without a [`Tap`] a window costs one branch more, and a doorbell one load that nobody writes.
//! With one, each window's entries are copied first, and the stages work on the copy: what the
//! tap is shown is what was executed, although the guest can write its memory at any time
//! (law 6).

use crate::fetch::Entries;
use crate::ring::Ring;
use crate::window::{MAX_WINDOW, SyncPoint};
use smmu_core::Gpa;
use smmu_core::guest_memory::load_le;
use smmu_core::queue_index::QueueIndex;
use smmu_core::spec::command::RawCommand;
use std::convert::Infallible;
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::snapshot::Snapshot;

/// Who watches one ring. See [`Ring::set_tap`].
///
/// Every method is called on the way of a command: it must not block, and must not call the
/// engine. All but [`published`](Self::published) are called by the ring's owner, so one at a
/// time and in the order of the ring.
pub trait Tap: Send + Sync {
    /// The guest has published PROD, `prod` as it wrote it. Behind a trapped doorbell: on the vCPU's
    /// thread, before a worker can see it; two vCPUs may be here at the same time. Of a shared
    /// page: on the owner's thread, when it sees it for the first time and before it fetches.
    fn published(&self, prod: u32);

    /// A window's commands have been fetched. Those that are not consumed for now, because a SYNC
    /// waits or an error stops the ring, are fetched again later, and told again.
    fn fetched(&self, window: &Fetched<'_>);

    /// A SYNC is complete, its message written. `index` is its place, with wrap bit.
    fn completed(&self, index: u32);

    /// A window has ended, and the guest sees CONS: RD in bits 19:0, ERR in bits 30:24. The next
    /// fetch is from there.
    fn consumed(&self, cons: u32);
}

/// Commands as they were fetched.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    /// The first entry of the ring.
    pub base: Gpa,
    /// log2 of the ring's number of entries.
    pub log2size: u8,
    /// Index and wrap bit of the first of `commands`.
    pub first: u32,
    /// 1 to 1,008.
    pub commands: &'a [RawCommand],
}

/// A ring's tap, as a doorbell finds it.
pub(crate) struct TapSlot {
    /// Whether it is worth looking. Relaxed: a doorbell that is under way when a tap is set may
    /// miss it.
    set: AtomicBool,
    tap: Snapshot<Option<Arc<dyn Tap>>>,
}

impl Default for TapSlot {
    fn default() -> Self {
        Self {
            set: AtomicBool::new(false),
            tap: Snapshot::new(None),
        }
    }
}

impl TapSlot {
    /// PROD is about to be published by a trap.
    #[inline]
    pub(crate) fn published(&self, prod: u32) {
        if self.set.load(Ordering::Relaxed) {
            self.tell(prod);
        }
    }

    #[cold]
    fn tell(&self, prod: u32) {
        if let Some(tap) = &*self.tap.read() {
            tap.published(prod);
        }
    }

    fn replace(&self, tap: Option<Arc<dyn Tap>>) {
        self.set.store(tap.is_some(), Ordering::Relaxed);
        let Ok(()) = self.tap.replace(|_| Ok::<_, Infallible>(tap));
    }
}

impl Ring {
    /// Has the ring's stream watched from now on, or with `None` no longer. Replaces an earlier
    /// tap; when this returns, that one is not called any more.
    ///
    /// A control call: from any thread but not inside a callback of the engine or of a tap; waits
    /// for a worker's present slice.
    pub fn set_tap(&self, tap: Option<Arc<dyn Tap>>) {
        self.tap.replace(tap.clone());
        self.with_consumer(|consumer| {
            consumer.watched = tap.map(|tap| Box::new(Watched::new(tap)));
        });
    }
}

/// A tap and the window that it is shown, allocated once.
pub(crate) struct Watched {
    tap: Arc<dyn Tap>,
    /// The entries as they lie in memory, at their place in the window.
    words: Vec<AtomicU64>,
    /// The same as values.
    commands: Vec<RawCommand>,
    /// PROD of a shared page, as last seen.
    prod: Option<u32>,
}

impl Watched {
    fn new(tap: Arc<dyn Tap>) -> Self {
        let words = 2 * MAX_WINDOW as usize;
        Self {
            tap,
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            commands: Vec::with_capacity(MAX_WINDOW as usize),
            prod: None,
        }
    }

    /// PROD of a shared page, before what it publishes is fetched.
    pub(crate) fn saw(&mut self, prod: u32) {
        if self.prod != Some(prod) {
            self.prod = Some(prod);
            self.tap.published(prod);
        }
    }

    /// The window has ended, and CONS with ERR shows so.
    pub(crate) fn consumed(&self, cons: u32) {
        self.tap.consumed(cons);
    }

    /// The entries to work on instead of `words`, which lie `at` entries behind CONS.
    pub(crate) fn copy<'a>(&'a mut self, at: u32, words: &'a [AtomicU64]) -> &'a [AtomicU64] {
        let at = at as usize;
        self.commands.truncate(at);
        let copies = &mut self.words[2 * at..];
        let count = words.len().min(copies.len());
        for (copy, entry) in copies.chunks_exact_mut(2).zip(words.chunks_exact(2)) {
            // Relaxed: PROD's acquire, before the first of them, makes them the published ones.
            let [dw0, dw1] = [&entry[0], &entry[1]].map(|word| load_le(word, Ordering::Relaxed));
            copy[0] = AtomicU64::new(dw0.to_le());
            copy[1] = AtomicU64::new(dw1.to_le());
            self.commands.push(RawCommand { dw0, dw1 });
        }
        &copies[..count]
    }

    /// So many commands have been looked at, `first` among them.
    pub(crate) fn fetched(&mut self, entries: &Entries, first: QueueIndex, count: u32) {
        let count = self.commands.len().min(count as usize);
        if count > 0 {
            self.tap.fetched(&Fetched {
                base: entries.base(),
                log2size: entries.geometry().log2size(),
                first: first.raw(),
                commands: &self.commands[..count],
            });
        }
        self.commands.clear();
    }

    /// CONS has moved from `first` to `cons`, over those of `syncs` that are done.
    pub(crate) fn completed(
        &self,
        entries: &Entries,
        first: QueueIndex,
        cons: QueueIndex,
        syncs: &[SyncPoint],
    ) {
        let geometry = entries.geometry();
        let done = geometry.published(first, cons).unwrap_or(0);
        for sync in syncs.iter().take_while(|sync| sync.at < done) {
            self.tap.completed(geometry.advance(first, sync.at).raw());
        }
    }
}
