//! The guest: where things lie in its memory, its code, and who else is given it.
//!
//! The guest is one loop in ring 3 (see `vcpu.rs` for why). Each round it writes a
//! TLBI_NH_VA and a CMD_SYNC, which asks for a zero in its own first word, publishes PROD, waits
//! for that zero, and stores how long it took and how often it looked. It is 64-bit code that
//! can lie anywhere: it has no stack, no data of its own, and finds everything in [`Params`].
//!
//! ```text
//! 0x0000_0000  page tables (vcpu.rs)      0x0000_8000  code        0x0000_9000  Params
//! 0x0001_0000  queue page: CONS, PROD     0x0002_0000  ring        0x0010_0000  results
//! 0x2000_0000  nothing: three addresses that exit to the VMM
//! ```
//!
//! This is the only file with `unsafe`: for the bounds of the code, for giving memory to KVM and
//! for the page that guest and engine share.
#![expect(
    unsafe_code,
    reason = "the guest's code is assembler, and its memory is given to KVM and to the engine"
)]

use super::vmm::Error;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use serde::Serialize;
use std::arch::global_asm;
use std::mem::offset_of;
use std::sync::atomic::AtomicU32;
use vcmdq::RingPage;
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

/// Where the code lies.
pub(crate) const CODE: u64 = 0x8000;
/// Where [`Params`] lie.
pub(crate) const PARAMS: u64 = 0x9000;
/// A page shaped like page 0 of a VCMDQ: CONS at +0, PROD at +4.
pub(crate) const QUEUE_PAGE: u64 = 0x1_0000;
/// The command queue: `2^RING_LOG2SIZE` entries of 16 bytes.
pub(crate) const RING: u64 = 0x2_0000;
/// log2 of the entries of the command queue.
pub(crate) const RING_LOG2SIZE: u8 = 8;
/// Two words for each round: ticks of the TSC, looks at the SYNC.
pub(crate) const RESULTS: u64 = 0x10_0000;
/// Not RAM: a write exits, the value is PROD.
pub(crate) const DOORBELL: u64 = 0x2000_0000;
/// Not RAM: a write exits and means nothing, which is what an exit costs.
pub(crate) const NOTHING: u64 = 0x2000_1000;
/// Not RAM: a write ends the run. The value is zero, or one if a SYNC was not seen in time.
pub(crate) const EXIT: u64 = 0x2000_2000;

/// What the guest does between publishing and going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u64)]
pub(crate) enum Waiter {
    /// It does not wait, and writes no commands either: only the doorbell is measured.
    Nobody = 0,
    /// It looks, pauses, and looks again.
    Spin = 1,
    /// It waits as `queue_poll` of Linux's arm-smmu-v3 driver does where there is no event to
    /// wait for: ten looks, each with a look at the clock, a delay of 1 µs, ten looks, 2 µs, …
    Linux = 2,
}

/// What the guest finds at [`PARAMS`], each field a 64-bit word (`tlbi`: two).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Params {
    /// How many rounds.
    pub(crate) rounds: u64,
    /// Who waits.
    pub(crate) waiter: Waiter,
    /// Where PROD is written: [`DOORBELL`], [`NOTHING`] or the PROD of [`QUEUE_PAGE`].
    pub(crate) prod_at: u64,
    /// TLBI_NH_VA for address zero; the guest adds the page.
    pub(crate) tlbi: [u64; 2],
    /// First word of a CMD_SYNC that signals by message; the guest adds the address.
    pub(crate) sync: u64,
    /// Ticks of the TSC in a microsecond.
    pub(crate) ticks_per_us: u64,
}

