//! The device once more, this time as a guest's: its SMMU is the engine's, and what the guest says there goes
//! through the engine's backend to the kernel and to the host's SMMU.

use crate::guest::{
    BY_PAGE, CONTEXT, Guest, IPA, PAGES, VSID, WAYS, change_of_context, whole_device,
};
use crate::host::verdict;
use crate::iommu::Iommu;
use crate::memory::Memory;
use crate::transfers::Transfers;
use crate::vfio::Device;
use crate::vmm::Vmm;
use crate::watched::Withheld;
use crate::{VA, VA_NOWHERE, VA_WINDOW};
use anyhow::{Context, Result, bail, ensure};
use smmu_core::command::{Command, Tlbi};
use smmu_core::spec::event::{EventId, EventRecord};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};
use vcmdq_iommufd::Attachment;

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing is told for so long when everything has been told.
const QUIET: Duration = Duration::from_millis(200);

/// An STE's first word with Config as abort and as bypass; Valid.
const STE_ABORT: u64 = 1;
const STE_BYPASS: u64 = 1 | 0b100 << 1;
/// The same as stage 2, which the guest's SMMU has not.
const STE_INVALID: u64 = 1 | 0b110 << 1;

/// What the checks share.
pub(crate) struct Bench<'a> {
    pub(crate) vmm: &'a Vmm,
    device: &'a Device,
    pub(crate) memory: &'a Memory,
    guest: RefCell<Guest<'a>>,
    /// What the backend had sent when counting began.
    pub(crate) entries: Cell<u64>,
}

/// Every check; `true` if all held.
pub(crate) fn run(address: &str) -> bool {
    match made(address) {
        Ok((iommu, device, memory, vmm)) => checks(&iommu, &device, &memory, &vmm, address),
        Err(error) => verdict("engine-attach", &Err(error)),
    }
}

fn made(address: &str) -> Result<(Iommu, Device, Memory, Vmm)> {
    let iommu = Iommu::new()?;
    let device = Device::open(address, &iommu)?;
    let memory = Memory::new(PAGES)?;
    iommu.map(&memory, &(0..memory.len()), IPA)?;
    let vmm = Vmm::new(&iommu, &device, (&memory, IPA), VSID)?;
    device.enable()?;
    Ok((iommu, device, memory, vmm))
}

fn checks(iommu: &Iommu, device: &Device, memory: &Memory, vmm: &Vmm, address: &str) -> bool {
    let begun = Bench::attach(vmm, device, memory).and_then(|bench| {
        let transfers = bench.transfers(VA)?;
        Ok((bench, transfers))
    });
    let (bench, mut transfers) = match begun {
        Ok((bench, (transfers, seen))) => {
            verdict("engine-attach", &Ok(seen));
            (bench, transfers)
        }
        Err(error) => return verdict("engine-attach", &Err(error)),
    };
    let vmid = bench.host_vmid(iommu);
    let content = verdict("engine-content", &transfers.content());
    let remap = verdict("engine-remap", &bench.remap(&mut transfers));
    let ste = verdict("engine-ste", &bench.streams(&mut transfers));
    let event = verdict("engine-event", &bench.events(&mut transfers));
    let traffic = vmid.and_then(|vmid| bench.traffic(vmid, address));
    let traffic = verdict("engine-traffic", &traffic);
    let replaced = bench.replace(iommu, &mut transfers, address);
    let replaced = verdict("engine-stage2", &replaced);
    let withheld = verdict("engine-withheld", &bench.withheld(&mut transfers));
    content & remap & ste & event & traffic & replaced & withheld
}

impl<'a> Bench<'a> {
    /// The guest boots, and its driver takes the device.
    fn attach(vmm: &'a Vmm, device: &'a Device, memory: &'a Memory) -> Result<Self> {
        let attached = |want: &str, holds: fn(&Attachment) -> bool| {
            let is = vmm.attached()?;
            ensure!(holds(&is), "{want} is attached to {is:?}");
            Ok(())
        };
        attached("before the guest boots, the device", |is| {
            *is == Attachment::Bypass
        })?;
        let mut guest = Guest::boot(memory, vmm)?;
        attached("a stream without an STE", |is| *is == Attachment::Abort)?;
        guest.configure(guest.entry())?;
        attached("a stream with stage 1", |is| {
            matches!(is, Attachment::Stage1(_))
        })?;
        Ok(Self {
            vmm,
            device,
            memory,
            guest: RefCell::new(guest),
            entries: Cell::new(0),
        })
    }

    /// A controller that runs, and what it says of itself.
    fn transfers(&self, at: u64) -> Result<(Transfers<'a>, String)> {
        Transfers::begin(self.device, self.memory, at)
    }

    fn issue(&self, commands: &[Command]) -> Result<()> {
        self.guest.borrow_mut().driver.issue(commands)
    }

    /// A window of the guest's leads elsewhere, and each way of invalidating it has its turn.
    fn remap(&self, transfers: &mut Transfers<'_>) -> Result<String> {
        let changed = transfers.window(VA_WINDOW, |round, part| {
            self.guest.borrow_mut().remap(round % WAYS, &part)
        })?;
        if self.vmm.caps.idr0.ats() {
            self.issue(&[whole_device()])?;
        }
        let metrics = self.vmm.backend.metrics();
        let (calls, entries) = (metrics.calls, metrics.entries);
        Ok(format!("{changed}; {entries} commands in {calls} calls"))
    }

