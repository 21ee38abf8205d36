//! The configuration of a stream: from a StreamID through the stream table to a
//! [`StreamConfig`], and from there with a SubstreamID to a [`Context`].
//!
//! Structures are read once, front to back, in aligned units of 16 bytes of two atomic
//! 64-bit loads each. Hardware that shares a system with LSE2 processors reads such a unit
//! as a whole; safe Rust cannot. A guest that changes both words of a unit of a
//! *valid* structure in one 128-bit store may see one word old and one new here, until its
//! CFGI command has the structure read again. Linux changes one word at a time and never
//! relies on more. Every load acquires, and word 0, which holds the valid bit, is loaded
//! first: whoever sees it valid sees what was written before it.

pub mod context;
mod descriptor;
pub mod generation;
mod stage2;
mod ste;
pub mod stream_table;

pub use context::{Context, Half, World};
pub use stage2::Stage2Config;
pub use ste::{
    Ats, ContextTable, ContextTableFormat, DefaultSubstream, Stage1Config, StreamAttributes,
    StreamConfig, interpret,
};
pub use stream_table::StreamTable;

use crate::guest_memory::{GuestMemory, MemoryError, load_le, load_u64};
use crate::ids::Gpa;
use vcmdq_sync::atomic::Ordering;

/// Loads a structure of `N` words at `at`, which is aligned to 16 bytes.
fn load_words<const N: usize, M: GuestMemory + ?Sized>(
    memory: &M,
    at: Gpa,
) -> Result<[u64; N], MemoryError> {
    let mut words = [0; N];
    let mut unit_at = at;
    for unit in words.chunks_mut(2) {
        let run = memory.words(unit_at, unit.len())?;
        for (into, word) in unit.iter_mut().zip(run) {
            *into = load_le(word, Ordering::Acquire);
        }
        if let ([_, second], [_]) = (&mut *unit, run) {
            // Memory that is mapped in odd words: correct, if slow.
            *second = load_u64(memory, Gpa(unit_at.0.wrapping_add(8)), Ordering::Acquire)?;
        }
        unit_at = Gpa(unit_at.0.wrapping_add(16));
    }
    Ok(words)
}
