//! One instance's share of a window, in memory of its own: for calls that another thread makes.

use super::Coalescer;
use smmu_core::StreamId;

impl Coalescer {
    /// Whether a window leaves anything for the instance of which `mine` names the streams:
    /// translations concern every instance, what names a stream that stream's alone.
    #[must_use]
    pub fn concerns(&self, mine: impl Fn(StreamId) -> bool) -> bool {
        let mut named = self.named_streams();
        !self.translations.is_empty() || named.any(|(stream, _)| mine(stream))
    }

    /// Copies what there is for that instance into `share`, whose batches are to be taken from then on
    /// as if it had been filled and [finished](Self::finish) itself. Allocates nothing. To be called
    /// behind [`finish`](Self::finish).
    pub fn share_with(&self, share: &mut Self, mine: impl Fn(StreamId) -> bool) {
        share.ranges = self.ranges;
        share.widen_above = self.widen_above;
        share.shared = self.shared;
        share.taken = 0;
        share.translations.clear();
        share.translations.extend(self.translations.iter().copied());
        let own = |kept: &&super::Kept| kept.request.stream().is_some_and(&mine);
        share.devices.clear();
        share
            .devices
            .extend(self.devices.iter().filter(own).copied());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Backend, Batch, Invalidation, Scope, Stage, backend::Software};
    use smmu_core::Vmid;

    fn coalescer() -> Coalescer {
        Coalescer::new(&Software::default().capabilities())
    }

    fn whole(vmid: u16) -> Invalidation {
        Invalidation {
            vmid: Vmid(vmid),
            stage: Stage::One,
            scope: Scope::Vmid,
        }
    }

    fn of_device(stream: u32) -> Invalidation {
        Invalidation {
            vmid: Vmid(0),
            stage: Stage::One,
            scope: Scope::DeviceTlb {
                stream: StreamId(stream),
                pasid: None,
                global: false,
                addr: 0,
                size: 52,
            },
        }
    }

    fn left(share: &mut Coalescer) -> Vec<(Invalidation, u32, u16)> {
        let (mut batch, mut all) = (Batch::new(), Vec::new());
        let mut note = |batch: &Batch| {
            let requests = batch.requests().enumerate();
            all.extend(requests.map(|(n, r)| (r, batch.origin(n), batch.rings_of(n))));
        };
        while share.next_batch(&mut batch) {
            note(&batch);
        }
        if share.device_batch(&mut batch, |_| true) {
            note(&batch);
        }
        all
    }

    #[test]
    fn law7_each_instance_gets_every_translation_and_the_streams_that_are_its_own() {
        let (mut window, mut share) = (coalescer(), coalescer());
        // What the share held before is nothing to this window.
        share.push(whole(9), 0);
        share.push(of_device(9), 1);
        window.begin_ring(0);
        window.push(whole(2), 0);
        window.push(of_device(1), 1);
        window.begin_ring(1);
        window.push(whole(1), 2);
        window.push(of_device(2), 3);
        window.finish();
        for stream in [1, 2] {
            let mine = |named: StreamId| named.0 == stream;
            assert!(window.concerns(mine));
            window.share_with(&mut share, mine);
            let ring = 1 << (stream - 1);
            let device = (of_device(stream), 2 * stream - 1, ring);
            let expected = [(whole(1), 2, 2), (whole(2), 0, 1), device];
            assert_eq!(left(&mut share), expected);
        }
    }

    #[test]
    fn what_names_a_stream_concerns_its_instance_alone() {
        let mut window = coalescer();
        assert!(!window.concerns(|_| true));
        window.push(of_device(1), 0);
        assert!(window.concerns(|stream| stream.0 == 1));
        assert!(!window.concerns(|stream| stream.0 == 2));
    }
}
