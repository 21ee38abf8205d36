//! The registers as pages of guest RAM, and the thread that polls them.
//!
//! # Order
//!
//! Each round reads the switches (CR0, IRQ_CTRL, a queue's CONFIG…; acquire), then every other
//! register, passes on what has changed, and the switches last: so whoever enables something finds
//! applied what was written before. A guest that disables something waits for the acknowledgement
//! before it writes what depends on it. What the guest polls is stored (release) when it has come
//! about, and only then are the interrupts sent that tell of it.
//!
//! The order of the guest's own stores is that of TCG's. A host of weak ordering would need
//! barriers in QEMU for stores to Device memory that are not in its code; x86 hosts need none.

use super::corrupt::Corruption;
use super::messages::Messages;
use super::window::{Register, Window, Writer};
use anyhow::{Context, Result};
use smmu_core::spec::register::Cr0;
use smmu_core::spec::register::offset::{CMDQ_BASE, CMDQ_PROD, CR0ACK};
use smmu_core::{Gpa, GuestMemory};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vcmdq::registers::RegisterFrame;
use vcmdq::stepping::Stepper;
use vcmdq::{Engine, Ring};

/// How long it looks without a break after something has changed. Then it rests between two looks:
/// vCPUs, workers and this thread share few processors.
const ALERT: Duration = Duration::from_micros(300);
const REST: Duration = Duration::from_micros(50);
/// Looks at PROD between two rounds of a thread that serves the rings, too.
const LOOKS: u32 = 16;

/// How the thread spends its time.
pub(super) struct Pace {
    /// How long it looks without a break after something has changed.
    pub(super) alert: Duration,
    /// How long it rests at most between two looks when nothing changes. What a guest with a CMDQV
    /// often waits for does not pass here: who does wait for a VCMDQ is to have the processors.
    pub(super) most_rest: Duration,
    /// It offers its processor between two looks.
    pub(super) yields: bool,
    /// It serves these rings of an engine without workers: one thread to a command instead of two.
    pub(super) served: Option<(Arc<Engine>, Vec<Arc<Ring>>)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            alert: ALERT,
            most_rest: REST,
            yields: true,
            served: None,
        }
    }
}

/// A frame as a VMM's handler of exits knows it.
pub(super) trait Frame: Send + Sync {
    fn read(&self, at: u64, width: u8) -> u64;
    fn write(&self, at: u64, width: u8, value: u64);
}

impl Frame for RegisterFrame {
    fn read(&self, at: u64, width: u8) -> u64 {
        RegisterFrame::read(self, at, width)
    }

    fn write(&self, at: u64, width: u8, value: u64) {
        RegisterFrame::write(self, at, width, value);
    }
}

/// Pages to poll.
pub(super) struct Pages {
    pub(super) frame: Arc<dyn Frame>,
    pub(super) base: Gpa,
    pub(super) registers: Vec<Register>,
    /// What makes a command of the queue at CMDQ_PROD illegal.
    pub(super) corruption: Option<Arc<Corruption>>,
}

/// What the thread and its owner share.
struct Shared {
    memory: Arc<dyn GuestMemory>,
    messages: Messages,
    stop: AtomicBool,
    writes: AtomicU64,
}

/// Polled pages; the thread ends when this is dropped.
pub struct Polled {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Polled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Polled")
            .field("writes", &self.writes())
            .finish_non_exhaustive()
    }
}

impl Polled {
    /// Lays the registers out and polls them. No guest may run yet.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(super) fn start(
        pages: Vec<Pages>,
        memory: Arc<dyn GuestMemory>,
        messages: Messages,
        pace: Pace,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            memory,
            messages,
            stop: AtomicBool::new(false),
            writes: AtomicU64::new(0),
        });
        let pages = pages.into_iter().map(|pages| Poller::new(pages, &shared));
        let pages: Vec<_> = pages.collect();
        let inside = shared.clone();
        let thread = std::thread::Builder::new().name("registers".into());
        let thread = thread.spawn(move || poll(pages, &inside, &pace));
        Ok(Self {
            thread: Some(thread.context("cannot start a thread")?),
            shared,
        })
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

