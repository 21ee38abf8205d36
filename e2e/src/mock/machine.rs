//! A machine with a processor, memory and a serial line.

use super::args::MockArgs;
use crate::parts::MockParts;
use std::path::Path;
use std::process::{Command, Stdio};

/// The kernel's command line: its log on the console from warnings on, and an end instead of a halt when it
/// gives up.
const APPEND: &str = "console=ttyS0 loglevel=4 panic=-1";

/// What the kernel does not know it hands to its first process as a variable: every invalidation is lost.
const LOSE: &str = " VCMDQ_LOSE=1";

/// MiB of RAM.
const RAM_MIB: u32 = 512;

/// The command that starts it; the console is on its standard streams, and switched off is ended.
pub(super) fn command(parts: &MockParts, args: &MockArgs, initramfs: &Path) -> Command {
    let mut command = parts.qemu.command();
    let accelerator: [&str; 4] = match args.kvm {
        true => ["-accel", "kvm", "-cpu", "host"],
        false => ["-accel", "tcg,thread=multi", "-cpu", "max"],
    };
    let lose = if args.lose_invalidations { LOSE } else { "" };
    command
        .args(["-machine", "pc"])
        .args(accelerator)
        .args(["-smp", &args.cpus.to_string()])
        .args(["-m", &format!("{RAM_MIB}M")])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-serial", "stdio", "-monitor", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(&parts.kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("{APPEND}{lose}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
