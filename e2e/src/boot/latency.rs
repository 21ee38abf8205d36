//! Guests that measure how long they map and unmap: on QEMU's own SMMU, on the engine's through the
//! SMMU's queue, and through VCMDQs. One after the other on the same machine, round by round, so that what
//! else goes on meets all of them.

use super::answers::Answers;
use super::args::BootArgs;
use super::plan::Plan;
use super::run::{CMDQV, PATIENCE, PLACE, RAM_MIB, STREAM, begin, disk, teller};
use super::table::{Sample, Table, Way};
use super::talk::Talk;
use super::verdict::{Ran, Verdict};
use super::waited::Waited;
use crate::devicetree::{Place, with_smmu};
use crate::guest::initramfs;
use crate::nvme::{Controller, Flat};
use crate::parts::{Parts, benchmark};
use crate::qemu::{Device, Machine, OwnSmmu, Process, Qtest, devicetree};
use crate::vehicle::{Bases, Commands, Polling, Ram, Smmu, SmmuSettings};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use smmu_core::Capabilities;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vcmdq::Settings;
use vcmdq::metrics::Lateness;
use vcmdq_wording::count;

/// Virtual CPUs of the guests, each with a thread that maps and unmaps.
const CPUS: [u32; 2] = [1, 2];

/// How long a worker looks for work: longer than a guest needs from one unmap to the next.
const SPIN: Duration = Duration::from_millis(5);

/// A SYNC that completes later than that after its PROD is counted, with its cause.
pub(super) const LATE: Duration = Duration::from_micros(20);

/// What all guests have in common.
struct Guests<'a> {
    args: &'a BootArgs,
    parts: Parts,
    initramfs: PathBuf,
    /// A directory for sockets.
    place: &'a Path,
    bar: &'a ProgressBar,
}

/// Measures, prints the table, and says what failed.
///
/// # Errors
///
/// As for [`boot`](super::boot).
pub(super) fn latency(args: &BootArgs) -> Result<Verdict> {
    let (bar, directory) = begin(args.console, &args.directory)?;
    // Before anything is fetched for nothing.
    let program = benchmark(&directory)?;
    let parts = Parts::obtain(&directory, true, &teller(&bar))?;
    let scratch = tempfile::tempdir().context("no place for sockets")?;
    let archive = scratch.path().join("initramfs");
    initramfs(&parts, &[("dma_map_benchmark", &program)], &archive)?;
    let guests = Guests {
        args,
        parts,
        initramfs: archive,
        place: scratch.path(),
        bar: &bar,
    };
    let (mut table, mut verdict) = (Table::default(), Verdict::default());
    for _ in 0..args.rounds {
        for cpus in CPUS {
            for way in Way::ALL {
                let ran = guests.measure(cpus, way)?;
                for check in ran.boots.iter().flat_map(|booted| &booted.checks) {
                    let kib = check.name.strip_prefix("latency-");
                    let kib = kib.and_then(|kib| kib.parse().ok());
                    if let (Some(kib), Some(sample)) = (kib, Sample::parse(&check.detail)) {
                        table.add(cpus, kib, way, sample);
                    }
                }
                verdict.machines.push(ran);
            }
        }
    }
    bar.finish_and_clear();
    println!("\n{}", table.render(cores()));
    Ok(verdict)
}

