//! The smallest VMM: one SMMU, one device behind it, and a guest that takes a page away.
//!
//!     cargo run -p vcmdq --example smallest-vmm
//!
//! `main` is the VMM. `guest` is what the guest's driver does, with the device in between: each register
//! access would be a vCPU's exit to a handler that calls `RegisterFrame::read` or `write`. It prints:
//!
//! ```text
//! the device reads "a page of the guest" at IOVA 0x1000
//! unmapped; TLBI and SYNC are done
//! the device's next read is aborted: no translation
//! the guest has an event: F_TRANSLATION of stream 8 at IOVA 0x1000
//! 4 commands, 2 SYNCs; stopped
//! ```

#[path = "guest/tables.rs"]
mod tables;

use dispatch::backend::Software;
use smmu_core::command::{Cfgi, Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::range::TlbiRange;
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::{Cr0, offset};
use smmu_core::{Asid, StreamId, Vmid};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tables::{LOG2_STREAMS, Ram, STREAM_TABLE, Space};
use vcmdq::dma::{Device, Requester};
use vcmdq::registers::RegisterFrame;
use vcmdq::{Binding, Engine, FrameSettings, Placement, Seams, Settings, StdThreads, VmMemory};
use vm_memory::{Bytes, GuestAddress};

const STREAM: StreamId = StreamId(8);
const ASID: u16 = 1;
/// Where the guest's driver has put its queues, of 2^6 entries each.
const COMMANDS: u64 = 0x2_0000;
const EVENTS: u64 = 0x3_0000;
const LOG2: u64 = 6;
/// A page as the device knows it, and where it lies.
const IOVA: u64 = 0x1000;
const PAGE: u64 = 0x80_0000;

fn main() -> Result<(), Box<dyn Error>> {
    // 1. Guest memory, and the engine with its worker thread: one for all SMMUs of a process.
    let ram = Ram::from_ranges(&[(GuestAddress(0), 16 << 20)])?;
    let memory = Arc::new(VmMemory::new(ram.clone()));
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;

    // 2. A frame is an SMMU as the guest sees it. Without interrupts, this guest looks at registers;
    //    `RegisterFrame` is what the exit handler calls.
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
    let frame = Arc::new(frame);
    let smmu = RegisterFrame::new(frame.clone())?;

    // 3. What translates: the software SMMU. The stream is bound to it, and the device model gets
    //    a handle with which it accesses memory by the addresses that the guest's driver gives it.
    let core = Arc::new(Software::default());
    let placement = Placement::default();
    let instance = frame.add_instance(core.clone(), placement);
    let binding = Binding {
        instance,
        placement,
    };
    frame.bind(STREAM, binding)?;
    let device = frame.device(&core, Requester::new(STREAM))?;

    // 4. The guest runs.
    guest(&ram, &smmu, device)?;

    // 5. A clean stop: no thread of the engine touches guest memory any more.
    frame.pause();
    let done = smmu.ring().metrics();
    engine.stop();
    println!("{} commands, {} SYNCs; stopped", done.commands, done.syncs);
    Ok(())
}

/// The guest and its device.
fn guest(ram: &Ram, smmu: &RegisterFrame, mut device: Device) -> Result<(), Box<dyn Error>> {
    // It boots: page tables in its memory, then the registers that lead to them.
    let space = Space::new(ram, ASID)?;
    space.map(IOVA, PAGE)?;
    space.attach(STREAM.0)?;
    smmu.write(offset::STRTAB_BASE, 8, STREAM_TABLE);
    smmu.write(offset::STRTAB_BASE_CFG, 4, LOG2_STREAMS.into());
    smmu.write(offset::CMDQ_BASE, 8, COMMANDS | LOG2);
    smmu.write(offset::EVENTQ_BASE, 8, EVENTS | LOG2);
    let on = Cr0::new().with_cmdqen(true).with_eventqen(true);
    let on = u64::from(on.with_smmuen(true).into_bits());
    smmu.write(offset::CR0, 4, on);
    while smmu.read(offset::CR0ACK, 4) != on {
        std::thread::yield_now();
    }
    send(ram, smmu, Command::Cfgi(Cfgi::All))?;

    // The device does DMA. Its translation is cached from here on.
    ram.write_slice(b"a page of the guest", GuestAddress(PAGE))?;
    let mut text = [0; 19];
    device.read(IOVA, &mut text)?;
    let text = String::from_utf8_lossy(&text);
    println!("the device reads {text:?} at IOVA {IOVA:#x}");

    // munmap. When the SYNC is done no device uses the page, so the guest may give it away.
    space.unmap(IOVA)?;
    let (vmid, asid) = (Vmid(0), Asid(ASID));
    let range = TlbiRange::page(IOVA);
    send(ram, smmu, Command::Tlbi(Tlbi::NhVa { vmid, asid, range }))?;
    println!("unmapped; TLBI and SYNC are done");
    if let Err(refused) = device.read(IOVA, &mut [0; 8]) {
        println!("the device's next read is {}", refused.cause);
    }
    let mut record = [0; EventRecord::BYTES as usize];
    ram.read_slice(&mut record, GuestAddress(EVENTS))?;
    let event = EventRecord::from_le_bytes(record);
    let what = event.id().ok_or("an event that is none")?.name();
    let (stream, at) = (event.dw0().stream(), event.input_addr());
    println!("the guest has an event: {what} of stream {stream} at IOVA {at:#x}");
    Ok(())
}

/// The guest's driver: a command and a SYNC into the queue, PROD, then a look at CONS until both are done.
fn send(ram: &Ram, smmu: &RegisterFrame, command: Command) -> Result<(), Box<dyn Error>> {
    let mut prod = smmu.read(offset::CMDQ_PROD, 4);
    for command in [command, Command::Sync(Signal::None)] {
        let slot = COMMANDS + 16 * (prod % (1 << LOG2));
        let raw = encode(&command);
        ram.store(raw.dw0.to_le(), GuestAddress(slot), Ordering::Relaxed)?;
        ram.store(raw.dw1.to_le(), GuestAddress(slot + 8), Ordering::Relaxed)?;
        prod = (prod + 1) % (2 << LOG2);
    }
    // The doorbell: it publishes PROD, wakes the worker if it sleeps, and returns.
    smmu.write(offset::CMDQ_PROD, 4, prod);
    while smmu.read(offset::CMDQ_CONS, 4) != prod {
        std::thread::yield_now();
    }
    Ok(())
}
