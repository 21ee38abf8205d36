//! What the guest is told to do.

use super::error::Error;
use super::layout::{PARAMS, PARAMS_STRIDE};
use crate::data::{Span, Waiter};
use std::mem::offset_of;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// What a vCPU finds at its [`PARAMS`]; 64-bit words.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Params {
    /// How many rounds count.
    pub(crate) rounds: u64,
    /// Who waits.
    pub(crate) waiter: Waiter,
    /// Which time is stored.
    pub(crate) span: Span,
    /// vCPUs at it.
    pub(crate) vcpus: u64,
    /// Its ring.
    pub(crate) ring: u64,
    /// Where PROD is written.
    pub(crate) prod_at: u64,
    /// Where a store exits and means nothing.
    pub(crate) exit_at: u64,
    /// Rounds before it is the turn of as many such stores, a power of two from 2 on; the first of
    /// a turn does not count. Zero: there are no turns.
    pub(crate) turn: u64,
    /// Where results go.
    pub(crate) results: u64,
    /// The TLBI for the first address; the guest adds `stride` for each one that it sends.
    pub(crate) tlbi: [u64; 2],
    /// How many TLBIs a round has.
    pub(crate) commands: u64,
    /// Bytes from one TLBI's address to the next.
    pub(crate) stride: u64,
    /// First word of a CMD_SYNC that signals by message; the guest adds the address.
    pub(crate) sync: u64,
    /// Ticks of the TSC to pause before each round.
    pub(crate) pause: u64,
    /// Ticks of the TSC in a microsecond.
    pub(crate) ticks_per_us: u64,
    /// Scratch of the guest's: what the store of PROD took.
    pub(crate) stored: u64,
}

/// Beside the parameters, in a cache line of its own: rounds done, with those that do not count.
pub(crate) const DONE_OFFSET: u64 = 192;

const _: () = assert!(
    size_of::<Params>() as u64 <= DONE_OFFSET && DONE_OFFSET + 8 <= PARAMS_STRIDE,
    "a vCPU's parameters and its counter"
);

/// Where a vCPU's parameters lie.
pub(crate) const fn params_at(vcpu: usize) -> u64 {
    PARAMS + vcpu as u64 * PARAMS_STRIDE
}

impl Params {
    /// Writes them to where the vCPU looks for them, and no rounds done.
    ///
    /// # Errors
    ///
    /// If there is no such memory.
    pub(crate) fn write(&self, vcpu: usize, memory: &GuestMemoryMmap) -> Result<(), Error> {
        let words = [
            (offset_of!(Self, rounds), self.rounds),
            (offset_of!(Self, waiter), self.waiter as u64),
            (offset_of!(Self, span), self.span as u64),
            (offset_of!(Self, vcpus), self.vcpus),
            (offset_of!(Self, ring), self.ring),
            (offset_of!(Self, prod_at), self.prod_at),
            (offset_of!(Self, exit_at), self.exit_at),
            (offset_of!(Self, turn), self.turn),
            (offset_of!(Self, results), self.results),
            (offset_of!(Self, tlbi), self.tlbi[0]),
            (offset_of!(Self, tlbi) + 8, self.tlbi[1]),
            (offset_of!(Self, commands), self.commands),
            (offset_of!(Self, stride), self.stride),
            (offset_of!(Self, sync), self.sync),
            (offset_of!(Self, pause), self.pause),
            (offset_of!(Self, ticks_per_us), self.ticks_per_us),
            (DONE_OFFSET as usize, 0),
        ];
        for (offset, word) in words {
            memory.write_obj(word, GuestAddress(params_at(vcpu) + offset as u64))?;
        }
        Ok(())
    }
}

/// Rounds that a vCPU has done, with those that do not count.
///
/// # Errors
///
/// If there is no such memory.
pub(crate) fn done(vcpu: usize, memory: &GuestMemoryMmap) -> Result<u64, Error> {
    Ok(memory.read_obj(GuestAddress(params_at(vcpu) + DONE_OFFSET))?)
}
