//! The engine's backend behind the interface that Cloud Hypervisor's SMMUv3 calls.
//!
//!     cargo run -p vcmdq --example physical-iommu
//!
//! That device emulates registers and queues itself and hands STEs and single invalidations to a
//! `PhysicalIommu`, of which it has one for iommufd: so only devices that the host's IOMMU knows can be
//! behind it. `OverSoftware` implements the same methods over the software SMMU, and emulated devices can.
//! `PhysicalIommu` here has that trait's shape, written down anew; `consume` stands for its caller.
//! It prints:
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

#[path = "guest/tables.rs"]
mod tables;

use dispatch::backend::Software;
use dispatch::dispatch::{Report, dispatch};
use dispatch::{Backend, Barrier, Batch, Invalidation, WaiterId, Wake};
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::config::StreamTable;
use smmu_core::decode::decode;
use smmu_core::encode::encode;
use smmu_core::guest_memory::store_u64;
use smmu_core::range::TlbiRange;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::ste::{Ste, SteWord0, config};
use smmu_core::translate::{Failed, Setup};
use smmu_core::{Asid, Capabilities, Gpa, GuestMemory, MemoryError, StreamId, Vmid};
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tables::{LOG2_STREAMS, Ram, STREAM_TABLE, Space};
use vcmdq::VmMemory;
use vcmdq::dma::{Device, DeviceSeams, FaultSink, Requester};
use vcmdq::events::Answer;
use vm_memory::{Bytes, GuestAddress};

// The interface, in the shape that the caller expects.

enum TableEntry {
    Smmuv3Ste([u64; 8]),
}

enum Request {
    Smmuv3Cmd([u64; 2]),
}

enum HwInfo {
    Smmuv3 { idr: [u32; 6], ats_supported: bool },
}

trait PhysicalIommu: Send + Sync {
    fn hw_info(&self) -> io::Result<HwInfo>;
    fn install_table_entry(&self, device_id: u32, entry: TableEntry) -> io::Result<()>;
    fn set_passthrough(&self, device_id: u32) -> io::Result<()>;
    fn set_blocking(&self, device_id: u32) -> io::Result<()>;
    fn invalidate(&self, request: Request) -> io::Result<()>;
}

// The adapter.

/// Who waits for barriers: the caller makes one call at a time, so there is one.
const CALLER: WaiterId = WaiterId(0);

/// The guest's memory, and above it a stream table of the VMM's own. It lies beyond every output
/// address size (52 bits), so nothing that a guest sets up leads there.
struct WithTable {
    guest: Arc<dyn GuestMemory>,
    table: Vec<AtomicU64>,
}

const TABLE: u64 = 1 << 55;

impl GuestMemory for WithTable {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        let Some(offset) = at.0.checked_sub(TABLE) else {
            return self.guest.words(at, count);
        };
        let first = usize::try_from(offset / 8).unwrap_or(usize::MAX);
        let rest = self.table.get(first..).filter(|rest| !rest.is_empty());
        let rest = rest.ok_or(MemoryError::NotBacked(at))?;
        Ok(&rest[..count.min(rest.len())])
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.guest.store_u32(at, value, order)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        if at.0 < TABLE {
            self.guest.mark_dirty(at, len);
        }
    }
}

