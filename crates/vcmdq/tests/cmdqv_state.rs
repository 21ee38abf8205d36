//! A CMDQV's state moves: saved and restored, between a trapped and a mapped page, and from a
//! hardware vCMDQ (law 10).

mod cmdqv_world;
mod common;

use cmdqv_world::*;
use common::{Told, illegal, tlbi};
use smmu_core::spec::vcmdq::offset;
use vcmdq::cmdqv::{
    BaseError, CmdqvState, CmdqvStateError, HardwareQueue, HardwareVintf, ImportError,
};
use vcmdq::snapshot::FrameState;
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, Line, RestoreError, Settings};

const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// Another process with the same guest memory.
fn beside(world: &World, mapped: bool) -> World {
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let log2 = world.queues().trailing_zeros() as u8;
    World::with_memory(engine, log2, mapped, world.memory.clone())
}

fn restored(world: &World, state: &FrameState, mapped: bool) -> World {
    let new = beside(world, mapped);
    new.frame.pause();
    new.frame.restore(state).unwrap();
    new.frame.resume();
    new
}

#[test]
fn law10_a_cmdqv_goes_on_where_it_stopped_with_its_page_trapped_or_mapped() {
    for (before, after) in WAYS {
        let mut old = World::new(2, before);
        old.reset();
        old.round_trip(0, 1);
        // Queue 0 has unread commands, queue 1 has stopped, queue 2 is off with CONS rewritten.
        old.put(0, 2, &[tlbi(5), sync()]);
        old.put(1, 0, &[sync(), illegal(), tlbi(6), sync()]);
        old.publish(1, 4);
        old.serve_all();
        old.round_trip(2, 2);
        old.queue_write(2, offset::VCMDQ_CONFIG, 0);
        old.poll("EN_OK=0", |w| w.queue_read(2, offset::VCMDQ_STATUS) == 0);
        old.queue_write(2, offset::VCMDQ_CONS, 100);
        old.queue_write(2, offset::VCMDQ_PROD, 100);
        old.write(offset::VINTF + offset::VINTF_SID_MATCH, 0x21);
        old.publish(0, 4);
        let state = old.frame.save();
        let json = serde_json::to_string(&state).unwrap();
        let state: FrameState = serde_json::from_str(&json).unwrap();

        let mut new = restored(&old, &state, after);
        new.cache(5);
        assert_eq!(new.cons(1), 1 | 1 << 24);
        assert_eq!(new.read(offset::CMDQ_ERR_MAP), 0b10);
        assert_eq!(new.read(offset::VINTF + offset::VINTF_SID_MATCH), 0x21);
        new.poll("queue 0", |w| w.cons(0) == 4);
        assert!(!new.cached(5));
        assert!(new.outside.take().is_empty(), "the error is known");
        new.put(1, 1, &[sync()]);
        new.queue_write(1, offset::VCMDQ_GERRORN, 1);
        new.poll("queue 1", |w| w.cons(1) == 4);
        assert_eq!(new.queue_read(2, offset::VCMDQ_CONS), 100);
        new.put(2, 100, &[sync()]);
        new.publish(2, 101);
        new.queue_write(2, offset::VCMDQ_CONFIG, 1);
        new.poll("queue 2", |w| w.cons(2) == 101);
        new.round_trip(3, 9);
        assert_eq!(new.queue_read(3, offset::VCMDQ_STATUS), 1);
    }
}

