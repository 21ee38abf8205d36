//! QEMU, a kernel with its modules, and busybox: named by the environment, the system's own, or
//! unpacked from Debian's packages into the build directory.
//!
//! | variable | names |
//! |---|---|
//! | `VCMDQ_QEMU` | a `qemu-system-aarch64` of version 10.1 or newer |
//! | `VCMDQ_KERNEL` | an arm64 kernel image |
//! | `VCMDQ_MODULES` | the directory of its modules, or of nothing if all is built in |
//! | `VCMDQ_CMDQV_KERNEL` | an arm64 kernel with `tegra241-cmdqv`, iommufd and everything built in |
//! | `VCMDQ_DMA_MAP_BENCHMARK` | Linux's program of that name, for arm64 and static |
//! | `VCMDQ_NESTING` | this project's program for the guest, for arm64 and static |
//! | `VCMDQ_BUSYBOX` | a static busybox for arm64 |
//! | `VCMDQ_QEMU_X86` | a `qemu-system-x86_64` |
//! | `VCMDQ_MOCK_KERNEL` | an x86-64 kernel whose iommufd has the mock IOMMU |
//! | `VCMDQ_MOCK` | this project's program for that kernel, for x86-64 and static |
//! | `VCMDQ_FIRMWARE` | UEFI for QEMU's machine `virt`, as QEMU takes it for `-bios` |

mod apt;
mod built;
mod debian;
mod emulator;
mod mock;

pub use mock::MockParts;

use emulator::{ARM, Emulator};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is needed is not here and cannot be fetched. The text is one line that says what to do.
#[derive(Debug)]
pub struct Missing(pub String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// How QEMU is started: a program, and what stands before the arguments of each run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    program: PathBuf,
    before: Vec<String>,
    /// Where its loadable modules lie, if not where it was built to look for them.
    modules: Option<PathBuf>,
}

impl Qemu {
    fn installed(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            before: Vec::new(),
            modules: None,
        }
    }

    /// A command without arguments for the machine.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.before).stdin(Stdio::null());
        if let Some(modules) = &self.modules {
            command.env("QEMU_MODULE_DIR", modules);
        }
        command
    }

    /// Its version, if it runs at all.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32)> {
        let output = self.command().arg("--version").output().ok()?;
        version_in(&String::from_utf8_lossy(&output.stdout))
    }

    /// Whether it is as new as is needed.
    fn serves(&self, emulator: &Emulator) -> bool {
        let version = self.version();
        version.is_some_and(|version| version >= emulator.oldest)
    }
}

fn version_in(text: &str) -> Option<(u32, u32)> {
    let numbers = text.split("version ").nth(1)?;
    let mut numbers = numbers.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Everything that a boot is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// QEMU for arm64.
    pub qemu: Qemu,
    /// The kernel image.
    pub kernel: PathBuf,
    /// Below it lie the kernel's modules, `.ko` or `.ko.xz`.
    pub modules: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
}

impl Parts {
    /// Finds or fetches everything; `directory` keeps what is fetched. With `own_kernel` the
    /// kernel is one that drives VCMDQs and nests, which no distribution has: it is found, not fetched. `tell` hears what is being
    /// done when it takes long.
    ///
    /// # Errors
    ///
    /// [`Missing`] if a part is not to be had.
    pub fn obtain(
        directory: &Path,
        own_kernel: bool,
        tell: &dyn Fn(&str),
    ) -> Result<Self, Missing> {
        let qemu = installed_qemu(&ARM)?;
        let (kernel, modules) = match own_kernel {
            true => {
                let kernel = named("VCMDQ_CMDQV_KERNEL")?;
                let kernel = kernel.or_else(|| built::kernel(directory));
                (Some(kernel.ok_or_else(missing_cmdqv)?), None)
            }
            false => (named("VCMDQ_KERNEL")?, named("VCMDQ_MODULES")?),
        };
        let busybox = named("VCMDQ_BUSYBOX")?;
        let packages = debian::Packages::new(directory, tell);
        let kernel_and_modules = match (kernel, modules) {
            (Some(kernel), Some(modules)) => Ok((kernel, modules)),
            (Some(kernel), None) => Ok((kernel, directory.join("no-modules"))),
            (None, _) => packages.kernel().map_err(|e| missing_kernel(&e)),
        };
        let (kernel, modules) = kernel_and_modules?;
        Ok(Self {
            qemu: match qemu {
                Some(qemu) => qemu,
                None => packages.qemu(&ARM).map_err(|e| missing_qemu(&e))?,
            },
            kernel,
            modules,
            busybox: match busybox {
                Some(busybox) => busybox,
                None => packages.busybox().map_err(|e| missing_busybox(&e))?,
            },
        })
    }
}