/// Tells the caller's thread that a pending barrier is done.
#[derive(Default)]
struct Woken {
    done: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Woken {
    fn wake(&self, _: WaiterId) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

impl Woken {
    fn wait(&self) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = self.changed.wait_while(done, |done| !*done);
        *woken.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// The software SMMU as a `PhysicalIommu`.
struct OverSoftware {
    core: Arc<Software>,
    caps: Capabilities,
    memory: Arc<WithTable>,
    woken: Arc<Woken>,
    call: Mutex<(Batch, Report)>,
}

impl OverSoftware {
    fn new(guest: Arc<dyn GuestMemory>, caps: Capabilities, log2_streams: u8) -> Self {
        let words = (Ste::BYTES as usize / 8) << log2_streams;
        let table = (0..words).map(|_| AtomicU64::new(0)).collect();
        let memory = Arc::new(WithTable { guest, table });
        let (core, woken) = (Arc::new(Software::default()), Arc::new(Woken::default()));
        core.attach(woken.clone());
        core.memory_changed(memory.clone());
        let streams = StreamTable {
            base: Gpa(TABLE),
            log2size: log2_streams,
            split: 6,
            two_level: false,
        };
        core.set_up(Some(Setup {
            streams,
            caps,
            e2h: false,
            record_bad_stream_id: true,
        }));
        Self {
            core,
            caps,
            memory,
            woken,
            call: Mutex::default(),
        }
    }

    /// Returns when no access of a device uses what was removed before.
    fn settle(&self) {
        while self.core.barrier(CALLER) == Barrier::Pending {
            self.woken.wait();
        }
    }

    fn changed(&self, change: &Cfgi) {
        self.core.configuration_changed(change, CALLER);
        self.settle();
    }

    /// Through an invalid entry, so that no access goes by half of one.
    fn put(&self, device_id: u32, ste: [u64; 8]) -> io::Result<()> {
        let _one_at_a_time = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, leaf) = (StreamId(device_id), true);
        let at = |n: u64| Gpa(TABLE + Ste::BYTES * u64::from(device_id) + 8 * n);
        let set = |n, word| store_u64(&*self.memory, at(n), word, Ordering::Release);
        set(0, 0).map_err(io::Error::other)?;
        self.changed(&Cfgi::Ste { stream, leaf });
        for (n, word) in (0..).zip(ste).skip(1).chain([(0, ste[0])]) {
            set(n, word).map_err(io::Error::other)?;
        }
        self.changed(&Cfgi::Ste { stream, leaf });
        Ok(())
    }

    fn put_config(&self, device_id: u32, config: u8) -> io::Result<()> {
        let word = SteWord0::new().with_v(true).with_config(config);
        self.put(device_id, [word.into_bits(), 0, 0, 0, 0, 0, 0, 0])
    }

    /// What cannot be carried out is retried, widened, and in the end the stream aborts; only a device that
    /// does not answer is the caller's to hear of.
    fn submit(&self, request: Invalidation) -> io::Result<()> {
        let mut call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        let (batch, report) = &mut *call;
        report.clear();
        batch.restart(request.vmid);
        batch.set_waiter(CALLER);
        batch.push(request, 0);
        dispatch(&*self.core, batch, report);
        self.settle();
        match report.unanswered.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl PhysicalIommu for OverSoftware {
    fn hw_info(&self) -> io::Result<HwInfo> {
        let Capabilities {
            idr0,
            idr1,
            idr3,
            idr5,
            ..
        } = self.caps;
        let (idr0, idr1) = (idr0.into_bits(), idr1.into_bits());
        Ok(HwInfo::Smmuv3 {
            idr: [idr0, idr1, 0, idr3.into_bits(), 0, idr5.into_bits()],
            ats_supported: self.caps.idr0.ats(),
        })
    }

    fn install_table_entry(&self, device_id: u32, entry: TableEntry) -> io::Result<()> {
        let TableEntry::Smmuv3Ste(words) = entry;
        self.put(device_id, words)
    }

    fn set_passthrough(&self, device_id: u32) -> io::Result<()> {
        self.put_config(device_id, config::BYPASS)
    }

    fn set_blocking(&self, device_id: u32) -> io::Result<()> {
        self.put_config(device_id, config::ABORT)
    }

    fn invalidate(&self, request: Request) -> io::Result<()> {
        let Request::Smmuv3Cmd([dw0, dw1]) = request;
        let illegal = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        match decode(RawCommand { dw0, dw1 }, &self.caps).map_err(illegal)? {
            Command::Tlbi(tlbi) => self.submit(Invalidation::from_tlbi(tlbi)),
            Command::AtcInv(inv) => self.submit(Invalidation::from_atc_inv(&inv)),
            Command::Cfgi(change) => {
                let _one_at_a_time = self.call.lock().unwrap_or_else(PoisonError::into_inner);
                self.changed(&change);
                Ok(())
            }
            _ => Err(io::Error::other("no invalidation")),
        }
    }
}

// Its caller and a device, cut down to what shows the adapter.

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
    let mut device = Device::new(&adapter.core, Requester::new(STREAM), seams)?;
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
