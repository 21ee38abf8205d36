//! What a worker's work on a ring costs, roughly (law 8): commands are counted by what they cost, not
//! by their number. What backends cost is theirs to say ([`dispatch::Costs`]).
//!
//! Nanoseconds of a machine of today, as `cargo bench -p vcmdq-benches` shows them. They decide when a
//! worker looks at its other rings, nothing else.

use crate::instance::Instance;
use dispatch::Costs;
use std::sync::Arc;
use std::time::Duration;

/// A window: fetch, barrier, CONS.
pub(crate) const WINDOW: u64 = 100;
/// An entry that is one range further on than the last one.
pub(crate) const ENTRY: u64 = 2;
/// On top of it for any other one: decoder, coalescer, or what a SYNC takes whose word lies in the
/// ring.
pub(crate) const COMMAND: u64 = 6;
/// A call of the VMM's, which may end in one of the host's.
pub(crate) const CALLBACK: u64 = 500;
/// A stream that is looked at because a command concerns it.
pub(crate) const STREAM: u64 = 20;

/// What is left of a slice, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget(u64);

impl Budget {
    pub(crate) fn of(slice: Duration) -> Self {
        Self(u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX))
    }

    #[inline]
    pub(crate) fn spend(&mut self, cost: u64) {
        self.0 = self.0.saturating_sub(cost);
    }

    /// The same without so much.
    #[inline]
    pub(crate) fn less(self, cost: u64) -> Self {
        Self(self.0.saturating_sub(cost))
    }

    #[inline]
    pub(crate) fn is_spent(self) -> bool {
        // law8b: a ring keeps its worker as long as it has commands.
        self.0 == 0 && !vcmdq_sync::broken!(break_law8b)
    }

    /// What a window may cost. A call that is made in the frame's lane is made for whole windows: it is
    /// paid once for all of them, and meanwhile somebody else has the worker's other rings.
    #[inline]
    pub(crate) fn of_window(self, in_lane: bool) -> u64 {
        // law8c: a window is as long as what is published, whatever its commands cost.
        if in_lane || vcmdq_sync::broken!(break_law8b) || vcmdq_sync::broken!(break_law8c) {
            u64::MAX
        } else {
            self.0
        }
    }
}

/// Slices of a ring that go by what the backends have said before they are asked again. What they say
/// follows slowly from what they hold.
const ASKED_EVERY: u8 = 16;

/// What the backends behind a ring have said that their work costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedCosts {
    costs: Costs,
    /// Slices until they are asked again.
    left: u8,
}

impl Default for AskedCosts {
    fn default() -> Self {
        Self {
            costs: Costs::NOTHING,
            left: 0,
        }
    }
}

impl AskedCosts {
    /// For one more slice. All of the instances get the same requests.
    #[inline]
    pub(crate) fn of(&mut self, instances: &[Arc<Instance>]) -> &Costs {
        if self.left == 0 {
            self.ask(instances);
        }
        self.left -= 1;
        &self.costs
    }

    #[cold]
    fn ask(&mut self, instances: &[Arc<Instance>]) {
        let costs = instances.iter().map(|instance| instance.backend.costs());
        self.costs = costs.reduce(Costs::and).unwrap_or(Costs::NOTHING);
        self.left = ASKED_EVERY;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::instance::{InstanceId, Placement};
    use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, WaiterId, Wake};
    use smmu_core::StreamId;
    use vcmdq_sync::atomic::{AtomicU32, Ordering};

    /// Each call costs what is set.
    #[derive(Default)]
    struct Priced(AtomicU32);

    impl Backend for Priced {
        fn capabilities(&self) -> BackendCapabilities {
            BackendCapabilities {
                ranges: true,
                ..BackendCapabilities::default()
            }
        }

        fn costs(&self) -> Costs {
            Costs {
                call: self.0.load(Ordering::Relaxed),
                ..Costs::NOTHING
            }
        }

        fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
            Ok(())
        }

        fn barrier(&self, _waiter: WaiterId) -> Barrier {
            Barrier::Done
        }

        fn attach(&self, _wake: Arc<dyn Wake>) {}

        fn fail_closed(&self, _stream: Option<StreamId>) {}
    }

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self, _waiter: WaiterId) {}
    }

    #[test]
    fn law8_backends_that_become_dearer_are_asked_again_soon() {
        let backends = [Arc::new(Priced::default()), Arc::new(Priced::default())];
        let instance = |backend: &Arc<Priced>| {
            let wake = Arc::new(Nobody);
            let placement = Placement::default();
            Arc::new(Instance::new(
                InstanceId(0),
                placement,
                backend.clone(),
                wake,
                None,
            ))
        };
        let instances: Vec<_> = backends.iter().map(instance).collect();
        let mut asked = AskedCosts::default();
        assert_eq!(asked.of(&[]).call, 0);
        asked = AskedCosts::default();
        backends[0].0.store(3, Ordering::Relaxed);
        backends[1].0.store(4, Ordering::Relaxed);
        assert_eq!(asked.of(&instances).call, 7, "both get every request");
        backends[1].0.store(40, Ordering::Relaxed);
        let seen: Vec<_> = (0..ASKED_EVERY)
            .map(|_| asked.of(&instances).call)
            .collect();
        assert_eq!(seen.last(), Some(&43), "{seen:?}");
    }
}
