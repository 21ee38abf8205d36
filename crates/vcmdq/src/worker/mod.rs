//! Workers: threads that go through rounds.
//!
//! There are [`Settings::workers`](crate::Settings::workers) rounds ([`round`]); a thread that goes
//! through one is awake or sleeps in that round's bed, and nobody else goes through it meanwhile.

mod round;
mod serve;
mod waits;

pub(crate) use round::Round;
pub(crate) use serve::{Look, News, look, serve};

use crate::engine::EngineShared;
use crate::window::Desk;
use round::Turn;
use std::sync::Arc;
use vcmdq_sync::atomic::Ordering;

/// One thread.
pub(crate) struct Worker {
    /// The round that it begins with.
    index: usize,
    shared: Arc<EngineShared>,
    desk: Desk,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<EngineShared>) -> Self {
        Self {
            index,
            shared,
            desk: Desk::new(),
        }
    }

    /// Runs until the engine stops.
    pub(crate) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.turn();
        }
    }

    /// Once round.
    pub(crate) fn turn(&mut self) {
        let Self {
            index,
            shared,
            desk,
        } = self;
        let Some(mut claim) = shared.rounds[*index].try_enter() else {
            return;
        };
        claim.with(|round| {
            let mut turn = Turn {
                shared,
                round,
                desk,
            };
            turn.go();
        });
    }
}
