//! Runs in the guest of `vcmdq boot --nesting`: drives the NVMe controller from user space, through
//! iommufd, with a stage 2 under it and then with a stage 1 of its own on top.
//!
//! `nesting ADDRESS`: the device's address on the PCI bus; vfio-pci has it. Speaks with the host as `/init`
//! does; ends with 0 if every check held.
//!
//! | file | what |
//! |---|---|
//! | `host.rs` | verdicts and questions |
//! | `memory.rs` | memory that the device uses |
//! | `vfio.rs`, `iommu.rs` | the kernel's interfaces |
//! | `nvme.rs` | the driver |
//! | `tables.rs` | a guest's stage 1, and its commands |
//! | `transfers.rs` | contents, translations that change, faults |
#![deny(unsafe_code)]

mod host;
mod iommu;
mod memory;
mod nvme;
mod tables;
mod transfers;
mod vfio;

use anyhow::{Context, Result, ensure};
use host::verdict;
use iommu::Iommu;
use memory::{Memory, PAGE};
use nvme::Nvme;
use std::process::ExitCode;
use tables::{ASID, Tables};
use transfers::{END, Event, Transfers, WINDOW};
use vfio::Device;

/// Where stage 2 has memory (in nested translation, the IPA), and a window whose stage 2 changes.
const IPA: u64 = 0x12_3450_0000;
const IPA_WINDOW: u64 = 0x24_6810_0000;
/// The same in a stage 1 of our own; no address is equal to what it is translated to.
const VA: u64 = 0x5678_9ABC_D000;
const VA_WINDOW: u64 = 0x1_2345_6000;
/// Leads to [`IPA_WINDOW`].
const VA_BEYOND: u64 = 0x7FFF_0000_0000;
/// Lies where no table of stage 1 leads to.
const VA_NOWHERE: u64 = 0x2222_2222_2000;
/// The table of stage 1 for it lies where no stage 2 leads to.
const VA_NO_TABLE: u64 = 0x3333_3333_3000;
const IPA_NO_TABLE: u64 = 0x33_0000_0000;
/// The stream's number in our SMMU, which is not its own.
const VSID: u64 = 0x77;

/// What the checks share.
struct Setup {
    device: Device,
    iommu: Iommu,
    memory: Memory,
    stage2: u32,
}

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: nesting PCI-ADDRESS");
        return ExitCode::from(2);
    };
    match run(&address) {
        Ok(()) => ExitCode::SUCCESS,
        // It has been told.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(address: &str) -> Result<()> {
    let setup = Setup::new(address).map_err(|error| {
        let told = verdict("stage2-attach", Err(error));
        told.err().unwrap_or_else(|| anyhow::anyhow!("not set up"))
    })?;
    setup.stage2()?;
    setup.nested()
}

impl Setup {
    /// Memory lies in an address space that is a stage 2 in the SMMU, and the device uses that.
    fn new(address: &str) -> Result<Self> {
        let iommu = Iommu::new()?;
        let device = Device::open(address, &iommu)?;
        let memory = Memory::new(END / PAGE + tables::PAGES)?;
        let stage2 = iommu.stage2(device.id)?;
        iommu.map(&memory, &(0..memory.len()), IPA)?;
        device.attach(stage2)?;
        device.enable()?;
        Ok(Self {
            device,
            iommu,
            memory,
            stage2,
        })
    }

