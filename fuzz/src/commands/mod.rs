//! Any commands in a ring, and any PROD: the queue goes on, or stops where an error is.
//!
//! Input: a byte of features, one for the size of the ring, then steps: commands that are written and
//! published, a PROD of any value, a turn of the engine, an acknowledgement, a queue that is moved; before
//! a turn a device with an ATC may give an answer that it owes.

mod device;
mod seeds;

pub use seeds::seeds;

use crate::input::Input;
use crate::reached::Reached;
use crate::rig::{Rig, STREAMS};
use device::Device;
use dispatch::backend::Software;
use smmu_core::decode::decode;
use smmu_core::guest_memory::{load_u64, store_u64};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::{CommandError, DoorbellMode, Engine, Frame, Ring, RingSettings, gerror_bits};

const RAM: u64 = 0x8000;
const BASE: u64 = 0x4000;
const MOST_STEPS: usize = 64;
/// Everything that has an opcode, legal or not.
const OPCODES: [u8; 28] = [
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x18, 0x1a, 0x20, 0x21, 0x22, 0x23,
    0x28, 0x2a, 0x30, 0x40, 0x41, 0x42, 0x44, 0x45, 0x46, 0x50, 0x60, 0x70,
];
const ATC_INV: u8 = 0x40;
const SYNC: u8 = 0x46;
/// The feature that some streams have a device with an ATC; then there are no messages, so that nothing but
/// the guest changes what lies in the ring.
const DEVICE: u8 = 7;
/// The streams that have it.
const DEVICES: [StreamId; 2] = [StreamId(0), StreamId(1)];

/// Runs the target.
pub fn run(input: &[u8]) -> Reached {
    let mut input = Input::new(input);
    let features = input.u8();
    let mut world = World::new(capabilities(features), 1 + input.u8() % 6);
    if features >> DEVICE & 1 != 0 {
        for stream in DEVICES {
            world.core.attach_atc(stream, world.device.clone());
        }
    }
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.check();
    }
    world.finish();
    world.reached
}

fn capabilities(features: u8) -> Capabilities {
    let has = |bit: u8| features >> bit & 1 != 0;
    let mut caps = Capabilities::default();
    caps.idr0.set_ats(has(0) || has(DEVICE));
    caps.idr0.set_pri(has(0) && has(1));
    if has(2) {
        caps.idr0.set_stall_model(0);
        caps.idr5.set_stall_max(8);
    }
    caps.idr0.set_s2p(has(3));
    caps.idr0.set_vmid16(has(3));
    caps.idr0.set_msi(!has(4) && !has(DEVICE));
    caps.idr3.set_ril(!has(5));
    caps.idr0.set_hyp(has(6));
    caps
}

struct World {
    memory: Arc<HeapMemory>,
    engine: Engine,
    /// Keeps the ring's streams and instance.
    _frame: Frame,
    ring: Arc<Ring>,
    stepper: Stepper,
    core: Arc<Software>,
    device: Arc<Device>,
    /// A SYNC is done that stands behind the last ATC_INV.
    synced: bool,
    /// Failures of the device for which the queue has stopped or will not stop any more.
    blamed: u64,
    caps: Capabilities,
    log2size: u8,
    base: u64,
    prod: u32,
    /// What the guest has written into its slots since the queue was placed.
    written: Vec<Option<RawCommand>>,
    reached: Reached,
}

impl World {
    fn new(caps: Capabilities, log2size: u8) -> Self {
        let Rig {
            memory,
            engine,
            frame,
            core,
        } = Rig::new(RAM, caps, 1);
        let ring = frame.add_ring(DoorbellMode::Trap).expect("room for a ring");
        let mut world = Self {
            memory,
            engine,
            _frame: frame,
            ring,
            stepper: Stepper::default(),
            core,
            device: Arc::default(),
            synced: false,
            blamed: 0,
            caps,
            log2size,
            base: BASE,
            prod: 0,
            written: Vec::new(),
            reached: Reached::NOTHING,
        };
        world.place(BASE);
        world
    }

