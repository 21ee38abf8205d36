//! The registers as a page of guest RAM, and the thread that polls it.
//!
//! # Order
//!
//! Each round reads CR0, IRQ_CTRL and GERRORN (acquire), then every other register, passes on what
//! has changed, and those three last: so whoever enables something finds applied what was written
//! before. A guest that disables something waits for the acknowledgement before it writes
//! what depends on it. What the guest polls is stored (release) when it has come about, and only then
//! are the interrupts sent that tell of it.
//!
//! The order of the guest's own stores is that of TCG's. A host of weak ordering would need
//! barriers in QEMU for stores to Device memory that are not in its code; x86 hosts need none.

use super::corrupt::Corruption;
use super::messages::Messages;
use super::window::{BOTH, CONSTANT, ENGINE, FIRST, GUEST, Register, Window};
use anyhow::{Context, Result};
use smmu_core::spec::register::offset::{CMDQ_BASE, CMDQ_PROD};
use smmu_core::{Gpa, GuestMemory};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vcmdq::registers::RegisterFrame;

/// How long it looks without a break after something has changed. Then it rests between two looks:
/// vCPUs, workers and this thread share few processors.
const ALERT: Duration = Duration::from_micros(300);
const REST: Duration = Duration::from_micros(50);

/// What the thread and its owner share.
struct Shared {
    registers: Arc<RegisterFrame>,
    memory: Arc<dyn GuestMemory>,
    base: Gpa,
    messages: Messages,
    corruption: Corruption,
    stop: AtomicBool,
    writes: AtomicU64,
}

/// A polled page; the thread ends when this is dropped.
pub struct Polled {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Polled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Polled")
            .field("base", &self.shared.base)
            .field("writes", &self.writes())
            .finish_non_exhaustive()
    }
}

impl Polled {
    /// Lays the registers out at `base` and polls them. No guest may run yet.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn start(
        registers: Arc<RegisterFrame>,
        memory: Arc<dyn GuestMemory>,
        base: Gpa,
        messages: Messages,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            registers,
            memory,
            base,
            messages,
            corruption: Corruption::default(),
            stop: AtomicBool::new(false),
            writes: AtomicU64::new(0),
        });
        let mut poller = Poller::new(shared.clone());
        poller.lay_out();
        let thread = std::thread::Builder::new().name("registers".into());
        let thread = thread.spawn(move || poller.run());
        Ok(Self {
            thread: Some(thread.context("cannot start a thread")?),
            shared,
        })
    }

    /// Makes a command illegal; see there.
    #[must_use]
    pub fn corruption(&self) -> &Corruption {
        &self.shared.corruption
    }

    /// Register writes that were passed on.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::Relaxed)
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _nothing_to_tell = thread.join();
        }
    }
}

/// What the page showed last.
struct Poller {
    shared: Arc<Shared>,
    guest: [u64; GUEST.len()],
    engine: [u64; ENGINE.len()],
}

impl Poller {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            guest: [0; GUEST.len()],
            engine: [0; ENGINE.len()],
        }
    }

    fn read(&self, register: Register) -> u64 {
        self.shared.registers.read(register.at, register.width)
    }

    fn lay_out(&mut self) {
        let shared = self.shared.clone();
        let window = window(&shared);
        for register in CONSTANT {
            window.store(register, self.read(register));
        }
        for (index, register) in GUEST.into_iter().enumerate() {
            self.guest[index] = self.read(register);
            window.store(register, self.guest[index]);
        }
        for (index, register) in ENGINE.into_iter().enumerate() {
            self.engine[index] = self.read(register);
            window.store(register, self.engine[index]);
        }
    }

    fn run(&mut self) {
        let shared = self.shared.clone();
        let window = window(&shared);
        let mut changed = Instant::now();
        while !shared.stop.load(Ordering::Acquire) {
            if self.round(&window) {
                changed = Instant::now();
            } else if changed.elapsed() < ALERT {
                std::thread::yield_now();
            } else {
                std::thread::sleep(REST);
            }
        }
    }

    /// Looks once in both directions; whether anything has changed.
    fn round(&mut self, window: &Window<'_>) -> bool {
        let mut seen = [0; GUEST.len()];
        let is_first = |register: &Register| FIRST.contains(&register.at);
        for first in [true, false] {
            for (index, register) in GUEST.iter().enumerate() {
                if is_first(register) == first {
                    seen[index] = window.load(*register);
                }
            }
        }
        let mut changed = false;
        for (index, register) in GUEST.into_iter().enumerate() {
            if seen[index] != self.guest[index] {
                self.pass_on(register, self.guest[index], seen[index]);
                self.guest[index] = seen[index];
                changed = true;
            }
        }
        // Those that are there now were sent for what is about to be shown.
        let messages = self.shared.messages.take();
        changed |= self.show(window);
        self.shared.messages.deliver(messages);
        changed
    }

    fn pass_on(&self, register: Register, old: u64, new: u64) {
        let shared = &self.shared;
        if register.at == CMDQ_PROD {
            let base = shared.registers.read(CMDQ_BASE, 8);
            let published = (old as u32, new as u32);
            shared.corruption.apply(&*shared.memory, base, published);
        }
        shared.registers.write(register.at, register.width, new);
        shared.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows what the engine has changed.
    fn show(&mut self, window: &Window<'_>) -> bool {
        let mut changed = false;
        for (index, register) in GUEST.into_iter().enumerate() {
            if !BOTH.contains(&register.at) {
                continue;
            }
            let (old, new) = (self.guest[index], self.read(register));
            // If the guest has written meanwhile, the next round takes that first.
            if new != old && window.exchange(register, old, new) {
                self.guest[index] = new;
                changed = true;
            }
        }
        for (index, register) in ENGINE.into_iter().enumerate() {
            let new = self.read(register);
            if new != self.engine[index] {
                window.store(register, new);
                self.engine[index] = new;
                changed = true;
            }
        }
        changed
    }
}

fn window(shared: &Shared) -> Window<'_> {
    Window {
        memory: &*shared.memory,
        base: shared.base,
    }
}