impl Guests<'_> {
    fn measure(&self, cpus: u32, way: Way) -> Result<Ran> {
        let ram = Ram::new(RAM_MIB)?;
        let smmu = match way {
            Way::Qemu => None,
            Way::Own | Way::Vcmdq => Some(Smmu::new(&ram, settings(cpus, way)?)?),
        };
        let machine = Machine {
            cpus: present(cpus),
            ram_mib: RAM_MIB,
            ram: ram.path(),
            kernel: self.parts.kernel.clone(),
            initramfs: self.initramfs.clone(),
            devicetree: self.devicetree(cpus, way)?,
            append: append(cpus),
            device: Device::Idle,
            own_smmu: (way == Way::Qemu).then_some(OwnSmmu::One),
            qtest: self.place.join("qtest"),
        };
        let process = Process::start(&mut machine.command(&self.parts.qemu))?;
        if let Some(smmu) = &smmu {
            let qtest = Qtest::connect(&machine.qtest, PATIENCE)?;
            smmu.messages().connect(qtest);
        }
        let thread = if is_served(cpus, way) {
            "registers"
        } else {
            "vcmdq-0"
        };
        let answers = Answers {
            controller: Controller::new(disk()?),
            dma: Box::new(Flat(ram.memory().clone())),
            smmu: smmu.as_ref(),
            recording: None,
            trace: None,
            heard: Commands::new(),
            worker: smmu.as_ref().map(|_| Waited::of(thread)),
        };
        let plan = Plan::latency();
        println!("{} with {}", way.name(), count(cpus, "vCPU"));
        let talk = Talk::new(&plan, self.args, self.bar, answers);
        let (boots, stuck) = talk.through(process);
        if let Some(smmu) = &smmu {
            tell_late(&smmu.lateness());
        }
        Ok(Ran {
            plan,
            boots,
            stuck,
            counters: Vec::new(),
        })
    }

    /// QEMU's own, with the engine's SMMU in it if the guest is to have that.
    fn devicetree(&self, cpus: u32, way: Way) -> Result<Option<PathBuf>> {
        if way == Way::Qemu {
            return Ok(None);
        }
        let mut tree = devicetree(&self.parts.qemu, present(cpus), RAM_MIB, self.place)?;
        let place = Place {
            cmdqv: (way == Way::Vcmdq).then_some(CMDQV),
            ..PLACE
        };
        with_smmu(&mut tree, &place, true)?;
        let blob = self.place.join("edited.dtb");
        std::fs::write(&blob, tree.write()?)?;
        Ok(Some(blob))
    }
}

fn tell_late(late: &Lateness) {
    let share = late.share().unwrap_or_default() * 100.0;
    println!(
        "  SYNCs later than {LATE:?}: {} of {} ({share:.2} %): asleep {}, preempted {}, \
         backend {}, guard {}, other {}",
        late.late, late.measured, late.asleep, late.preempted, late.backend, late.guard, late.other
    );
}

fn settings(cpus: u32, way: Way) -> Result<SmmuSettings> {
    let queues = u64::from(cpus.next_power_of_two());
    Ok(SmmuSettings {
        bases: Bases {
            smmu: PLACE.smmu,
            cmdqv: (way == Way::Vcmdq).then_some((CMDQV, queues)),
        },
        cmdqv_spi: PLACE.first_spi + 4,
        stream: STREAM,
        drop: None,
        caps: Capabilities::builder().build()?,
        engine: engine(cpus, way),
        polling: match way {
            Way::Own if is_served(cpus, way) => Polling::Serving,
            Way::Vcmdq => Polling::Seldom,
            Way::Own | Way::Qemu => Polling::Beside,
        },
    })
}

/// Whether who polls the registers serves the SMMU's queue, too: the detour through a second thread
/// is none that a VMM takes.
fn is_served(cpus: u32, way: Way) -> bool {
    way == Way::Own && (cpus as usize) < cores()
}

/// A worker that has a processor to itself need not look whether somebody else wants it.
fn engine(cpus: u32, way: Way) -> Settings {
    let roomy = way == Way::Vcmdq && (cpus as usize) < cores();
    let ordinary = Settings::default();
    Settings {
        spin: SPIN,
        late_after: Some(LATE),
        yield_after: if roomy { SPIN } else { ordinary.yield_after },
        ..ordinary
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// CPUs of the machine, of which the guest starts `cpus`. In a machine of one, TCG leaves its loop at
/// every `yield` and WFE of a guest that waits, some microseconds each that no SMMU takes.
fn present(cpus: u32) -> u32 {
    cpus.max(2)
}

fn append(cpus: u32) -> String {
    let mode = super::Mode::Strict.options();
    format!("console=ttyAMA0 loglevel=4 panic=-1 maxcpus={cpus} {mode} vcmdq.checks=ask")
}
