//! One window, several instances: their calls at the same time.
//!
//! What names a stream goes to that stream's instance alone, anything else to every instance. Calls that
//! neither block nor are long are made by whoever serves the ring, one instance after the other. Of those
//! that do ([`Instance::in_lane`]), the frame's first instance has its calls made by that thread, too;
//! every further one has a thread of its own ([`caller`]), hired when it is added:
//!
//! 1. Each such instance that the window concerns, but for one, is given its share of the window, in
//!    memory that was allocated with the thread ([`hand_over`]).
//! 2. The calls of the others are made here.
//! 3. Every share is waited for. One that no thread has come to yet is taken back, and its calls
//!    are made here: at worst the calls follow each other, as with one thread.
//!
//! So a SYNC waits for the slowest instance and not for their sum. Each instance climbs the ladder of
//! law 4 by itself, on the thread that makes its calls; what failed is added up behind the last of them
//! and charged to its rings. A window that concerns one such instance wakes nobody. Nobody is in a call
//! any more when [`fan_out`](Consumer::fan_out) returns, so `unbind` may rely on the stream table
//! that its caller holds.
//!
//! A panic on one of the threads does not end that thread: it goes on at whoever waits, behind the other
//! instances' calls, and is charged to the ring like one in a call that was made there.

mod caller;
mod calls;
mod hand_over;
mod patience;

pub(crate) use caller::{Caller, Payload};
pub(crate) use calls::make_calls;
pub(crate) use patience::Patience;

use crate::consumer::Consumer;
use crate::instance::Instance;
use crate::streams::Streams;
use crate::window::Desk;
use caller::caught;
use smmu_core::StreamId;

/// Instances with threads that take part; more are called here.
const MOST: usize = u64::BITS as usize;

impl Consumer {
    /// Dispatches a finished window to all instances. What a panic has left, if calls ended so: the others
    /// were made all the same.
    pub(crate) fn fan_out(&self, streams: Option<&Streams>, desk: &mut Desk) -> Option<Payload> {
        let posted = self.post_shares(streams, desk);
        let others = self.instances.iter().enumerate();
        let others = others.filter(|(n, _)| !is_posted(posted, *n));
        let mut died = caught(|| {
            for (_, instance) in others {
                call(instance, streams, desk);
            }
        });
        // law3n: what other threads are at is not waited for.
        if vcmdq_sync::broken!(break_law3n) {
            return died;
        }
        for (n, instance) in self.instances.iter().enumerate().take(MOST) {
            if let Some(caller) = instance.caller.as_ref().filter(|_| is_posted(posted, n)) {
                died = caller.finish(&mut desk.report).or(died);
            }
        }
        died
    }

    /// Step 1. Which instances have got their shares, as bits.
    fn post_shares(&self, streams: Option<&Streams>, desk: &Desk) -> u64 {
        let (window, batch) = (&desk.window.coalescer, &desk.batch);
        let concerned = |instance: &Instance| {
            instance.in_lane && window.concerns(|stream| is_of(streams, stream, instance))
        };
        let all = || self.instances.iter().enumerate();
        let own = all()
            .filter(|(_, instance)| concerned(instance))
            .min_by_key(|(_, instance)| instance.caller.is_some())
            .map(|(n, _)| n);
        let mut posted = 0;
        for (n, instance) in all().take(MOST).filter(|(n, _)| Some(*n) != own) {
            let Some(caller) = instance.caller.as_ref().filter(|_| concerned(instance)) else {
                continue;
            };
            let mine = |stream| is_of(streams, stream, instance);
            if caller.post(instance.id.0, batch, window, mine) {
                posted |= 1 << n;
            }
        }
        posted
    }
}

fn is_posted(posted: u64, n: usize) -> bool {
    n < MOST && posted >> n & 1 != 0
}

fn is_of(streams: Option<&Streams>, stream: StreamId, instance: &Instance) -> bool {
    streams.is_some_and(|streams| streams.belongs(stream, instance.id))
}

/// Makes an instance's calls here.
#[inline]
pub(crate) fn call(instance: &Instance, streams: Option<&Streams>, desk: &mut Desk) {
    let (window, report) = (&mut desk.window.coalescer, &mut desk.report);
    report.member = instance.id.0;
    let mine = |stream| is_of(streams, stream, instance);
    make_calls(&*instance.backend, window, &mut desk.batch, report, mine);
}
