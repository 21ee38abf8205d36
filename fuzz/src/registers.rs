//! Any accesses to the registers of an SMMU with a CMDQV, with any memory behind them.
//!
//! Input: a byte of features, then steps: a register written or read, words scribbled into memory,
//! a turn of the engine, an access of a device, a reset.

use crate::input::{Input, Output};
use crate::reached::Reached;
use crate::rig::{Rig, STREAMS};
use smmu_core::caps::Stages;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::register::offset as smmu;
use smmu_core::spec::vcmdq::offset as queue;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vcmdq::cmdqv::{CmdqvFrame, CmdqvSettings, FRAME_BYTES};
use vcmdq::dma::{Device, Requester};
use vcmdq::registers::RegisterFrame;
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::{Engine, Frame};

pub(crate) const RAM: u64 = 0x1_0000;
const MOST_STEPS: usize = 128;
/// A queue can be no larger: each turn takes a command at least, or tells of a stream.
const LOG2_QUEUE: u8 = 6;
const MOST_TURNS: u32 = 3 * (2 << LOG2_QUEUE) * (STREAMS + 2);
/// Logical pages of VINTF 0.
const LOGICAL0: u64 = queue::VINTF_PAGES;
const LOGICAL1: u64 = queue::VINTF_PAGES + queue::VINTF_PAGE_BYTES;

/// Registers of the SMMU that do something.
const SMMU: [u64; 26] = [
    smmu::CR0,
    smmu::CR1,
    smmu::CR2,
    smmu::GBPA,
    smmu::IRQ_CTRL,
    smmu::GERRORN,
    smmu::GERROR_IRQ_CFG0,
    smmu::GERROR_IRQ_CFG1,
    smmu::GERROR_IRQ_CFG2,
    smmu::STRTAB_BASE,
    smmu::STRTAB_BASE_CFG,
    smmu::CMDQ_BASE,
    smmu::CMDQ_PROD,
    smmu::CMDQ_CONS,
    smmu::EVENTQ_BASE,
    smmu::EVENTQ_PROD,
    smmu::EVENTQ_CONS,
    smmu::EVENTQ_IRQ_CFG0,
    smmu::EVENTQ_IRQ_CFG1,
    smmu::PRIQ_BASE,
    smmu::PRIQ_PROD,
    smmu::PRIQ_CONS,
    smmu::PRIQ_IRQ_CFG0,
    smmu::CR0ACK,
    smmu::GATOS_CTRL,
    smmu::IDR0,
];

/// Those of the CMDQV and of its two queues.
const CMDQV: [u64; 20] = [
    queue::CONFIG,
    queue::VINTF_INT_MASK,
    queue::CMDQ_ALLOC,
    queue::CMDQ_ALLOC + queue::CMDQ_ALLOC_STRIDE,
    queue::VINTF + queue::VINTF_CONFIG,
    queue::VINTF + queue::VINTF_SID_MATCH,
    queue::VINTF + queue::VINTF_SID_REPLACE,
    LOGICAL0 + queue::VCMDQ_PROD,
    LOGICAL0 + queue::VCMDQ_CONS,
    LOGICAL0 + queue::VCMDQ_CONFIG,
    LOGICAL0 + queue::VCMDQ_GERRORN,
    LOGICAL1 + queue::VCMDQ_BASE,
    LOGICAL1 + queue::VCMDQ_CONS_INDX_BASE,
    LOGICAL0 + queue::VCMDQ_STRIDE + queue::VCMDQ_PROD,
    LOGICAL0 + queue::VCMDQ_STRIDE + queue::VCMDQ_CONFIG,
    LOGICAL1 + queue::VCMDQ_STRIDE + queue::VCMDQ_BASE,
    queue::VCMDQ_PAGE0 + queue::VCMDQ_PROD,
    queue::VCMDQ_PAGE0 + queue::VCMDQ_CONFIG,
    queue::VCMDQ_PAGE1 + queue::VCMDQ_BASE,
    queue::STATUS,
];

/// Runs the target.
pub fn run(input: &[u8]) -> Reached {
    let mut input = Input::new(input);
    let mut world = World::new(capabilities(input.u8()));
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.pump();
    world.check();
    world.reset();
    world.reached
}

pub(crate) fn capabilities(features: u8) -> Capabilities {
    let has = |bit: u8| features >> bit & 1 != 0;
    let builder = Capabilities::builder()
        .version(1)
        .command_queue_log2(LOG2_QUEUE)
        .event_queue_log2(LOG2_QUEUE)
        .ats(has(0))
        .pri((has(0) && has(4)).then_some(LOG2_QUEUE))
        .messages(!has(1))
        .range_invalidation(!has(3))
        .stages(if has(2) { Stages::Both } else { Stages::One });
    builder.build().expect("legal capabilities")
}

