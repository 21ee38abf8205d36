//! The guest's code: one loop in ring 3 (see `vcpu.rs` for why).
//!
//! Each round it writes its TLBIs and a CMD_SYNC, which asks for a zero in its own first word,
//! publishes PROD, waits for that zero, and stores how long it took and how often it looked.
//! Where the store of PROD alone is timed and exits, a few rounds of it and a few empty exits take
//! turns: what the host does meanwhile then meets both. An empty exit is a round without a look.
//! Rounds count from when the word [`GO`] says so; a vCPU that has done its share goes on, without
//! storing anything, until all have. It is 64-bit code that can lie anywhere: it has no stack, no
//! data of its own, and finds everything in the [`Params`] that RDI points to.
//!
//! | register | holds |
//! |---|---|
//! | rdi | [`Params`] |
//! | r8, r9 | ring; where PROD is written |
//! | r10, r11 | rounds that are left to count; where the next result goes |
//! | r12, r13 | PROD; what is added to the address to invalidate |
//! | r14 | the waiter |
//! | rsi, rcx, r15 | of a round: when it began, the entry of its SYNC, looks |
#![expect(unsafe_code, reason = "the guest's code is assembler")]

use crate::kvm::layout::{EXIT, FINISHED, GO, RESULT_BYTES, RING_LOG2SIZE};
use crate::kvm::params::{DONE_OFFSET, Params};
use std::arch::global_asm;
use std::mem::offset_of;