    fn entries(&self) -> u32 {
        1 << self.log2size
    }

    /// Puts an empty queue at `base`.
    fn place(&mut self, base: u64) {
        self.ring.disable();
        self.pump();
        let settings = RingSettings {
            base: Gpa(base),
            log2size: self.log2size,
        };
        self.ring.configure(settings).expect("a disabled queue");
        self.ring.set_pointers(0, 0).expect("a disabled queue");
        self.ring.acknowledge(self.ring.gerror());
        self.ring.enable();
        // What comes now is too late for the new queue.
        self.device.answer_everything();
        (self.synced, self.blamed) = (false, self.failures());
        (self.base, self.prod) = (base, 0);
        self.written = vec![None; self.entries() as usize];
    }

    fn slot(&self, at: u32) -> (usize, u64) {
        let slot = at % self.entries();
        (slot as usize, self.base + 16 * u64::from(slot))
    }

    fn put(&mut self, at: u32, command: RawCommand) {
        let (slot, address) = self.slot(at);
        self.written[slot] = Some(command);
        for (word, address) in [(command.dw0, address), (command.dw1, address + 8)] {
            // Where there is no memory, nothing is written.
            let _stored = store_u64(&*self.memory, Gpa(address), word, Ordering::Relaxed);
        }
    }

    fn read(&self, at: u32) -> Option<RawCommand> {
        let (_, address) = self.slot(at);
        let load = |at| load_u64(&*self.memory, Gpa(at), Ordering::Relaxed).ok();
        Some(RawCommand {
            dw0: load(address)?,
            dw1: load(address + 8)?,
        })
    }

    fn publish(&mut self, prod: u32) {
        self.prod = prod;
        self.ring.doorbell(prod);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.u8();
        match what & 7 {
            0..=3 => self.write(input, u32::from(what >> 3) & 7),
            4 => {
                let prod = input.u32();
                self.publish(prod);
            }
            5 => {
                self.device.obey(what >> 3);
                self.pump();
            }
            6 => {
                let errors = self.ring.gerror() ^ u32::from(what >> 3);
                self.ring.acknowledge(errors);
            }
            _ => {
                let base = [BASE, RAM - 0x20, RAM, 0][usize::from(what >> 3) & 3];
                // A queue is aligned to its size, and to 32 bytes.
                let bytes = (16 << self.log2size).max(32);
                self.place(base / bytes * bytes);
            }
        }
    }

    /// Writes commands and publishes them.
    fn write(&mut self, input: &mut Input<'_>, more: u32) {
        for nth in 0..=more {
            let (kind, dw0, dw1) = (input.u8(), input.u64(), input.u64());
            let dw0 = match usize::from(kind) {
                n if n < 8 => dw0,
                n => dw0 & !0xff | u64::from(OPCODES[n % OPCODES.len()]),
            };
            self.put(self.prod.wrapping_add(nth), RawCommand { dw0, dw1 });
        }
        // Within the index and its wrap bit.
        let next = self.prod.wrapping_add(more + 1) % (2 * self.entries());
        self.publish(next);
    }

    /// Turns of the engine, until it has nothing left to do.
    fn pump(&mut self) {
        let stood = self.error().is_some();
        // Every turn takes a command, or tells of one of the streams that a command names.
        let most = (self.entries() + 2) * (STREAMS + 2);
        let mut turns = 0;
        while self.engine.take_ready().is_some() {
            let cons = self.index();
            self.stepper.serve(&self.ring);
            self.check_syncs(cons);
            turns += 1;
            assert!(
                turns <= most,
                "law 8: {turns} turns for {} entries",
                self.entries()
            );
        }
        if let (false, Some(error)) = (stood, self.error()) {
            self.check_error(error);
        }
    }

    /// Where CONS stands, with its wrap bit.
    fn index(&self) -> u32 {
        self.ring.cons() & (2 * self.entries() - 1)
    }

