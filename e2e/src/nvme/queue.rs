//! Submission and completion queues.

use super::command::{COMPLETION, ENTRY};

/// A submission queue.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    base: u64,
    size: u32,
    head: u32,
    tail: u32,
    /// The completion queue that it belongs to.
    pub(super) completion: u16,
    /// Commands that have been fetched and are not complete.
    pub(super) open: u32,
    /// It is being deleted: nothing more is fetched.
    pub(super) closing: bool,
}

impl Submission {
    pub(super) fn new((base, size): (u64, u32), completion: u16) -> Self {
        Self {
            base,
            size,
            head: 0,
            tail: 0,
            completion,
            open: 0,
            closing: false,
        }
    }

    /// The doorbell. A tail outside of the queue is not followed; the driver is told nothing, as
    /// asynchronous events are not given.
    pub(super) fn set_tail(&mut self, tail: u32) {
        if tail < self.size {
            self.tail = tail;
        }
    }

    /// Where the next entry lies, if there is one; it is then taken.
    pub(super) fn take(&mut self) -> Option<u64> {
        if self.head == self.tail || self.closing {
            return None;
        }
        let at = self.base.wrapping_add(u64::from(self.head) * ENTRY as u64);
        self.head = (self.head + 1) % self.size;
        self.open += 1;
        Some(at)
    }

    /// For the completion: what has been taken.
    pub(super) fn head(&self) -> u16 {
        self.head as u16
    }
}

/// A completion queue.
#[derive(Clone, Debug)]
pub(super) struct Completion {
    base: u64,
    size: u32,
    head: u32,
    tail: u32,
    phase: bool,
    /// The vector that it interrupts with, if it does.
    pub(super) vector: Option<u16>,
    /// Entries that commands under way will need.
    pub(super) promised: u32,
}

impl Completion {
    pub(super) fn new((base, size): (u64, u32), vector: Option<u16>) -> Self {
        Self {
            base,
            size,
            head: 0,
            tail: 0,
            phase: true,
            vector,
            promised: 0,
        }
    }

    /// The doorbell.
    pub(super) fn set_head(&mut self, head: u32) {
        if head < self.size {
            self.head = head;
        }
    }

    /// Whether the driver has something to look at.
    pub(super) fn is_pending(&self) -> bool {
        self.head != self.tail
    }

    /// Whether one more command can be promised an entry.
    pub(super) fn has_room(&self) -> bool {
        let used = (self.tail + self.size - self.head) % self.size;
        used + self.promised + 1 < self.size
    }

    /// Where the next entry goes, and its phase.
    pub(super) fn put(&mut self) -> (u64, bool) {
        let at = self
            .base
            .wrapping_add(u64::from(self.tail) * COMPLETION as u64);
        let phase = self.phase;
        self.tail = (self.tail + 1) % self.size;
        if self.tail == 0 {
            self.phase = !self.phase;
        }
        (at, phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_taken_once_and_in_a_circle() {
        let mut queue = Submission::new((0x1000, 4), 1);
        assert_eq!(queue.take(), None);
        queue.set_tail(3);
        let taken: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!(taken, [0x1000, 0x1040, 0x1080]);
        queue.set_tail(1);
        assert_eq!(queue.take(), Some(0x10C0));
        assert_eq!(queue.take(), Some(0x1000));
        assert_eq!((queue.take(), queue.head(), queue.open), (None, 1, 5));
        queue.set_tail(4);
        assert_eq!(queue.take(), None, "a tail outside is not followed");
    }

    #[test]
    fn the_phase_turns_with_each_lap_and_a_full_queue_has_no_room() {
        let mut queue = Completion::new((0x2000, 3), Some(0));
        assert!(queue.has_room());
        assert_eq!(queue.put(), (0x2000, true));
        queue.promised = 1;
        assert!(!queue.has_room());
        queue.promised = 0;
        assert_eq!(queue.put(), (0x2010, true));
        assert!(!queue.has_room());
        queue.set_head(2);
        assert!(queue.has_room() && !queue.is_pending());
        assert_eq!(queue.put(), (0x2020, true));
        assert_eq!(queue.put(), (0x2000, false));
    }
}
