//! The arguments of a machine.

use crate::devicetree::Tree;
use crate::parts::Qemu;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Virtual CPUs.
    pub cpus: u32,
    /// MiB of RAM.
    pub ram_mib: u64,
    /// The file that is its RAM.
    pub ram: PathBuf,
    /// The kernel image.
    pub kernel: PathBuf,
    /// The first file system.
    pub initramfs: PathBuf,
    /// The devicetree; QEMU's own without one.
    pub devicetree: Option<PathBuf>,
    /// The kernel's command line.
    pub append: String,
    /// The device in [`SLOT`].
    pub device: Device,
    /// QEMU's own SMMU, with the devices behind it.
    pub own_smmu: Option<OwnSmmu>,
    /// The socket for interrupts, made by QEMU.
    pub qtest: PathBuf,
}

/// A PCI device.
#[derive(Clone, Debug)]
pub enum Device {
    /// A device model that is served at this socket.
    Served(PathBuf),
    /// A device that does nothing, for a driver that only maps and unmaps.
    Idle,
    /// QEMU's own NVMe controller, with this file as its disk.
    Disk(PathBuf),
}

/// QEMU's own SMMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnSmmu {
    /// Stage 1, found through the devicetree.
    One,
    /// Both stages, found through ACPI.
    Nested {
        /// UEFI, which the tables of ACPI come with.
        firmware: PathBuf,
        /// Where QEMU writes down what is invalidated.
        trace: PathBuf,
    },
}

/// What QEMU writes of an invalidation.
const TRACED: [&str; 6] = [
    "smmuv3_cmdq_opcode",
    "smmuv3_cmdq_cfgi_ste",
    "smmuv3_cmdq_cfgi_cd",
    "smmuv3_range_inval",
    "smmuv3_cmdq_tlbi_nh",
    "smmuv3_cmdq_tlbi_s12_vmid",
];

impl Device {
    fn argument(&self) -> String {
        match self {
            Self::Served(socket) => {
                let socket = socket.display();
                format!(
                    r#"{{"driver":"vfio-user-pci","addr":"{SLOT}","socket":{{"type":"unix","path":"{socket}"}}}}"#
                )
            }
            Self::Idle => format!("pci-testdev,addr={SLOT}"),
            Self::Disk(_) => format!("nvme,drive=disk,serial=1,addr={SLOT}"),
        }
    }
}

/// Slot of the device on bus 0; function 0.
pub const SLOT: u32 = 2;

/// What both runs of QEMU must agree on.
const BOARD: &str = "virt,gic-version=2";
const CPU: &str = "cortex-a72";

impl Machine {
    /// The command that starts it: console on the standard streams.
    #[must_use]
    pub fn command(&self, qemu: &Qemu) -> Command {
        let mut command = qemu.command();
        let text = |path: &Path| path.display().to_string();
        let memory = format!(
            "memory-backend-file,id=ram,size={}M,mem-path={},share=on",
            self.ram_mib,
            text(&self.ram)
        );
        let iommu = match self.own_smmu {
            Some(_) => ",iommu=smmuv3",
            None => "",
        };
        command
            .args(["-machine", &format!("{BOARD},memory-backend=ram{iommu}")])
            .args(["-object", &memory])
            .args(["-m", &format!("{}M", self.ram_mib)])
            .args(["-smp", &self.cpus.to_string(), "-cpu", CPU])
            .args(["-accel", "tcg,thread=multi"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-serial", "stdio", "-monitor", "none"])
            .args(["-kernel", &text(&self.kernel)])
            .args(["-initrd", &text(&self.initramfs)])
            .args(["-append", &self.append])
            .args(["-device", &self.device.argument()])
            .args([
                "-qtest",
                &format!("unix:{},server=on,wait=off", text(&self.qtest)),
            ])
            .args(["-qtest-log", "none"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Device::Disk(file) = &self.device {
            let drive = format!("id=disk,if=none,format=raw,file={}", text(file));
            command.args(["-drive", &drive]);
        }
        if let Some(OwnSmmu::Nested { firmware, trace }) = &self.own_smmu {
            command
                .args(["-global", "arm-smmuv3.stage=nested"])
                .args(["-bios", &text(firmware)])
                .args(["-D", &text(trace)])
                .args(TRACED.iter().flat_map(|event| ["-trace", event]));
        }
        if let Some(devicetree) = &self.devicetree {
            command.args(["-dtb", &text(devicetree)]);
        }
        command
    }
}

/// The devicetree that QEMU makes for such a machine.
///
/// # Errors
///
/// QEMU does not start, or writes something else.
pub fn devicetree(qemu: &Qemu, cpus: u32, ram_mib: u64, scratch: &Path) -> Result<Tree> {
    let file = scratch.join("own.dtb");
    let output = qemu
        .command()
        .args(["-machine", &format!("{BOARD},dumpdtb={}", file.display())])
        .args(["-smp", &cpus.to_string(), "-cpu", CPU])
        .args(["-m", &format!("{ram_mib}M")])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .output()
        .context("cannot start QEMU")?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "QEMU: {}", errors.trim());
    let blob = std::fs::read(&file).context("QEMU wrote no devicetree")?;
    Ok(Tree::read(&blob)?)
}
