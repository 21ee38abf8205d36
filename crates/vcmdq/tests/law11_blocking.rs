//! A backend or a callback that blocks delays its own frame only (law 11).

mod pool_world;

use pool_world::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vcmdq::testing::commands::sync;
use vcmdq::{
    DoorbellMode, Engine, FrameSettings, InstanceError, Placement, Seams, Settings, StdThreads,
    Threads,
};

const WORKERS: usize = 2;

fn settings(spin: Duration) -> Settings {
    Settings {
        workers: WORKERS,
        spin,
        ..Settings::default()
    }
}

/// As many guests as there are workers, or more, inside of calls that do not return.
struct World {
    engine: Engine,
    log: Log,
    blocked: Vec<Guest>,
    others: Vec<Guest>,
}

impl World {
    fn new(spin: Duration, blocks: Blocks, count: usize) -> Self {
        let (engine, log) = (engine(settings(spin)), Log::default());
        let guest = |n| Guest::behind(&engine, n, 3, &log, blocks);
        let mut blocked: Vec<Guest> = (0..count).map(guest).collect();
        let command = match blocks {
            Blocks::Host => cfgi(),
            _ => tlbi(),
        };
        for guest in &mut blocked {
            (0..3).for_each(|ring| _ = guest.add(ring == 2, command));
        }
        let guest = |n: usize| Guest::new(&engine, 10 + n, 2, &log);
        let mut others: Vec<Guest> = (0..3).map(guest).collect();
        for guest in &mut others {
            (0..2).for_each(|ring| _ = guest.add(ring == 1, tlbi()));
        }
        Self {
            engine,
            log,
            blocked,
            others,
        }
    }

    fn round_trips(&self, from: u32, to: u32) {
        for n in from..to {
            for guest in &self.others {
                guest.round_trip(0, n);
                guest.round_trip(1, n);
            }
        }
    }

    /// Threads that have ever called a backend.
    fn threads(&self) -> usize {
        let log = self.log.lock().unwrap();
        let names: BTreeSet<&String> = log.iter().map(|(_, name)| name).collect();
        names.len()
    }
}

fn all_others_go_on(spin: Duration, blocks: Blocks, first: usize) {
    let mut world = World::new(spin, blocks, WORKERS + 1);
    for guest in &world.blocked {
        guest.script.hold(true);
        guest.publish(first, 1);
        wait_for("the call", || guest.script.is_inside());
    }
    world.round_trips(1, 20);
    // Whatever the guest of a blocked frame does, and whatever is done to others.
    for guest in &world.blocked {
        (0..3).for_each(|ring| guest.publish(ring, 5));
    }
    world.round_trips(20, 30);
    let mut late = Guest::new(&world.engine, 20, 1, &world.log);
    late.add(false, tlbi());
    late.round_trip(0, 1);
    drop(late);
    world.others.pop();
    world.round_trips(30, 40);
    assert_eq!(world.engine.metrics().spares, WORKERS + 1);
    for guest in &world.blocked {
        assert!(guest.script.is_inside(), "it has been inside all the time");
        guest.script.hold(false);
        (0..3).for_each(|ring| wait_for("the rest", || guest.is_consumed(ring, 5)));
        assert_eq!(guest.script.most.load(Ordering::SeqCst), 1, "one at a time");
    }
    world.round_trips(40, 60);
    assert!(world.threads() <= 2 * WORKERS + 1, "{}", world.threads());
    assert!(world.engine.metrics().hand_overs > WORKERS as u64);
    world.engine.stop();
}

#[test]
fn law11_backends_that_block_delay_nobody_else() {
    all_others_go_on(Duration::from_micros(20), Blocks::Backend, 0);
}

#[test]
fn law11_backends_that_block_delay_nobody_else_where_threads_sleep_at_once() {
    all_others_go_on(Duration::ZERO, Blocks::Backend, 0);
}

#[test]
fn law11_backends_that_block_for_a_page_delay_nobody_else() {
    all_others_go_on(Duration::ZERO, Blocks::Backend, 2);
}

