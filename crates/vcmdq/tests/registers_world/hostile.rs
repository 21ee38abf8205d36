//! A guest driver that does everything wrong: random registers at random widths, queues moved under
//! way, enables flipped, PROD forged, tables scribbled over. Seeded, so a step can be found
//! again; [`Hostile::step`] is one of its tricks, and a test may mix in others.

use super::Machine;
use super::driver::{EVENTS, RING};
use smmu_core::Gpa;
use smmu_core::command::{Cfgi, Command, Msi, ResumeAction, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::offset;
use smmu_core::{Asid, Stag, StreamId, SubstreamId, Vmid};
use std::sync::atomic::Ordering;
use vcmdq::testing::Numbers;

/// Registers that do something.
const REGISTERS: [u64; 24] = [
    offset::CR0,
    offset::CR1,
    offset::CR2,
    offset::GBPA,
    offset::IRQ_CTRL,
    offset::GERRORN,
    offset::GERROR_IRQ_CFG0,
    offset::GERROR_IRQ_CFG1,
    offset::STRTAB_BASE,
    offset::STRTAB_BASE_CFG,
    offset::CMDQ_BASE,
    offset::CMDQ_PROD,
    offset::CMDQ_CONS,
    offset::EVENTQ_BASE,
    offset::EVENTQ_PROD,
    offset::EVENTQ_CONS,
    offset::EVENTQ_IRQ_CFG0,
    offset::EVENTQ_IRQ_CFG1,
    offset::PRIQ_BASE,
    offset::PRIQ_PROD,
    offset::PRIQ_CONS,
    offset::CR0ACK,
    offset::GERROR,
    offset::IDR0,
];

/// Words with few bits, with many, with all, or near what a driver would write.
fn value(dice: &mut Numbers) -> u64 {
    match dice.below(6) {
        0 => dice.word(),
        1 => dice.word() & dice.word() & dice.word(),
        2 => 1 << dice.below(64),
        3 => u64::MAX,
        4 => dice.below(16),
        _ => place(dice) | dice.below(32),
    }
}

/// An address: of something, of RAM, or of nothing.
fn place(dice: &mut Numbers) -> u64 {
    match dice.below(6) {
        0 => RING,
        1 => EVENTS,
        2 => 0,
        3 => dice.word() >> dice.below(60),
        _ => dice.below(crate::dma_world::RAM) & !0xFFF,
    }
}

pub(crate) struct Hostile<'m> {
    machine: &'m Machine,
    pub(crate) dice: Numbers,
}

impl<'m> Hostile<'m> {
    pub(crate) fn new(machine: &'m Machine, seed: u64) -> Self {
        let dice = Numbers::new(seed);
        Self { machine, dice }
    }

    /// One trick.
    pub(crate) fn step(&mut self) {
        match self.dice.below(16) {
            0..=4 => self.write_somewhere(),
            5 => self.access_anywhere(),
            6..=7 => self.forge_prod(),
            8..=9 => self.write_command(),
            10 => self.flip_an_enable(),
            11 => self.acknowledge(),
            12 => self.read_somewhere(),
            13 => self.move_a_queue(),
            14 => self.scribble(),
            _ => self.do_dma(),
        }
    }

    fn width(&mut self) -> u8 {
        self.dice.of(&[4, 4, 4, 8, 8, 1, 2, 3, 16, 0])
    }

    fn write_somewhere(&mut self) {
        let (at, width) = (self.dice.of(&REGISTERS), self.width());
        let half = 4 * u64::from(self.dice.below(8) == 0);
        let value = value(&mut self.dice);
        self.machine.registers.write(at + half, width, value);
    }

    fn access_anywhere(&mut self) {
        let at = match self.dice.below(3) {
            0 => self.dice.word(),
            1 => self.dice.below(0x2_0010),
            _ => self.dice.below(0x1000),
        };
        let (width, value) = (self.width(), value(&mut self.dice));
        self.machine.registers.write(at, width, value);
        let read = self.machine.registers.read(at, width);
        assert!(width == 8 || read <= u64::from(u32::MAX));
    }

    fn forge_prod(&mut self) {
        let cons = self.machine.r32(offset::CMDQ_CONS) & 0xF_FFFF;
        let prod = match self.dice.below(3) {
            0 => value(&mut self.dice) as u32,
            _ => cons + self.dice.below(70) as u32,
        };
        self.machine.w32(offset::CMDQ_PROD, prod);
    }

