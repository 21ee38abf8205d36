//! Threads, and parking that works the same in a product build and in a model.

#[cfg(loom)]
pub use loom::thread::{JoinHandle, spawn, yield_now};
#[cfg(not(loom))]
pub use std::thread::{JoinHandle, spawn, yield_now};

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
    pub fn park(&self, limit: Option<Duration>) {
        let mut token = self.token.lock().unwrap_or_else(|dead| dead.into_inner());
        while !*token {
            match limit {
                #[cfg(not(loom))]
                Some(limit) => {
                    let (mut token, _) = self
                        .bell
                        .wait_timeout(token, limit)
                        .unwrap_or_else(|dead| dead.into_inner());
                    *token = false;
                    return;
                }
                _ => {
                    token = self
                        .bell
                        .wait(token)
                        .unwrap_or_else(|dead| dead.into_inner())
                }
            }
        }
        *token = false;
    }

    /// Leaves a token and wakes the sleeper.
    pub fn unpark(&self) {
        *self.token.lock().unwrap_or_else(|dead| dead.into_inner()) = true;
        self.bell.notify_one();
    }
}