// A look at the clock stands behind a fence, or it would be taken before the look at the SYNC that
// it follows: the processor guesses how a loop ends.
// CONS is not looked at: a round ends with the SYNC that follows its only other command, so
// at most two entries of the ring are ever in use.
// Time-outs (about a second or more): 2^26 pauses, or delays that add up to 2^20 µs.
global_asm!(
    ".pushsection .rodata.kvm_roundtrip_guest, \"a\", @progbits",
    ".globl kvm_roundtrip_guest_start",
    ".globl kvm_roundtrip_guest_end",
    "kvm_roundtrip_guest_start:",
    "    mov edi, {params}",
    "    mov r8d, {ring}",
    "    mov r9, [rdi + {prod_at}]",
    "    mov r10, [rdi + {rounds}]",
    "    mov r11d, {results}",
    "    xor r12d, r12d", // PROD
    "    xor r13d, r13d", // the address to invalidate
    "    mov r14, [rdi + {waiter}]",
    // A round. rsi: when it began; rcx: the entry of its SYNC; r15: looks.
    "2:  lfence",
    "    rdtsc",
    "    shl rdx, 32",
    "    lea rsi, [rax + rdx]",
    "    xor r15d, r15d",
    "    test r14d, r14d",
    "    jnz 3f",
    "    mov [r9], r12d",
    "    jmp 8f",
    // The commands, then PROD. x86 keeps stores in order.
    "3:  mov eax, r12d",
    "    and eax, {slot_mask}",
    "    shl eax, 4",
    "    mov rdx, [rdi + {tlbi}]",
    "    mov [r8 + rax], rdx",
    "    mov rdx, [rdi + {tlbi} + 8]",
    "    add rdx, r13",
    "    mov [r8 + rax + 8], rdx",
    "    lea ecx, [r12 + 1]",
    "    and ecx, {slot_mask}",
    "    shl ecx, 4",
    "    add rcx, r8",
    "    mov rdx, [rdi + {sync}]",
    "    mov [rcx], rdx",
    "    mov [rcx + 8], rcx",
    "    add r12d, 2",
    "    and r12d, {prod_mask}",
    "    mov [r9], r12d",
    "    cmp r14d, 2",
    "    je 5f",
    // Waiter: spin.
    "4:  inc r15",
    "    cmp dword ptr [rcx], 0",
    "    je 8f",
    "    pause",
    "    cmp r15d, 1 << 26",
    "    jb 4b",
    "    jmp 90f",
    // Waiter: Linux. ebx: looks since the last delay; ebp: next delay in microseconds.
    "5:  mov ebp, 1",
    "6:  xor ebx, ebx",
    "7:  inc r15",
    "    cmp dword ptr [rcx], 0",
    "    je 8f",
    "    lfence",
    "    rdtsc",
    "    pause",
    "    inc ebx",
    "    cmp ebx, 10",
    "    jb 7b",
    "    cmp ebp, 1 << 19",
    "    ja 90f",
    "    shl rdx, 32",
    "    lea rbx, [rax + rdx]",
    "    mov rax, [rdi + {ticks_per_us}]",
    "    imul rax, rbp",
    "    add rbx, rax", // end of the delay
    "    shl ebp, 1",
    "71: pause",
    "    rdtsc",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    cmp rax, rbx",
    "    jb 71b",
    "    jmp 6b",
    // Seen: store what it took; the next page; the next round.
    "8:  lfence",
    "    rdtsc",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    sub rax, rsi",
    "    mov [r11], rax",
    "    mov [r11 + 8], r15",
    "    add r11, 16",
    "    add r13, 4096",
    "    dec r10",
    "    jnz 2b",
    "    xor eax, eax",
    "    jmp 91f",
    "90: mov eax, 1",
    "91: mov edx, {exit}",
    "    mov [rdx], eax",
    "    jmp 91b",
    "kvm_roundtrip_guest_end:",
    ".popsection",
    params = const PARAMS,
    ring = const RING,
    results = const RESULTS,
    exit = const EXIT,
    slot_mask = const (1u32 << RING_LOG2SIZE) - 1,
    prod_mask = const (2u32 << RING_LOG2SIZE) - 1,
    rounds = const offset_of!(Params, rounds),
    waiter = const offset_of!(Params, waiter),
    prod_at = const offset_of!(Params, prod_at),
    tlbi = const offset_of!(Params, tlbi),
    sync = const offset_of!(Params, sync),
    ticks_per_us = const offset_of!(Params, ticks_per_us),
);

unsafe extern "C" {
    // SAFETY: the assembler above defines both; only their addresses are used.
    safe static kvm_roundtrip_guest_start: u8;
    // SAFETY: as above.
    safe static kvm_roundtrip_guest_end: u8;
}

/// The guest's code.
fn code() -> &'static [u8] {
    let start = &raw const kvm_roundtrip_guest_start;
    let len = (&raw const kvm_roundtrip_guest_end) as usize - start as usize;
    // SAFETY: both symbols bound one piece of a read-only section, so all bytes between them are
    // initialised, live as long as the program and are never written.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The guest's memory: everything up to the results of `rounds` rounds, with the code in it.
///
/// # Errors
///
/// If the host has not that much memory.
pub(crate) fn memory(rounds: usize) -> Result<GuestMemoryMmap, Error> {
    let len = (RESULTS as usize + 16 * rounds).next_multiple_of(2 << 20);
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)])?;
    memory.write_slice(code(), GuestAddress(CODE))?;
    Ok(memory)
}

/// Makes `memory` the RAM of a VM, which keeps it alive.
///
/// # Errors
///
/// What KVM says.
pub(crate) fn map_into(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), Error> {
    for (slot, region) in (0u32..).zip(memory.iter()) {
        let host = memory.get_host_address(region.start_addr())?;
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: host as u64,
        };
        // SAFETY: the range is one mapping of `memory`, which `Vmm` owns together with the VM and
        // drops after it; all of the VMM reaches it through atomics and volatile accesses.
        unsafe { vm.set_user_memory_region(region) }?;
    }
    Ok(())
}

impl Params {
    /// Writes them to where the guest looks for them.
    ///
    /// # Errors
    ///
    /// If there is no such memory.
    pub(crate) fn write(&self, memory: &GuestMemoryMmap) -> Result<(), Error> {
        let words = [
            (offset_of!(Self, rounds), self.rounds),
            (offset_of!(Self, waiter), self.waiter as u64),
            (offset_of!(Self, prod_at), self.prod_at),
            (offset_of!(Self, tlbi), self.tlbi[0]),
            (offset_of!(Self, tlbi) + 8, self.tlbi[1]),
            (offset_of!(Self, sync), self.sync),
            (offset_of!(Self, ticks_per_us), self.ticks_per_us),
        ];
        for (offset, word) in words {
            memory.write_obj(word, GuestAddress(PARAMS + offset as u64))?;
        }
        Ok(())
    }
}

/// [`QUEUE_PAGE`] as the engine polls it.
#[derive(Debug)]
pub(crate) struct QueuePage(GuestMemoryMmap);

impl QueuePage {
    /// The page in this memory.
    pub(crate) fn new(memory: GuestMemoryMmap) -> Self {
        Self(memory)
    }
}

impl RingPage for QueuePage {
    fn words(&self) -> &[AtomicU32] {
        let Ok(page) = self.0.get_slice(GuestAddress(QUEUE_PAGE), 4096) else {
            return &[];
        };
        let first = page.ptr_guard_mut().as_ptr().cast::<AtomicU32>();
        // SAFETY: `get_slice` has checked that 4096 bytes from `first` lie in one mapping, which
        // lives as long as `self`; mapping and QUEUE_PAGE are aligned to pages; every bit pattern
        // is an AtomicU32, and nothing else of the VMM touches the page while the engine runs.
        unsafe { std::slice::from_raw_parts(first, 1024) }
    }
}
