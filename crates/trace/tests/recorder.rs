//! Live recordings hold what the driver wrote, and say what they do not hold.

use dispatch::backend::Software;
use proptest::test_runner::{Config, TestRunner};
use smmu_core::command::{Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::command::{RawCommand, opcode};
use smmu_core::{Asid, Gpa, GuestMemory, StreamId, Vmid};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::stepping::{PageRegisters, Stepper};
use vcmdq::testing::{Completion, GuestQueue, HeapMemory, QueueRegisters, QueueSettings};
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, HeapPage, Placement, Ring, RingSettings,
    Seams, Settings, StdThreads,
};
use vcmdq_trace::{
    Body, Event, Header, Integrity, Reader, Recorder, RecorderSettings, Recording, RingKind,
    Summary,
};

/// What a recording is written into.
#[derive(Clone, Default)]
struct File {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Held by a test that does not let the writer go on.
    gate: Arc<Mutex<()>>,
    /// How often the writer has come to the gate.
    came: Arc<Mutex<u32>>,
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.came.lock().unwrap() += 1;
        let _open = self.gate.lock().unwrap();
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl File {
    fn recording(&self) -> Recording {
        Recording::read(&self.bytes.lock().unwrap()).expect("a recording")
    }

    fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

const MEMORY: u64 = 1 << 20;

/// The driver inserts no more commands at a time.
const PIECE: usize = 64;

struct Rig {
    memory: Arc<dyn GuestMemory>,
    frame: Frame,
    engine: Engine,
}

impl Rig {
    fn new(engine: Engine) -> Self {
        let memory = Arc::new(HeapMemory::new(MEMORY));
        let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
        let placement = Placement::default();
        let instance = frame.add_instance(Arc::new(Software::default()), placement);
        let binding = Binding {
            instance,
            placement,
        };
        frame.bind(StreamId(0), binding).expect("a stream");
        Self {
            memory,
            frame,
            engine,
        }
    }

    fn ring(&self, mode: DoorbellMode, base: Gpa, log2size: u8) -> Arc<Ring> {
        let ring = self.frame.add_ring(mode).expect("room");
        ring.configure(RingSettings { base, log2size })
            .expect("disabled");
        ring
    }

    fn write(&self, at: Gpa, commands: &[RawCommand]) {
        use vcmdq_sync::atomic::Ordering;
        for (command, slot) in commands.iter().zip(0..) {
            let at = Gpa(at.0 + 16 * slot);
            let words = self.memory.words(at, 2).expect("memory");
            words[0].store(command.dw0.to_le(), Ordering::Relaxed);
            words[1].store(command.dw1.to_le(), Ordering::Relaxed);
        }
    }
}

fn record(rings: &[&Arc<Ring>], file: &File, settings: &RecorderSettings) -> Recorder {
    let header = Header::of(&FrameSettings::default().caps);
    let rings = rings.iter().zip(0..);
    let rings = rings.map(|(ring, number)| (RingKind::Vcmdq(number), (*ring).clone()));
    Recorder::start(file.clone(), header, rings.collect(), settings, &StdThreads).expect("a thread")
}

fn tlbi(asid: u16) -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhAsid {
        vmid: Vmid(0),
        asid: Asid(asid),
    }))
}

/// What a driver submits, and how its commands lie in the ring: in pieces, a SYNC behind the last.
fn work(sizes: &[usize], asid: u16) -> (Vec<Vec<RawCommand>>, Vec<RawCommand>) {
    let sync = encode(&Command::Sync(Signal::None));
    let submissions: Vec<Vec<_>> = sizes
        .iter()
        .zip(0..)
        .map(|(size, number)| (0..*size as u16).map(|n| tlbi(asid ^ n ^ number)).collect())
        .collect();
    let in_ring = submissions
        .iter()
        .flat_map(|commands| commands.iter().copied().chain([sync]))
        .collect();
    (submissions, in_ring)
}

/// A SYNC's own message is where it lies; without it all SYNCs of a driver are the same.
fn without_message(raw: &RawCommand) -> RawCommand {
    if raw.opcode() == opcode::SYNC {
        encode(&Command::Sync(Signal::None))
    } else {
        *raw
    }
}