#[test]
fn law11_callbacks_that_block_delay_nobody_else() {
    all_others_go_on(Duration::from_micros(20), Blocks::Host, 0);
}

/// A short call, and nothing to be done beside it: nobody is woken for it, and nothing is lost when
/// somebody comes in the middle of it.
#[test]
fn law11_short_calls_beside_doorbells_lose_nothing() {
    let world = World::new(Duration::ZERO, Blocks::Backend, 1);
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let _at_the_end = stop.guard();
        for ring in 0..3 {
            let (guest, stop) = (&world.blocked[0], &stop);
            scope.spawn(move || {
                let mut n = 0;
                while !stop.is_set() {
                    n += 1;
                    guest.round_trip(ring, n);
                }
            });
        }
        world.round_trips(1, 400);
    });
    world.engine.stop();
}

#[test]
fn law11_spares_come_and_go_with_their_frames() {
    let (engine, log) = (engine(settings(Duration::ZERO)), Log::default());
    for n in 1..30 {
        let guest = || Guest::behind(&engine, 0, 1, &log, Blocks::Backend);
        let mut guests = [guest(), guest()];
        for guest in &mut guests {
            guest.add(n % 2 == 0, tlbi());
            guest.round_trip(0, 1);
        }
        // Those of the frames before may just be about to end.
        assert!(engine.metrics().spares <= 4);
    }
    wait_for("their end", || engine.metrics().spares == 0);
    engine.stop();
}

/// Rings that are served together before calls that may block, by a thread that has just left a ring's
/// effect to the lane.
#[test]
fn law11_effects_behind_a_backend_that_blocks_are_not_left_lying() {
    let settings = settings(Duration::ZERO);
    let (engine, log) = (Engine::without_workers(settings).unwrap(), Log::default());
    let mut guest = Guest::behind(&engine, 0, 3, &log, Blocks::Both);
    (0..3).for_each(|_| _ = guest.add(false, cfgi()));
    (0..3).for_each(|ring| guest.publish(ring, 1));
    engine.stepped_worker(0).turn();
    let consumed: Vec<bool> = (0..3).map(|ring| guest.is_consumed(ring, 1)).collect();
    assert_eq!(consumed, [true; 3]);
}

/// Between a worker's look at the table and its taking along of what else of the frame is ready.
#[test]
fn law5_a_ring_that_comes_while_its_frame_is_about_to_block_is_served() {
    let settings = settings(Duration::ZERO);
    let (engine, log) = (Engine::without_workers(settings).unwrap(), Log::default());
    let mut guest = Guest::behind(&engine, 0, 2, &log, Blocks::Backend);
    guest.add(false, tlbi());
    guest.publish(0, 1);
    let script = guest.script.clone();
    script.silent.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| engine.stepped_worker(0).turn());
        wait_for("a slice", || script.asked.load(Ordering::SeqCst) != 0);
        guest.add(false, tlbi());
        guest.publish(1, 1);
        script.silent.store(false, Ordering::SeqCst);
    });
    assert!(guest.is_consumed(0, 1));
    let ready = engine.take_ready().is_some();
    assert!(ready || guest.is_consumed(1, 1), "nobody knows of it");
}

/// A SYNC that waits for an access has to be told of when it takes too long, also while the only
/// worker is in another frame's call.
#[test]
fn law11_a_sync_that_waits_is_looked_after_beside_anothers_call() {
    let settings = settings(Duration::ZERO);
    let (engine, log) = (Engine::without_workers(settings).unwrap(), Log::default());
    let guest = |n| Guest::behind(&engine, n, 1, &log, Blocks::Backend);
    let (mut waits, mut blocks) = (guest(0), guest(1));
    waits.add(false, sync());
    blocks.add(false, tlbi());
    let mut worker = engine.stepped_worker(0);
    waits.script.in_use.store(true, Ordering::SeqCst);
    waits.publish(0, 1);
    worker.turn();
    assert!(waits.rings[0].0.is_waiting());
    blocks.script.hold(true);
    blocks.publish(0, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| worker.turn());
        wait_for("the call", || blocks.script.is_inside());
        let sleeps = engine.has_sleeper();
        blocks.script.hold(false);
        assert!(!sleeps, "nobody looks after the SYNC");
    });
}

