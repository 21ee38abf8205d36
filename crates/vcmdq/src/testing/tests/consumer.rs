//! The simplest consumer: one lock around everything.

use super::super::registers::QueueRegisters;
use super::super::{HeapMemory, QueueSettings};
use smmu_core::guest_memory::{GuestMemory, load_u64};
use smmu_core::ids::Gpa;
use smmu_core::spec::command::{RawCommand, opcode};
use smmu_core::spec::register::cerror;
use std::sync::{Arc, Mutex};
use vcmdq_sync::atomic::{AtomicU32, Ordering};

/// An opcode at which this consumer stops with CERROR_ILL.
pub(super) const ILLEGAL: u8 = 0xFF;

pub(super) struct Consumer {
    memory: Arc<HeapMemory>,
    base: u64,
    log2size: u8,
    /// Consume inside of each write of PROD; otherwise only [`Consumer::run`] does.
    inline: bool,
    prod: AtomicU32,
    cons: AtomicU32,
    gerror: AtomicU32,
    gerrorn: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log: Vec<RawCommand>,
    /// The next commands fail with these codes.
    fail: Vec<u8>,
    /// SYNCs do not complete.
    hold: bool,
}

impl Consumer {
    pub(super) fn new(memory: Arc<HeapMemory>, settings: QueueSettings, inline: bool) -> Self {
        Self {
            memory,
            base: settings.base.0,
            log2size: settings.log2size,
            inline,
            prod: AtomicU32::new(settings.start),
            cons: AtomicU32::new(settings.start),
            gerror: AtomicU32::new(0),
            gerrorn: AtomicU32::new(0),
            state: Mutex::default(),
        }
    }

    /// Everything consumed since the last call, SYNCs too.
    pub(super) fn take_log(&self) -> Vec<RawCommand> {
        std::mem::take(&mut self.state.lock().expect("test").log)
    }

    /// The next commands that are looked at fail with these codes, the last one first.
    pub(super) fn fail_next(&self, codes: &[u8]) {
        self.state.lock().expect("test").fail = codes.to_vec();
    }

    pub(super) fn hold_syncs(&self, hold: bool) {
        self.state.lock().expect("test").hold = hold;
        self.run();
    }

    /// Consumes what there is.
    pub(super) fn run(&self) {
        let mut state = self.state.lock().expect("test");
        let mask = (2 << self.log2size) - 1;
        let mut cons = self.cons.load(Ordering::Relaxed) & mask;
        let active = || self.gerror.load(Ordering::SeqCst) != self.gerrorn.load(Ordering::SeqCst);
        while cons != self.prod.load(Ordering::SeqCst) && !active() {
            let slot = cons & ((1 << self.log2size) - 1);
            let at = Gpa(self.base + 16 * u64::from(slot));
            let word = |at| load_u64(&*self.memory, at, Ordering::Relaxed).expect("backed");
            let command = RawCommand {
                dw0: word(at),
                dw1: word(Gpa(at.0 + 8)),
            };
            if command.opcode() == opcode::SYNC && state.hold {
                break;
            }
            let injected = state.fail.pop();
            if let Some(err) = injected.or((command.opcode() == ILLEGAL).then_some(cerror::ILL)) {
                self.cons
                    .store(cons | u32::from(err) << 24, Ordering::SeqCst);
                self.gerror.fetch_xor(1, Ordering::SeqCst);
                return;
            }
            state.log.push(command);
            cons = (cons + 1) & mask;
            self.complete(command, cons);
        }
    }

    fn complete(&self, command: RawCommand, cons: u32) {
        let message = command.dw1 & 0x00FF_FFFF_FFFF_FFFC;
        if command.opcode() == opcode::SYNC && message != 0 {
            let data = (command.dw0 >> 32) as u32;
            self.memory
                .store_u32(Gpa(message), data, Ordering::Release)
                .expect("backed");
        }
        self.cons.store(cons, Ordering::SeqCst);
    }
}

impl QueueRegisters for Consumer {
    fn write_prod(&self, raw: u32) {
        self.prod.store(raw, Ordering::SeqCst);
        if self.inline {
            self.run();
        }
    }

    fn read_cons(&self) -> u32 {
        self.cons.load(Ordering::SeqCst)
    }

    fn read_gerror(&self) -> u32 {
        self.gerror.load(Ordering::SeqCst)
    }

    fn read_gerrorn(&self) -> u32 {
        self.gerrorn.load(Ordering::SeqCst)
    }

    fn write_gerrorn(&self, raw: u32) {
        self.gerrorn.store(raw, Ordering::SeqCst);
        if self.inline {
            self.run();
        }
    }
}
