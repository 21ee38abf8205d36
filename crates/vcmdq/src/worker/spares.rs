//! Threads without a round.
//!
//! Who gives up a round that somebody has to go through leaves a token; who has no round and finds
//! none sleeps until there is a token, and takes it. Both look at the tokens under one lock, so none
//! is missed; one that was left for nothing makes a thread look once too often. No lock is taken
//! while a call that may block finds nothing else to be done meanwhile.

use std::sync::PoisonError;
use vcmdq_sync::sync::{Condvar, Mutex, MutexGuard};

/// More tokens than rounds are of no use.
const MOST: u32 = 64;

#[derive(Debug, Default)]
struct State {
    tokens: u32,
    asleep: u32,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Spares {
    state: Mutex<State>,
    bed: Condvar,
}

impl Spares {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of them is to look for a round.
    #[cold]
    pub(crate) fn wake(&self) {
        let mut state = self.state();
        state.tokens = (state.tokens + 1).min(MOST);
        if state.asleep != 0 {
            self.bed.notify_one();
        }
    }

    /// All of them are to look at what `leaves` in [`sleep`](Self::sleep) looks at.
    pub(crate) fn wake_all(&self) {
        let _looked = self.state();
        self.bed.notify_all();
    }

    /// Sleeps until there is a token, and takes it, or until `leaves`.
    pub(crate) fn sleep(&self, leaves: impl Fn() -> bool) {
        let mut state = self.state();
        while state.tokens == 0 && !leaves() {
            state.asleep += 1;
            state = self.bed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
        state.tokens = state.tokens.saturating_sub(1);
    }
}
