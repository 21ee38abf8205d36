//! A guest and a device in another process that do to each other what chance has it.

#[expect(dead_code, reason = "the rig is for several files")]
mod remote_world;

use dispatch::backend::software::{NotLent, Notice, Remote, RemoteSettings, Wanted};
use proptest::prelude::*;
use remote_world::dma_world::*;
use remote_world::*;
use smmu_core::Gpa;
use std::collections::BTreeMap;
use vcmdq::testing::commands::sync;

/// What a guest and a device do to each other.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The guest points a page elsewhere, and says so.
    Remap(u8, bool),
    Miss(u8),
    Take,
    Answer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u8..4, any::<bool>()).prop_map(|(page, all)| Step::Remap(page, all)),
        (0u8..4).prop_map(Step::Miss),
        Just(Step::Take),
        Just(Step::Answer),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A device: what it was sent, and the notices that it has not got to yet.
#[derive(Default)]
struct Device {
    holds: BTreeMap<u64, Gpa>,
    asked: Vec<Notice>,
}

impl Device {
    fn answer(&mut self, remote: &mut Remote) {
        for notice in std::mem::take(&mut self.asked) {
            for range in &notice.ranges {
                let gone = range.iova..range.iova + range.bytes;
                self.holds.retain(|iova, _| !gone.contains(iova));
            }
            remote.answered(notice.number);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn law3_a_device_holds_nothing_old_when_a_sync_is_done(steps in steps()) {
        let (mut world, space) = world();
        let (mut remote, _) = remote_of(&world, RemoteSettings { loans: 3, places: 2 });
        let mut device = Device::default();
        let mut now: BTreeMap<u64, u64> = (0..4)
            .map(|page| (VA + page * 0x1000, DATA + page * 0x2000))
            .collect();
        let mut next = DATA + 0x8000;
        for step in steps {
            match step {
                Step::Remap(page, all) if world.done() => {
                    let va = VA + u64::from(page) * 0x1000;
                    world.guest.map(&space, va, next, PAGE);
                    now.insert(va, next);
                    next = DATA + (next + 0x1000) % 0x20_0000;
                    let removal = if all { tlbi_asid(1) } else { tlbi(1, va) };
                    world.send(&[removal, sync()]);
                }
                Step::Remap(..) => {}
                // A device whose answers are due may miss, too, and has room or makes it.
                Step::Miss(page) => {
                    let va = VA + u64::from(page) * 0x1000;
                    match remote.lend(va, Wanted::Read, |_| ()) {
                        Ok(loan) => {
                            device.answer(&mut remote);
                            device.holds.insert(loan.iova, loan.address);
                        }
                        Err(NotLent::Full) => device.asked.extend(remote.recall()),
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                }
                Step::Take => device.asked.extend(remote.take()),
                Step::Answer => device.answer(&mut remote),
            }
            world.serve();
            if world.done() {
                for (iova, held) in &device.holds {
                    prop_assert_eq!(now[iova], held.0, "{:#x}", iova);
                }
            }
        }
        device.asked.extend(remote.take());
        device.answer(&mut remote);
        device.asked.extend(remote.take());
        device.answer(&mut remote);
        world.serve();
        prop_assert!(world.done(), "everything has been answered");
    }
}
