//! What lets the frame's interrupts out, and in which form (IHI 0070, 3.18 and 6.3.13 to 6.3.34).
//!
//! Everybody inside the frame pulses lines. IRQ_CTRL decides which of them reach the VMM, and the
//! *_IRQ_CFG registers whether as a wire or as a message. The interrupt of a SYNC is gated by
//! nothing: its message is in the command, its wire has no enable. Nor is that of a CMDQV, which
//! has a mask of its own. Until there is a register frame
//! every line is a wire that is enabled.
//!
//! Whoever pulses has published what the interrupt is about (PROD, GERROR) with release; a message
//! into RAM is a release store behind it, so whoever sees the message sees that.

use crate::gerror::{ErrorLatch, gerror_bits};
use crate::seams::{Interrupts, Line, NoTarget};
use smmu_core::command::Msi;
use smmu_core::{Gpa, GuestMemory};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::snapshot::{Leaving, Snapshot};

/// How one interrupt leaves the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Route {
    /// It does not: IRQEN is 0.
    #[default]
    Off,
    /// As a pulse of a wire.
    Wire,
    /// As a message.
    Message(Msi),
}

/// How each interrupt leaves the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    pub(crate) gerror: Route,
    pub(crate) events: Route,
    pub(crate) pages: Route,
}

/// See the [module](self).
pub(crate) struct IrqGate {
    wires: Arc<dyn Interrupts>,
    device_id: u32,
    memory: Snapshot<Arc<dyn GuestMemory>>,
    routes: Snapshot<Routes>,
    /// GERROR and GERRORN, the bits of messages that went nowhere.
    pub(crate) latch: ErrorLatch,
}

impl fmt::Debug for IrqGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqGate")
            .field("routes", &self.routes.read())
            .field("latch", &self.latch)
            .finish_non_exhaustive()
    }
}

impl IrqGate {
    pub(crate) fn new(
        wires: Arc<dyn Interrupts>,
        device_id: u32,
        memory: Arc<dyn GuestMemory>,
    ) -> Self {
        let wired = Routes {
            gerror: Route::Wire,
            events: Route::Wire,
            pages: Route::Wire,
        };
        Self {
            wires,
            device_id,
            memory: Snapshot::new(memory),
            routes: Snapshot::new(wired),
            latch: ErrorLatch::new(),
        }
    }

    /// Exchanges the routes and returns at once. While the old ones are held, an interrupt may
    /// still leave by them.
    pub(crate) fn set(&self, routes: Routes) -> Leaving<Routes> {
        let Ok(old) = self.routes.publish(|_| Ok::<_, Infallible>(routes));
        old
    }

    /// When it returns, no message goes into the old map (law 9).
    pub(crate) fn update_memory(&self, memory: Arc<dyn GuestMemory>) {
        let Ok(()) = self.memory.replace(|_| Ok::<_, Infallible>(memory));
    }

    fn send(&self, msi: Msi) -> Result<(), NoTarget> {
        // Release: whoever sees the message sees what it is about.
        let stored = self
            .memory
            .read()
            .store_u32(msi.addr, msi.data, Ordering::Release);
        stored.or_else(|_| self.wires.message(self.device_id, msi))
    }

    /// Lets one interrupt out; `lost` is the error that says that its message went nowhere.
    fn leave(&self, route: Route, line: Line, lost: u32) {
        match route {
            Route::Off => {}
            Route::Wire => self.wires.pulse(line),
            Route::Message(msi) => {
                let news = self.send(msi).is_err() && self.latch.raise(lost);
                // That a message of a global error was lost is not told by another one.
                if news && lost != gerror_bits::MSI_GERROR_ABT_ERR {
                    self.pulse(Line::Gerror);
                }
            }
        }
    }
}

impl Interrupts for IrqGate {
    fn pulse(&self, line: Line) {
        if matches!(line, Line::CommandSync | Line::Cmdqv) {
            return self.wires.pulse(line);
        }
        // Held until the interrupt has left: IRQ_CTRLACK follows then.
        let routes = self.routes.read();
        match line {
            Line::EventQueue => {
                self.leave(routes.events, line, gerror_bits::MSI_EVENTQ_ABT_ERR);
            }
            Line::PriQueue => self.leave(routes.pages, line, gerror_bits::MSI_PRIQ_ABT_ERR),
            Line::Gerror => self.leave(routes.gerror, line, gerror_bits::MSI_GERROR_ABT_ERR),
            Line::CommandSync | Line::Cmdqv => {}
        }
    }

    /// A SYNC's: its address is no RAM.
    fn message(&self, device_id: u32, msi: Msi) -> Result<(), NoTarget> {
        self.wires.message(device_id, msi)
    }
}

impl Route {
    /// By an IRQEN bit and the registers CFG0 and CFG1; address zero, or no IDR0.MSI, is a wire.
    pub(crate) fn of(enabled: bool, address: u64, data: u32) -> Self {
        match (enabled, address) {
            (false, _) => Self::Off,
            (true, 0) => Self::Wire,
            (true, address) => Self::Message(Msi {
                addr: Gpa(address),
                data,
            }),
        }
    }
}