/// What a guest stored into its page and nobody has looked at is state, too.
#[test]
fn law10_unread_words_of_a_shared_page_are_saved() {
    let mut old = World::new(1, true);
    old.reset();
    old.put(0, 0, &[illegal(), sync()]);
    old.publish(0, 2);
    old.serve_all();
    old.queue_write(1, offset::VCMDQ_CONFIG, 0);
    old.poll("EN_OK=0", |w| w.queue_read(1, offset::VCMDQ_STATUS) == 0);
    // The vCPUs run on for a while when no worker looks any more.
    old.frame.pause();
    old.put(0, 0, &[sync()]);
    old.queue_write(0, offset::VCMDQ_GERRORN, 1);
    old.put(1, 0, &[sync()]);
    old.queue_write(1, offset::VCMDQ_CONS, 0);
    old.queue_write(1, offset::VCMDQ_PROD, 1);
    old.queue_write(1, offset::VCMDQ_CONFIG, 1);
    let state = old.frame.save();
    let mut new = restored(&old, &state, false);
    new.poll("the acknowledged queue", |w| w.cons(0) == 2);
    new.poll("the enabled queue", |w| w.cons(1) == 1);
}

#[test]
fn law10_an_unusable_base_stays_unusable_and_is_not_told_again() {
    for (before, after) in WAYS {
        let mut old = World::new(0, before);
        old.reset();
        old.deinit_queue(0);
        old.queue_write(0, offset::VCMDQ_CONFIG, 1);
        old.serve_all();
        assert_eq!(old.outside.take(), [Told::Pulse(Line::Cmdqv)]);
        let gerror = old.queue_read(0, offset::VCMDQ_GERROR);
        old.queue_write(0, offset::VCMDQ_GERRORN, gerror);
        old.serve_all();
        let state = old.frame.save();
        let mut new = restored(&old, &state, after);
        new.serve_all();
        assert!(new.outside.take().is_empty());
        assert_eq!(new.queue_read(0, offset::VCMDQ_STATUS), 0);
        new.init_queue(0);
        new.round_trip(0, 1);
    }
}

