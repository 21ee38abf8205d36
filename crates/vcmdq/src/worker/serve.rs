//! One ring, served by whoever took it.

use crate::consumer::{Consumer, Progress};
use crate::ring::{Again, Ring};
use crate::window::Desk;
use std::time::Duration;

/// What serving a ring came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// It is idle, or somebody else's, or ready again. Whether anything was consumed.
    Done(bool),
    /// Its next step may block, and the desk does not allow that: for the lane.
    Blocks,
}

/// Consumes a ring until it is idle or has had its share. If another worker is at it, that one
/// goes round again.
pub(crate) fn serve(ring: &Ring, desk: &mut Desk, slice: Duration) -> Served {
    // Dropped behind the claim.
    let _again = Again(ring);
    let Some(mut claim) = ring.consumer.enter() else {
        return Served::Done(false);
    };
    let mut worked = false;
    loop {
        let (progress, consumed) = claim.with(|consumer| consumer.slice(ring, desk, slice));
        worked |= consumed;
        match (claim.leave(), progress) {
            (Ok(()), Progress::Idle) => return Served::Done(worked),
            (Err(again), Progress::Idle) => claim = again,
            (left, Progress::More) => {
                drop(left);
                ring.rouse();
                return Served::Done(worked);
            }
            // Who came meanwhile is served by the lane.
            (left, Progress::Blocks) => {
                drop(left);
                return Served::Blocks;
            }
        }
    }
}

/// What becomes of news that a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The ring is served at once.
    Serve,
    /// Nothing is done about it.
    Tell,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Nothing,
    /// There is news.
    News,
    /// It was served.
    Served(Served),
}

/// Looks a few times for what nobody announces: in a shared page, a zone or guest memory.
pub(crate) fn look(ring: &Ring, desk: &mut Desk, slice: Duration, looks: u32, news: News) -> Look {
    // Behind a closed gate nothing comes without a doorbell.
    if ring.gate.as_ref().is_some_and(|gate| !gate.is_open()) {
        return Look::Nothing;
    }
    // Dropped behind the claim.
    let _again = Again(ring);
    let Some(mut claim) = ring.consumer.enter() else {
        return Look::Nothing;
    };
    // Under the claim, because a paused ring's page and a removed ring's zone may be gone.
    let found = claim.with(|consumer| {
        if ring.is_paused() || consumer.deaths.is_given_up() {
            return false;
        }
        // What a zone hands over is announced.
        ring.drain();
        ring.look_for_news(consumer, &mut desk.looks, looks)
    });
    let mut came_to = if found { Look::News } else { Look::Nothing };
    if found && news == News::Serve {
        let (progress, consumed) = claim.with(|consumer| consumer.slice(ring, desk, slice));
        came_to = Look::Served(match progress {
            Progress::Blocks => Served::Blocks,
            Progress::Idle | Progress::More => Served::Done(consumed),
        });
        if progress == Progress::More {
            drop(claim);
            ring.rouse();
            return came_to;
        }
    }
    ring.release(claim);
    came_to
}

impl Consumer {
    /// Whether a command's effect ends in a call that may block, which the desk does not allow.
    #[inline]
    pub(crate) fn host_blocks(&self, desk: &Desk) -> bool {
        self.frame.host_blocks && !desk.may_block
    }

    /// Whether the slice would begin with such a call.
    #[inline]
    pub(crate) fn begins_with_a_call(&self, ring: &Ring, desk: &Desk) -> bool {
        let telling = || self.tells_traffic && !ring.is_paused() && !self.frame.traffic.is_told();
        self.host_blocks(desk) && (self.configuring.is_some() || telling())
    }
}
