//! Events: from many faulting threads into the one event queue, and transactions that wait for
//! the guest (IHI 0070, 3.5, 3.12 and 7).
//!
//! ```text
//! Failed ──▶ sink ──▶ queue:  reserve ▶ write ▶ mark written ▶ publish PROD ▶ interrupt
//!              └────▶ stalls: tag ▶ record ▶ … ▶ RESUME or STALL_TERM ▶ the accessor goes on
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`sink`] | joins the two: what a fault records and what the device is told |
//! | [`queue`] | the event queue in guest memory and its registers |
//! | [`stalls`] | the table of stalled transactions |
//! | [`pages`] | page requests of devices (PRI), and what the guest answers |
//! | `reporter` | a way to them for whom the frame itself knows |
//! | `registers`, `control` | what a guest does while the queue runs; what needs it to stand still |
//! | `merge` | equal events of a stream that asks for it become one |
//! | `word`, `written` | the word that decides; which slots are written |
//! | `waiters` | rings whose SYNC waits until records are visible |
//!
//! # Limits
//!
//! Nothing here grows. A queue has at most 2^19 records (IDR1.EVENTQS), all in guest memory;
//! the engine keeps one bit for each, 64 KiB at most. Stalled transactions are bounded by
//! IDR5.STALL_MAX and by [`MAX_STALLS`], less than 100 bytes each. A record is never kept anywhere
//! else: what finds no room is dropped, counted and flagged (OVFLG), or, if it is of a stalled
//! transaction, waits in that transaction's own entry.
//!
//! # Who may call what
//!
//! Faulting threads ([`EventSink::fault`], [`EventSink::record`]) and register accesses take no
//! lock and wait for nobody, but for the registers that a guest may write only while the queue is
//! disabled: those, [`EventQueue::update_memory`] and [`EventQueue::pause`] wait until the threads
//! that are just writing a record have finished it. None of them may be called inside a callback, but
//! through an [`EventReporter`] in one of [`StreamHost`](crate::StreamHost): faults, records and what has
//! been lost.

mod control;
mod merge;
mod metrics;
pub mod pages;
pub mod queue;
mod registers;
mod reporter;
pub mod sink;
pub mod stalls;
mod waiters;
mod word;
mod written;

pub use control::{EventQueueState, EventRestoreError, NotDisabled};
pub use metrics::EventMetrics;
pub use queue::{EventQueue, Mark, RecordQueue, Unwritable};
pub use reporter::EventReporter;
pub use sink::{Answer, EventSink, EventSinkState, SinkRestoreError};
pub use stalls::{
    Full, MAX_STALLS, Resumption, StallState, StalledAccess, Stalls, StallsRestoreError,
};
