//! The streams and the backend of an instance together: who hears of contexts, and what a replaced stage 2 and a
//! failure mean for invalidations.

use crate::host::world::*;
use crate::host::*;
use dispatch::{Backend, BackendCapabilities, Batch, Invalidation, Scope};
use rustix::io::Errno;
use smmu_core::{Asid, StreamId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use vcmdq_iommufd::encode::{Encoder, Entries, NotEncodable};
use vcmdq_iommufd::{
    ArmSmmuv3, AttachDevice, Device, HostStreams, IommufdBackend, IommufdSettings,
};

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
    assert_eq!(world.streams.reopened(&world.instance), []);
    assert!(translates(&world));
}

/// The kernel gives numbers of what it has destroyed again.
#[test]
fn law4_a_viommu_with_the_number_of_one_that_had_failed_is_sent_invalidations() {
    let world = World::new();
    let backend = backend(&world);
    let failed = world.instance.target().id();
    fails(&world, &backend);
    for ioas in [OTHER_IOAS, IOAS] {
        let replaced = world.streams.replace_stage2(&world.instance, 101, ioas);
        assert!(replaced.unwrap().left_closed.is_empty());
    }
    assert_eq!(
        world.instance.target().id(),
        failed,
        "the number is there again"
    );
    assert!(!backend.is_closed() && translates(&world));
    backend.submit(&asid(1)).unwrap();
    assert_eq!(sent(&world), [failed]);
}

#[test]
fn law4_what_fails_behind_a_reopening_is_not_forgotten_with_what_failed_before() {
    let world = World::new();
    let backend = backend(&world);
    fails(&world, &backend);
    backend.reopen().unwrap();
    // Before the streams hear of it, another ring's invalidation fails.
    backend.fail_closed(None);
    assert_eq!(world.streams.reopened(&world.instance), []);
    assert!(backend.is_closed() && !translates(&world));
    backend.reopen().unwrap();
    assert_eq!(world.streams.reopened(&world.instance), []);
    assert!(!backend.is_closed() && translates(&world));
}

/// Streams that are reopened as soon as they abort, while the backend has not noted that they do.
struct Eager {
    inner: Arc<dyn HostStreams>,
    backend: OnceLock<Arc<IommufdBackend>>,
    then: Box<dyn Fn() + Send + Sync>,
}

impl HostStreams for Eager {
    fn reads_contexts(&self, stream: StreamId) -> bool {
        self.inner.reads_contexts(stream)
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        self.inner.fail_closed(stream);
        self.backend.get().unwrap().reopen().unwrap();
        (self.then)();
    }
}

#[test]
fn law4_no_backend_is_closed_whose_streams_were_reopened_meanwhile() {
    let world = World::new();
    let (streams, instance) = (world.streams.clone(), world.instance.clone());
    let eager = Arc::new(Eager {
        inner: world.streams.of_instance(&world.instance),
        backend: OnceLock::new(),
        then: Box::new(move || assert_eq!(streams.reopened(&instance), [])),
    });
    let settings = IommufdSettings::new(eager.clone());
    let target = world.instance.target();
    let backend = IommufdBackend::new(world.host.clone(), target, ArmSmmuv3::new(true), settings);
    let backend = Arc::new(backend);
    assert!(eager.backend.set(backend.clone()).is_ok());
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    backend.fail_closed(None);
    assert_eq!(sent(&world).len(), 1, "everything");
    assert!(!backend.is_closed() && translates(&world));
    backend.submit(&asid(1)).unwrap();
    assert_eq!(sent(&world).len(), 1);
}

type Run = Box<dyn FnOnce() + Send>;

/// A device, and what begins on another thread when it is attached next.
struct Beside {
    inner: Device,
    armed: AtomicBool,
    run: Mutex<Option<Run>>,
    running: Mutex<Option<JoinHandle<()>>>,
}

impl AttachDevice for Beside {
    fn attach(&self, table: u32) -> Result<(), Errno> {
        if self.armed.swap(false, Ordering::Relaxed) {
            let run = self.run.lock().unwrap().take().unwrap();
            *self.running.lock().unwrap() = Some(std::thread::spawn(run));
            // It comes as far as it can; whether it does, the outcome is the same.
            std::thread::sleep(Duration::from_millis(50));
        }
        self.inner.attach.attach(table)
    }

