//! Runs in the guest of `vcmdq boot --nesting`: drives the NVMe controller from user space, through
//! iommufd, with a stage 2 under it, then with a stage 1 of its own on top, then with dirty tracking, then as a
//! device of a guest whose SMMU is the engine's.
//!
//! `nesting ADDRESS`: the device's address on the PCI bus; vfio-pci has it. Speaks with the host as `/init`
//! does; ends with 0 if every check held.
//!
//! | file | what |
//! |---|---|
//! | `host.rs` | verdicts and questions |
//! | `memory.rs` | memory that the device uses |
//! | `vfio.rs`, `iommu.rs`, `ioctl.rs` | the kernel's interfaces |
//! | `nvme.rs` | the driver |
//! | `tables.rs` | a guest's stage 1, and its commands |
//! | `transfers.rs` | contents, translations that change, dirty pages, faults |
//! | `engine.rs` | the same device once more, by a VMM made of this project's crates |
//! | `vmm.rs`, `watched.rs` | that VMM; the calls that it makes of iommufd, counted |
//! | `guest.rs`, `driver.rs` | its guest: tables and commands; the driver of the SMMU |
//! | `arrivals.rs` | what was sent, beside what has come to the host's SMMU |
#![deny(unsafe_code)]

mod arrivals;
mod driver;
mod engine;
mod guest;
mod host;
mod ioctl;
mod iommu;
mod memory;
mod nvme;
mod tables;
mod transfers;
mod vfio;
mod vmm;
mod watched;

use anyhow::{Result, ensure};
use host::verdict;
use iommu::Iommu;
use memory::{Memory, PAGE};
use std::cell::Cell;
use std::ops::Range;
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
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Every check that can be made; `true` if all held.
fn run(address: &str) -> bool {
    let held = match Setup::new(address) {
        // One after the other, whatever the first has found.
        Ok(setup) => setup.stage2() & setup.nested() & setup.dirty_if_offered(),
        Err(error) => verdict("stage2-attach", &Err(error)),
    };
    held & engine::run(address)
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

    /// A controller that runs, and what it says of itself.
    fn transfers(&self, at: u64) -> Result<(Transfers<'_>, String)> {
        Transfers::begin(&self.device, &self.memory, at)
    }

    /// Stage 2 alone.
    fn stage2(&self) -> bool {
        let Some((mut transfers, ())) = begun(
            "stage2-attach",
            self.transfers(IPA).map(|begun| (begun, ())),
        ) else {
            return false;
        };
        let content = verdict("stage2-content", &transfers.content());
        let changed = self.change_stage2(&mut transfers, IPA_WINDOW);
        let changed = verdict("stage2-remap", &changed);
        let event = Event {
            address: IPA_WINDOW,
            ipa: Some(IPA_WINDOW),
            table: false,
        };
        content & changed & verdict("stage2-fault", &transfers.fault(&event))
    }

    /// Changes where stage 2 leads from [`IPA_WINDOW`], which the device reaches at `window`; in the end,
    /// nowhere.
    fn change_stage2(&self, transfers: &mut Transfers<'_>, window: u64) -> Result<String> {
        let mut mapped = false;
        let changed = transfers.window(window, |_, part| {
            if std::mem::replace(&mut mapped, true) {
                self.iommu.unmap(IPA_WINDOW, WINDOW)?;
            }
            self.iommu.map(&self.memory, &part, IPA_WINDOW)
        });
        if mapped {
            self.iommu.unmap(IPA_WINDOW, WINDOW)?;
        }
        changed
    }

    /// A stage 1 of our own above it.
    fn nested(&self) -> bool {
        let nested = self.nest().and_then(|(tables, smmu)| {
            let begun = self.transfers(VA)?;
            Ok((begun, (tables, smmu)))
        });
        let Some((mut transfers, (mut tables, smmu))) = begun("nested-attach", nested) else {
            return false;
        };
        let content = verdict("nested-content", &transfers.content());
        let changed = transfers.window(VA_WINDOW, |round, part| {
            tables.clear(VA_WINDOW, WINDOW)?;
            let commands = match round % 4 {
                0 => tables::forget_all(),
                _ => tables::forget_pages(VA_WINDOW, WINDOW),
            };
            self.iommu.send(smmu, &commands)?;
            tables.map(VA_WINDOW, IPA + part.start as u64, WINDOW)
        });
        let changed = verdict("nested-remap", &changed);
        let below = tables.map(VA_BEYOND, IPA_WINDOW, WINDOW);
        let below = below.and_then(|()| self.change_stage2(&mut transfers, VA_BEYOND));
        let below = verdict("nested-remap2", &below);
        let faulted = verdict("nested-fault", &faults(&mut transfers, &mut tables));
        content & changed & below & faulted & verdict("nested-traffic", &traffic())
    }

    /// An SMMU that updates no tables has nothing to tell. Whether it should is the host's to say, who
    /// expects the verdict or not.
    fn dirty_if_offered(&self) -> bool {
        match self.iommu.tracks(self.device.id) {
            Ok(true) => self.dirty(),
            Ok(false) => true,
            Err(error) => verdict("dirty-pages", &Err(error)),
        }
    }

    /// A stage 1 of the kernel's whose descriptors tell what the device has written.
    fn dirty(&self) -> bool {
        verdict("dirty-pages", &self.track())
    }

    fn track(&self) -> Result<String> {
        let table = self.iommu.tracking(self.device.id)?;
        self.device.attach(table)?;
        let (mut transfers, _) = self.transfers(IPA)?;
        let mapped = Cell::new(false);
        let afresh = |part: Range<usize>| {
            if mapped.replace(true) {
                self.iommu.unmap(IPA_WINDOW, WINDOW)?;
            }
            self.iommu.map(&self.memory, &part, IPA_WINDOW)?;
            self.iommu.track(table)
        };
        let written = || self.iommu.written(table, IPA_WINDOW, WINDOW);
        transfers.dirty(IPA_WINDOW, afresh, written)
    }

    /// Tables with all of memory in them, and the device behind them.
    fn nest(&self) -> Result<(Tables<'_>, iommu::Virtual)> {
        let mut tables = Tables::new(&self.memory, END / PAGE, IPA, ASID)?;
        tables.map(VA, IPA, self.memory.len())?;
        let smmu = self.iommu.virtual_smmu(self.device.id, self.stage2, VSID)?;
        let table = self.iommu.nested(smmu, self.device.id, tables.entry())?;
        self.device.attach(table)?;
        Ok((tables, smmu))
    }
}

/// Tells whether a controller runs; it, if so, and what belongs to it.
fn begun<'a, T>(
    name: &str,
    begun: Result<((Transfers<'a>, String), T)>,
) -> Option<(Transfers<'a>, T)> {
    match begun {
        Ok(((transfers, seen), more)) => {
            verdict(name, &Ok(seen));
            Some((transfers, more))
        }
        Err(error) => {
            verdict(name, &Err(error));
            None
        }
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