#[test]
fn law10_a_state_that_does_not_fit_is_refused_by_name() {
    let mut world = World::new(1, false);
    world.reset();
    let state = world.frame.save();
    let refuse = |change: &dyn Fn(&mut FrameState)| {
        let mut bad = state.clone();
        change(&mut bad);
        match world.frame.restore(&bad) {
            Err(RestoreError::Cmdqv(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let cmdqv =
        |change: fn(&mut CmdqvState)| refuse(&|state| change(state.cmdqv.as_mut().unwrap()));
    assert_eq!(
        refuse(&|state| state.cmdqv = None),
        CmdqvStateError::Presence {
            saved: false,
            here: true
        }
    );
    assert_eq!(
        cmdqv(|state| state.queues.truncate(1)),
        CmdqvStateError::Queues { saved: 1, here: 2 }
    );
    let malformed = |error| matches!(error, CmdqvStateError::Malformed(_));
    assert!(malformed(cmdqv(|state| state.config |= 1 << 31)));
    assert!(malformed(cmdqv(|state| state.vintf_config |= 1 << 17)));
    assert!(malformed(cmdqv(|state| state.sid_match.clear())));
    assert!(malformed(cmdqv(|state| state.queues[0].refused = true)));
    world.frame.restore(&state).unwrap();
    world.frame.resume();
    world.round_trip(0, 1);
}

/// What a VMM reads of a guest that ran on hardware.
fn hardware() -> HardwareVintf {
    let queue = |index: usize, prod, cons| HardwareQueue {
        alloc: 1 | (index as u32) << 1,
        base: base(index).0 | u64::from(LOG2SIZE),
        prod,
        cons,
        config: 1,
        status: 1,
        ..HardwareQueue::default()
    };
    HardwareVintf {
        config: 1,
        vintf_config: 1,
        queues: vec![queue(0, 12, 10), queue(1, 4, 1 | 4 << 24)],
        ..HardwareVintf::default()
    }
}

#[test]
fn law10_a_guest_of_a_hardware_vcmdq_goes_on_here() {
    for mapped in [false, true] {
        let mut world = World::new(1, mapped);
        world.put(0, 10, &[tlbi(3), sync()]);
        world.put(1, 0, &[sync(), illegal(), sync(), sync()]);
        world.cache(3);
        let mut state = hardware();
        // Queue 1 has stopped at a command that named what it may not.
        state.queues[1].gerror = 1;
        world.frame.pause();
        world.cmdqv.import(&state).unwrap();
        assert!(world.cached(3), "nothing runs yet");
        world.frame.resume();
        world.poll("queue 0", |w| w.cons(0) == 12);
        assert!(!world.cached(3));
        assert_eq!(world.cons(1), 1 | 1 << 24);
        assert_eq!(world.read(offset::VINTF_ERR_MAP), 1);
        assert_eq!(world.queue_read(1, offset::VCMDQ_STATUS), 1);
        world.put(1, 1, &[sync()]);
        world.queue_write(1, offset::VCMDQ_GERRORN, 1);
        world.poll("queue 1", |w| w.cons(1) == 4);
        // The guest's driver finds its registers.
        assert_eq!(world.read(offset::CMDQ_ALLOC + 4), 0b11);
        assert_eq!(world.read(offset::VINTF), 1);
        world.round_trip(0, 8);
    }
}

#[test]
fn what_hardware_cannot_have_left_is_refused_by_name() {
    let world = World::new(1, false);
    let refuse = |change: &dyn Fn(&mut HardwareVintf)| {
        let mut bad = hardware();
        change(&mut bad);
        world.cmdqv.import(&bad).unwrap_err()
    };
    assert_eq!(refuse(&|_| ()), ImportError::Running);
    world.frame.pause();
    assert_eq!(
        refuse(&|s| s.queues.truncate(1)),
        ImportError::Queues { theirs: 1, here: 2 }
    );
    assert_eq!(
        refuse(&|s| s.vintf_config |= 1 << 17),
        ImportError::HypervisorOwned
    );
    assert_eq!(
        refuse(&|s| s.sid_match = vec![0; 17]),
        ImportError::Sids(17)
    );
    let (queue, logical) = (1, 2);
    assert_eq!(
        refuse(&|s| s.queues[1].alloc = 1 | 2 << 1),
        ImportError::Allocation {
            queue,
            vintf: 0,
            logical
        }
    );
    assert_eq!(
        refuse(&|s| s.queues[0].base = 0),
        ImportError::Base {
            queue: 0,
            cause: BaseError::Zero
        }
    );
    assert!(matches!(
        refuse(&|s| s.queues[0].base += 0x800),
        ImportError::Base {
            queue: 0,
            cause: BaseError::Misaligned { .. }
        }
    ));
    assert!(matches!(
        refuse(&|s| s.queues[1].prod = 400),
        ImportError::Pointers { queue: 1, .. }
    ));
    let (queue, error) = (1, 9);
    assert_eq!(
        refuse(&|s| s.queues[1].cons = 9 << 24),
        ImportError::Error { queue, error }
    );
    assert_eq!(world.read(offset::CONFIG), 0, "nothing has been changed");
}

/// A reset in any state, and a clean start behind it.
#[test]
fn a_reset_in_any_state_is_followed_by_a_clean_start() {
    for mapped in [false, true] {
        let mut world = World::new(1, mapped);
        world.reset();
        world.put(0, 0, &[illegal()]);
        world.publish(0, 1);
        world.serve_all();
        world.put(1, 0, &[sync(), sync()]);
        world.publish(1, 2);
        world.outside.take();
        world.cmdqv.reset();
        for queue in [0, 1] {
            for register in [0, 4, 8, 12, 16, 20] {
                assert_eq!(
                    world.queue_read(queue, register),
                    0,
                    "{queue} {register:#x}"
                );
            }
        }
        assert_eq!(world.cmdqv.read(LOGICAL1, 8), 0);
        assert_eq!(world.read(offset::CONFIG) | world.read(offset::VINTF), 0);
        world.serve_all();
        world.reset();
        world.round_trip(0, 1);
        world.round_trip(1, 1);
        assert!(world.outside.take().is_empty());
    }
}
