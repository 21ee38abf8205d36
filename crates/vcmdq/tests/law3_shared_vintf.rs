//! VCMDQs that are served together: a SYNC in one of them still covers what all had published (law 3),
//! also when the backend refuses calls in part (law 4).

mod cmdqv_world;
mod common;

use cmdqv_world::*;
use common::{illegal, tlbi};
use dispatch::Cause;
use dispatch::backend::faulty::Verdict;
use proptest::prelude::*;
use std::time::Duration;
use vcmdq::Ring;
use vcmdq::stepping::Stepper;
use vcmdq::testing::commands::sync;

const QUEUES: usize = 4;
/// Pages are removed once each, so that one that is left tells.
const PAGES: u64 = 400;

#[derive(Clone, Debug)]
enum Step {
    /// So many TLBIs, then perhaps a SYNC.
    Send(usize, usize, bool),
    Illegal(usize),
    /// A set of queues, and how long their slices are in microseconds.
    Serve(u8, u64),
    Refuse(usize, usize),
    Acknowledge,
}

fn any_step() -> impl Strategy<Value = Step> {
    let queue = || 0..QUEUES;
    prop_oneof![
        8 => (queue(), 0usize..6, any::<bool>()).prop_map(|(q, n, s)| Step::Send(q, n, s)),
        2 => (queue(), 20usize..60, any::<bool>()).prop_map(|(q, n, s)| Step::Send(q, n, s)),
        1 => queue().prop_map(Step::Illegal),
        6 => (any::<u8>(), 1u64..50).prop_map(|(set, slice)| Step::Serve(set, slice)),
        2 => (0usize..9, 0usize..9).prop_map(|(take, say)| Step::Refuse(take, say)),
        1 => Just(Step::Acknowledge),
    ]
}

/// What a guest has written, and what its SYNCs promise.
struct Guest {
    world: World,
    prods: [u32; QUEUES],
    /// Pages whose removal has been published.
    removed: u64,
    /// Queue, commands that are consumed when the SYNC is, and the pages that must be gone then.
    promises: Vec<(usize, u32, u64)>,
    consumed: [u32; QUEUES],
}

impl Guest {
    fn new() -> Self {
        let mut world = World::new(2, false);
        world.reset();
        (0..PAGES).for_each(|page| world.cache(page));
        Self {
            world,
            prods: [0; QUEUES],
            removed: 0,
            promises: Vec::new(),
            consumed: [0; QUEUES],
        }
    }

    fn send(&mut self, queue: usize, commands: &[smmu_core::spec::command::RawCommand]) {
        let mask = (2 << LOG2SIZE) - 1;
        self.world.put(queue, self.prods[queue] & mask, commands);
        self.prods[queue] += commands.len() as u32;
        self.world.publish(queue, self.prods[queue] & mask);
    }

    fn room(&self, queue: usize) -> usize {
        (1 << LOG2SIZE) - (self.prods[queue] - self.consumed[queue]) as usize
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send(queue, count, with_sync) => {
                let count = count.min((PAGES - self.removed) as usize);
                if self.room(queue) <= count {
                    return;
                }
                let pages = self.removed..self.removed + count as u64;
                let mut commands: Vec<_> = pages.map(tlbi).collect();
                self.removed += count as u64;
                if with_sync {
                    commands.push(sync());
                    let behind = self.prods[queue] + commands.len() as u32;
                    self.promises.push((queue, behind, self.removed));
                }
                self.send(queue, &commands);
            }
            Step::Illegal(queue) if self.room(queue) > 0 => self.send(queue, &[illegal()]),
            Step::Illegal(_) => {}
            Step::Serve(set, slice) => {
                let rings = self.world.cmdqv.rings().iter().enumerate();
                let rings = rings.filter(|(n, _)| set >> n & 1 != 0);
                self.world.stepper = Stepper::with_slice(Duration::from_micros(slice));
                let rings = rings.map(|(_, ring)| ring);
                self.world.stepper.serve_together(rings);
            }
            Step::Refuse(take, say) => {
                // No more than it did, or all, as kernels that fail early say.
                let say = if say == 8 { 999 } else { say.min(take) };
                let cause = Cause::Again;
                let verdict = Verdict::Refuse { take, say, cause };
                self.world.backend.inner().script([verdict]);
            }
            Step::Acknowledge => {
                for queue in 0..QUEUES {
                    let cons = self.world.cons(queue);
                    if cons >> 24 == 1 {
                        self.world.put(queue, cons & 0x1FF, &[sync()]);
                    }
                    let ring: &Ring = self.world.ring(queue);
                    ring.acknowledge(ring.gerror());
                }
            }
        }
    }

    /// What has been consumed has kept its promises.
    fn look(&mut self) -> Result<(), TestCaseError> {
        for queue in 0..QUEUES {
            let mask = (2 << LOG2SIZE) - 1;
            let cons = self.world.cons(queue) & mask;
            let moved = cons.wrapping_sub(self.consumed[queue]) & mask;
            self.consumed[queue] += moved;
        }
        let (consumed, world) = (self.consumed, &self.world);
        for (queue, behind, pages) in &self.promises {
            if consumed[*queue] >= *behind {
                let left = (0..*pages).find(|page| world.cached(*page));
                prop_assert_eq!(left, None, "left behind the SYNC of queue {}", queue);
            }
        }
        self.promises
            .retain(|(queue, behind, _)| consumed[*queue] < *behind);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn law3_law4_syncs_of_vcmdqs_that_share_calls_cover_all_of_them(
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut guest = Guest::new();
        for step in &steps {
            guest.step(step);
            guest.look()?;
        }
        // In the end everything is done.
        for _ in 0..100 {
            guest.step(&Step::Acknowledge);
            guest.step(&Step::Serve(u8::MAX, 1000));
            guest.look()?;
        }
        prop_assert_eq!(guest.consumed, guest.prods);
        prop_assert!(guest.promises.is_empty());
    }
}