    fn detach(&self) -> Result<(), Errno> {
        self.inner.attach.detach()
    }
}

#[test]
fn law9_a_failure_at_the_old_viommu_leaves_no_stream_of_the_new_one_aborting() {
    let world = World::new();
    let (streams, instance) = (world.streams.clone(), world.instance.clone());
    let beside = Arc::new(Beside {
        inner: world.host.device(101),
        armed: AtomicBool::new(false),
        run: Mutex::new(Some(Box::new(move || streams.fail_closed(&instance, None)))),
        running: Mutex::default(),
    });
    let (id, attach) = (101, beside.clone());
    let (stream, device) = (StreamId(1), Device { id, attach });
    let plugged = world
        .streams
        .plug(&world.frame, stream, device, &world.instance, world.binding);
    plugged.unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    beside.armed.store(true, Ordering::Relaxed);
    let replaced = world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS);
    replaced.unwrap();
    let running = beside.running.lock().unwrap().take();
    running.unwrap().join().unwrap();
    let closed = world.streams.stream(stream).unwrap().closed;
    assert!(translates(&world) || closed, "and nobody would change it");
}

/// Streams that note whether their backend leaves invalidations out while they do not abort yet.
struct Noting {
    inner: Arc<dyn HostStreams>,
    backend: OnceLock<Arc<IommufdBackend>>,
    closed_before: AtomicBool,
}

impl HostStreams for Noting {
    fn reads_contexts(&self, stream: StreamId) -> bool {
        self.inner.reads_contexts(stream)
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        let closed = self.backend.get().unwrap().is_closed();
        self.closed_before.fetch_or(closed, Ordering::Relaxed);
        self.inner.fail_closed(stream);
    }
}

#[test]
fn law4_nothing_is_left_out_before_every_stream_aborts() {
    let world = World::new();
    let noting = Arc::new(Noting {
        inner: world.streams.of_instance(&world.instance),
        backend: OnceLock::new(),
        closed_before: AtomicBool::new(false),
    });
    let settings = IommufdSettings::new(noting.clone());
    let target = world.instance.target();
    let backend = IommufdBackend::new(world.host.clone(), target, ArmSmmuv3::new(true), settings);
    let backend = Arc::new(backend);
    assert!(noting.backend.set(backend.clone()).is_ok());
    backend.fail_closed(None);
    assert!(backend.is_closed());
    assert!(!noting.closed_before.load(Ordering::Relaxed));
}

/// Arm commands, and what begins on another thread when the first one is written.
struct Slow {
    inner: ArmSmmuv3,
    run: Mutex<Option<Run>>,
    running: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Encoder for Slow {
    fn data_type(&self) -> u32 {
        self.inner.data_type()
    }

    fn entry_len(&self) -> usize {
        self.inner.entry_len()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    fn encode(&self, request: &Invalidation, entries: &mut Entries) -> Result<(), NotEncodable> {
        if let Some(run) = self.run.lock().unwrap().take() {
            *self.running.lock().unwrap() = Some(std::thread::spawn(run));
            // It comes as far as it can; whether it does, the outcome is the same.
            std::thread::sleep(Duration::from_millis(50));
        }
        self.inner.encode(request, entries)
    }
}

#[test]
fn law9_the_old_viommu_is_there_until_calls_to_it_have_ended() {
    let world = World::new();
    world.plug(1, 101).unwrap();
    let old = world.instance.target().id();
    let (streams, instance) = (world.streams.clone(), world.instance.clone());
    let replace = move || drop(streams.replace_stage2(&instance, 101, OTHER_IOAS).unwrap());
    let running = Arc::default();
    let slow = Slow {
        inner: ArmSmmuv3::new(true),
        run: Mutex::new(Some(Box::new(replace))),
        running: Arc::clone(&running),
    };
    let settings = IommufdSettings::new(world.streams.of_instance(&world.instance));
    let target = world.instance.target();
    let backend = IommufdBackend::new(world.host.clone(), target, slow, settings);
    backend.submit(&asid(1)).unwrap();
    running.lock().unwrap().take().unwrap().join().unwrap();
    assert_eq!(sent(&world), [old]);
    assert_ne!(world.instance.target().id(), old);
}