    fn command(&mut self) -> RawCommand {
        let dice = &mut self.dice;
        let stream = StreamId(dice.below(20) as u32);
        let (asid, vmid) = (Asid(dice.below(4) as u16), Vmid(0));
        let command = match dice.below(9) {
            0 => Command::Cfgi(Cfgi::All),
            1 => Command::Cfgi(Cfgi::Ste { stream, leaf: true }),
            2 => Command::Cfgi(Cfgi::Cd {
                stream,
                substream: SubstreamId(dice.below(4) as u32),
                leaf: false,
            }),
            3 => Command::Tlbi(Tlbi::NhAsid { vmid, asid }),
            4 => Command::Tlbi(Tlbi::NsnhAll),
            5 => {
                let addr = Gpa(place(dice) & !3);
                let data = dice.word() as u32;
                let msi = Some(Msi { addr, data });
                Command::Sync(Signal::Irq { msi })
            }
            6 => Command::Resume {
                stream,
                stag: Stag(dice.below(8) as u16),
                action: ResumeAction::Retry,
            },
            7 => Command::StallTerm { stream },
            _ => Command::Sync(Signal::None),
        };
        encode(&command)
    }

    /// Into the next places of the ring, wherever the registers say that it lies.
    fn write_command(&mut self) {
        let base = self.machine.r64(offset::CMDQ_BASE);
        let cons = u64::from(self.machine.r32(offset::CMDQ_CONS) & 0xF_FFFF);
        let ahead = self.dice.below(8);
        let mask = (1u64 << (base & 0x1F).min(19)) - 1;
        let slot = (base & 0x00FF_FFFF_FFFF_FFE0) + ((cons + ahead) & mask) * 16;
        let raw = match self.dice.below(6) {
            0 => RawCommand {
                dw0: self.dice.word(),
                dw1: self.dice.word(),
            },
            _ => self.command(),
        };
        self.store(slot, raw.dw0);
        self.store(slot + 8, raw.dw1);
    }

    /// Wherever it goes: a guest can only write what is its own.
    fn store(&self, at: u64, value: u64) {
        let memory = &*self.machine.guest.memory;
        let _outside = store_u64(memory, Gpa(at & !7), value, Ordering::Relaxed);
    }

    fn flip_an_enable(&mut self) {
        let cr0 = self.machine.r32(offset::CR0) ^ 1 << self.dice.below(6);
        self.machine.w32(offset::CR0, cr0);
    }

    fn acknowledge(&mut self) {
        let gerror = self.machine.r32(offset::GERROR);
        self.machine.w32(offset::GERRORN, gerror);
        let prod = self.machine.r32(offset::EVENTQ_PROD);
        self.machine.w32(offset::EVENTQ_CONS, prod);
    }

    fn read_somewhere(&mut self) {
        let at = self.dice.of(&REGISTERS);
        let _value = self.machine.registers.read(at, 8);
        let mask = 0b1101;
        assert_eq!(self.machine.r32(offset::CR0) & !mask, 0);
        assert_eq!(self.machine.r32(offset::CR0ACK) & !mask, 0);
        let _settled = self.machine.registers.is_settled();
    }

    fn move_a_queue(&mut self) {
        let register = self
            .dice
            .of(&[offset::CMDQ_BASE, offset::EVENTQ_BASE, offset::STRTAB_BASE]);
        let log2size = self.dice.of(&[0, 1, 4, 6, 7, 8, 19, 31]);
        let base = place(&mut self.dice) | log2size;
        self.machine.w64(register, base);
    }

    /// Into the stream table or the tables behind it.
    fn scribble(&mut self) {
        let at = match self.dice.below(3) {
            0 => self.dice.below(0x400),
            1 => 0x2_0000 + self.dice.below(0x8000),
            _ => self.dice.below(crate::dma_world::RAM),
        };
        let value = match self.dice.below(3) {
            // A valid STE, a table.
            0 => 0xB | place(&mut self.dice),
            1 => 0x3 | place(&mut self.dice),
            _ => value(&mut self.dice),
        };
        self.store(at, value);
    }

    fn do_dma(&mut self) {
        let stream = self.dice.below(20) as u32;
        let at = place(&mut self.dice) | self.dice.below(0x1000);
        let mut device = self.machine.device(stream);
        let mut bytes = [0; 64];
        let _answer = match self.dice.below(2) {
            0 => device.read(at, &mut bytes),
            _ => device.write(at, &bytes),
        };
    }
}
