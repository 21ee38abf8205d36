//! The engine's backend behind the interface that Cloud Hypervisor's SMMUv3 calls.
//!
//!     cargo run -p vcmdq --example physical-iommu
//!
//! That device emulates registers and queues itself and hands STEs and single invalidations to a
//! `PhysicalIommu`, of which it has one for iommufd: so only devices that the host's IOMMU knows can be
//! behind it. `OverSoftware` implements the same methods over the software SMMU, and emulated devices can.
//! `PhysicalIommu` here (`shape.rs`) has that trait's shape, written down anew; `consume` stands for its
//! caller. The adapter is `adapter.rs`. It prints:
//!
//! ```text
//! it reports IDR0 0x0d48301a, ATS false
//! before its STE: aborted: the STE is invalid
//! behind its STE the device reads "through stage 1"
//! unmapped and invalidated: aborted: no translation
//! blocked: aborted: the stream may not access memory
//! passed through, the device reads "through stage 1"
//! refused, for CERROR_ILL: opcode 0x00 is reserved
//! ```

mod adapter;
mod memory;
mod shape;
#[path = "../guest/tables.rs"]
mod tables;

use adapter::OverSoftware;
use shape::{HwInfo, PhysicalIommu, Request, TableEntry};
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::decode::decode;
use smmu_core::encode::encode;
use smmu_core::range::TlbiRange;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::ste::{Ste, config};
use smmu_core::translate::Failed;
use smmu_core::{Asid, Capabilities, StreamId, Vmid};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tables::{LOG2_STREAMS, Ram, STREAM_TABLE, Space};
use vcmdq::VmMemory;
use vcmdq::dma::{Device, DeviceSeams, FaultSink, Requester};
use vcmdq::events::Answer;
use vm_memory::{Bytes, GuestAddress};

/// What Cloud Hypervisor's SMMUv3 does with a command of the guest's.
fn consume(iommu: &dyn PhysicalIommu, ram: &Ram, command: RawCommand) -> io::Result<()> {
    let caps = Capabilities::default();
    let Ok(Command::Cfgi(Cfgi::Ste { stream, .. })) = decode(command, &caps) else {
        return iommu.invalidate(Request::Smmuv3Cmd([command.dw0, command.dw1]));
    };
    let at = STREAM_TABLE + Ste::BYTES * u64::from(stream.0);
    let mut ste = Ste::default();
    for (word, n) in ste.0.iter_mut().zip(0..) {
        let at = GuestAddress(at + 8 * n);
        let read = ram.load::<u64>(at, Ordering::Acquire);
        *word = u64::from_le(read.map_err(io::Error::other)?);
    }
    match (ste.dw0().v(), ste.dw0().config()) {
        (true, config::STAGE1) => iommu.install_table_entry(stream.0, TableEntry::Smmuv3Ste(ste.0)),
        (true, config::BYPASS) => iommu.set_passthrough(stream.0),
        _ => iommu.set_blocking(stream.0),
    }
}

/// Where faults go. The caller's own event queue would be here.
struct Events;

impl FaultSink for Events {
    fn fault(&self, _: &Failed) -> Answer {
        Answer::Abort
    }
}

const STREAM: StreamId = StreamId(5);
const IOVA: u64 = 0x1000;
const PAGE: u64 = 0x80_0000;

/// What the device reads, or why it does not.
fn read(device: &mut Device, at: u64) -> String {
    let mut text = [0; 15];
    match device.read(at, &mut text) {
        Ok(()) => format!("the device reads {:?}", String::from_utf8_lossy(&text)),
        Err(refused) => refused.cause.to_string(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let ram = Ram::from_ranges(&[(GuestAddress(0), 16 << 20)])?;
    let memory = Arc::new(VmMemory::new(ram.clone()));
    let adapter = OverSoftware::new(memory, Capabilities::default(), LOG2_STREAMS);
    let seams = DeviceSeams::new(Arc::new(Events));
    let mut device = adapter.device(Requester::new(STREAM), seams)?;
    let iommu: &dyn PhysicalIommu = &adapter;

    let HwInfo::Smmuv3 { idr, ats_supported } = iommu.hw_info()?;
    println!("it reports IDR0 {:#010x}, ATS {ats_supported}", idr[0]);
    println!("before its STE: {}", read(&mut device, IOVA));

    let space = Space::new(&ram, 1)?;
    space.map(IOVA, PAGE)?;
    space.attach(STREAM.0)?;
    ram.write_slice(b"through stage 1", GuestAddress(PAGE))?;
    let (stream, leaf) = (STREAM, true);
    let change = encode(&Command::Cfgi(Cfgi::Ste { stream, leaf }));
    consume(iommu, &ram, change)?;
    println!("behind its STE {}", read(&mut device, IOVA));

    space.unmap(IOVA)?;
    let (vmid, asid, range) = (Vmid(0), Asid(1), TlbiRange::page(IOVA));
    let page = encode(&Command::Tlbi(Tlbi::NhVa { vmid, asid, range }));
    consume(iommu, &ram, page)?;
    println!("unmapped and invalidated: {}", read(&mut device, IOVA));

    iommu.set_blocking(STREAM.0)?;
    println!("blocked: {}", read(&mut device, PAGE));
    iommu.set_passthrough(STREAM.0)?;
    println!("passed through, {}", read(&mut device, PAGE));

    if let Err(refused) = consume(iommu, &ram, RawCommand { dw0: 0, dw1: 0 }) {
        println!("refused, for CERROR_ILL: {refused}");
    }
    Ok(())
}
