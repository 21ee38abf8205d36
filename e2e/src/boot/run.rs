//! One QEMU after the other, each from its start to its end.

use super::answers::Answers;
use super::args::{BootArgs, Whose};
use super::beneath;
use super::latency::LATE;
use super::plan::Plan;
use super::recording::{Output, Recording};
use super::talk::Talk;
use super::verdict::{Ran, Verdict};
use crate::devicetree::{Place, with_smmu};
use crate::guest::initramfs;
use crate::nvme::{Controller, Disk, Dma, Fault, Flat, NvmeMetrics, Vectors, serve};
use crate::parts::{Parts, firmware, nesting};
use crate::qemu::{Device, Machine, Process, Qtest, SLOT, devicetree};
use crate::vehicle::{Bases, Commands, Polling, RAM_BASE, Ram, Smmu, SmmuSettings};
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget};
use smmu_core::caps::TableUpdates;
use smmu_core::{Capabilities, StreamId};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vcmdq::Settings;
use vcmdq_wording::count;

/// MiB of guest RAM.
pub(super) const RAM_MIB: u64 = 512;
/// Where the registers lie: the last 2 MiB of RAM.
pub(super) const PLACE: Place = Place {
    reserved: RAM_BASE + (RAM_MIB << 20) - (2 << 20),
    bytes: 2 << 20,
    smmu: RAM_BASE + (RAM_MIB << 20) - (2 << 20),
    cmdqv: None,
    first_spi: 0x60,
};
/// Where the registers of a CMDQV lie: behind those of the SMMU, aligned to its pages.
pub(super) const CMDQV: u64 = PLACE.smmu + 0x4_0000;
/// The device's stream: its place on the bus.
pub(super) const STREAM: StreamId = StreamId(SLOT << 3);
/// Bytes of the disk.
pub(super) const DISK: u64 = 32 << 20;
/// Threads that serve the controller.
const WORKERS: usize = 3;
/// How long QEMU may take to make its sockets, and to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Fetches what is needed, boots every machine of the plan, and says what came out of it.
///
/// # Errors
///
/// [`Missing`](crate::parts::Missing) if a part is not to be had; [`CannotRecord`](super::CannotRecord) if the
/// recording has nowhere to go; anything else if a machine cannot be
/// started. What fails in a guest is no error: it is in the verdict.
pub fn boot(args: &BootArgs) -> Result<Verdict> {
    ensure!(
        args.record.is_none() || args.modes.len() == 1,
        "a recording is of one mode: name it with --modes"
    );
    ensure!(
        args.smmu == Whose::Engine || args.nesting,
        "on QEMU's own SMMU there is only --nesting to be seen"
    );
    // Before anything is fetched or booted for nothing.
    let output = args.record.as_deref().map(Output::open).transpose()?;
    let (bar, directory) = begin(args.console, &args.directory)?;
    let program = match args.nesting {
        true => Some(nesting(&directory)?),
        false => None,
    };
    let parts = Parts::obtain(&directory, args.cmdqv || args.nesting, &teller(&bar))?;
    let firmware = match args.smmu {
        Whose::Qemu => Some(firmware(&directory, &teller(&bar))?),
        Whose::Engine => None,
    };
    let programs: Vec<_> = program.iter().map(|path| ("nesting", &**path)).collect();
    let scratch = tempfile::tempdir().context("no place for sockets")?;
    initramfs(&parts, &programs, &scratch.path().join("initramfs"))?;
    let mut verdict = Verdict::default();
    for plan in Plan::of(args) {
        let place = scratch.path().join(plan.mode.name());
        std::fs::create_dir(&place)?;
        let run = Run {
            args,
            parts: &parts,
            initramfs: scratch.path().join("initramfs"),
            place,
            output: output.as_ref(),
            bar: &bar,
        };
        verdict.machines.push(match &firmware {
            Some(firmware) => beneath::machine(&run, firmware, plan)?,
            None => run.machine(plan)?,
        });
    }
    bar.finish_and_clear();
    Ok(verdict)
}

/// A line of progress, and the directory of the parts.
pub(crate) fn begin(console: bool, directory: &Path) -> Result<(ProgressBar, PathBuf)> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    if !console && std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok((bar, directory.canonicalize()?))
}

/// Says what takes long.
pub(crate) fn teller(bar: &ProgressBar) -> impl Fn(&str) {
    |what: &str| {
        bar.set_message(what.to_owned());
        if bar.is_hidden() {
            println!("{what}");
        }
    }
}

/// What one machine is made of.
pub(super) struct Run<'a> {
    pub(super) args: &'a BootArgs,
    pub(super) parts: &'a Parts,
    pub(super) initramfs: PathBuf,
    /// A directory for its sockets.
    pub(super) place: PathBuf,
    /// Where the recording goes.
    output: Option<&'a Output>,
    pub(super) bar: &'a ProgressBar,
}

