//! The guards that were open at a moment, and whether they have been closed since.
//!
//! For whoever exchanges what translations start from and may not wait: a mark would do for
//! whoever waits, but marks of other rings come and go on the same slots, so "no slot has a mark"
//! may never be seen under steady traffic. A slot and its lap name one opening exactly.

use super::{Guards, OPEN, WAITED};
use alloc::vec::Vec;
use vcmdq_sync::atomic::{Ordering, fence};
use vcmdq_sync::weak::{Site, taken};

/// Openings of guards; at most as many as there are slots.
#[derive(Debug, Default)]
pub struct Earlier(Vec<(usize, u64)>);

impl Guards {
    /// The guards that are open now. What the caller has published before is found by every
    /// guard that is opened later (rule 2 of the [module](super)).
    #[must_use]
    pub fn open_now(&self) -> Earlier {
        if !taken(Site::WorldGuards) {
            return Earlier::default();
        }
        // Pairs with the fence in `open`.
        fence(Ordering::SeqCst);
        let used = self.used.load(Ordering::Relaxed) as usize;
        let openings = self.lines[..used]
            .iter()
            .enumerate()
            .filter_map(|(at, line)| {
                let state = line.state.load(Ordering::Acquire);
                (state & OPEN != 0).then_some((at, state & !WAITED))
            });
        Earlier(openings.collect())
    }

    /// Forgets the openings that have ended; whether none is left. What their users did
    /// happened before.
    pub fn have_closed(&self, earlier: &mut Earlier) -> bool {
        earlier.0.retain(|&(at, opening)| {
            // Acquire pairs with the release in `close`, or in the `open` behind it.
            self.lines[at].state.load(Ordering::Acquire) & !WAITED == opening
        });
        earlier.0.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::guard::{Guards, Use};
    use crate::{StreamId, Vmid};

    #[test]
    fn an_opening_ends_even_if_its_slot_is_opened_again() {
        let guards = Guards::new(2);
        let what = Use::untranslated(StreamId(1), Vmid(0));
        let (first, second) = (guards.lease().expect("two"), guards.lease().expect("two"));
        guards.open(&first, &what);
        let mut earlier = guards.open_now();
        guards.open(&second, &what);
        assert!(!guards.have_closed(&mut earlier));
        let _woken = guards.close(&first);
        guards.open(&first, &what);
        assert!(guards.have_closed(&mut earlier));
        assert!(!guards.have_closed(&mut guards.open_now()));
    }
}
