//! STAGE account: which entries of a call have certainly been executed, whatever kernel it is.
//!
//! A call that fails tells a number of handled entries. Up to Linux 7.2 the SMMUv3 driver issues blocks
//! of 63 commands and tells
//!
//! | failure | number | executed |
//! |---|---|---|
//! | entry `i` is refused (-EIO) | `i` | whole blocks before `i`; the rest was converted only |
//! | a block is not done in time (-ETIMEDOUT) | its last entry | the blocks before it; of it nobody knows |
//! | no memory for the copy (-ENOMEM) | that of the call, untouched | nothing |
//! | the call itself is wrong | 0, or untouched | nothing |
//!
//! Later kernels count exactly. So one rule is true of all of them: a number that takes in the whole call
//! says nothing, and of any other the whole blocks are certain. What is not certain is sent again, which
//! removes too much at most.

use crate::counters::Counters;
use crate::encode::{BLOCK, MAX_ENTRIES};
use crate::uapi::{Errno, Invalidate, Iommufd};
use dispatch::Cause;

/// How often a call that found no memory, or was interrupted, is made again in smaller pieces.
const TRANSIENT: u32 = 16;

/// How often the kernel may refuse on the way to the entry that it means: halving needs ten, and a kernel
/// that changes its mind must not keep a worker.
const REFUSALS: u32 = 32;

/// What became of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accounted {
    /// The first so many have certainly been executed.
    pub(crate) certain: usize,
    /// Why the next one has not, if there is one.
    pub(crate) stopped: Option<Cause>,
}

/// Where entries go.
#[derive(Clone, Copy)]
pub(crate) struct Calls<'a> {
    pub(crate) kernel: &'a dyn Iommufd,
    pub(crate) id: u32,
    pub(crate) data_type: u32,
    pub(crate) entry_len: usize,
    /// The most entries in a call.
    pub(crate) limit: usize,
    pub(crate) counters: &'a Counters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It may work at once, perhaps in smaller pieces.
    Transient,
    /// The hardware did not answer.
    TimedOut,
    /// What the call is about is not there any more.
    Gone,
    /// The kernel does not want one of the entries.
    Refused,
}

fn class(errno: Errno) -> Class {
    match errno {
        Errno::NOMEM | Errno::INTR | Errno::AGAIN | Errno::BUSY => Class::Transient,
        Errno::TIMEDOUT | Errno::TIME => Class::TimedOut,
        Errno::NODEV | Errno::NOENT | Errno::NXIO | Errno::BADF => Class::Gone,
        _ => Class::Refused,
    }
}

/// How many entries have certainly been executed of `len`, of which the kernel calls `handled` handled.
fn certain(handled: usize, len: usize) -> usize {
    match handled < len {
        // law4j: what was converted is taken for executed.
        true if vcmdq_sync::broken!(break_law4j) => handled,
        true => handled / BLOCK * BLOCK,
        false => 0,
    }
}

/// What is known of the entries that are next.
#[derive(Clone, Copy, Default)]
struct Suspicion {
    /// Among so many is one that the kernel refuses; 0: nothing is known.
    among: usize,
    /// Where the kernel says that it is, while nothing speaks against it.
    at: Option<usize>,
}

impl Suspicion {
    /// How many entries to send next, of those that are `left`.
    fn piece(&self, left: usize) -> usize {
        match (self.among, self.at) {
            (0, _) => left,
            (1, _) | (_, Some(0)) => 1,
            (_, Some(at)) => at,
            (among, None) => among / 2,
        }
    }

    fn passed(&mut self, count: usize) {
        self.among = self.among.saturating_sub(count);
        self.at = self.at.and_then(|at| at.checked_sub(count));
    }
}

impl Calls<'_> {
    /// Has entries executed: all, or up to one that cannot be. Blocks as long as the kernel does.
    pub(crate) fn send(&self, entries: &[u8]) -> Accounted {
        let total = entries.len() / self.entry_len;
        let (mut done, mut suspicion) = (0, Suspicion::default());
        let (mut most, mut transient, mut refusals) = (self.limit.min(MAX_ENTRIES), 0, 0);
        while done < total {
            let len = suspicion.piece(total - done).min(most).min(total - done);
            let bytes = &entries[done * self.entry_len..(done + len) * self.entry_len];
            let Err(error) = self.call(bytes, len) else {
                done += len;
                suspicion.passed(len);
                most = (most * 2).min(self.limit);
                continue;
            };
            let handled = error.handled as usize;
            let sure = certain(handled, len);
            done += sure;
            suspicion.passed(sure);
            let stopped = match class(error.errno) {
                Class::Transient => {
                    self.counters.transient.add(1);
                    transient += 1;
                    most = ((len - sure) / 2).max(1);
                    (transient > TRANSIENT).then_some(Cause::Again)
                }
                Class::TimedOut => Some(Cause::TimedOut),
                Class::Gone => Some(Cause::Gone),
                Class::Refused => {
                    self.counters.refusals.add(1);
                    refusals += 1;
                    suspicion = Suspicion {
                        among: len - sure,
                        at: (handled < len).then(|| handled - sure),
                    };
                    match len {
                        1 => Some(Cause::Unsupported),
                        _ => (refusals > REFUSALS).then_some(Cause::Again),
                    }
                }
            };
            if stopped.is_some() {
                return Accounted {
                    certain: done,
                    stopped,
                };
            }
        }
        Accounted {
            certain: total,
            stopped: None,
        }
    }

    fn call(&self, entries: &[u8], len: usize) -> Result<(), crate::uapi::InvalidateError> {
        self.counters.calls.add(1);
        self.counters.entries.add(len as u64);
        self.kernel.invalidate(&Invalidate {
            target: self.id,
            data_type: self.data_type,
            entry_len: self.entry_len as u32,
            entries,
        })
    }
}
