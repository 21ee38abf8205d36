//! A guest on the whole way: its registers and its ring, the engine's workers, the backend and the streams,
//! and a host behind them.

use crate::host::world::{EVENTS, SIDS, TABLE, offer, stage1};
use crate::host::{FakeHost, IOAS, OTHER_IOAS, Seen};
use smmu_core::command::{AtcInv, Cfgi, Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::register::offset;
use smmu_core::{Asid, Gpa, StreamId, Vmid};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vcmdq::registers::RegisterFrame;
use vcmdq::testing::HeapMemory;
use vcmdq::{Binding, Engine, Frame, FrameSettings, Placement, Seams, Settings, StdThreads};
use vcmdq_iommufd::{
    ArmSmmuv3, HostFeatures, HostInstance, IommufdBackend, IommufdSettings, NestedStreams,
};

const RING: u64 = 0x4000;
const LOG2SIZE: u32 = 7;
const BOOTED: u32 = 1 | 1 << 2 | 1 << 3;

pub(crate) struct Machine {
    pub(crate) host: Arc<FakeHost>,
    memory: Arc<HeapMemory>,
    pub(crate) streams: Arc<NestedStreams>,
    pub(crate) instance: Arc<HostInstance>,
    pub(crate) backend: Arc<IommufdBackend>,
    binding: Binding,
    registers: RegisterFrame,
    pub(crate) frame: Arc<Frame>,
    engine: Engine,
    /// The guest's next slot.
    prod: Mutex<u32>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.engine.stop();
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let host = FakeHost::new();
        let features = HostFeatures::of_device(&*host, 101).unwrap();
        let caps = offer(0).capabilities(&features).unwrap();
        let memory = Arc::new(HeapMemory::new(1 << 18));
        let streams = NestedStreams::new(memory.clone());
        let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
        let mut seams = Seams::new(memory.clone());
        seams.streams = streams.clone();
        let settings = FrameSettings {
            caps,
            ..FrameSettings::default()
        };
        let frame = Arc::new(engine.add_frame(settings, seams));
        streams.connect(&frame);
        let encoder = ArmSmmuv3::new(features.ranges);
        let instance =
            HostInstance::new(host.clone(), Arc::new(encoder), 101, IOAS, &caps).unwrap();
        let settings = IommufdSettings::new(streams.of_instance(&instance));
        let target = instance.target();
        let backend = IommufdBackend::new(host.clone(), target, encoder, settings);
        let backend = Arc::new(backend);
        let placement = Placement::default();
        let binding = Binding {
            instance: frame.add_instance(backend.clone(), placement),
            placement,
        };
        Self {
            registers: RegisterFrame::new(frame.clone()).unwrap(),
            host,
            memory,
            streams,
            instance,
            backend,
            binding,
            frame,
            engine,
            prod: Mutex::new(0),
        }
    }

    pub(crate) fn plug(&self, stream: u32, device: u32) {
        let device = self.host.device(device);
        let id = StreamId(stream);
        self.streams
            .plug(&self.frame, id, device, &self.instance, self.binding)
            .unwrap();
    }

    fn read(&self, at: u64) -> u32 {
        self.registers.read(at, 4) as u32
    }

    pub(crate) fn cr0(&self, value: u32) {
        self.registers.write(offset::CR0, 4, value.into());
        wait_for("CR0ACK", || self.read(offset::CR0ACK) == value);
    }

    pub(crate) fn boot(&self) {
        let write = |at, width, value| self.registers.write(at, width, value);
        write(offset::STRTAB_BASE, 8, TABLE.0);
        write(offset::STRTAB_BASE_CFG, 4, SIDS.into());
        write(offset::CMDQ_BASE, 8, RING | u64::from(LOG2SIZE));
        write(offset::EVENTQ_BASE, 8, EVENTS.0 | 7);
        self.cr0(1 << 3);
        self.cr0(BOOTED & !1);
        self.cr0(BOOTED);
    }

    pub(crate) fn write_ste(&self, stream: u32, words: [u64; 2]) {
        for (at, word) in (TABLE.0 + u64::from(stream) * 64..).step_by(8).zip(words) {
            store_u64(&*self.memory, Gpa(at), word, Ordering::Relaxed).unwrap();
        }
    }

    /// Sends commands and a SYNC, and waits until that is done.
    pub(crate) fn send(&self, commands: &[Command]) {
        let mut prod = self.prod.lock().unwrap();
        for command in commands.iter().chain([&Command::Sync(Signal::None)]) {
            let slot = u64::from(*prod % (1 << LOG2SIZE));
            let raw = encode(command);
            for (at, word) in [(0, raw.dw0), (8, raw.dw1)] {
                let at = Gpa(RING + slot * 16 + at);
                store_u64(&*self.memory, at, word, Ordering::Release).unwrap();
            }
            *prod = (*prod + 1) % (2 << LOG2SIZE);
        }
        self.registers.write(offset::CMDQ_PROD, 4, (*prod).into());
        wait_for("the SYNC", || self.read(offset::CMDQ_CONS) == *prod);
        assert_eq!(self.read(offset::GERROR), 0);
    }

    pub(crate) fn configure(&self, stream: u32, words: [u64; 2]) {
        self.write_ste(stream, words);
        let stream = StreamId(stream);
        self.send(&[Command::Cfgi(Cfgi::Ste { stream, leaf: true })]);
    }

    /// Opcodes and vSIDs that the host has executed.
    pub(crate) fn executed(&self) -> Vec<(u64, u64)> {
        let commands = std::mem::take(&mut self.host.state().commands);
        let parts = commands.iter().map(|(_, [dw0, _])| (dw0 & 0xFF, dw0 >> 32));
        parts.collect()
    }

    pub(crate) fn config(&self, device: u32) -> Option<u64> {
        match self.host.seen(device) {
            Seen::Vste { vste, .. } => Some(vste[0] >> 1 & 7),
            Seen::Nothing => None,
        }
    }
}