    fn transfers(&self, at: u64) -> Result<Transfers<'_>> {
        let nvme = Nvme::start(&self.device, &self.memory, at)?;
        let memory = &self.memory;
        Ok(Transfers { nvme, memory, at })
    }

    /// Stage 2 alone.
    fn stage2(&self) -> Result<()> {
        let mut transfers = None;
        let begun = self.transfers(IPA).and_then(|begun| {
            let model = transfers.insert(begun).nvme.model()?;
            Ok(format!("{model:?} at {IPA:#x}"))
        });
        verdict("stage2-attach", begun)?;
        let mut transfers = transfers.context("no controller")?;
        verdict("stage2-content", transfers.content())?;
        let mut mapped = false;
        let changed = transfers.window(IPA_WINDOW, |_, part| {
            if std::mem::replace(&mut mapped, true) {
                self.iommu.unmap(IPA_WINDOW, WINDOW)?;
            }
            self.iommu.map(&self.memory, &part, IPA_WINDOW)
        });
        verdict("stage2-remap", changed)?;
        let gone = self.iommu.unmap(IPA_WINDOW, WINDOW);
        let faulted = gone.and_then(|()| {
            transfers.fault(&Event {
                address: IPA_WINDOW,
                ipa: Some(IPA_WINDOW),
                table: false,
            })
        });
        verdict("stage2-fault", faulted)
    }

    /// A stage 1 of our own above it.
    fn nested(&self) -> Result<()> {
        let mut tables = Tables::new(&self.memory, END / PAGE, IPA)?;
        let mut ours = None;
        let mut transfers = None;
        let begun = self.nest(&mut tables).and_then(|smmu| {
            ours = Some(smmu);
            let model = transfers.insert(self.transfers(VA)?).nvme.model()?;
            Ok(format!("{model:?} at {VA:#x}"))
        });
        verdict("nested-attach", begun)?;
        let smmu = ours.context("no SMMU")?;
        let mut transfers = transfers.context("no controller")?;
        verdict("nested-content", transfers.content())?;
        let changed = transfers.window(VA_WINDOW, |round, part| {
            tables.clear(VA_WINDOW, WINDOW)?;
            let commands = match round % 4 {
                0 => tables::forget_all(),
                _ => tables::forget_pages(VA_WINDOW, WINDOW),
            };
            self.iommu.send(smmu, &commands)?;
            tables.map(VA_WINDOW, IPA + part.start as u64, WINDOW)
        });
        verdict("nested-remap", changed)?;
        tables.map(VA_BEYOND, IPA_WINDOW, WINDOW)?;
        let mut mapped = false;
        let changed = transfers.window(VA_BEYOND, |_, part| {
            if std::mem::replace(&mut mapped, true) {
                self.iommu.unmap(IPA_WINDOW, WINDOW)?;
            }
            self.iommu.map(&self.memory, &part, IPA_WINDOW)
        });
        verdict("nested-remap2", changed)?;
        let gone = self.iommu.unmap(IPA_WINDOW, WINDOW);
        let faulted = gone.and_then(|()| faults(&mut transfers, &mut tables));
        verdict("nested-fault", faulted)?;
        verdict("nested-traffic", traffic())
    }

    /// Tables with all of memory in them, and the device behind them.
    fn nest(&self, tables: &mut Tables<'_>) -> Result<iommu::Virtual> {
        tables.map(VA, IPA, self.memory.len())?;
        let smmu = self.iommu.virtual_smmu(self.device.id, self.stage2, VSID)?;
        let table = self.iommu.nested(smmu, self.device.id, tables.entry())?;
        self.device.attach(table)?;
        Ok(smmu)
    }
}

/// Each stage's fault says so: no translation in stage 1, none in stage 2, a table that stage 2 does not
/// reach.
fn faults(transfers: &mut Transfers<'_>, tables: &mut Tables<'_>) -> Result<String> {
    tables.table_at(VA_NO_TABLE, IPA_NO_TABLE)?;
    let cases = [
        (VA_NOWHERE, None, false),
        (VA_BEYOND, Some(IPA_WINDOW), false),
        (VA_NO_TABLE, Some(IPA_NO_TABLE), true),
    ];
    let mut seen = Vec::new();
    for (address, ipa, table) in cases {
        let event = Event {
            address,
            ipa,
            table,
        };
        seen.push(transfers.fault(&event)?);
    }
    Ok(seen.join("; "))
}

/// The host has seen the commands that were sent for us.
fn traffic() -> Result<String> {
    let answer = host::ask(&format!("nesting {ASID}"))?;
    ensure!(answer.starts_with("as Linux"), "{answer}");
    Ok(answer)
}
