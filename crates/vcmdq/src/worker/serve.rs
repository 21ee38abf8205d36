//! One ring, served by whoever took it.

use crate::consumer::Progress;
use crate::ring::Ring;
use crate::window::Desk;
use std::time::Duration;

/// Consumes a ring until it is idle or has had its share. If another worker is at it, that one
/// goes round again. Whether anything was consumed.
pub(crate) fn serve(ring: &Ring, desk: &mut Desk, slice: Duration) -> bool {
    let Some(mut claim) = ring.consumer.enter() else {
        return false;
    };
    let mut worked = false;
    loop {
        let (progress, consumed) = claim.with(|consumer| consumer.slice(ring, desk, slice));
        worked |= consumed;
        match (claim.leave(), progress) {
            (Ok(()), Progress::Idle) => return worked,
            (Err(again), Progress::Idle) => claim = again,
            (left, Progress::More) => {
                drop(left);
                ring.bell.ring(ring.index);
                return worked;
            }
        }
    }
}

/// What becomes of news that a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The ring is served at once.
    Serve,
    /// It is ready, like a ring whose doorbell has rung, and served in its turn.
    Announce,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Nothing,
    /// There is news, for later.
    Announced,
    /// Served. Whether anything was consumed.
    Served(bool),
}

/// Looks a few times for what nobody announces: in a shared page, a zone or guest memory.
pub(crate) fn look(ring: &Ring, desk: &mut Desk, slice: Duration, looks: u32, news: News) -> Look {
    // Behind a closed gate nothing comes without a doorbell.
    if ring.gate.as_ref().is_some_and(|gate| !gate.is_open()) {
        return Look::Nothing;
    }
    let Some(mut claim) = ring.consumer.enter() else {
        return Look::Nothing;
    };
    // Under the claim, because a paused ring's page and a removed ring's zone may be gone.
    let found = claim.with(|consumer| {
        if ring.is_paused() {
            return false;
        }
        // What a zone hands over is announced.
        ring.drain();
        ring.look_for_news(consumer, &mut desk.looks, looks)
    });
    let mut came_to = Look::Nothing;
    let mut announce = false;
    if found && news == News::Announce {
        (came_to, announce) = (Look::Announced, true);
    } else if found {
        let (progress, consumed) = claim.with(|consumer| consumer.slice(ring, desk, slice));
        came_to = Look::Served(consumed);
        announce = progress == Progress::More;
    }
    if let Err(again) = claim.leave() {
        drop(again);
        announce = true;
    }
    if announce {
        ring.bell.ring(ring.index);
    }
    came_to
}
