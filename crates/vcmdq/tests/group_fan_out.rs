//! One frame in front of several instances whose calls can block: they are made at the same time, and the
//! SYNC waits for the slowest of them.

use dispatch::Cause;
use dispatch::backend::Software;
use dispatch::backend::faulty::{At, Fault, Faulty};
use dispatch::backend::recorder::{Call, Recorder};
use smmu_core::command::{Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::TlbSettings;
use smmu_core::{Gpa, StreamId, Vmid};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::{self, sync};
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, InstanceError, InstanceId, Placement,
    Ring, RingSettings, Seams, Settings, StdThreads, StreamHost, Threads,
};

type Backend = Recorder<Faulty<Software>>;

const LOG2SIZE: u8 = 6;

fn tlbi() -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhAll { vmid: Vmid(0) }))
}

fn atc_inv(member: usize) -> RawCommand {
    commands::atc_inv(stream(member), 0)
}

fn stream(member: usize) -> StreamId {
    StreamId(0x10 + member as u32)
}

/// Waits for what other threads do; fails when that takes for ever.
fn wait_for(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{what} did not happen"
        );
        std::thread::yield_now();
    }
}

/// What the VMM was told.
type Told = (InstanceId, Option<StreamId>, Cause);

#[derive(Default)]
struct Host(Mutex<Vec<Told>>);

impl StreamHost for Host {
    fn failed_closed(&self, instance: InstanceId, stream: Option<StreamId>, cause: Cause) {
        self.0.lock().unwrap().push((instance, stream, cause));
    }
}

/// A door that calls stand before.
#[derive(Default)]
struct Door {
    open: AtomicBool,
    before: AtomicUsize,
}

impl Door {
    fn pass(&self) {
        self.before.fetch_add(1, Ordering::SeqCst);
        wait_for("the door", || self.open.load(Ordering::SeqCst));
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

struct Group {
    engine: Arc<Engine>,
    frame: Frame,
    members: Vec<(Arc<Backend>, InstanceId)>,
    host: Arc<Host>,
    memory: Arc<HeapMemory>,
    ring: Arc<Ring>,
    prod: u32,
    ticks: Arc<AtomicU64>,
}

fn started(spin: Duration, threads: Arc<dyn Threads>) -> Arc<Engine> {
    let settings = Settings {
        workers: 2,
        spin,
        ..Settings::default()
    };
    Arc::new(Engine::start(settings, threads).unwrap())
}

impl Group {
    /// So many instances whose calls may block.
    fn new(members: usize) -> Self {
        Self::on(
            started(Duration::from_micros(20), Arc::new(StdThreads)),
            members,
        )
    }

    fn on(engine: Arc<Engine>, members: usize) -> Self {
        let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x1000)]));
        let host = Arc::<Host>::default();
        let seams = Seams {
            streams: host.clone(),
            ..Seams::new(memory.clone())
        };
        let settings = FrameSettings {
            caps: smmu_core::Capabilities::default().with_ats(),
            ..FrameSettings::default()
        };
        let frame = engine.add_frame(settings, seams);
        let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
        let (base, log2size) = (Gpa(0), LOG2SIZE);
        ring.configure(RingSettings { base, log2size }).unwrap();
        ring.enable();
        let mut group = Self {
            engine,
            frame,
            members: Vec::new(),
            host,
            memory,
            ring,
            prod: 0,
            ticks: Arc::default(),
        };
        (0..members).for_each(|_| group.join());
        group
    }

    /// One more instance. Its recorder's time is the number of looks that recorders took at it.
    fn join(&mut self) {
        let ticks = self.ticks.clone();
        let tick = move || Duration::from_nanos(ticks.fetch_add(1, Ordering::SeqCst));
        let software = Software::new(TlbSettings {
            log2_entries: 8,
            log2_asids: 6,
        });
        let backend = Arc::new(Recorder::with_clock(Faulty::blocking(software), tick));
        let placement = Placement {
            smmu: self.members.len() as u32,
            stage2: 0,
        };
        let instance = self.frame.try_add_instance(backend.clone(), placement);
        let instance = instance.unwrap();
        let binding = Binding {
            instance,
            placement,
        };
        self.frame
            .bind(stream(self.members.len()), binding)
            .unwrap();
        self.members.push((backend, instance));
    }

    fn faulty(&self, member: usize) -> &Faulty<Software> {
        self.members[member].0.inner()
    }

    fn calls(&self, member: usize) -> Vec<Call> {
        self.members[member].0.take_calls()
    }

    fn publish(&mut self, commands: &[RawCommand]) {
        for raw in commands {
            let at = u64::from(self.prod % (1 << LOG2SIZE)) * 16;
            for (at, value) in [(at, raw.dw0), (at + 8, raw.dw1)] {
                store_u64(&*self.memory, Gpa(at), value, Ordering::Relaxed).unwrap();
            }
            self.prod = (self.prod + 1) % (2 << LOG2SIZE);
        }
        self.ring.doorbell(self.prod);
    }

    fn is_consumed(&self) -> bool {
        self.ring.cons() == self.prod
    }

    fn send(&mut self, commands: &[RawCommand]) {
        self.publish(commands);
        wait_for("the SYNC", || self.is_consumed());
    }
}

