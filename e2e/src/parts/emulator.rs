//! QEMU's programs, one for each kind of machine.

/// One of them: where it is found, and how new it must be.
#[derive(Debug)]
pub(super) struct Emulator {
    /// The variable that names one.
    pub(super) variable: &'static str,
    /// The program.
    pub(super) program: &'static str,
    /// Debian's package with it.
    pub(super) package: &'static str,
    /// The directory below which that is unpacked.
    pub(super) part: &'static str,
    /// The oldest version that serves.
    pub(super) oldest: (u32, u32),
}

/// For arm64. 10.1 is the first with `vfio-user-pci`.
pub(super) const ARM: Emulator = Emulator {
    variable: "VCMDQ_QEMU",
    program: "qemu-system-aarch64",
    package: "qemu-system-arm",
    part: "qemu",
    oldest: (10, 1),
};

/// For x86-64. Nothing is asked of it but a processor, memory and a serial line; 7.2 was tried.
pub(super) const X86: Emulator = Emulator {
    variable: "VCMDQ_QEMU_X86",
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    part: "qemu-x86",
    oldest: (7, 2),
};