fn live(sizes: &[Vec<usize>; 2]) {
    const LOG2SIZE: u8 = 7;
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).expect("starts");
    let rig = Rig::new(engine);
    let page = Arc::new(HeapPage::default());
    let bases = [Gpa(0x1_0000), Gpa(0x2_0000)];
    let trapped = rig.ring(DoorbellMode::Trap, bases[0], LOG2SIZE);
    let polled = rig.ring(DoorbellMode::SharedPage(page.clone()), bases[1], LOG2SIZE);
    let file = File::default();
    let recorder = record(&[&trapped, &polled], &file, &RecorderSettings::default());
    trapped.enable();
    let registers = PageRegisters(page);
    registers.enable();
    let sides: [Arc<dyn QueueRegisters>; 2] = [trapped.clone(), Arc::new(registers)];
    std::thread::scope(|scope| {
        for ((side, base), (number, sizes)) in
            sides.into_iter().zip(bases).zip(sizes.iter().enumerate())
        {
            let settings = QueueSettings {
                patience: Duration::from_secs(60),
                completion: [Completion::Word, Completion::Cons][number],
                ..QueueSettings::new(base, LOG2SIZE)
            };
            let queue = GuestQueue::new(settings, rig.memory.clone(), side).expect("memory");
            scope.spawn(move || {
                for commands in work(sizes, number as u16).0 {
                    queue.submit(&commands).expect("done");
                }
            });
        }
    });
    let totals = recorder.finish().expect("memory takes it");
    rig.engine.stop();
    let recording = file.recording();
    assert_eq!((recording.totals, recording.damaged), (Some(totals), 0));
    assert_eq!(recording.integrity, Integrity::Whole);
    assert_eq!((totals.dropped_events, totals.left_out), (0, 0));
    for (number, (ring, sizes)) in recording.rings.iter().zip(sizes).enumerate() {
        let expected = work(sizes, number as u16).1;
        let commands: Vec<_> = ring.commands.iter().map(without_message).collect();
        assert_eq!(commands, expected, "ring {number}");
        let syncs = ring.completions.iter().map(|completion| completion.at);
        let places = expected.iter().enumerate();
        let expected_syncs = places.filter(|(_, raw)| raw.opcode() == opcode::SYNC);
        assert!(syncs.eq(expected_syncs.map(|(at, _)| at)));
        let ends: Vec<_> = ring.publications.iter().map(|point| point.end).collect();
        assert!(ends.iter().all(Option::is_some));
        assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
        assert_eq!(ends.last().copied().flatten(), Some(expected.len()));
        let times = ring.times.windows(2).all(|pair| pair[0] <= pair[1]);
        assert!(times, "one owner after the other");
    }
    let summary = Summary::of(&recording);
    // One producer for each ring, and each waits for its SYNC.
    assert!(summary.outstanding.len() <= 3, "{summary:?}");
    assert_eq!(summary.waits.len() as u64, summary.all.syncs);
}

#[test]
fn a_live_recording_is_what_the_drivers_wrote_in_order() {
    use proptest::collection::vec;
    let mut runner = TestRunner::new(Config::with_cases(16));
    let sizes = || vec(0..PIECE, 1..60);
    runner
        .run(&(sizes(), sizes()), |(one, other)| {
            live(&[one, other]);
            Ok(())
        })
        .expect("every case holds");
}

#[test]
fn what_a_full_queue_drops_is_told_exactly() {
    const ROOM: usize = 8;
    let engine = Engine::without_workers(Settings::default()).expect("legal");
    let rig = Rig::new(engine);
    let ring = rig.ring(DoorbellMode::Trap, Gpa(0), 5);
    ring.enable();
    let file = File::default();
    let shut = file.gate.lock().unwrap();
    let settings = RecorderSettings {
        capacity: ROOM,
        ..RecorderSettings::default()
    };
    let recorder = record(&[&ring], &file, &settings);
    // The writer has the header in hand and cannot go on.
    file.wait_until(|file| *file.came.lock().unwrap() == 1);
    for _ in 0..ROOM {
        ring.doorbell(0);
    }
    rig.write(Gpa(0), &[tlbi(1); 10]);
    ring.doorbell(10);
    // Layout, ten commands in four events, CONS.
    assert!(Stepper::default().serve(&ring));
    drop(shut);
    let published = |file: &File| {
        let rings = file.recording().rings;
        rings[0].publications.len()
    };
    file.wait_until(|file| !file.bytes.lock().unwrap().is_empty() && published(file) == ROOM);
    ring.doorbell(10);
    let totals = recorder.finish().expect("memory takes it");
    assert_eq!((totals.dropped_events, totals.dropped_commands), (7, 10));
    assert_eq!(totals.records, ROOM as u64 + 2);
    let bytes = file.bytes.lock().unwrap();
    let events: Vec<_> = Reader::new(&bytes)
        .expect("a recording")
        .filter_map(|record| match record.expect("whole").body {
            Body::Ring { event, .. } => Some(event),
            _ => None,
        })
        .collect();
    let gap = Event::Gap {
        events: 7,
        commands: 10,
    };
    assert_eq!(events[ROOM..], [gap, Event::Published { prod: 10 }]);
}

