//! Translations that are kept without a guard, by somebody who is told when they may not be true
//! any more: an interrupt route, which the host's kernel uses without asking.
//!
//! The protocol is that of a guard: the watch is entered into the list, a full fence is passed, and
//! only then the translation is looked up; who invalidates does so, passes a full fence, and only
//! then looks at the list. So either the lookup saw the invalidation or the watch is told. It is
//! told before the invalidation is reported as done, so no SYNC behind it completes earlier.

use super::Software;
use super::output::Output;
use super::port::{Denied, Port};
use smmu_core::SubstreamId;
use smmu_core::access::Access;
use smmu_core::guard::Use;
use smmu_core::translate::Failed;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use vcmdq_sync::snapshot::Snapshot;
use vcmdq_sync::weak::{Site, taken};

/// How often a watch is entered anew because what it uses has changed.
const MAX_TRIES: usize = 8;

/// Told that a watched translation may not be true any more.
pub trait Stale: Send + Sync {
    /// When this returns, the translation must not be used any more. Called from workers and
    /// control threads, perhaps before the call that made the watch has returned, and
    /// perhaps more than once, at the same time. Must not block, nor watch anew; it may drop the
    /// watch.
    fn stale(&self);
}

struct Entry {
    used: Use,
    stale: AtomicBool,
    told: AtomicBool,
    tell: Arc<dyn Stale>,
}

impl Entry {
    fn invalidate(&self) {
        self.stale.store(true, Ordering::Release);
        if !taken(Site::WatchTold) {
            self.told.store(true, Ordering::Release);
        }
        self.tell.stale();
        // Only now may another worker that comes to the same watch pass it by. Release pairs with the
        // acquire in `tell_some`. Model: `law3_watch_is_told_before_either_invalidation_is_done`.
        self.told.store(true, Ordering::Release);
    }
}

/// The watches of an instance.
pub(super) struct Watches {
    count: AtomicUsize,
    list: Snapshot<Vec<Arc<Entry>>>,
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            list: Snapshot::new(Vec::new()),
        }
    }
}

impl Watches {
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Entry>>)) {
        let Ok(()) = self.list.replace(|old| {
            let mut new = old.clone();
            change(&mut new);
            Ok::<_, Infallible>(new)
        });
    }

    /// Tells every watch whose translation `matches`. The caller has passed a full fence since
    /// the invalidation.
    #[inline]
    pub(super) fn tell(&self, matches: impl FnMut(&Use) -> bool) {
        if self.count.load(Ordering::Relaxed) != 0 {
            self.tell_some(matches);
        }
    }

    #[cold]
    fn tell_some(&self, mut matches: impl FnMut(&Use) -> bool) {
        let mut concerned = self.list.read().as_ref().clone();
        concerned.retain(|entry| !entry.told.load(Ordering::Acquire) && matches(&entry.used));
        // The list is not held any more: whoever is told may drop the watch.
        concerned.iter().for_each(|entry| entry.invalidate());
    }
}

/// A translation that is kept without a guard. See [`Port::watch`].
pub struct Watched {
    core: Arc<Software>,
    entry: Arc<Entry>,
    output: Output,
}

impl Watched {
    fn enter(core: &Arc<Software>, used: Use, tell: Arc<dyn Stale>, output: Output) -> Self {
        let entry = Arc::new(Entry {
            used,
            stale: AtomicBool::new(false),
            told: AtomicBool::new(false),
            tell,
        });
        // Before the list: whoever invalidates looks at it as soon as there may be something.
        core.watches.count.fetch_add(1, Ordering::Relaxed);
        core.watches.change(|list| list.push(entry.clone()));
        Self {
            core: core.clone(),
            entry,
            output,
        }
    }

    /// Where the access goes, as long as it is not [stale](Self::is_stale).
    #[must_use]
    pub fn output(&self) -> Output {
        self.output
    }

    /// Whether the translation may not be true any more. To be asked once after the translation has
    /// been put to use: the call that tells may have come before.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.entry.stale.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("used", &self.entry.used)
            .field("output", &self.output)
            .field("stale", &self.is_stale())
            .finish_non_exhaustive()
    }
}

impl Drop for Watched {
    /// Ends the watch. An invalidation that is under way may still tell it.
    fn drop(&mut self) {
        self.core
            .watches
            .change(|list| list.retain(|entry| !Arc::ptr_eq(entry, &self.entry)));
        self.core.watches.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Port {
    /// Translates as [`translate`](Self::translate) does, but keeps no guard: `tell` is called when
    /// an invalidation, a change of configuration, memory or registers, or a stream that fails
    /// closed may have changed the result, before a SYNC behind it completes. Control path.
    pub fn watch(
        &mut self,
        substream: Option<SubstreamId>,
        access: Access,
        bytes: u64,
        tell: &Arc<dyn Stale>,
        faulted: impl FnOnce(&Failed),
    ) -> Result<Watched, Denied> {
        let core = self.core().clone();
        let (mut output, mut used) = self.look(substream, access, bytes, faulted)?;
        for _ in 0..MAX_TRIES {
            let mut watched = Watched::enter(&core, used, tell.clone(), output);
            (output, used) = self.look(substream, access, bytes, |_| ())?;
            if watched.entry.used.covers(&used) {
                watched.output = output;
                return Ok(watched);
            }
        }
        // The guest changes the mapping faster than it can be read.
        Err(Denied::Aborted)
    }

    fn look(
        &mut self,
        substream: Option<SubstreamId>,
        access: Access,
        bytes: u64,
        faulted: impl FnOnce(&Failed),
    ) -> Result<(Output, Use), Denied> {
        let mut guard = self.translate_and_go_on(substream, access, bytes, faulted)?;
        // What the guard found is at least as old; both halves of the answer must be of one look.
        guard.resolve(substream, access, bytes)
    }
}
