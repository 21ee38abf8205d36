//! How long a thread looks for something before it sleeps.

use crate::seams::Clock;
use crate::settings::Settings;
use std::sync::Arc;
use std::time::Duration;

/// Looks between two looks at the clock, which costs more than one.
const LOOKS: u32 = 32;

/// [`Settings::spin`] and [`Settings::yield_after`], and the clock that they go by.
#[derive(Clone)]
pub(crate) struct Patience {
    clock: Arc<dyn Clock>,
    spin: Duration,
    yield_after: Duration,
}

impl Patience {
    pub(crate) fn new(clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        Self {
            clock,
            spin: settings.spin,
            yield_after: settings.yield_after,
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn for_test(spin: Duration) -> Self {
        let settings = Settings {
            spin,
            ..Settings::default()
        };
        Self::new(Arc::new(crate::seams::StdClock::default()), &settings)
    }

    /// Looks until `done`, or until it is time to sleep. Whether it is done.
    pub(crate) fn until(&self, done: impl Fn() -> bool) -> bool {
        if self.spin.is_zero() {
            return done();
        }
        let start = self.clock.now();
        loop {
            for _ in 0..LOOKS {
                vcmdq_sync::hint::spin_loop();
                if done() {
                    return true;
                }
            }
            let idle = self.clock.now().saturating_sub(start);
            if idle >= self.spin {
                return false;
            }
            // Whoever is waited for may be waiting for this very processor.
            if idle >= self.yield_after {
                vcmdq_sync::thread::yield_now();
            }
        }
    }
}
