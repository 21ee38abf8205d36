//! The adapter: the software SMMU behind [`PhysicalIommu`].

use crate::memory::WithTable;
use crate::shape::{HwInfo, PhysicalIommu, Request, TableEntry};
use dispatch::backend::Software;
use dispatch::dispatch::{Report, dispatch};
use dispatch::{Backend, Barrier, Batch, Invalidation, WaiterId, Wake};
use smmu_core::command::{Cfgi, Command};
use smmu_core::decode::decode;
use smmu_core::guard::NoSlot;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::ste::{SteWord0, config};
use smmu_core::translate::Setup;
use smmu_core::{Capabilities, GuestMemory, StreamId};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use vcmdq::dma::{Device, DeviceSeams, Requester};

/// Who waits for barriers: the caller makes one call at a time, so there is one.
const CALLER: WaiterId = WaiterId(0);

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

/// Word 0 of an entry that is nothing but its Config.
fn of_config(config: u8) -> u64 {
    let word = SteWord0::new().with_v(true).with_config(config);
    word.into_bits()
}

/// The software SMMU as a `PhysicalIommu`.
pub(crate) struct OverSoftware {
    core: Arc<Software>,
    caps: Capabilities,
    memory: Arc<WithTable>,
    woken: Arc<Woken>,
    call: Mutex<(Batch, Report)>,
}

impl OverSoftware {
    /// For `2^log2_streams` streams, which abort with an event until they have an entry.
    pub(crate) fn new(guest: Arc<dyn GuestMemory>, caps: Capabilities, log2_streams: u8) -> Self {
        let memory = Arc::new(WithTable::new(guest, log2_streams));
        let (core, woken) = (Arc::new(Software::default()), Arc::new(Woken::default()));
        core.attach(woken.clone());
        core.memory_changed(memory.clone());
        core.set_up(Some(Setup {
            streams: memory.streams(),
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

    /// Through an entry that aborts, so that no access goes by half of one.
    fn put(&self, device_id: u32, ste: [u64; 8]) -> io::Result<()> {
        let _one_at_a_time = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, leaf) = (StreamId(device_id), true);
        let set = |n, word| {
            let set = self.memory.set(device_id, n, word);
            set.map_err(io::Error::other)
        };
        set(0, of_config(config::ABORT))?;
        self.changed(&Cfgi::Ste { stream, leaf });
        for (n, word) in (0..).zip(ste).skip(1).chain([(0, ste[0])]) {
            set(n, word)?;
        }
        self.changed(&Cfgi::Ste { stream, leaf });
        Ok(())
    }

    fn put_config(&self, device_id: u32, config: u8) -> io::Result<()> {
        self.put(device_id, [of_config(config), 0, 0, 0, 0, 0, 0, 0])
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
        // Of those that answer at once, and of those that were given time.
        if self.core.take_unanswered(CALLER) || !report.unanswered.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// A device model's handle on its stream.
    pub(crate) fn device(&self, who: Requester, seams: DeviceSeams) -> Result<Device, NoSlot> {
        Device::new(&self.core, who, seams)
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