    /// Invalidations that the device has failed.
    fn failures(&self) -> u64 {
        let failed = |stream| self.core.atc_metrics(stream).failed;
        DEVICES.into_iter().map(failed).sum()
    }

    /// After a turn that began at `from`: no SYNC has passed while the device owes an answer to an ATC_INV
    /// before it.
    fn check_syncs(&mut self, from: u32) {
        let end = self.index();
        let mut at = from;
        while at != end {
            match self.read(at).map(|raw| raw.dw0 as u8) {
                Some(ATC_INV) => self.synced = false,
                Some(SYNC) => self.synced = true,
                _ => {}
            }
            at = (at + 1) % (2 * self.entries());
        }
        if self.device.owes() {
            assert!(!self.synced, "law 3: a SYNC did not wait for a device");
            let next = self.read(end).map(|raw| raw.dw0 as u8);
            if self.published() > Some(0) && next == Some(SYNC) {
                self.reached |= Reached::WAITED;
            }
        }
    }

    /// How many entries lie between CONS and PROD; nothing if PROD is illegal.
    fn published(&self) -> Option<u32> {
        let mask = 2 * self.entries() - 1;
        let count = self.prod.wrapping_sub(self.ring.cons()) & mask;
        (count <= self.entries()).then_some(count)
    }

    fn error(&self) -> Option<CommandError> {
        let active = self.ring.gerror() ^ self.ring.gerrorn();
        let code = (self.ring.cons() >> 24) as u8;
        let error = CommandError::from_code(code & 0x7f);
        if active & gerror_bits::CMDQ_ERR != 0 {
            assert!(error.is_some(), "CMDQ_ERR with ERR={code}");
            return error;
        }
        None
    }

    /// What must hold whenever nobody is at work.
    fn check(&mut self) {
        let cons = self.ring.cons();
        let mask = 2 * self.entries() - 1;
        assert_eq!(cons & !(mask | 0x7f00_0000), 0, "CONS={cons:#x}");
        if self.published().is_none() {
            self.reached |= Reached::BAD_PROD;
        }
    }

    /// The queue has just stopped: CONS stands at what it could not do.
    fn check_error(&mut self, error: CommandError) {
        let cons = self.index();
        match error {
            CommandError::Illegal => {
                let raw = self.read(cons).expect("it has been read");
                let (slot, _) = self.slot(cons);
                // Unless the message of a SYNC has gone there since.
                if self.written[slot] == Some(raw) {
                    let meant = decode(raw, &self.caps);
                    assert!(meant.is_err(), "{meant:?} is not illegal");
                    self.reached |= Reached::ILLEGAL;
                }
            }
            CommandError::Abort => {
                assert_eq!(self.read(cons), None, "there is memory");
                self.reached |= Reached::UNREADABLE;
            }
            CommandError::AtcInvSync => {
                let failures = self.failures();
                assert!(failures > self.blamed, "no device has failed");
                self.blamed = failures;
                let stopped = self.read(cons).map(|raw| raw.dw0 as u8);
                assert_eq!(stopped, Some(SYNC), "CERROR_ATC_INV is of a SYNC");
                self.reached |= Reached::UNANSWERED;
            }
        }
    }

    /// Does what a driver does about errors, until everything is consumed.
    fn finish(&mut self) {
        self.device.answer_everything();
        self.pump();
        if self.published().is_none() {
            let cons = self.index();
            self.publish(cons);
        }
        // After each error the next entry is at fault, at most.
        for _ in 0..=self.entries() {
            self.pump();
            self.check();
            let cons = self.index();
            match self.error() {
                None => break,
                Some(CommandError::Abort) => {
                    self.place(BASE);
                    continue;
                }
                Some(_) => {
                    let dw0 = SYNC.into();
                    self.put(cons, RawCommand { dw0, dw1: 0 });
                }
            }
            self.ring.acknowledge(self.ring.gerror());
        }
        self.pump();
        assert_eq!(self.published(), Some(0), "law 5: {:#?}", self.ring);
        self.reached |= Reached::CONSUMED;
    }
}