/// Lets the calls return, also when the test fails meanwhile.
struct Release<'a>(&'a Guest);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.script.hold(false);
    }
}

/// While a call of the first guest's is under way, its second ring has news before each turn of a worker; the other
/// guest's page is consumed all the same, and the first guest's news are in so many turns after the call.
fn others_go_on(engine: &Engine, blocked: &Guest, other: &Guest, turns: usize) {
    blocked.script.hold(true);
    blocked.publish(0, 1);
    std::thread::scope(|scope| {
        let _at_the_end = Release(blocked);
        scope.spawn(|| engine.stepped_worker(0).turn());
        wait_for("the call", || blocked.script.is_inside());
        let mut beside = engine.stepped_worker(0);
        for n in 1..20 {
            other.publish(0, n);
            for turn in 0..4 {
                blocked.publish(1, 4 * n + turn);
                beside.turn();
            }
            assert!(other.is_consumed(0, n), "the other guest's page {n}");
        }
    });
    let mut worker = engine.stepped_worker(0);
    for _ in 0..turns {
        worker.turn();
    }
    assert!(blocked.is_consumed(1, 4 * 19 + 3), "nothing is lost");
}

/// A guest stores into its page all the time, while its frame's lane is taken.
#[test]
fn law11_news_in_a_blocked_frames_page_keep_nobody_from_others_pages() {
    let settings = Settings {
        workers: 1,
        ..settings(Duration::ZERO)
    };
    let (engine, log) = (Engine::without_workers(settings).unwrap(), Log::default());
    let mut blocked = Guest::behind(&engine, 0, 2, &log, Blocks::Backend);
    for paged in [false, true] {
        blocked.add(paged, tlbi());
    }
    let mut other = Guest::new(&engine, 1, 1, &log);
    other.add(true, tlbi());
    others_go_on(&engine, &blocked, &other, 4);
}

/// The same with doorbells, of a frame whose backend does not block.
#[test]
fn law11_doorbells_of_a_blocked_frame_keep_nobody_from_others_pages() {
    let settings = Settings {
        workers: 1,
        ..settings(Duration::ZERO)
    };
    let (engine, log) = (Engine::without_workers(settings).unwrap(), Log::default());
    let mut blocked = Guest::behind(&engine, 0, 2, &log, Blocks::Host);
    for _ in 0..2 {
        blocked.add(false, cfgi());
    }
    let mut other = Guest::new(&engine, 1, 1, &log);
    other.add(true, tlbi());
    // Each CFGI is a callback, and a turn.
    others_go_on(&engine, &blocked, &other, 100);
}

/// Threads for the workers, and none besides.
struct NoSpares;

impl Threads for NoSpares {
    fn spawn(
        &self,
        name: String,
        body: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        if name.contains("spare") {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        StdThreads.spawn(name, body)
    }
}

#[test]
fn law11_an_instance_without_its_spare_is_refused() {
    let engine = Engine::start(Settings::default(), Arc::new(NoSpares)).unwrap();
    let memory = vcmdq::testing::HeapMemory::new(4096);
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(Arc::new(memory)));
    let log = Log::default();
    let blocking = Noting::new(0, &log, true, &Arc::default());
    let refused = frame.try_add_instance(Arc::new(blocking), Placement::default());
    assert_eq!(
        refused,
        Err(InstanceError::Spare(std::io::ErrorKind::WouldBlock))
    );
    let other = Noting::new(0, &log, false, &Arc::default());
    assert!(
        frame
            .try_add_instance(Arc::new(other), Placement::default())
            .is_ok()
    );
    assert!(frame.add_ring(DoorbellMode::Trap).is_ok());
    engine.stop();
}