fn poll(mut pages: Vec<Poller>, shared: &Shared, pace: &Pace) {
    let (mut last, mut rest) = (Instant::now(), REST);
    let mut stepper = Stepper::default();
    while !shared.stop.load(Ordering::Acquire) {
        let mut changed = false;
        if let Some((engine, rings)) = &pace.served {
            for _ in 0..LOOKS {
                changed |= pages.first_mut().is_some_and(|own| own.take_prod(shared));
                while let Some(ring) = engine.take_ready() {
                    changed |= stepper.serve(&rings[ring as usize]);
                }
                std::hint::spin_loop();
            }
        }
        changed |= round(&mut pages, shared);
        if changed {
            (last, rest) = (Instant::now(), REST);
        } else if last.elapsed() >= pace.alert {
            std::thread::sleep(rest);
            rest = (2 * rest).min(pace.most_rest);
        } else if pace.yields {
            std::thread::yield_now();
        }
    }
}

/// Looks once in both directions; whether anything has changed.
fn round(pages: &mut [Poller], shared: &Shared) -> bool {
    let mut changed = false;
    for pages in &mut *pages {
        changed |= pages.take(shared);
    }
    // Those that are there now were sent for what is about to be shown.
    let messages = shared.messages.take();
    for pages in pages {
        changed |= pages.show(shared);
    }
    shared.messages.deliver(messages);
    changed
}

/// Pages, and what they showed last.
struct Poller {
    pages: Pages,
    /// One for each register.
    shown: Vec<u64>,
}

impl Poller {
    fn new(pages: Pages, shared: &Shared) -> Self {
        let read = |register: &Register| pages.frame.read(register.at, register.width);
        let shown: Vec<_> = pages.registers.iter().map(read).collect();
        for (register, value) in pages.registers.iter().zip(&shown) {
            window(shared, &pages).store(*register, *value);
        }
        Self { pages, shown }
    }

    /// Takes over PROD of a queue that is enabled, where nothing else can have changed that PROD
    /// depends on. Whether it has moved.
    fn take_prod(&mut self, shared: &Shared) -> bool {
        let place = |at| self.pages.registers.iter().position(|one| one.at == at);
        let (Some(prod), Some(ack)) = (place(CMDQ_PROD), place(CR0ACK)) else {
            return false;
        };
        let enabled = Cr0::from_bits(self.shown[ack] as u32).cmdqen();
        let register = self.pages.registers[prod];
        let (old, new) = (self.shown[prod], window(shared, &self.pages).load(register));
        if !enabled || new == old {
            return false;
        }
        pass_on(shared, &self.pages, register, (old, new));
        self.shown[prod] = new;
        true
    }

    /// Takes over what the guest has written; whether it has.
    fn take(&mut self, shared: &Shared) -> bool {
        let mut seen = self.shown.clone();
        let window = window(shared, &self.pages);
        for switches in [true, false] {
            for (register, seen) in self.pages.registers.iter().zip(&mut seen) {
                let switch = register.writer == Writer::Switch;
                if switch == switches && register.writer.is_guest() {
                    *seen = window.load(*register);
                }
            }
        }
        let changed = seen != self.shown;
        for switches in [false, true] {
            let pairs = self.shown.iter_mut().zip(&seen);
            for (register, (shown, &seen)) in self.pages.registers.iter().zip(pairs) {
                let switch = register.writer == Writer::Switch;
                if switch == switches && *shown != seen {
                    pass_on(shared, &self.pages, *register, (*shown, seen));
                    *shown = seen;
                }
            }
        }
        changed
    }

    /// Shows what reads give: what the engine has changed, and what has become of what the guest has
    /// written (bits that do not exist, writes that were refused). Whether anything has changed.
    fn show(&mut self, shared: &Shared) -> bool {
        let mut changed = false;
        let window = window(shared, &self.pages);
        for (register, shown) in self.pages.registers.iter().zip(&mut self.shown) {
            if register.writer == Writer::Nobody {
                continue;
            }
            let new = self.pages.frame.read(register.at, register.width);
            if new == *shown {
                continue;
            }
            if register.writer == Writer::Engine {
                window.store(*register, new);
            } else if !window.exchange(*register, *shown, new) {
                // The guest has written meanwhile: the next round takes that first.
                continue;
            }
            *shown = new;
            changed = true;
        }
        changed
    }
}

fn pass_on(shared: &Shared, pages: &Pages, register: Register, (old, new): (u64, u64)) {
    if let Some(corruption) = pages
        .corruption
        .as_ref()
        .filter(|_| register.at == CMDQ_PROD)
    {
        let base = pages.frame.read(CMDQ_BASE, 8);
        corruption.apply(&*shared.memory, base, (old as u32, new as u32));
    }
    pages.frame.write(register.at, register.width, new);
    shared.writes.fetch_add(1, Ordering::Relaxed);
}

fn window<'a>(shared: &'a Shared, pages: &Pages) -> Window<'a> {
    Window {
        memory: &*shared.memory,
        base: pages.base,
    }
}
