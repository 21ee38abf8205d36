//! Threads, and parking that works the same in a product build and in a model.

#[cfg(loom)]
pub use loom::thread::{JoinHandle, spawn, yield_now};
#[cfg(not(loom))]
pub use std::thread::{JoinHandle, spawn, yield_now};
pub use std::thread::{available_parallelism, panicking};

use crate::sync::{Condvar, Mutex};
use core::time::Duration;

/// One thread's bed: [`Parker::park`] sleeps until a token has been left by
/// [`Parker::unpark`] and takes it. A token left early makes the next `park` return at
/// once, so the order of the two calls does not matter.
#[derive(Debug, Default)]
pub struct Parker {
    token: Mutex<bool>,
    bell: Condvar,
}

impl Parker {
    /// A bed without a token.
    #[must_use]
    pub fn new() -> Self {
        Self {
            token: Mutex::new(false),
            bell: Condvar::new(),
        }
    }

    /// Sleeps until there is a token, and takes it. With a time limit it may return without
    /// one. Loom knows no time: under it the limit is ignored.
    #[cfg_attr(loom, expect(unused_variables, reason = "loom knows no time"))]
    pub fn park(&self, limit: Option<Duration>) {
        let mut token = self.token.lock().unwrap_or_else(|dead| dead.into_inner());
        while !*token {
            #[cfg(not(loom))]
            if let Some(limit) = limit {
                let woken = self.bell.wait_timeout(token, limit);
                *woken.unwrap_or_else(|dead| dead.into_inner()).0 = false;
                return;
            }
            token = self
                .bell
                .wait(token)
                .unwrap_or_else(|dead| dead.into_inner());
        }
        *token = false;
    }

    /// Takes the token, if there is one; never sleeps.
    pub fn take(&self) -> bool {
        core::mem::take(&mut *self.token.lock().unwrap_or_else(|dead| dead.into_inner()))
    }

    /// Leaves a token and wakes the sleeper.
    pub fn unpark(&self) {
        *self.token.lock().unwrap_or_else(|dead| dead.into_inner()) = true;
        self.bell.notify_one();
    }
}
