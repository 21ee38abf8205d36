//! A vCPU that begins in 64-bit mode, in ring 3.
//!
//! Where KVM runs on hardware virtualization the ring makes no difference. Where it is a
//! software one, only ring 3 runs natively and ring 0 is interpreted, so that a guest in ring 0
//! would measure the interpreter. There is no way back to ring 0: no descriptor table for
//! interrupts, no TSS, no stack. A fault is a shutdown, which the VMM reports.

use crate::kvm::error::Error;
use crate::kvm::layout::CODE;
use crate::kvm::params::params_at;
use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const GDT: u64 = 0x4000;

/// Present, writable, user.
const TABLE: u64 = 0b111;
/// The same, accessed, dirty, a page of 2 MiB.
const PAGE_2M: u64 = TABLE | 0x60 | 0x80;

/// Descriptors as they stand in the GDT: null, ring-3 data, ring-3 64-bit code.
const GDT_ENTRIES: [u64; 3] = [0, 0x00CF_F300_0000_FFFF, 0x00AF_FB00_0000_FFFF];

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// A vCPU of a VM whose memory has the tables. It begins when it is run after [`start`].
///
/// # Errors
///
/// What KVM says, for example that it does not enter ring 3 directly.
pub(crate) fn create(vm: &VmFd, id: usize) -> Result<VcpuFd, Error> {
    let vcpu = vm.create_vcpu(id as u64)?;
    let mut sregs = vcpu.get_sregs()?;
    let data = segment(1);
    sregs.cs = kvm_segment {
        type_: 0xB,
        l: 1,
        db: 0,
        ..segment(2)
    };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.gdt.base = GDT;
    sregs.gdt.limit = (GDT_ENTRIES.len() * 8 - 1) as u16;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    sregs.cr3 = PML4;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    vcpu.set_sregs(&sregs)?;
    Ok(vcpu)
}

/// Puts the vCPU to the beginning of the guest's code.
///
/// # Errors
///
/// What KVM says.
pub(crate) fn start(vcpu: &VcpuFd, id: usize) -> Result<(), Error> {
    vcpu.set_regs(&kvm_regs {
        rip: CODE,
        rdi: params_at(id),
        rflags: 2,
        ..Default::default()
    })?;
    Ok(())
}

/// A flat, writable data segment of ring 3 that is entry `index` of the GDT.
fn segment(index: u16) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xFFFF_FFFF,
        selector: index << 3 | 3,
        type_: 3,
        present: 1,
        dpl: 3,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        ..Default::default()
    }
}

/// Maps the first GiB to itself, for ring 3, and fills the GDT.
///
/// # Errors
///
/// If there is no such memory.
pub(crate) fn write_tables(memory: &GuestMemoryMmap) -> Result<(), Error> {
    memory.write_obj(PDPT | TABLE, GuestAddress(PML4))?;
    memory.write_obj(PD | TABLE, GuestAddress(PDPT))?;
    for index in 0..512u64 {
        memory.write_obj(index << 21 | PAGE_2M, GuestAddress(PD + 8 * index))?;
    }
    for (at, entry) in (GDT..).step_by(8).zip(GDT_ENTRIES) {
        memory.write_obj(entry, GuestAddress(at))?;
    }
    Ok(())
}