/// Nothing comes after the drop: the end tells it.
#[test]
fn a_gap_at_the_end_is_told_too() {
    let engine = Engine::without_workers(Settings::default()).expect("legal");
    let rig = Rig::new(engine);
    let ring = rig.ring(DoorbellMode::Trap, Gpa(0), 5);
    let file = File::default();
    let shut = file.gate.lock().unwrap();
    let settings = RecorderSettings {
        capacity: 2,
        ..RecorderSettings::default()
    };
    let recorder = record(&[&ring], &file, &settings);
    file.wait_until(|file| *file.came.lock().unwrap() == 1);
    (0..5).for_each(|_| ring.doorbell(0));
    drop(shut);
    let totals = recorder.finish().expect("memory takes it");
    assert_eq!(totals.dropped_events, 3);
    assert_eq!(file.recording().rings[0].dropped, (3, 0));
}

#[test]
fn a_command_that_was_rewritten_stands_in_the_stream_once() {
    let engine = Engine::without_workers(Settings::default()).expect("legal");
    let rig = Rig::new(engine);
    let ring = rig.ring(DoorbellMode::Trap, Gpa(0), 5);
    ring.enable();
    let file = File::default();
    let recorder = record(&[&ring], &file, &RecorderSettings::default());
    let illegal = RawCommand { dw0: 0x99, dw1: 0 };
    let sync = encode(&Command::Sync(Signal::None));
    let mut stepper = Stepper::default();
    rig.write(Gpa(0), &[tlbi(1), illegal, tlbi(2), sync]);
    ring.doorbell(4);
    stepper.serve(&ring);
    rig.write(Gpa(16), &[sync]);
    ring.acknowledge(ring.gerror());
    stepper.serve(&ring);
    recorder.finish().expect("memory takes it");
    let recording = file.recording();
    let stream = &recording.rings[0];
    assert_eq!(stream.commands, [tlbi(1), sync, tlbi(2), sync]);
    assert_eq!(stream.refetched, 1);
    assert_eq!(stream.publications[0].end, Some(4));
    let places: Vec<_> = stream.completions.iter().map(|done| done.at).collect();
    assert_eq!(places, [1, 3]);
}

#[test]
fn a_limit_leaves_out_the_end_and_says_so() {
    let engine = Engine::without_workers(Settings::default()).expect("legal");
    let rig = Rig::new(engine);
    let ring = rig.ring(DoorbellMode::Trap, Gpa(0), 5);
    let file = File::default();
    let settings = RecorderSettings {
        most_bytes: 400,
        ..RecorderSettings::default()
    };
    let recorder = record(&[&ring], &file, &settings);
    (0..1000).for_each(|prod| ring.doorbell(prod));
    let totals = recorder.finish().expect("memory takes it");
    assert!(totals.left_out > 0 && totals.records + totals.left_out == 1000);
    assert!(file.bytes.lock().unwrap().len() <= 400);
    let prods = file.recording().rings[0].publications.clone();
    assert!(
        prods
            .iter()
            .map(|point| point.prod)
            .eq(0..totals.records as u32)
    );
}

/// An output that takes nothing.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_fails_is_told_at_the_end() {
    let engine = Engine::without_workers(Settings::default()).expect("legal");
    let rig = Rig::new(engine);
    let ring = rig.ring(DoorbellMode::Trap, Gpa(0), 5);
    let rings = vec![(RingKind::Cmdq, ring.clone())];
    let settings = RecorderSettings::default();
    let recorder = Recorder::start(Broken, Header::default(), rings, &settings, &StdThreads);
    ring.doorbell(0);
    let error = recorder.expect("a thread").finish().expect_err("broken");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
