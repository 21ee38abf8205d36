//! The streams and the backend of an instance together: who hears of contexts, and what a replaced stage 2 and a
//! failure mean for invalidations.

use crate::host::world::*;
use crate::host::*;
use dispatch::{Backend, Batch, Invalidation, Scope};
use rustix::io::Errno;
use smmu_core::{Asid, StreamId};
use vcmdq_iommufd::{ArmSmmuv3, IommufdBackend, IommufdSettings};

fn backend(world: &World) -> IommufdBackend {
    let settings = IommufdSettings::new(world.streams.of_instance(&world.instance));
    let target = world.instance.target();
    IommufdBackend::new(world.host.clone(), target, ArmSmmuv3::new(true), settings)
}

fn request(scope: Scope) -> Batch {
    let mut batch = Batch::new();
    let request = Invalidation {
        scope,
        ..Invalidation::everything()
    };
    batch.push(request, 0);
    batch
}

fn contexts(stream: u32) -> Batch {
    request(Scope::ContextTable {
        stream: StreamId(stream),
        pasid: None,
        leaf: false,
    })
}

fn asid(asid: u16) -> Batch {
    request(Scope::Context(Asid(asid)))
}

fn sent(world: &World) -> Vec<u32> {
    let commands = std::mem::take(&mut world.host.state().commands);
    commands.iter().map(|(target, _)| *target).collect()
}

#[test]
fn a_host_hears_of_contexts_only_while_it_may_have_read_some() {
    let world = World::new();
    let backend = backend(&world);
    world.plug(1, 101).unwrap();
    let heard = || {
        backend.submit(&contexts(1)).unwrap();
        !sent(&world).is_empty()
    };
    assert!(!heard());
    world.traffic(&[1], &world.enabled());
    assert!(!heard(), "V=0");
    world.configure(1, &stage1(0x4000));
    assert!(heard());
    world.configure(1, &BYPASS);
    assert!(!heard());
    world.configure(1, &stage1(0x4000));
    assert!(heard());
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    assert!(
        !heard(),
        "and no error of a vSID that is not there any more"
    );
}

#[test]
fn law9_invalidations_follow_to_the_viommu_of_the_new_stage_2() {
    let world = World::new();
    let backend = backend(&world);
    world.plug(1, 101).unwrap();
    let old = world.instance.target().id();
    backend.submit(&asid(1)).unwrap();
    world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS)
        .unwrap();
    let new = world.instance.target().id();
    backend.submit(&asid(1)).unwrap();
    assert_eq!(sent(&world), [old, new]);
}

fn fails(world: &World, backend: &IommufdBackend) {
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    world.host.state().fail_all = Some((Call::Invalidate, Errno::TIMEDOUT));
    assert!(backend.submit(&asid(1)).is_err());
    // The last rung of the ladder.
    backend.fail_closed(None);
    world.host.state().fail_all = None;
}

fn translates(world: &World) -> bool {
    matches!(world.host.seen(101), Seen::Vste { vste, .. } if vste[0] >> 1 & 7 == 5)
}

#[test]
fn law4_a_dead_queue_closes_the_instance_until_the_stage_2_is_replaced() {
    let world = World::new();
    let backend = backend(&world);
    fails(&world, &backend);
    assert!(backend.is_closed() && !translates(&world));
    backend.submit(&asid(1)).unwrap();
    assert!(sent(&world).is_empty(), "no SYNC waits for a dead queue");
    world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS)
        .unwrap();
    assert!(!backend.is_closed() && translates(&world));
    backend.submit(&asid(1)).unwrap();
    assert_eq!(sent(&world).len(), 1);
}

#[test]
fn law4_a_dead_queue_closes_the_instance_until_everything_has_been_removed() {
    let world = World::new();
    let backend = backend(&world);
    fails(&world, &backend);
    world.host.fail_next(Call::Invalidate, Errno::TIMEDOUT);
    assert!(backend.reopen().is_err() && !translates(&world));
    backend.reopen().unwrap();
    assert_eq!(sent(&world).len(), 1, "everything");
    assert!(!backend.is_closed() && !translates(&world));
    world.streams.reopened(&world.instance);
    assert!(translates(&world));
}
