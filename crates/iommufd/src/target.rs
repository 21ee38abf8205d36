//! Which vIOMMU invalidations go to. Exchanged when the stage 2 is replaced, while calls are made.

use std::convert::Infallible;
use std::fmt;
use vcmdq_sync::snapshot::Snapshot;
use vcmdq_sync::sync::Arc;

/// The vIOMMU of an instance (or, for VT-d, the nested page table), as its backend knows it. Clones are the
/// same one.
#[derive(Clone)]
pub struct Target(Arc<Snapshot<Option<u32>>>);

impl From<u32> for Target {
    /// One that stays.
    fn from(id: u32) -> Self {
        Self(Arc::new(Snapshot::new(Some(id))))
    }
}

impl Target {
    /// The present one; `None` while no stream of the instance translates and nothing of it is cached, so that
    /// an invalidation has nothing to do. Held for as long as a call to it is under way. From any thread, never
    /// waits.
    pub(crate) fn read(&self) -> Arc<Option<u32>> {
        self.0.read()
    }

    /// Its ID, or 0 while there is none.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.read().unwrap_or_default()
    }

    /// Another one. When this returns, no call is under way to the one before.
    pub(crate) fn replace(&self, id: Option<u32>) {
        let _: Result<(), Infallible> = self.0.replace(|_| Ok(id));
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&*self.read()).finish()
    }
}
