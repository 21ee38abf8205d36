//! The program of `--nesting` where the SMMU is QEMU's own: what user space has the kernel send there must
//! do what it does on the engine's.

use super::answers::Answers;
use super::plan::Plan;
use super::run::{DISK, PATIENCE, RAM_MIB, Run};
use super::talk::Talk;
use super::verdict::Ran;
use crate::acpi;
use crate::guest::with_table;
use crate::nvme::{Controller, Disk, Flat};
use crate::qemu::{Device, Machine, OwnSmmu, Process};
use crate::vehicle::{Commands, Ram};
use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of memory that are searched at a time, and what a table that begins in them may go beyond.
const PIECE: usize = 1 << 20;
const BEYOND: usize = 4096;
/// How long to wait before the next search.
const PAUSE: Duration = Duration::from_millis(300);

/// One machine, from its start to its end: twice, because the table that is changed is made by the firmware.
pub(super) fn machine(run: &Run<'_>, firmware: &Path, plan: Plan) -> Result<Ran> {
    let (early, ram) = (Ram::new(RAM_MIB)?, Ram::new(RAM_MIB)?);
    let [disk, trace, initramfs] = ["disk", "trace", "initramfs"].map(|name| run.place.join(name));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&disk)
        .context("cannot make the disk")?;
    file.set_len(DISK)?;
    let mut machine = Machine {
        cpus: run.args.cpus,
        ram_mib: RAM_MIB,
        ram: early.path(),
        kernel: run.parts.kernel.clone(),
        initramfs: run.initramfs.clone(),
        devicetree: None,
        append: format!("{} acpi=force", run.append(&plan)),
        device: Device::Disk(disk),
        own_smmu: Some(OwnSmmu::Nested {
            firmware: firmware.to_owned(),
            trace: trace.clone(),
        }),
        qtest: run.place.join("qtest"),
    };
    let table = acpi::with_canwbs(&made_by_firmware(run, &machine)?)?;
    with_table(&run.initramfs, "iort", &table, &initramfs)?;
    (machine.initramfs, machine.ram) = (initramfs, ram.path());
    let process = Process::start(&mut machine.command(&run.parts.qemu))?;
    let answers = Answers {
        // Serves nobody: it is asked what lies on the disk that QEMU's controller writes.
        controller: Controller::new(Disk::new(file)?),
        dma: Box::new(Flat(ram.memory().clone())),
        smmu: None,
        recording: None,
        trace: Some(trace),
        heard: Commands::new(),
        worker: None,
    };
    let talk = Talk::new(&plan, run.args, run.bar, answers);
    let (boots, stuck) = talk.through(process);
    Ok(Ran {
        plan,
        boots,
        stuck,
        counters: Vec::new(),
    })
}

/// Starts the machine, and ends it as soon as its firmware has put an IORT into memory.
fn made_by_firmware(run: &Run<'_>, machine: &Machine) -> Result<Vec<u8>> {
    let process = Process::start(&mut machine.command(&run.parts.qemu))?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        std::thread::sleep(PAUSE);
        if let Some(table) = table_in(&machine.ram)? {
            process.finish(Duration::ZERO);
            return Ok(table);
        }
    }
    bail!("the firmware made no IORT within {PATIENCE:?}")
}

fn table_in(memory: &Path) -> Result<Option<Vec<u8>>> {
    let mut memory = std::fs::File::open(memory).context("cannot read guest RAM")?;
    let mut piece = Vec::with_capacity(PIECE + BEYOND);
    loop {
        let read = memory.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if let Some(table) = acpi::find(&piece) {
            return Ok(Some(table.to_vec()));
        }
        if read == 0 {
            return Ok(None);
        }
        piece.drain(..piece.len().saturating_sub(BEYOND));
    }
}
