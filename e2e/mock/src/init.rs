//! What a first process has to do: file systems before, switching off after.

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

/// Kind and place of each file system that is used.
const FILE_SYSTEMS: [(&str, &str); 4] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("debugfs", "/sys/kernel/debug"),
];

/// Mounts them if this is the first process; else they are the system's.
///
/// # Errors
///
/// The kernel has not one of them.
pub(crate) fn file_systems(first: bool) -> Result<()> {
    for (kind, place) in FILE_SYSTEMS.iter().filter(|_| first) {
        let mounted = mount(*kind, *place, *kind, MountFlags::empty(), None);
        mounted.with_context(|| format!("cannot mount {kind}"))?;
    }
    Ok(())
}

/// Switches the machine off. Returns if it has no power to switch.
pub(crate) fn switch_off() {
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("cannot switch off: {error}");
    }
}