pub(crate) struct World {
    pub(crate) memory: Arc<HeapMemory>,
    engine: Engine,
    pub(crate) frame: Arc<Frame>,
    pub(crate) registers: RegisterFrame,
    cmdqv: CmdqvFrame,
    device: Device,
    stepper: Stepper,
    reached: Reached,
}

impl World {
    pub(crate) fn new(caps: Capabilities) -> Self {
        let rig = Rig::new(RAM, caps, 3);
        let frame = Arc::new(rig.frame);
        let registers = RegisterFrame::new(frame.clone()).expect("legal capabilities");
        let settings = CmdqvSettings {
            log2_queues: 1,
            page: None,
        };
        let cmdqv = frame.add_cmdqv(settings).expect("room for two rings");
        let who = Requester {
            stream: StreamId(1),
            substream: None,
            privileged: false,
            device_id: 0,
        };
        let device = frame.device(&rig.core, who).expect("a bound stream");
        Self {
            memory: rig.memory,
            engine: rig.engine,
            frame,
            registers,
            cmdqv,
            device,
            stepper: Stepper::default(),
            reached: Reached::NOTHING,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.u8();
        match what & 0xf {
            0..=3 => {
                let at = input.pick(&SMMU);
                let (width, value) = (width(what, at), value(input));
                self.registers.write(at, width, value);
            }
            4..=6 => {
                let at = input.pick(&CMDQV);
                let wide = at >= LOGICAL1 || at == queue::VCMDQ_PAGE1;
                let value = value(input);
                self.cmdqv.write(at, if wide { 8 } else { 4 }, value);
            }
            7 => self.access_anywhere(input),
            8 | 9 => self.scribble(input),
            10 | 11 => self.pump(),
            12 | 13 => self.transfer(input),
            14 => self.check(),
            _ if what >> 4 == 0 => self.reset(),
            _ => self.acknowledge(),
        }
    }

    /// Any offset, any width.
    fn access_anywhere(&self, input: &mut Input<'_>) {
        let (at, width, value) = (input.u64(), input.u8(), input.u64());
        let at = if at >> 60 == 0 {
            at
        } else {
            at % (FRAME_BYTES + 64)
        };
        self.registers.write(at, width, value);
        self.cmdqv.write(at, width, value);
        for read in [self.registers.read(at, width), self.cmdqv.read(at, width)] {
            let fits = match width {
                4 => read >> 32 == 0,
                8 => true,
                _ => read == 0,
            };
            assert!(fits, "{read:#x} in {width} bytes at {at:#x}");
        }
    }

    /// Up to eight words.
    fn scribble(&self, input: &mut Input<'_>) {
        let (at, count) = (u64::from(input.u16()) & !7, input.u8() & 7);
        for nth in 0..=u64::from(count) {
            let word = input.u64();
            // Behind the end nothing is written.
            let _stored = store_u64(&*self.memory, Gpa(at + 8 * nth), word, Ordering::Relaxed);
        }
    }

    fn transfer(&mut self, input: &mut Input<'_>) {
        let (at, mut bytes) = (value(input), [0; 16]);
        let before = self.frame.events().queue().prod();
        let _answer = match at & 1 {
            0 => self.device.read(at, &mut bytes),
            _ => self.device.write(at, &bytes),
        };
        if self.frame.events().queue().prod() != before {
            self.reached |= Reached::EVENT;
        }
    }

    fn acknowledge(&self) {
        let gerror = self.registers.read(smmu::GERROR, 4);
        self.registers.write(smmu::GERRORN, 4, gerror);
        for page in [LOGICAL0, LOGICAL0 + queue::VCMDQ_STRIDE] {
            let gerror = self.cmdqv.read(page + queue::VCMDQ_GERROR, 4);
            self.cmdqv.write(page + queue::VCMDQ_GERRORN, 4, gerror);
        }
    }

    /// Turns of the engine, until it has nothing left to do.
    pub(crate) fn pump(&mut self) {
        let rings = self.frame.rings();
        let mut turns = 0;
        while let Some(index) = self.engine.take_ready() {
            self.stepper.serve(&rings[index as usize]);
            turns += 1;
            assert!(turns <= MOST_TURNS, "law 8: {turns} turns");
        }
    }

    /// What a guest may rely on, whatever it has done.
    fn check(&mut self) {
        let read = |at| self.registers.read(at, 4);
        assert_eq!(read(smmu::IDR1) >> 21 & 0x1f, u64::from(LOG2_QUEUE));
        assert_eq!(read(smmu::CMDQ_CONS) & !0x7f00_007f, 0);
        let (cr0, cr0ack) = (read(smmu::CR0), read(smmu::CR0ACK));
        if self.registers.is_settled() {
            assert_eq!(cr0ack, cr0);
        }
        if cr0ack & 1 != 0 {
            self.reached |= Reached::ENABLED;
        }
        let read = |at| self.cmdqv.read(at, 4);
        assert_eq!(read(queue::VINTF) & 1 << 17, 0, "HYP_OWN");
        for page in [LOGICAL0, LOGICAL0 + queue::VCMDQ_STRIDE] {
            assert_eq!(read(page + queue::VCMDQ_CONS) >> 31, 0);
            let status = read(page + queue::VCMDQ_STATUS);
            assert!(status <= 1, "STATUS={status:#x}");
            if status == 1 {
                self.reached |= Reached::VCMDQ;
            }
        }
    }

    /// Everything is as at the beginning.
    pub(crate) fn reset(&mut self) {
        self.registers.reset();
        self.cmdqv.reset();
        self.pump();
        assert!(self.registers.is_settled());
        assert_eq!(self.registers.read(smmu::CR0ACK, 4), 0);
        assert!(self.frame.rings().iter().all(|ring| !ring.is_enabled()));
    }
}

/// The width that a register has, mostly.
fn width(what: u8, at: u64) -> u8 {
    let wide = [
        smmu::STRTAB_BASE,
        smmu::CMDQ_BASE,
        smmu::EVENTQ_BASE,
        smmu::PRIQ_BASE,
        smmu::GERROR_IRQ_CFG0,
        smmu::EVENTQ_IRQ_CFG0,
        smmu::PRIQ_IRQ_CFG0,
    ];
    match (what >> 4, wide.contains(&at)) {
        (0, false) | (1.., true) => 8,
        _ => 4,
    }
}

/// Near what a driver would write, or anything.
fn value(input: &mut Input<'_>) -> u64 {
    let kind = input.u8();
    match kind & 7 {
        0..=2 => u64::from(kind >> 3),
        3 => u64::from(input.u16()),
        // A queue in memory and its size.
        4 => u64::from(input.u16()) & 0xff00 | u64::from(kind >> 3),
        5 => 1 << (input.u8() & 63),
        6 => u64::from(input.u32()),
        _ => input.u64(),
    }
}

/// An SMMU that is switched on, with an invalid STE; and a CMDQV with one queue.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let nth = |all: &[u64], at: u64| all.iter().position(|&one| one == at).unwrap_or(0) as u8;
    // A value below 2^16.
    let smmu = |to: Output, at: u64, value: u16| to.u8(0x10).u8(nth(&SMMU, at)).u8(3).u16(value);
    let cmdqv = |to: Output, at: u64, value: u16| to.u8(4).u8(nth(&CMDQV, at)).u8(3).u16(value);
    let on = [
        (smmu::STRTAB_BASE_CFG, 4),
        (smmu::STRTAB_BASE, 0x2000),
        (smmu::CMDQ_BASE, 0x4004),
        (smmu::EVENTQ_BASE, 0x5004),
        (smmu::IRQ_CTRL, 5),
        (smmu::CR0, 0xd),
    ];
    let on = on
        .into_iter()
        .fold(Output::default().u8(0), |to, (at, value)| {
            smmu(to, at, value)
        });
    // A SYNC, published; then a device that reads.
    let on = on.u8(10).u8(8).u16(0x4000).u8(1).words(&[0x46, 0]);
    let on = smmu(on, smmu::CMDQ_PROD, 1)
        .u8(10)
        .u8(14)
        .u8(12)
        .u8(3)
        .u16(0x1000)
        .u8(14);
    let vcmdq = [
        (queue::CONFIG, 1),
        (queue::VINTF, 1),
        (queue::CMDQ_ALLOC, 1),
        (LOGICAL1 + queue::VCMDQ_BASE, 0x4004),
        (LOGICAL0 + queue::VCMDQ_CONFIG, 1),
    ];
    let seed = |begin: Output| {
        let to = vcmdq
            .into_iter()
            .fold(begin, |to, (at, value)| cmdqv(to, at, value));
        let to = to.u8(10).u8(14).u8(8).u16(0x4000).u8(1).words(&[0x46, 0]);
        cmdqv(to, LOGICAL0 + queue::VCMDQ_PROD, 1)
            .u8(10)
            .u8(14)
            .done()
    };
    vec![on.clone().done(), seed(on), seed(Output::default().u8(1))]
}
