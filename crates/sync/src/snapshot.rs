//! A value that readers follow without waiting and that a writer exchanges whole.
//!
//! Stream tables and memory maps are read on every command that names a stream and
//! changed a few times in a guest's life. Readers take a reference ([`Snapshot::read`])
//! and never wait. [`Snapshot::replace`] publishes the new value and returns when the last
//! reference to the old one is gone: after it, *nothing uses the old value any more*
//! (law 9, and `unbind`).

use crate::sync::Arc;

/// See the [module](self).
#[derive(Debug)]
pub struct Snapshot<T> {
    #[cfg(not(loom))]
    current: arc_swap::ArcSwap<T>,
    #[cfg(loom)]
    current: crate::sync::Mutex<Arc<T>>,
    writers: crate::sync::Mutex<()>,
}

impl<T> Snapshot<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self {
            #[cfg(not(loom))]
            current: arc_swap::ArcSwap::from_pointee(value),
            #[cfg(loom)]
            current: crate::sync::Mutex::new(Arc::new(value)),
            writers: crate::sync::Mutex::new(()),
        }
    }

    /// The current value; keeps it alive, and a `replace` waiting, until dropped.
    #[inline]
    pub fn read(&self) -> Arc<T> {
        #[cfg(not(loom))]
        return self.current.load_full();
        #[cfg(loom)]
        return self.current.lock().expect("model").clone();
    }

    /// Derives a new value from the current one, publishes it and waits until no reader
    /// holds the old one. May block as long as the slowest reader; never call it while
    /// holding what `read` returned. Writers exclude each other.
    pub fn replace<E>(&self, derive: impl FnOnce(&T) -> Result<T, E>) -> Result<(), E> {
        let old = self.publish(derive)?;
        while !old.is_gone() {
            crate::thread::yield_now();
        }
        Ok(())
    }

    /// The same, but returns at once: the result tells when no reader holds the old value.
    pub fn publish<E>(&self, derive: impl FnOnce(&T) -> Result<T, E>) -> Result<Leaving<T>, E> {
        let turn = self.writers.lock().unwrap_or_else(|dead| dead.into_inner());
        let next = Arc::new(derive(&self.read())?);
        #[cfg(not(loom))]
        let old = self.current.swap(next);
        #[cfg(loom)]
        let old = core::mem::replace(&mut *self.current.lock().expect("model"), next);
        drop(turn);
        Ok(Leaving(old))
    }
}

/// A value that has been replaced and that readers may still hold.
#[derive(Debug)]
pub struct Leaving<T>(Arc<T>);

impl<T> Leaving<T> {
    /// Whether no reader holds it any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        if Arc::strong_count(&self.0) > 1 {
            return false;
        }
        // Acquire pairs with the Release decrement of the last reader's Arc: what that reader
        // did with the old value happened before this returns.
        crate::atomic::fence(crate::atomic::Ordering::Acquire);
        true
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.0
    }
}
