//! Bytes of guest memory, as parts of the atomic words that it consists of.
//!
//! Everything that the guest may touch at the same time is reached through atomics. A word of which
//! only some bytes are written is changed by a read-modify-write, so that what the guest stores into
//! the others meanwhile stays.

use smmu_core::{Gpa, GuestMemory};
use vcmdq_sync::atomic::{AtomicU64, Ordering, fence};

const WORD: usize = 8;

/// Where a byte address lies: the word, and the byte in it.
fn split(at: Gpa, done: usize) -> (Gpa, usize) {
    let here = at.0.wrapping_add(done as u64);
    (Gpa(here & !7), (here & 7) as usize)
}

/// Reads from `at` on. Returns how many bytes were there, which is less than asked for if memory
/// ends. What the caller does next is ordered behind it.
pub(super) fn read(memory: &dyn GuestMemory, at: Gpa, into: &mut [u8]) -> usize {
    let mut done = 0;
    while done < into.len() {
        let (word, skip) = split(at, done);
        let rest = &mut into[done..];
        let count = (skip + rest.len()).div_ceil(WORD);
        match memory.words(word, count) {
            Ok(run) if !run.is_empty() => done += copy_out(run, skip, rest),
            _ => break,
        }
    }
    fence(Ordering::Acquire);
    done
}

/// Copies from byte `skip` of the run on. Returns how many bytes.
fn copy_out(run: &[AtomicU64], skip: usize, into: &mut [u8]) -> usize {
    let mut words = run.iter();
    let mut done = 0;
    if skip != 0 || into.len() < WORD {
        let Some(word) = words.next() else { return 0 };
        done = (WORD - skip).min(into.len());
        let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        into[..done].copy_from_slice(&bytes[skip..skip + done]);
    }
    for chunk in into[done..].chunks_mut(WORD) {
        let Some(word) = words.next() else { break };
        let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
        done += chunk.len();
    }
    done
}

/// Writes from `at` on, and reports it to the dirty log. Returns how many bytes there was memory for.
/// What the caller did before is ordered before it.
pub(super) fn write(memory: &dyn GuestMemory, at: Gpa, from: &[u8]) -> usize {
    fence(Ordering::Release);
    let mut done = 0;
    while done < from.len() {
        let (word, skip) = split(at, done);
        let rest = &from[done..];
        let count = (skip + rest.len()).div_ceil(WORD);
        match memory.words_to_write(word, count) {
            Ok(run) if !run.is_empty() => {
                let written = copy_in(run, skip, rest);
                // Behind the bytes: a log that is taken in between has them in its next round.
                memory.mark_dirty(Gpa(word.0 + skip as u64), written);
                done += written;
            }
            _ => break,
        }
    }
    done
}

/// Copies to byte `skip` of the run and on. Returns how many bytes.
fn copy_in(run: &[AtomicU64], skip: usize, from: &[u8]) -> usize {
    let mut words = run.iter();
    let mut done = 0;
    if skip != 0 || from.len() < WORD {
        let Some(word) = words.next() else { return 0 };
        done = (WORD - skip).min(from.len());
        merge(word, skip, &from[..done]);
    }
    for chunk in from[done..].chunks(WORD) {
        let Some(word) = words.next() else { break };
        match <[u8; WORD]>::try_from(chunk) {
            Ok(whole) => word.store(u64::from_ne_bytes(whole), Ordering::Relaxed),
            Err(_) => merge(word, 0, chunk),
        }
        done += chunk.len();
    }
    done
}

/// Replaces some bytes of a word and leaves the others to whoever writes them.
fn merge(word: &AtomicU64, skip: usize, part: &[u8]) {
    let change = |old: u64| {
        let mut bytes = old.to_ne_bytes();
        bytes[skip..skip + part.len()].copy_from_slice(part);
        Some(u64::from_ne_bytes(bytes))
    };
    // It cannot fail: `change` always gives a value.
    let _old = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
}
