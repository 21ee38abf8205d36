//! Two instances behind one frame: emulated and assigned devices of a guest share an SMMU.
//!
//!     cargo run -p vcmdq --example two-instances
//!
//! The emulated device's stream is bound to the software SMMU, the assigned one's to a backend that
//! stands for a host's SMMU and writes down what it is asked for (`impl Backend for Host` is all that a
//! backend must have). What names an ASID goes to both; what names a stream goes to its own instance. It
//! prints:
//!
//! ```text
//! refused: stream 0x2 is behind physical SMMU 1 but its instance is on 0: bind it to an instance of its own SMMU
//!
//! CFGI_CD of stream 2
//!   host: context descriptor of stream 2
//! TLBI_NH_ASID of ASID 1
//!   host: ASID 1
//!   core: the emulated device's next read is aborted: no translation
//!   event of stream 1
//! ATC_INV of stream 2
//!   host: device TLB of stream 2 at 0x1000
//! ATC_INV of stream 1
//!   core: the emulated device forgets 0x1000
//! ```

mod guest;

use dispatch::backend::{DeviceCache, DeviceTimeout, Software};
use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, Scope, WaiterId, Wake};
use guest::driver::Driver;
use guest::tables::{Ram, Space};
use smmu_core::command::{AtcInv, Cfgi, Command, Tlbi};
use smmu_core::{Asid, Capabilities, StreamId, SubstreamId, Vmid};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use vcmdq::dma::{Device, Requester};
use vcmdq::registers::RegisterFrame;
use vcmdq::{
    Binding, Engine, Frame, FrameSettings, Placement, Seams, Settings, StdThreads, VmMemory,
};
use vm_memory::GuestAddress;

const EMULATED: StreamId = StreamId(1);
const ASSIGNED: StreamId = StreamId(2);
const IOVA: u64 = 0x1000;
const PAGE: u64 = 0x80_0000;

/// What happened behind the frame, in order. Filled from the worker.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Stands for a host's SMMU: a real one would encode each batch for the host and make one call.
struct Host(Arc<Log>);

impl Backend for Host {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            ranges_of_any_granule: false,
            caches_contexts: true,
            may_block: true,
            widen_above: 1 << 30,
        }
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        for request in batch.requests() {
            self.0.add(format!("  host: {}", describe(request.scope)));
        }
        Ok(())
    }

    /// What `submit` has returned from is done in the host's hardware.
    fn barrier(&self, _: WaiterId) -> Barrier {
        Barrier::Done
    }

    /// No barrier is ever pending.
    fn attach(&self, _: Arc<dyn Wake>) {}

    fn fail_closed(&self, stream: Option<StreamId>) {
        self.0.add(format!("  host: {stream:?} aborts"));
    }
}

fn describe(scope: Scope) -> String {
    match scope {
        Scope::Context(Asid(asid)) => format!("ASID {asid}"),
        Scope::DeviceTlb { stream, addr, .. } => {
            format!("device TLB of stream {} at {addr:#x}", stream.0)
        }
        Scope::ContextTable { stream, .. } => format!("context descriptor of stream {}", stream.0),
        other => format!("{other:?}"),
    }
}

/// The emulated device's own translation cache.
struct Cache(Arc<Log>);

impl DeviceCache for Cache {
    fn invalidate(
        &self,
        _: Option<SubstreamId>,
        _: bool,
        addr: u64,
        _: u8,
    ) -> Result<(), DeviceTimeout> {
        let line = format!("  core: the emulated device forgets {addr:#x}");
        self.0.add(line);
        Ok(())
    }
}

/// The VMM: one frame, two instances, a stream of each.
fn bind(frame: &Frame, core: &Arc<Software>, log: &Arc<Log>) -> Result<Device, Box<dyn Error>> {
    // The numbers are the VMM's own; the engine only compares them (one S2, one host VMID).
    let emulated = Placement { smmu: 0, stage2: 0 };
    let assigned = Placement { smmu: 1, stage2: 0 };
    let first = frame.add_instance(core.clone(), emulated);
    let second = frame.add_instance(Arc::new(Host(log.clone())), assigned);
    let binding = |instance, placement| Binding {
        instance,
        placement,
    };
    if let Err(refused) = frame.bind(ASSIGNED, binding(first, assigned)) {
        println!("refused: {refused}\n");
    }
    frame.bind(EMULATED, binding(first, emulated))?;
    frame.bind(ASSIGNED, binding(second, assigned))?;
    core.attach_device(EMULATED, Arc::new(Cache(log.clone())));
    Ok(frame.device(core, Requester::new(EMULATED))?)
}

/// Has the guest send a command, and prints what came of it when its SYNC is done.
fn show(guest: &mut Driver, log: &Log, name: &str, command: Command) -> Result<(), Box<dyn Error>> {
    guest.publish(&[command])?;
    guest.wait();
    println!("{name}");
    log.take().iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let ram = Ram::from_ranges(&[(GuestAddress(0), 16 << 20)])?;
    let memory = Arc::new(VmMemory::new(ram.clone()));
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
    let settings = FrameSettings {
        caps: Capabilities::default().with_ats(),
        ..FrameSettings::default()
    };
    let frame = Arc::new(engine.add_frame(settings, Seams::new(memory)));
    let (core, log) = (Arc::new(Software::default()), Arc::new(Log::default()));
    let mut device = bind(&frame, &core, &log)?;

    // The guest shares one address space between both devices.
    let space = Space::new(&ram, 1)?;
    space.map(IOVA, PAGE)?;
    space.attach(EMULATED.0)?;
    space.attach(ASSIGNED.0)?;
    let registers = Arc::new(RegisterFrame::new(frame.clone())?);
    let mut guest = Driver::boot(&ram, &registers)?;
    device.read(IOVA, &mut [0; 8])?;
    log.take();

    let context = Command::Cfgi(Cfgi::Cd {
        stream: ASSIGNED,
        substream: SubstreamId(0),
        leaf: true,
    });
    show(&mut guest, &log, "CFGI_CD of stream 2", context)?;
    space.unmap(IOVA)?;
    let (vmid, asid) = (Vmid(0), Asid(1));
    let of_asid = Command::Tlbi(Tlbi::NhAsid { vmid, asid });
    show(&mut guest, &log, "TLBI_NH_ASID of ASID 1", of_asid)?;
    if let Err(refused) = device.read(IOVA, &mut [0; 8]) {
        println!(
            "  core: the emulated device's next read is {}",
            refused.cause
        );
    }
    let event = guest.next_event()?.ok_or("no event")?;
    println!("  event of stream {}", event.dw0().stream());
    for stream in [ASSIGNED, EMULATED] {
        let device_tlb = Command::AtcInv(AtcInv {
            stream,
            substream: None,
            global: false,
            addr: IOVA,
            size: 0,
        });
        let name = format!("ATC_INV of stream {}", stream.0);
        show(&mut guest, &log, &name, device_tlb)?;
    }
    frame.pause();
    engine.stop();
    Ok(())
}
