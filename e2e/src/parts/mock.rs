//! What a run on the mock IOMMU of a Linux host is made of.

use super::emulator::X86;
use super::{Missing, Qemu, built, debian, installed_qemu, named};
use std::path::{Path, PathBuf};

/// QEMU for x86-64, the kernel with the mock, the program that is its first process.
#[derive(Clone, Debug)]
pub struct MockParts {
    /// QEMU for x86-64.
    pub qemu: Qemu,
    /// The kernel image.
    pub kernel: PathBuf,
    /// A static program.
    pub program: PathBuf,
}

impl MockParts {
    /// Finds kernel and program, finds or fetches QEMU into `directory`. `tell` hears what is being done
    /// when it takes long.
    ///
    /// # Errors
    ///
    /// [`Missing`] if a part is not to be had.
    pub fn obtain(directory: &Path, tell: &dyn Fn(&str)) -> Result<Self, Missing> {
        let kernel = named("VCMDQ_MOCK_KERNEL")?.or_else(|| built::mock_kernel(directory));
        let program = named("VCMDQ_MOCK")?.or_else(|| built::mock(directory));
        Ok(Self {
            kernel: kernel.ok_or_else(|| {
                let what = "no kernel with the mock IOMMU: run `cargo xtask kernel --mock`, which builds one in some \
                            minutes, or name an x86-64 image in VCMDQ_MOCK_KERNEL";
                Missing(what.into())
            })?,
            program: program.ok_or_else(|| {
                let what = "no program for the mock IOMMU: run `cargo xtask mock`, which builds it, or name a \
                            static one for x86-64 in VCMDQ_MOCK";
                Missing(what.into())
            })?,
            qemu: match installed_qemu(&X86)? {
                Some(qemu) => qemu,
                None => {
                    let fetched = debian::Packages::new(directory, tell).qemu(&X86);
                    fetched.map_err(|why| {
                        let what = "no QEMU: install qemu-system-x86_64 or name one in VCMDQ_QEMU_X86";
                        Missing(format!("{what} ({why:#})"))
                    })?
                }
            },
        })
    }
}
