//! What a device has to give back, and its answer.

use super::super::quiesce::could_match;
use super::debts::Debts;
use super::lending::{Loan, Remote};
use super::shared::{What, count};
use smmu_core::guard::{Interest, Use};
use vcmdq_sync::weak::{Site, taken};

/// Input addresses that a device may no longer use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// The first one.
    pub iova: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What a device has to drop. SYNCs wait until its number is [answered](Remote::answered).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "SYNCs wait until the device has answered it"]
pub struct Notice {
    /// Counts up; a device that has answered one has answered those before.
    pub number: u64,
    /// What was lent and is not true any more: in order, neighbours merged, never empty.
    pub ranges: Vec<IovaRange>,
}

/// A notice that has not been answered.
#[derive(Debug)]
pub(super) struct Unanswered {
    number: u64,
    debts: Debts,
}

impl Remote {
    /// Takes what workers have removed since, as far as it was lent. `None`: nothing for the device
    /// to do. Call it after [`Notifier::told`](super::Notifier::told) until it is `None`. The owner's
    /// thread; never blocks. The work is bounded by what is lent times the places of the queue.
    pub fn take(&mut self) -> Option<Notice> {
        let mut debts = Debts::default();
        let mut gone = Vec::new();
        if let Some(wide) = self.shared.take_wide() {
            debts.add_all(&wide);
            gone.extend(std::mem::take(&mut self.lent).into_values());
        }
        // What comes meanwhile is for the next call.
        for _ in 0..self.places {
            let Some(removed) = self.shared.take_one() else {
                break;
            };
            debts.add(removed.asking);
            match removed.what {
                What::Request(request) => {
                    self.remove(&mut gone, |used| could_match(&request, used));
                }
                What::Configuration(change) => {
                    self.remove(&mut gone, |used| change.concerns(used.stream));
                }
            }
        }
        // law3k: what a device has been told to drop is not said to be lent any more.
        if vcmdq_sync::broken!(break_law3k) || !taken(Site::RemoteKept) {
            self.shared.say_again(self.interest_of_lent());
        }
        if !gone.is_empty() {
            return Some(self.notice(&gone, debts));
        }
        // It may have been lent, and taken back by a notice that is still under way.
        match self.unanswered.back_mut() {
            Some(last) => last.debts.add_all(&debts),
            None => self.settle(&debts),
        }
        None
    }

    /// Takes back one translation, so that another one finds room; nobody waits for it.
    /// `None`: nothing is lent.
    pub fn recall(&mut self) -> Option<Notice> {
        let (_, lent) = self.lent.pop_first()?;
        Some(self.notice(&[lent], Debts::default()))
    }

    fn remove(&mut self, gone: &mut Vec<(Loan, Use)>, mut matches: impl FnMut(&Use) -> bool) {
        self.lent.retain(|_, (loan, used)| {
            let keep = !matches(used);
            if !keep {
                gone.push((*loan, *used));
            }
            keep
        });
    }

    fn notice(&mut self, gone: &[(Loan, Use)], debts: Debts) -> Notice {
        self.number += 1;
        let number = self.number;
        self.unanswered.push_back(Unanswered { number, debts });
        let ranges = merged(gone);
        count(&self.shared.counters.notices, 1);
        count(&self.shared.counters.ranges, ranges.len() as u64);
        Notice { number, ranges }
    }

    /// The device has answered all notices up to this one: it does not use what they name, and what
    /// it did with it is done. The owner's thread; never blocks.
    pub fn answered(&mut self, number: u64) {
        let first_later = self
            .unanswered
            .iter()
            .position(|notice| notice.number > number);
        let count = first_later.unwrap_or(self.unanswered.len());
        let mut debts = Debts::default();
        for notice in self.unanswered.drain(..count) {
            debts.add_all(&notice.debts);
        }
        if self.unanswered.is_empty() {
            // Not earlier: who invalidates the same once more has to wait for the answer, too.
            // Model: `law3_remote_second_invalidation_waits_for_the_first_ones_answer`.
            self.shared.say_again(self.interest_of_lent());
        }
        self.settle(&debts);
    }

    fn settle(&self, debts: &Debts) {
        if !debts.are_none() {
            self.shared.settle(debts);
            self.core().answered();
        }
    }

    fn interest_of_lent(&self) -> Interest {
        let interests = self.lent.values().map(|(_, used)| used.interest());
        interests.fold(Interest::NOTHING, Interest::or)
    }
}

fn merged(gone: &[(Loan, Use)]) -> Vec<IovaRange> {
    let mut ranges: Vec<IovaRange> = gone
        .iter()
        .map(|(Loan { iova, bytes, .. }, _)| IovaRange {
            iova: *iova,
            bytes: *bytes,
        })
        .collect();
    ranges.sort_unstable_by_key(|range| range.iova);
    ranges.dedup_by(|next, before| {
        let is_neighbour = before.iova.checked_add(before.bytes) == Some(next.iova);
        if is_neighbour {
            before.bytes += next.bytes;
        }
        is_neighbour
    });
    ranges
}
