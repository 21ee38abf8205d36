//! For which machine a kernel is built.

use std::env;

/// A kind of kernel: its processor, what it must have, and what builds it.
#[derive(Debug)]
pub(super) struct Machine {
    /// The directory of its results below `target/e2e`.
    pub(super) place: &'static str,
    /// The directory of its objects, and that of its tools.
    pub(super) objects: &'static str,
    pub(super) tools: &'static str,
    /// What the kernel calls the processor.
    pub(super) architecture: &'static str,
    /// The prefix of the compiler's programs.
    pub(super) cross: &'static str,
    /// What the kernel must have beside the smallest configuration that there is.
    pub(super) fragment: &'static str,
    /// The image: what make calls it, and where it then lies among the objects.
    pub(super) image: (&'static str, &'static str),
    /// The compiler's packages, for a system whose own is for another processor.
    compiler: &'static [&'static str],
    /// What `compiler` is for.
    processor: &'static str,
    /// What a machine that builds Rust programs still lacks beside a compiler.
    packages: &'static [&'static str],
    /// Headers of libraries that tools of the kernel are linked with.
    pub(super) headers: &'static [&'static str],
    /// The command that takes the result.
    pub(super) next: &'static str,
}

/// The guest of `vcmdq boot --cmdqv` and `--nesting`.
pub(super) const GUEST: Machine = Machine {
    place: "cmdqv",
    objects: "objects",
    tools: "tools",
    architecture: "arm64",
    cross: "aarch64-linux-gnu-",
    fragment: include_str!("fragment.config"),
    image: ("Image", "arch/arm64/boot/Image"),
    compiler: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    // Linux's benchmark is linked with the cross compiler's C library, on whatever machine.
    processor: "none",
    packages: &["flex", "bison", "bc"],
    headers: &[],
    next: "cargo xtask boot --cmdqv",
};

/// The host of `vcmdq mock`.
pub(super) const MOCK: Machine = Machine {
    place: "mock",
    objects: "objects-mock",
    tools: "tools-mock",
    architecture: "x86_64",
    cross: "x86_64-linux-gnu-",
    fragment: include_str!("mock.config"),
    image: ("bzImage", "arch/x86/boot/bzImage"),
    compiler: &["gcc-x86-64-linux-gnu"],
    processor: "x86_64",
    packages: &["flex", "bison", "bc", "libelf-dev"],
    headers: &["libelf.h"],
    next: "cargo xtask mock",
};

impl Machine {
    /// Packages with all that builds it.
    pub(super) fn packages(&self) -> Vec<&'static str> {
        let foreign = env::consts::ARCH != self.processor;
        let compiler = self.compiler.iter().filter(|_| foreign);
        compiler.chain(self.packages).copied().collect()
    }

    /// Programs that show that they are there.
    pub(super) fn programs(&self) -> Vec<String> {
        let compiler = format!("{}gcc", self.cross);
        let others = ["flex", "bison", "bc"].map(str::to_owned);
        [compiler].into_iter().chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::lost;
    use super::*;

    /// Options that `machine`'s fragment must have.
    fn has(machine: &Machine, options: &[&str]) {
        let nothing = lost(machine.fragment, "");
        for option in options {
            let line = format!("CONFIG_{option}=y");
            assert!(nothing.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_fragments_have_what_the_kernels_are_for() {
        has(
            &GUEST,
            &[
                "TEGRA241_CMDQV",
                "ARM_SMMU_V3_SVA",
                "ARM_SMMU_V3_IOMMUFD",
                "VFIO_DEVICE_CDEV",
                "VFIO_PCI",
                "DMA_MAP_BENCHMARK",
                "BLK_DEV_NVME",
            ],
        );
        let mock = ["IOMMUFD_TEST", "FAILSLAB", "FAULT_INJECTION_DEBUG_FS"];
        has(&MOCK, &mock);
    }

    #[test]
    fn a_compiler_is_fetched_for_another_processor_only() {
        let own = MOCK.packages().contains(&"gcc-x86-64-linux-gnu");
        assert_eq!(own, env::consts::ARCH != "x86_64");
        assert!(GUEST.packages().contains(&"gcc-aarch64-linux-gnu"));
    }
}