    /// The stream is something else, and the same again.
    fn streams(&self, transfers: &mut Transfers<'a>) -> Result<String> {
        // Under way all the time: no moment in which the device has no page table.
        let changed =
            transfers.window(VA_WINDOW, |_, part| self.guest.borrow_mut().exchange(&part))?;
        let entry = self.guest.borrow().entry();
        self.configure([STE_ABORT, entry[1]])?;
        ensure!(
            self.vmm.attached()? == Attachment::Abort,
            "it does not abort"
        );
        transfers.is_cut_off().context("of a stream that aborts")?;
        self.configure([STE_BYPASS, entry[1]])?;
        let (mut by_ipa, _) = self.transfers(IPA).context("of a stream that bypasses")?;
        by_ipa.content().context("of a stream that bypasses")?;
        self.configure(entry)?;
        let again = self.transfers(VA);
        (*transfers, _) = again.context("of a stream that translates again")?;
        let content = transfers.content();
        content.context("of a stream that translates again")?;
        let attached = self.vmm.streams.metrics().attached;
        Ok(format!("{changed}; {attached} times attached"))
    }

    fn configure(&self, entry: [u64; 2]) -> Result<()> {
        self.guest.borrow_mut().configure(entry)
    }

    /// A fault of stage 1 is the guest's, and so is an STE that is none.
    fn events(&self, transfers: &mut Transfers<'a>) -> Result<String> {
        transfers.misses(VA_NOWHERE)?;
        let record = self.event(EventId::Translation)?;
        let (first, second) = (record.dw0(), record.dw1());
        let fault = (
            record.id(),
            first.stream(),
            second.s2(),
            record.input_addr() & !0xFFF,
        );
        let want = (Some(EventId::Translation), VSID.0, false, VA_NOWHERE);
        ensure!(fault == want, "{record:x?}");
        self.silence()?;
        let entry = self.guest.borrow().entry();
        self.configure([STE_INVALID, entry[1]])?;
        let invalid = self.event(EventId::BadSte)?;
        ensure!(invalid.dw0().stream() == VSID.0, "{invalid:x?}");
        self.configure(entry)?;
        transfers.content()?;
        let events = self.vmm.streams.metrics();
        ensure!(events.stray == 0, "{events:?}");
        Ok(format!(
            "{:?} of vSID {:#x} at {:#x}; {:?}",
            EventId::Translation,
            first.stream(),
            record.input_addr(),
            EventId::BadSte
        ))
    }

    /// Takes what is still told. QEMU's controller goes on to the end of a transfer, with an event for every word.
    fn silence(&self) -> Result<()> {
        let begin = Instant::now();
        while self.vmm.turn(QUIET)? {
            let metrics = self.vmm.streams.metrics();
            ensure!(
                begin.elapsed() < PATIENCE,
                "events have no end: {metrics:?}"
            );
        }
        while self.next_event()?.is_some() {}
        Ok(())
    }

    /// Waits for an event of the guest's; what comes late of a transfer is passed over.
    fn event(&self, want: EventId) -> Result<EventRecord> {
        let begin = Instant::now();
        loop {
            if let Some(record) = self.next_event()? {
                if record.id() == Some(want) {
                    return Ok(record);
                }
                let late = record.id() == Some(EventId::Translation);
                ensure!(late, "{record:x?} instead of {want:?}");
                continue;
            }
            ensure!(begin.elapsed() < PATIENCE, "no {want:?}");
            self.vmm.turn(Duration::from_millis(100))?;
        }
    }

    fn next_event(&self) -> Result<Option<EventRecord>> {
        self.guest.borrow_mut().driver.event()
    }

    /// Another stage 2, with a VMID of its own; the old address space is not used any more.
    fn replace(
        &self,
        iommu: &Iommu,
        transfers: &mut Transfers<'a>,
        address: &str,
    ) -> Result<String> {
        let next = iommu.another()?;
        next.map(self.memory, &(0..self.memory.len()), IPA)?;
        let replaced = self.vmm.replace_stage2(self.device, &next)?;
        iommu.destroy().context("the old address space")?;
        transfers.content()?;
        let vmid = self.host_vmid(&next)?;
        let changed = transfers.window(VA_WINDOW, |round, part| {
            self.guest.borrow_mut().remap(round % WAYS, &part)
        })?;
        self.arrived(vmid, address)?;
        Ok(format!("VMID {vmid}; {changed}; a gap of {replaced:?}"))
    }

    /// What the engine does not pass on is missed, by what the device reads and writes.
    fn withheld(&self, transfers: &mut Transfers<'a>) -> Result<String> {
        let mut seen = vec![self.misses(transfers, Withheld::Translations, BY_PAGE)?];
        // How long descriptors are cached is the SMMU's own business: QEMU's keeps them, the engine's for one handle
        // of a device's, and each transfer of this controller has a handle of its own.
        if transfers.of_qemu {
            seen.push(self.misses(transfers, Withheld::Configuration, CONTEXT)?);
        }
        let content = transfers.content();
        content.context("nothing is withheld any more")?;
        Ok(seen.join("; "))
    }

    fn misses(&self, transfers: &mut Transfers<'a>, what: Withheld, way: usize) -> Result<String> {
        let changes = Cell::new(0);
        let noticed = transfers.window(VA_WINDOW, |round, part| {
            changes.set(round);
            // The first is made as it should be, so that something is cached.
            let what = if round == 0 { Withheld::Nothing } else { what };
            self.vmm.watched.withhold(what);
            self.guest.borrow_mut().remap(way, &part)
        });
        self.vmm.watched.withhold(Withheld::Nothing);
        self.issue(&[change_of_context(), Command::Tlbi(Tlbi::NsnhAll)])?;
        match (noticed, changes.get()) {
            (Err(error), 1) => Ok(format!("{what:?}: {error:#}")),
            (Ok(_), _) => bail!("{what:?} withheld, and nobody notices"),
            (Err(error), round) => Err(error.context(format!("in change {round}"))),
        }
    }
}