/// A hang is what fails: on a busy machine everything takes long.
pub(crate) fn wait_for(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "waited for {what}"
        );
        std::thread::yield_now();
    }
}

pub(crate) fn atc(stream: u32) -> Command {
    atc_of(stream, 0)
}

fn atc_of(stream: u32, addr: u64) -> Command {
    Command::AtcInv(AtcInv {
        stream: StreamId(stream),
        substream: None,
        global: false,
        addr,
        size: 0,
    })
}

pub(crate) fn asid() -> Command {
    Command::Tlbi(Tlbi::NhAsid {
        vmid: Vmid(0),
        asid: Asid(1),
    })
}

#[test]
fn a_guest_attaches_a_device_and_invalidates() {
    let machine = Machine::new();
    machine.plug(1, 101);
    assert_ne!(machine.config(101), Some(5), "SMMUEN is 0");
    machine.boot();
    assert_eq!(machine.config(101), Some(0), "V=0");
    machine.configure(1, stage1(0x4000));
    assert_eq!(machine.config(101), Some(5), "when its SYNC is done");
    machine.executed();
    machine.send(&[asid(), atc(1), atc(2)]);
    let mut executed = machine.executed();
    executed.sort_unstable();
    let opcodes: Vec<_> = executed.iter().map(|(opcode, _)| *opcode).collect();
    assert_eq!(
        opcodes,
        [0x11, 0x40],
        "nothing for a stream that nobody has bound"
    );
    assert_eq!(executed[1].1, 1, "the guest's StreamID");
    machine.cr0(BOOTED & !1);
    assert_ne!(machine.config(101), Some(5));
}

#[test]
fn a_device_that_is_plugged_in_while_the_guest_runs_is_attached_at_once() {
    let machine = Machine::new();
    machine.boot();
    machine.write_ste(3, stage1(0x8000));
    machine.plug(3, 102);
    assert_eq!(machine.config(102), Some(5), "as SMMUEN and its STE say");
    machine.streams.unplug(&machine.frame, StreamId(3)).unwrap();
    machine.executed();
    machine.configure(3, stage1(0x4000));
    machine.send(&[atc(3)]);
    assert_eq!((machine.config(102), machine.executed()), (None, vec![]));
}