impl Run<'_> {
    fn machine(&self, plan: Plan) -> Result<Ran> {
        let ram = Ram::new(RAM_MIB)?;
        let smmu = match self.args.no_smmu {
            true => None,
            false => Some(self.smmu(&ram)?),
        };
        let controller = Controller::new(disk()?);
        let way = |_| match &smmu {
            Some(smmu) => smmu.way(STREAM),
            None => Ok(Box::new(Flat(ram.memory().clone())) as Box<dyn Dma>),
        };
        let ways = (0..WORKERS).map(way).collect::<Result<_, Fault>>()?;
        let workers = controller.start(ways)?;
        let device = self.place.join("device");
        let vectors = self.vectors();
        let served = serve(&device, controller.clone(), vectors)?;
        let machine = self.describe(&plan, &ram, device)?;
        let process = Process::start(&mut machine.command(&self.parts.qemu))?;
        let qtest = Qtest::connect(&machine.qtest, PATIENCE)?;
        if let Some(smmu) = &smmu {
            smmu.messages().connect(qtest);
        }
        let answers = Answers {
            controller: controller.clone(),
            dma: way(0)?,
            smmu: smmu.as_ref(),
            recording: self.recording(&plan),
            trace: None,
            heard: Commands::new(),
            worker: None,
        };
        let talk = Talk::new(&plan, self.args, self.bar, answers);
        let (boots, stuck) = talk.through(process);
        served.finish().context("the device's connection")?;
        drop(workers);
        let mut counters = smmu.as_ref().map_or(Vec::new(), Smmu::counters);
        counters.extend(of_device(&controller.metrics()));
        Ok(Ran {
            plan,
            boots,
            stuck,
            counters,
        })
    }

    fn recording(&self, plan: &Plan) -> Option<Recording<'_>> {
        let output = self.output?;
        let queues = if self.args.cmdqv { "VCMDQs" } else { "CMDQ" };
        let ranges = if self.args.no_ril { "without" } else { "with" };
        let (mode, cpus) = (plan.mode.name(), self.args.cpus);
        let what = format!(
            "readers and writers on {}; {queues}, {mode}, {ranges} range invalidation",
            count(cpus, "CPU")
        );
        let machine = format!("{}, QEMU TCG", count(cpus, "virtual CPU"));
        Some(Recording::new(output, machine, what))
    }

    fn smmu(&self, ram: &Ram) -> Result<Smmu> {
        let updates = match self.args.nesting {
            true => TableUpdates::DirtyState,
            false => TableUpdates::None,
        };
        let caps = Capabilities::builder()
            .stages(self.args.offer().stages())
            .table_updates(updates)
            // A host's guests invalidate what devices cache, too.
            .ats(self.args.nesting);
        // Range invalidation is part of every version from 3.2 on.
        let caps = match self.args.no_ril {
            true => caps.range_invalidation(false).version(1),
            false => caps,
        };
        let queues = u64::from(self.args.cpus.next_power_of_two());
        let bases = Bases {
            smmu: PLACE.smmu,
            cmdqv: self.args.cmdqv.then_some((CMDQV, queues)),
        };
        let settings = SmmuSettings {
            bases,
            cmdqv_spi: PLACE.first_spi + 4,
            stream: STREAM,
            drop: self.args.drop_invalidations,
            caps: caps.build()?,
            engine: Settings {
                late_after: Some(LATE),
                ..Settings::default()
            },
            polling: Polling::default(),
        };
        Smmu::new(ram, settings)
    }

    /// Without an SMMU, a message to where QEMU's interrupt controller lies would be a write to RAM
    /// that is none.
    fn vectors(&self) -> Vectors {
        match self.args.intx || self.args.no_smmu {
            true => Vectors::None,
            false => Vectors::for_cpus(self.args.cpus),
        }
    }

    fn describe(&self, plan: &Plan, ram: &Ram, device: PathBuf) -> Result<Machine> {
        Ok(Machine {
            cpus: self.args.cpus,
            ram_mib: RAM_MIB,
            ram: ram.path(),
            kernel: self.parts.kernel.clone(),
            initramfs: self.initramfs.clone(),
            devicetree: Some(self.devicetree()?),
            append: self.append(plan),
            device: Device::Served(device),
            own_smmu: None,
            qtest: self.place.join("qtest"),
        })
    }

    /// QEMU's own devicetree, with the SMMU in it if there is one.
    fn devicetree(&self) -> Result<PathBuf> {
        let mut tree = devicetree(&self.parts.qemu, self.args.cpus, RAM_MIB, &self.place)?;
        if !self.args.no_smmu {
            let place = Place {
                cmdqv: self.args.cmdqv.then_some(CMDQV),
                ..PLACE
            };
            with_smmu(&mut tree, &place, true)?;
        }
        let blob = self.place.join("edited.dtb");
        std::fs::write(&blob, tree.write()?)?;
        Ok(blob)
    }

    /// The kernel's command line.
    pub(super) fn append(&self, plan: &Plan) -> String {
        // Without a console to show, only what is wrong is worth the time of a serial line.
        let level = if self.args.console { 7 } else { 4 };
        let mode = plan.mode.options();
        // The interrupt controller cannot tell devices apart; nothing here depends on that.
        let unsafe_interrupts = match self.args.nesting {
            true => "iommufd.allow_unsafe_interrupts=1 ",
            false => "",
        };
        format!(
            "console=ttyAMA0 loglevel={level} panic=-1 {mode} {unsafe_interrupts}vcmdq.checks=ask"
        )
    }
}

/// An empty disk.
pub(super) fn disk() -> Result<Disk> {
    let file = tempfile::tempfile().context("cannot make the disk")?;
    file.set_len(DISK)?;
    Ok(Disk::new(file)?)
}

fn of_device(nvme: &NvmeMetrics) -> impl Iterator<Item = (String, u64)> {
    let counters = [
        ("nvme admin commands", nvme.admin),
        ("nvme i/o commands", nvme.io),
        ("nvme most at a time", nvme.most_open.into()),
        ("nvme transfers that faulted", nvme.faulted),
        ("nvme entries lost", nvme.lost),
        ("nvme messages", nvme.messages),
    ];
    counters
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
}
