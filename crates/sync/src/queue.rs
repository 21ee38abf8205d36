//! A bounded queue that many threads fill and empty, none of which waits.
//!
//! crossbeam's `ArrayQueue`; under loom, which does not know that, a mutex around a `VecDeque`. So
//! models see what a value brings along (push happens before its pop), and not how the queue does it.

/// See the [module](self).
#[derive(Debug)]
pub struct Queue<T> {
    #[cfg(not(loom))]
    places: crossbeam_queue::ArrayQueue<T>,
    #[cfg(loom)]
    places: crate::sync::Mutex<std::collections::VecDeque<T>>,
    #[cfg(loom)]
    most: usize,
}

impl<T> Queue<T> {
    /// A queue of `places`, at least one. Allocates them all.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let places = places.max(1);
        Self {
            #[cfg(not(loom))]
            places: crossbeam_queue::ArrayQueue::new(places),
            #[cfg(loom)]
            places: crate::sync::Mutex::new(std::collections::VecDeque::new()),
            #[cfg(loom)]
            most: places,
        }
    }

    /// Adds a value; gives it back if the queue is full. Any thread; never blocks.
    pub fn push(&self, value: T) -> Result<(), T> {
        #[cfg(not(loom))]
        return self.places.push(value);
        #[cfg(loom)]
        {
            let mut places = self.places.lock().expect("model");
            if places.len() == self.most {
                return Err(value);
            }
            places.push_back(value);
            Ok(())
        }
    }

    /// The value that has been in it for longest. A push that is under way on another thread may
    /// not be seen, nor what came behind it. Any thread; never blocks.
    pub fn pop(&self) -> Option<T> {
        #[cfg(not(loom))]
        return self.places.pop();
        #[cfg(loom)]
        return self.places.lock().expect("model").pop_front();
    }
}