/// Each call begins and then waits until every other one has begun, too.
#[test]
fn law3_calls_of_a_group_are_under_way_at_the_same_time() {
    const MEMBERS: usize = 3;
    for spin in [Duration::ZERO, Duration::from_micros(20)] {
        let mut group = Group::on(started(spin, Arc::new(StdThreads)), MEMBERS);
        let inside = Arc::new(AtomicUsize::new(0));
        for member in 0..MEMBERS {
            let inside = inside.clone();
            group.faulty(member).hook(move |_| {
                let now = inside.fetch_add(1, Ordering::SeqCst);
                let all = (now / MEMBERS + 1) * MEMBERS;
                wait_for("the others' calls", || inside.load(Ordering::SeqCst) >= all);
            });
        }
        for _ in 0..50 {
            group.send(&[tlbi(), sync()]);
            let calls: Vec<_> = (0..MEMBERS)
                .flat_map(|member| group.calls(member))
                .collect();
            assert_eq!(calls.len(), MEMBERS, "one of each");
            let pairs = calls.iter().flat_map(|a| calls.iter().map(move |b| (a, b)));
            assert!(pairs.into_iter().all(|(a, b)| a.overlaps(b)));
        }
        group.engine.stop();
    }
}

/// Whoever of them is slow, its calls and nothing else are what the SYNC waits for.
#[test]
fn law3_a_sync_waits_for_the_slowest_of_a_group() {
    for slow in 0..3 {
        let mut group = Group::new(3);
        let door = Arc::new(Door::default());
        let held = door.clone();
        group.faulty(slow).hook(move |_| held.pass());
        group.publish(&[tlbi(), sync()]);
        wait_for("the slow call", || door.before.load(Ordering::SeqCst) == 1);
        for other in (0..3).filter(|other| *other != slow) {
            wait_for("the others' calls", || group.calls(other).len() == 1);
        }
        assert_eq!(group.ring.cons(), 0, "one is not done");
        door.open();
        wait_for("the SYNC", || group.is_consumed());
        assert_eq!(group.calls(slow).len(), 1);
        group.engine.stop();
    }
}

/// One climbs the ladder while another one's call has not returned: it neither waits for that one nor has it
/// asked again.
#[test]
fn law4_a_member_of_a_group_fails_closed_by_itself() {
    for failing in 0..2 {
        let slow = 1 - failing;
        let mut group = Group::new(2);
        let door = Arc::new(Door::default());
        let held = door.clone();
        group.faulty(slow).hook(move |_| held.pass());
        group
            .faulty(failing)
            .inject(Fault::new(At::Any, Cause::TimedOut));
        group.publish(&[tlbi(), sync()]);
        wait_for("the slow call", || door.before.load(Ordering::SeqCst) == 1);
        let (backend, instance) = &group.members[failing];
        wait_for("the end of the ladder", || backend.closed() == [None]);
        assert_eq!(group.ring.cons(), 0, "the other one is not done");
        door.open();
        wait_for("the SYNC", || group.is_consumed());
        let told = std::mem::take(&mut *group.host.0.lock().unwrap());
        assert_eq!(told, [(*instance, None, Cause::TimedOut)]);
        assert_eq!(group.calls(slow).len(), 1);
        assert!(group.members[slow].0.closed().is_empty());
        assert_eq!(group.ring.metrics().failed_closed, 1);
        group.engine.stop();
    }
}

#[test]
fn what_names_a_stream_goes_to_its_instance_alone() {
    let mut group = Group::new(3);
    for member in 0..3 {
        group.send(&[atc_inv(member), sync()]);
        let calls = [0, 1, 2].map(|other| group.calls(other).len());
        let mut expected = [0; 3];
        expected[member] = 1;
        assert_eq!(calls, expected);
    }
    group.send(&[tlbi(), atc_inv(0), atc_inv(2), sync()]);
    let requests = |member| {
        let calls = group.calls(member);
        calls
            .iter()
            .map(|call| call.batch.len())
            .collect::<Vec<_>>()
    };
    let requests = [requests(0), requests(1), requests(2)];
    assert_eq!(requests, [vec![1, 1], vec![1], vec![1, 1]]);
    assert_eq!(group.ring.metrics().calls, 3 + 5);
    group.engine.stop();
}

/// A group whose calls do not return delays nobody else.
#[test]
fn law11_a_group_that_blocks_delays_no_other_frame() {
    let mut group = Group::new(3);
    let mut other = Group::on(group.engine.clone(), 2);
    let door = Arc::new(Door::default());
    for member in 0..3 {
        let held = door.clone();
        group.faulty(member).hook(move |_| held.pass());
    }
    group.publish(&[tlbi(), sync()]);
    wait_for("the calls", || door.before.load(Ordering::SeqCst) == 3);
    (0..50).for_each(|_| other.send(&[tlbi(), sync()]));
    assert_eq!(group.ring.cons(), 0);
    door.open();
    wait_for("the SYNC", || group.is_consumed());
    group.engine.stop();
}