// A look at the clock stands behind a fence, or it would be taken before the look at the SYNC that
// it follows: the processor guesses how a loop ends.
// CONS is not looked at: a round ends with the SYNC that follows all its other commands, so at
// most 65 entries of the ring are ever in use.
// Time-outs (about a second or more): 2^26 pauses, or delays that add up to 2^20 µs.
global_asm!(
    ".pushsection .rodata.kvm_roundtrip_guest, \"a\", @progbits",
    ".globl kvm_roundtrip_guest_start",
    ".globl kvm_roundtrip_guest_end",
    "kvm_roundtrip_guest_start:",
    "    mov r8, [rdi + {ring}]",
    "    mov r9, [rdi + {prod_at}]",
    "    mov r10, [rdi + {rounds}]",
    "    mov r11, [rdi + {results}]",
    "    xor r12d, r12d",
    "    xor r13d, r13d",
    "    mov r14, [rdi + {waiter}]",
    // A round: a pause, if there is one; then the clock.
    "2:  mov rbx, [rdi + {pause}]",
    "    test rbx, rbx",
    "    jz 22f",
    "    rdtsc",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    add rbx, rax",
    "21: pause",
    "    rdtsc",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    cmp rax, rbx",
    "    jb 21b",
    "22: lfence",
    "    rdtsc",
    "    shl rdx, 32",
    "    lea rsi, [rax + rdx]",
    "    xor r15d, r15d",
    "    mov rdx, r9",
    "    test r14d, r14d",
    "    jz 23f",
    "    mov rbx, [rdi + {turn}]",
    "    test rbx, [rdi + {done}]",
    "    jz 3f",
    "    mov rdx, [rdi + {exit_at}]",
    "23: mov [rdx], r12d",
    "    jmp 8f",
    // The commands, then PROD. x86 keeps stores in order.
    "3:  mov ebx, [rdi + {commands}]",
    "31: mov eax, r12d",
    "    and eax, {slot_mask}",
    "    shl eax, 4",
    "    mov rdx, [rdi + {tlbi}]",
    "    mov [r8 + rax], rdx",
    "    mov rdx, [rdi + {tlbi} + 8]",
    "    add rdx, r13",
    "    mov [r8 + rax + 8], rdx",
    "    add r13, [rdi + {stride}]",
    "    inc r12d",
    "    dec ebx",
    "    jnz 31b",
    "    mov ecx, r12d",
    "    and ecx, {slot_mask}",
    "    shl ecx, 4",
    "    add rcx, r8",
    "    mov rdx, [rdi + {sync}]",
    "    mov [rcx], rdx",
    "    mov [rcx + 8], rcx",
    "    inc r12d",
    "    and r12d, {prod_mask}",
    "    cmp qword ptr [rdi + {span}], 0",
    "    jne 32f",
    "    mov [r9], r12d",
    "    jmp 33f",
    "32: lfence",
    "    rdtsc",
    "    shl rdx, 32",
    "    lea rsi, [rax + rdx]",
    "    mov [r9], r12d",
    "    lfence",
    "    rdtsc",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    sub rax, rsi",
    "    mov [rdi + {stored}], rax",
    "33: cmp r14d, 2",
    "    je 5f",
    // Waiter: spin.
    "4:  inc r15",
    "    cmp dword ptr [rcx], 0",
    "    je 8f",
    "    pause",
    "    cmp r15d, 1 << 26",
    "    jb 4b",
    "    jmp 90f",
    // Waiter: Linux's driver (arm-smmu-v3, poll_until_msi) as it is on a CPU without WFE. Behind a look
    // comes the clock, for the time-out; then `queue_poll` relaxes once, or delays if it was the tenth;
    // and `smp_cond_load_relaxed`, whose condition that is, relaxes once more in any case.
    // ebx: looks since the last delay; ebp: next delay in microseconds.
    "5:  mov ebp, 1",
    "6:  xor ebx, ebx",
    "7:  inc r15",
    "    cmp dword ptr [rcx], 0",
    "    je 8f",
    "    lfence",
    "    rdtsc",
    "    inc ebx",
    "    cmp ebx, 10",
    "    jae 70f",
    "    pause",
    "    pause",
    "    jmp 7b",
    "70: cmp ebp, 1 << 19",
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
    "    pause",
    "    jmp 6b",
    // Seen. A round that counts stores what it took.
    "8:  lfence",
    "    rdtsc",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    sub rax, rsi",
    "    mov rdx, [rdi + {done}]",
    "    inc qword ptr [rdi + {done}]",
    "    test r10, r10",
    "    jz 83f",
    "    cmp dword ptr [{go}], 0",
    "    je 2b",
    "    mov rbx, [rdi + {turn}]",
    "    test rbx, rbx",
    "    jz 80f",
    "    dec rbx",
    "    test rbx, rdx",
    "    jz 2b",
    "80: test r15, r15",
    "    jz 81f",
    "    cmp qword ptr [rdi + {span}], 0",
    "    je 81f",
    "    mov rax, [rdi + {stored}]",
    "81: mov [r11], rax",
    "    mov [r11 + 8], r15",
    "    add r11, {result_bytes}",
    "    dec r10",
    "    jnz 2b",
    "    lock inc dword ptr [{finished}]",
    "83: mov eax, [rdi + {vcpus}]",
    "    cmp [{finished}], eax",
    "    jb 2b",
    "    xor eax, eax",
    "    jmp 91f",
    "90: mov eax, 1",
    "91: mov edx, {exit}",
    "    mov [rdx], eax",
    "    jmp 91b",
    "kvm_roundtrip_guest_end:",
    ".popsection",
    go = const GO,
    finished = const FINISHED,
    exit = const EXIT,
    slot_mask = const (1u32 << RING_LOG2SIZE) - 1,
    prod_mask = const (2u32 << RING_LOG2SIZE) - 1,
    done = const DONE_OFFSET,
    rounds = const offset_of!(Params, rounds),
    waiter = const offset_of!(Params, waiter),
    span = const offset_of!(Params, span),
    vcpus = const offset_of!(Params, vcpus),
    ring = const offset_of!(Params, ring),
    prod_at = const offset_of!(Params, prod_at),
    exit_at = const offset_of!(Params, exit_at),
    turn = const offset_of!(Params, turn),
    result_bytes = const RESULT_BYTES,
    results = const offset_of!(Params, results),
    tlbi = const offset_of!(Params, tlbi),
    commands = const offset_of!(Params, commands),
    stride = const offset_of!(Params, stride),
    sync = const offset_of!(Params, sync),
    pause = const offset_of!(Params, pause),
    ticks_per_us = const offset_of!(Params, ticks_per_us),
    stored = const offset_of!(Params, stored),
);

unsafe extern "C" {
    // SAFETY: the assembler above defines both; only their addresses are used.
    safe static kvm_roundtrip_guest_start: u8;
    // SAFETY: as above.
    safe static kvm_roundtrip_guest_end: u8;
}

/// The guest's code.
pub(crate) fn code() -> &'static [u8] {
    let start = &raw const kvm_roundtrip_guest_start;
    let len = (&raw const kvm_roundtrip_guest_end) as usize - start as usize;
    // SAFETY: both symbols bound one piece of a read-only section, so all bytes between them are
    // initialised, live as long as the program and are never written.
    unsafe { std::slice::from_raw_parts(start, len) }
}
