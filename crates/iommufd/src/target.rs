//! Which vIOMMU invalidations go to. Exchanged when the stage 2 is replaced, while calls are made.

use std::convert::Infallible;
use std::fmt;
use vcmdq_sync::snapshot::Snapshot;
use vcmdq_sync::sync::Arc;

/// Where invalidations go, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    /// `None` while no stream of the instance translates and nothing of it is cached, so that an invalidation
    /// has nothing to do.
    pub(crate) id: Option<u32>,
    /// Counts from 1, whenever all that was cached is gone, or is about to be. (The kernel gives the numbers of
    /// what has been destroyed again.)
    pub(crate) generation: u64,
}

/// The vIOMMU of an instance (or, for VT-d, the nested page table), as its backend knows it. Clones are the
/// same one.
#[derive(Clone)]
pub struct Target(Arc<Snapshot<Aim>>);

impl From<u32> for Target {
    /// One that stays.
    fn from(id: u32) -> Self {
        let (id, generation) = (Some(id), 1);
        Self(Arc::new(Snapshot::new(Aim { id, generation })))
    }
}

impl Target {
    /// The present one. Held for as long as a call to it is under way. From any thread, never waits.
    pub(crate) fn read(&self) -> Arc<Aim> {
        self.0.read()
    }

    /// Its ID, or 0 while there is none.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.read().id.unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.read().generation
    }

    /// Another one. When this returns, no call is under way to the one before.
    pub(crate) fn replace(&self, id: Option<u32>) {
        self.go_on(|_| id);
    }

    /// The same one, and what failed before does not count any more: everything is about to be removed. When
    /// this returns, calls of before have ended. The generation that has begun.
    pub(crate) fn renew(&self) -> u64 {
        self.go_on(|id| id)
    }

    fn go_on(&self, to: impl FnOnce(Option<u32>) -> Option<u32>) -> u64 {
        let mut begun = 0;
        let _: Result<(), Infallible> = self.0.replace(|now| {
            begun = now.generation + 1;
            let (id, generation) = (to(now.id), begun);
            Ok(Aim { id, generation })
        });
        begun
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&*self.read()).finish()
    }
}