/// The SYNC completes, the guest is told of no error, and the stream aborts.
#[test]
fn law4_a_device_that_disappears_with_commands_under_way_fails_closed() {
    let machine = Machine::new();
    machine.plug(1, 101);
    machine.plug(2, 102);
    machine.boot();
    machine.configure(1, stage1(0x4000));
    machine.configure(2, stage1(0x4000));
    machine.host.take_away(101);
    machine.executed();
    machine.send(&[atc(1), asid(), atc(2)]);
    let executed = machine.executed();
    assert!(
        executed.iter().any(|(opcode, _)| *opcode == 0x11),
        "{executed:x?}"
    );
    assert!(executed.contains(&(0x40, 2)), "{executed:x?}");
    let closed = |stream| machine.streams.stream(StreamId(stream)).unwrap().closed;
    assert!(closed(1) && !closed(2));
    assert_eq!(machine.streams.metrics().closed, 1);
    assert!(!machine.backend.is_closed(), "only this stream");
}

/// However many commands name it, the host is not asked again and again.
#[test]
fn law8_a_stream_that_has_failed_closed_is_asked_nothing_of_the_host() {
    let machine = Machine::new();
    machine.plug(1, 101);
    machine.plug(2, 102);
    machine.boot();
    machine.configure(1, stage1(0x4000));
    machine.configure(2, stage1(0x4000));
    machine.host.take_away(101);
    machine.executed();
    let pages = |stream| (0..50).map(move |page| atc_of(stream, page << 12));
    let commands: Vec<_> = pages(1).chain(pages(2)).collect();
    for _ in 0..2 {
        let before = machine.backend.metrics();
        machine.send(&commands);
        let metrics = machine.backend.metrics();
        let calls = metrics.calls - before.calls;
        assert!(calls < 20, "{calls} calls");
        assert_eq!(machine.executed().len(), 50, "those of the other");
    }
    assert_eq!(machine.backend.metrics().closed, 49 + 50);
    // It is another one then.
    machine.streams.unplug(&machine.frame, StreamId(1)).unwrap();
    machine.plug(1, 103);
    machine.send(&[atc(1)]);
    assert_eq!(machine.executed(), [(0x40, 1)]);
}

/// Stops the others, also when an assertion does not hold.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Control calls and a guest that never pauses: nobody waits for somebody who waits for him, and the streams
/// end as the guest says.
#[test]
fn law9_streams_come_and_go_under_a_guest_that_goes_on() {
    let machine = Machine::new();
    machine.plug(1, 101);
    machine.boot();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                machine.configure(1 + round as u32 % 3, stage1(0x4000 * (1 + round % 4)));
                machine.send(&[asid(), atc(1), atc(2), atc(3)]);
                if round % 7 == 0 {
                    machine.cr0(BOOTED & !1);
                    machine.cr0(BOOTED);
                }
                round += 1;
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                machine.streams.drain(&machine.instance).unwrap();
                std::thread::yield_now();
            }
        });
        let _at_the_end = AtTheEnd(&stop);
        for round in 0..60 {
            machine.plug(2, 102);
            let ioas = if round % 2 == 0 { OTHER_IOAS } else { IOAS };
            let replaced = machine.streams.replace_stage2(&machine.instance, 101, ioas);
            assert_eq!(replaced.unwrap().left_closed, []);
            let (from, to) = (StreamId(2), StreamId(3));
            let rebound = machine
                .streams
                .rebind(&machine.frame, from, to, machine.binding);
            rebound.unwrap();
            machine.streams.unplug(&machine.frame, to).unwrap();
        }
    });
    machine.configure(1, stage1(0x4000));
    assert_eq!(machine.config(101), Some(5));
    let metrics = machine.streams.metrics();
    assert_eq!(
        (
            metrics.closed,
            metrics.stuck,
            metrics.refused,
            metrics.failed
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(machine.host.vdevices(), [(1, 101)]);
}