/// QEMU alone, found or fetched as [`Parts::obtain`] does.
///
/// # Errors
///
/// It is not to be had.
pub fn qemu(directory: &Path, tell: &dyn Fn(&str)) -> Result<Qemu, Missing> {
    match installed_qemu(&ARM)? {
        Some(qemu) => Ok(qemu),
        None => {
            let packages = debian::Packages::new(directory, tell);
            packages.qemu(&ARM).map_err(|e| missing_qemu(&e))
        }
    }
}

/// UEFI for QEMU's arm64 machine, found or fetched.
///
/// # Errors
///
/// It is not to be had.
pub fn firmware(directory: &Path, tell: &dyn Fn(&str)) -> Result<PathBuf, Missing> {
    let installed = || {
        FIRMWARES
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
    };
    match named("VCMDQ_FIRMWARE")?.or_else(installed) {
        Some(firmware) => Ok(firmware),
        None => {
            let packages = debian::Packages::new(directory, tell);
            packages.firmware().map_err(|e| missing_firmware(&e))
        }
    }
}

/// Where distributions install it.
const FIRMWARES: [&str; 2] = [
    "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
    "/usr/share/edk2/aarch64/QEMU_EFI.fd",
];

/// The one that is named, or the system's own if it serves.
fn installed_qemu(emulator: &Emulator) -> Result<Option<Qemu>, Missing> {
    Ok(match named(emulator.variable)? {
        Some(path) => Some(Qemu::installed(path)),
        None => Some(Qemu::installed(emulator.program)).filter(|qemu| qemu.serves(emulator)),
    })
}

/// Linux's `dma_map_benchmark`.
///
/// # Errors
///
/// It is not to be had.
pub fn benchmark(directory: &Path) -> Result<PathBuf, Missing> {
    let program = named("VCMDQ_DMA_MAP_BENCHMARK")?.or_else(|| built::benchmark(directory));
    program.ok_or_else(|| {
        let what = "no dma_map_benchmark: run `cargo xtask kernel`, or name a static one for arm64 \
                    in VCMDQ_DMA_MAP_BENCHMARK";
        Missing(what.into())
    })
}

/// This project's program for the guest.
///
/// # Errors
///
/// It is not to be had.
pub fn nesting(directory: &Path) -> Result<PathBuf, Missing> {
    let program = named("VCMDQ_NESTING")?.or_else(|| built::nesting(directory));
    program.ok_or_else(|| {
        let what = "no program for the guest: run `cargo xtask guest`, which builds it, or name a static \
                    one for arm64 in VCMDQ_NESTING";
        Missing(what.into())
    })
}

/// The path in a variable, which must be there.
fn named(name: &str) -> Result<Option<PathBuf>, Missing> {
    match env::var_os(name).map(PathBuf::from) {
        Some(path) if path.exists() => Ok(Some(path)),
        Some(path) => Err(Missing(format!("{name}: {} is not there", path.display()))),
        None => Ok(None),
    }
}

fn missing_qemu(why: &anyhow::Error) -> Missing {
    Missing(format!(
        "no QEMU: install qemu-system-aarch64 >= 10.1 or name one in VCMDQ_QEMU ({why:#})"
    ))
}

fn missing_kernel(why: &anyhow::Error) -> Missing {
    Missing(format!(
        "no kernel: name an arm64 image in VCMDQ_KERNEL and its modules in VCMDQ_MODULES ({why:#})"
    ))
}

fn missing_cmdqv() -> Missing {
    let what = "no kernel with tegra241-cmdqv and iommufd: run `cargo xtask kernel`, which builds one in some minutes, \
                or name an arm64 image in VCMDQ_CMDQV_KERNEL";
    Missing(what.into())
}

fn missing_firmware(why: &anyhow::Error) -> Missing {
    Missing(format!(
        "no firmware: install qemu-efi-aarch64 or name its QEMU_EFI.fd in VCMDQ_FIRMWARE ({why:#})"
    ))
}

fn missing_busybox(why: &anyhow::Error) -> Missing {
    Missing(format!(
        "no busybox: name a static one for arm64 in VCMDQ_BUSYBOX ({why:#})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_two_numbers_and_old_ones_do_not_serve() {
        let line = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)";
        assert_eq!(version_in(line), Some((11, 1)));
        assert_eq!(version_in("QEMU emulator version 7.2.19"), Some((7, 2)));
        assert_eq!(version_in("something else"), None);
        assert!((10, 0) < ARM.oldest && (11, 0) >= ARM.oldest);
    }

    #[test]
    fn a_qemu_that_cannot_be_started_does_not_serve() {
        assert!(!Qemu::installed("/no/such/qemu").serves(&ARM));
    }
}