/// Wherever the call is made that panics: it is counted, its window is done again, and nothing is lost.
#[test]
fn law6_a_member_of_a_group_that_panics_costs_the_guest_nothing() {
    for dying in 0..2 {
        let mut group = Group::new(2);
        let left = AtomicU64::new(2);
        group.faulty(dying).hook(move |_| {
            let dies = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            assert!(dies.is_err(), "on purpose");
        });
        group.send(&[tlbi(), sync()]);
        let metrics = group.engine.metrics();
        assert_eq!((metrics.panics, metrics.broken_rings), (2, 0));
        assert_eq!(group.calls(dying).len(), 1);
        assert_eq!(group.calls(1 - dying).len(), 3, "each time");
        (0..50).for_each(|_| group.send(&[tlbi(), sync()]));
        group.engine.stop();
    }
}

/// What failed closed before a member panicked is told, although the window is done again.
#[test]
fn law4_a_panic_beside_it_hides_no_member_that_failed_closed() {
    for dying in 0..2 {
        let mut group = Group::new(2);
        let once = AtomicBool::new(true);
        group.faulty(dying).hook(move |_| {
            assert!(!once.swap(false, Ordering::SeqCst), "on purpose");
        });
        // A request has six tries.
        let fault = Fault::new(At::Any, Cause::TimedOut).times(6);
        group.faulty(1 - dying).inject(fault);
        group.send(&[tlbi(), sync()]);
        let told = std::mem::take(&mut *group.host.0.lock().unwrap());
        let failed = group.members[1 - dying].1;
        assert_eq!(told, [(failed, None, Cause::TimedOut)]);
        assert_eq!(group.engine.metrics().panics, 1);
        group.engine.stop();
    }
}

#[test]
fn law8_a_member_of_a_group_that_always_panics_is_given_up() {
    let mut group = Group::new(2);
    group.faulty(1).hook(|_| panic!("on purpose"));
    group.publish(&[tlbi(), sync()]);
    wait_for("the end", || group.engine.metrics().broken_rings == 1);
    wait_for("the word", || group.host.0.lock().unwrap().len() == 2);
    assert_eq!(group.engine.metrics().panics, 3);
    let told = std::mem::take(&mut *group.host.0.lock().unwrap());
    let all = group.members.iter().map(|(_, id)| (*id, None, Cause::Gone));
    assert_eq!(told, all.collect::<Vec<_>>());
    assert_eq!(group.members[0].0.closed(), [None]);
    group.engine.stop();
}

/// Instances join while rings are being served; their threads leave with the frame.
#[test]
fn instances_join_a_group_at_work_and_leave_with_their_frame() {
    let engine = started(Duration::ZERO, Arc::new(StdThreads));
    for _ in 0..5 {
        let mut group = Group::on(engine.clone(), 1);
        for members in 1..5 {
            assert_eq!(engine.metrics().callers, members - 1);
            group.publish(&[tlbi(), sync()]);
            group.join();
            wait_for("the SYNC", || group.is_consumed());
            (0..=members).for_each(|member| _ = group.calls(member));
            group.send(&[tlbi(), sync()]);
            let calls: Vec<_> = (0..=members)
                .map(|member| group.calls(member).len())
                .collect();
            assert_eq!(calls, vec![1; members + 1]);
        }
        drop(group);
        wait_for("their end", || engine.metrics().callers == 0);
    }
    engine.stop();
}

/// The engine stops while calls are under way, on its own threads: they are waited for.
#[test]
fn law10_an_engine_stops_behind_a_groups_calls() {
    let mut group = Group::new(2);
    let door = Arc::new(Door::default());
    for member in 0..2 {
        let held = door.clone();
        group.faulty(member).hook(move |_| held.pass());
    }
    group.publish(&[tlbi(), sync()]);
    wait_for("the calls", || door.before.load(Ordering::SeqCst) == 2);
    std::thread::scope(|scope| {
        let engine = group.engine.clone();
        let stopping = scope.spawn(move || engine.stop());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!stopping.is_finished(), "the calls are not done");
        door.open();
    });
    assert!(group.is_consumed(), "what had begun is completed");
}

/// Threads for everything but a second instance's calls.
struct NoCallers;

impl Threads for NoCallers {
    fn spawn(
        &self,
        name: String,
        body: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        if name.contains("caller") {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        StdThreads.spawn(name, body)
    }
}

#[test]
fn law3_an_instance_without_its_thread_is_refused() {
    let mut group = Group::on(started(Duration::ZERO, Arc::new(NoCallers)), 1);
    let software = Faulty::blocking(Software::default());
    let refused = group
        .frame
        .try_add_instance(Arc::new(software), Placement::default());
    let expected = InstanceError::Spare(std::io::ErrorKind::WouldBlock);
    assert_eq!(refused, Err(expected));
    assert_eq!(group.engine.metrics().callers, 0);
    // One whose calls are short needs none.
    let software = Arc::new(Software::default());
    group.frame.add_instance(software, Placement::default());
    group.send(&[tlbi(), sync()]);
    group.engine.stop();
}
