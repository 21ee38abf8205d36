//! A virtio device behind the SMMU: a device model that knows nothing of one.
//!
//!     cargo run -p vcmdq --example virtio-device
//!
//! The device model is `virtio-queue`'s usual loop over any `vm_memory::GuestMemory`. The VMM gives it
//! `StreamMemory`, the address space of its stream, so the rings and every buffer are I/O virtual addresses
//! (VIRTIO_F_ACCESS_PLATFORM) that the guest's page tables translate. While the device holds slices of
//! a buffer, a SYNC that has to wait for them does. It prints:
//!
//! ```text
//! the device answers: A BUFFER AND ITS RINGS, TRANSLATED
//! the guest unmaps the buffer while the device reads it: SYNC waits
//! the device is done with it: SYNC is done
//! the device cannot use the next chain
//! the guest has an event: F_TRANSLATION of stream 3 at IOVA 0x4000
//! ```

mod guest;

use dispatch::backend::Software;
use guest::driver::Driver;
use guest::tables::{Ram, Space};
use smmu_core::command::{Command, Tlbi};
use smmu_core::range::TlbiRange;
use smmu_core::{Asid, StreamId, Vmid};
use std::error::Error;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vcmdq::dma::{Requester, StreamMemory};
use vcmdq::registers::RegisterFrame;
use vcmdq::{Binding, Engine, FrameSettings, Placement, Seams, Settings, StdThreads, VmMemory};
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

type Outcome = Result<(), Box<dyn Error>>;

const STREAM: StreamId = StreamId(3);
const ASID: u16 = 1;
/// I/O virtual addresses of the rings and of two buffers; physically they lie in reverse order.
const RINGS: u64 = 0x1000;
const INPUT: u64 = 0x4000;
const OUTPUT: u64 = 0x5000;
const TEXT: &str = "a buffer and its rings, translated";
/// Offsets in the page of the rings.
const AVAILABLE: u64 = 0x200;
const USED: u64 = 0x400;

/// Where the guest's driver has mapped a page.
fn page(iova: u64) -> u64 {
    0x90_0000 - iova
}

/// The device model: it answers each chain's readable bytes in capitals.
struct Capitals {
    queue: Queue,
    memory: Arc<StreamMemory<Ram>>,
}

impl Capitals {
    fn new(memory: StreamMemory<Ram>) -> Result<Self, virtio_queue::Error> {
        let mut queue = Queue::new(16)?;
        queue.set_desc_table_address(Some(RINGS as u32), Some(0));
        queue.set_avail_ring_address(Some((RINGS + AVAILABLE) as u32), Some(0));
        queue.set_used_ring_address(Some((RINGS + USED) as u32), Some(0));
        queue.set_ready(true);
        let memory = Arc::new(memory);
        Ok(Self { queue, memory })
    }

    /// Serves the next chain. `meanwhile` happens while the device holds the chain's buffers.
    fn serve(&mut self, meanwhile: impl FnOnce() -> Outcome) -> Outcome {
        let chain = self.queue.iter(self.memory.clone())?.next();
        let chain = chain.ok_or("no chain is available")?;
        let head = chain.head_index();
        let mut reader = chain.clone().reader(&*self.memory)?;
        let mut writer = chain.writer(&*self.memory)?;
        meanwhile()?;
        let mut text = vec![0; reader.available_bytes()];
        reader.read_exact(&mut text)?;
        writer.write_all(&text.to_ascii_uppercase())?;
        let len = u32::try_from(writer.bytes_written())?;
        drop((reader, writer));
        Ok(self.queue.add_used(&*self.memory, head, len)?)
    }
}

/// The guest's driver of the device: offers the two buffers, for the `n`th time.
fn offer(ram: &Ram, n: u16) -> Outcome {
    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    let len = u32::try_from(TEXT.len())?;
    ram.write_slice(TEXT.as_bytes(), GuestAddress(page(INPUT)))?;
    let rings = page(RINGS);
    let input = Descriptor::new(INPUT, len, NEXT, 1);
    let output = Descriptor::new(OUTPUT, len, WRITE, 0);
    for (at, descriptor) in [(rings, input), (rings + 16, output)] {
        ram.write_obj(RawDescriptor::from(descriptor), GuestAddress(at))?;
    }
    // Both descriptors are one chain, whose head is descriptor 0, as is the ring's every entry.
    let index = GuestAddress(rings + AVAILABLE + 2);
    Ok(ram.store(n.to_le(), index, Ordering::Release)?)
}

/// The guest takes a buffer away: its driver waits for SYNC behind this.
fn unmap(space: &Space, guest: &mut Driver) -> Outcome {
    space.unmap(INPUT)?;
    let (vmid, asid, range) = (Vmid(0), Asid(ASID), TlbiRange::page(INPUT));
    guest.publish(&[Command::Tlbi(Tlbi::NhVa { vmid, asid, range })])
}

fn main() -> Outcome {
    let ram = Ram::from_ranges(&[(GuestAddress(0), 16 << 20)])?;
    let memory = Arc::new(VmMemory::new(ram.clone()));
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
    let frame = Arc::new(frame);
    let core = Arc::new(Software::default());
    let placement = Placement::default();
    let instance = frame.add_instance(core.clone(), placement);
    let binding = Binding {
        instance,
        placement,
    };
    frame.bind(STREAM, binding)?;
    let memory = frame.stream_memory(&core, Requester::new(STREAM))?;
    let mut device = Capitals::new(memory)?;

    // The guest boots and sets up the device's queue.
    let space = Space::new(&ram, ASID)?;
    for iova in [RINGS, INPUT, OUTPUT] {
        space.map(iova, page(iova))?;
    }
    space.attach(STREAM.0)?;
    let registers = Arc::new(RegisterFrame::new(frame.clone())?);
    let mut guest = Driver::boot(&ram, &registers)?;

    offer(&ram, 1)?;
    device.serve(|| Ok(()))?;
    let mut answer = [0; TEXT.len()];
    ram.read_slice(&mut answer, GuestAddress(page(OUTPUT)))?;
    println!("the device answers: {}", String::from_utf8_lossy(&answer));

    offer(&ram, 2)?;
    device.serve(|| {
        unmap(&space, &mut guest)?;
        while !registers.ring().is_waiting() && !guest.is_done() {
            std::thread::yield_now();
        }
        let state = if guest.is_done() { "is done" } else { "waits" };
        println!("the guest unmaps the buffer while the device reads it: SYNC {state}");
        Ok(())
    })?;
    guest.wait();
    println!("the device is done with it: SYNC is done");

    offer(&ram, 3)?;
    if device.serve(|| Ok(())).is_err() {
        println!("the device cannot use the next chain");
    }
    let event = guest.next_event()?.ok_or("no event")?;
    let what = event.id().ok_or("an event that is none")?.name();
    let (stream, at) = (event.dw0().stream(), event.input_addr());
    println!("the guest has an event: {what} of stream {stream} at IOVA {at:#x}");
    frame.pause();
    engine.stop();
    Ok(())
}
