//! Walks that write: access flags and dirty state (IHI 0070, 3.13; Arm ARM D8.5).
//!
//! | descriptor, with HA / HD | access that is allowed otherwise | becomes |
//! |---|---|---|
//! | AF=0, HA | any | AF=1 |
//! | DBM=1 and read-only, HD | a write | writable: AP\[2\]=0, S2AP\[1\]=1 |
//! | DBM=1 and read-only, HD | any other | as it was; a cache has to ask again for a write |
//! | any | one that faults | as it was |
//!
//! An update is one compare-and-swap of the descriptor that was read. If somebody else has changed it
//! meanwhile, the walk is done again from its start, as all of it may have changed. A guest that changes a
//! descriptor all the time can have that happen as often as it likes, so it happens [`RESTARTS`] times at
//! most; then the access ends with the fault that it would have had without updates, which is true of the
//! descriptor as it was last read, and grants nothing of which the table does not know.

use super::permissions::Permissions;
use crate::fault::Fault;

/// How often a walk is done again at most.
pub(super) const RESTARTS: u32 = 16;

/// What a walk comes to.
pub(super) enum Outcome<T> {
    /// An end.
    Done(T),
    /// The descriptor changed before it could be updated. If there is no end of that, this fault.
    Changed(Fault),
}

/// Walks on from the beginning, as all of it may have changed, until the descriptor has been as it was read
/// for long enough. `walk` has come to a changed one once. Apart, so that what nearly every walk finds at
/// once stays in registers.
#[cold]
#[inline(never)]
pub(super) fn again<T>(walk: impl Fn() -> Result<Outcome<T>, Fault>) -> Result<T, Fault> {
    let mut restarts = 1;
    loop {
        match walk()? {
            Outcome::Done(found) => return Ok(found),
            Outcome::Changed(fault) if restarts == RESTARTS => return Err(fault),
            Outcome::Changed(_) => restarts += 1,
        }
    }
}

/// The rights that may be kept of a page, with which a write to a clean one is not let past the table.
#[inline]
pub(super) fn kept(rights: Permissions, clean: bool) -> Permissions {
    // law3h: a page that can become dirty is kept as writable, and the table never hears of it.
    if clean && !vcmdq_sync::broken!(break_law3h) {
        rights.read_only()
    } else {
        rights
    }
}
