//! A job that one thread leaves for another one and waits for, without a lock.
//!
//! One word says whose the job is; it moves by read-modify-write only:
//!
//! | from | to | who | then |
//! |---|---|---|---|
//! | EMPTY | FILLING | who posts | fills the job |
//! | FILLING | POSTED | who posts (release) | wakes the thread if it was asleep |
//! | POSTED | RUNNING | the thread (acquire) | does it |
//! | POSTED | FILLING | who posted | does it itself: the thread has not come to it |
//! | RUNNING | AWAITED | who posted | sleeps |
//! | RUNNING, AWAITED | DONE | the thread (release) | wakes who sleeps |
//! | DONE, FILLING | EMPTY | who posted (acquire) | has collected what came of it |
//!
//! So nothing depends on the thread: one that is slow, or has left, delays nobody, and who posts waits only
//! for work that has begun. ASLEEP is a bit beside all of these, set by the thread before it sleeps
//! and cleared by whoever posts, or by the thread itself. The word has one order of changes, so either the
//! thread sees POSTED when it sets the bit, or who posts sees the bit. The bed keeps a token, so waking it
//! before it sleeps is not lost. Model: `loom-tests/tests/fan_out.rs`.

use super::patience::Patience;
use vcmdq_sync::atomic::{AtomicBool, AtomicU32, Ordering};
use vcmdq_sync::claim::ClaimCell;
use vcmdq_sync::thread::Parker;
use vcmdq_sync::weak::{Site, taken};

const EMPTY: u32 = 0;
const FILLING: u32 = 1;
const POSTED: u32 = 2;
const RUNNING: u32 = 3;
const AWAITED: u32 = 4;
const DONE: u32 = 5;
const STATE: u32 = 7;
const ASLEEP: u32 = 8;

/// See the [module](self).
pub(crate) struct HandOver<J> {
    word: AtomicU32,
    /// Whose it is says the word, so the claim is always free; it is what proves exclusiveness.
    job: ClaimCell<J>,
    /// Where the thread sleeps.
    bed: Parker,
    /// Where who posted sleeps.
    waits: Parker,
    closed: AtomicBool,
}

impl<J> HandOver<J> {
    pub(crate) fn new(job: J) -> Self {
        Self {
            word: AtomicU32::new(EMPTY),
            job: ClaimCell::new(job),
            bed: Parker::new(),
            waits: Parker::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Leaves a job, which must be [finished](Self::finish) by the same caller. False if another
    /// caller's is there.
    pub(crate) fn post(&self, fill: impl FnOnce(&mut J)) -> bool {
        if !self.moves(EMPTY, FILLING) {
            return false;
        }
        self.with(fill);
        // Release pairs with the acquire of POSTED in `serve`: the job.
        if self.word.swap(POSTED, Ordering::AcqRel) & ASLEEP != 0 {
            self.bed.unpark();
        }
        true
    }

    /// Waits until the job is done, or does it here if nobody has begun it; then collects what came of
    /// it. Neither may unwind.
    pub(crate) fn finish(
        &self,
        patience: &Patience,
        work: impl FnOnce(&mut J),
        collect: impl FnOnce(&mut J),
    ) {
        if self.moves(POSTED, FILLING) {
            self.with(work);
        } else if taken(Site::FanOutJoin) {
            self.wait(patience);
        }
        self.with(collect);
        // Acquire and release pair with those of the next `post`.
        self.word.fetch_and(ASLEEP, Ordering::AcqRel);
    }

    fn wait(&self, patience: &Patience) {
        // Acquire pairs with the release of DONE in `serve`: what the job has done.
        let is_done = || self.word.load(Ordering::Acquire) & STATE == DONE;
        if patience.until(is_done) || !self.moves(RUNNING, AWAITED) {
            return;
        }
        while !is_done() {
            self.waits.park(None);
        }
    }

    /// The thread: does what is posted until it is [told to leave](Self::close). `work` may not unwind.
    pub(crate) fn serve(&self, patience: &Patience, work: impl Fn(&mut J)) {
        loop {
            if self.moves(POSTED, RUNNING) {
                self.with(&work);
                // Release pairs with the acquire in `wait`.
                let before = self.word.swap(DONE, Ordering::AcqRel);
                if before & STATE == AWAITED && taken(Site::FanOutDone) {
                    self.waits.unpark();
                }
            } else if self.is_closed() {
                return;
            } else if !patience.until(|| self.is_posted() || self.is_closed()) {
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        let before = self.word.fetch_or(ASLEEP, Ordering::AcqRel);
        if before & STATE != POSTED && !self.is_closed() {
            self.bed.park(None);
        }
        self.word.fetch_and(!ASLEEP, Ordering::AcqRel);
    }

    /// The thread is to leave. What is posted afterwards is done by who posts it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bed.unpark();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn is_posted(&self) -> bool {
        self.word.load(Ordering::Relaxed) & STATE == POSTED
    }

    fn moves(&self, from: u32, to: u32) -> bool {
        let next = |word: u32| (word & STATE == from).then_some(word & ASLEEP | to);
        let moved = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        moved.is_ok()
    }

    fn with<R>(&self, f: impl FnOnce(&mut J) -> R) -> R {
        self.job.enter_blocking().with(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn once(over: &HandOver<u32>, patience: &Patience, n: u32) -> u32 {
        assert!(over.post(|job| *job = n));
        assert!(!over.post(|_| unreachable!()), "somebody else's is there");
        let mut result = 0;
        over.finish(patience, |job| *job += 1000, |job| result = *job);
        result
    }

    #[test]
    fn a_job_without_its_thread_is_done_by_who_posts_it() {
        let (over, patience) = (HandOver::new(0), Patience::for_test(Duration::ZERO));
        assert_eq!(
            [once(&over, &patience, 1), once(&over, &patience, 2)],
            [1001, 1002]
        );
        // Nor is a thread needed that has left.
        over.close();
        over.serve(&patience, |_| unreachable!("nothing is posted"));
        assert_eq!(once(&over, &patience, 3), 1003);
    }

    #[test]
    fn every_job_is_done_once_whoever_does_it() {
        for spin in [Duration::ZERO, Duration::from_micros(20)] {
            let (over, patience) = (HandOver::new(0), Patience::for_test(spin));
            let over = Arc::new(over);
            let thread = vcmdq_sync::thread::spawn({
                let (over, patience) = (over.clone(), patience.clone());
                move || over.serve(&patience, |job| *job += 1000)
            });
            for n in 0..5000 {
                assert_eq!(once(&over, &patience, n), n + 1000);
            }
            over.close();
            thread.join().expect("it has not died");
        }
    }
}
