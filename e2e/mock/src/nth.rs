//! The kernel's fault injection: the n-th of what can fail (an allocation, a copy to or from user space) in this
//! thread does fail.

use anyhow::{Context, Result};
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What can fail, and settings without which it mostly does not.
const SETTINGS: [(&str, &str); 6] = [
    ("failslab/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/min-order", "0"),
    // Otherwise each failure prints where it was.
    ("failslab/verbose", "0"),
    ("fail_page_alloc/verbose", "0"),
    ("fail_iommufd/verbose", "0"),
];

/// Has the kernel fail what it can.
///
/// # Errors
///
/// It has no fault injection.
pub(crate) fn set_up() -> Result<()> {
    let debug = Path::new("/sys/kernel/debug");
    for (setting, value) in SETTINGS {
        fs::write(debug.join(setting), value).with_context(|| format!("cannot set {setting}"))?;
    }
    // Not every kernel has it.
    let _none = fs::write(debug.join("fail_usercopy/verbose"), "0");
    Ok(())
}

/// The switch of the thread that has made it.
#[derive(Debug)]
pub(crate) struct Switch(File);

impl Switch {
    pub(crate) fn new() -> Result<Self> {
        let mut both = File::options();
        let file = both
            .read(true)
            .write(true)
            .open("/proc/thread-self/fail-nth");
        Ok(Self(file.context("no fault injection for threads")?))
    }

    /// Runs something in which the n-th thing that can fail does; `true` if it had that many.
    pub(crate) fn during<T>(&self, nth: u32, something: impl FnOnce() -> T) -> Result<(T, bool)> {
        self.0.write_all_at(nth.to_string().as_bytes(), 0)?;
        let result = something();
        // What is left. Reading can fail, too: then that was the n-th.
        let mut left = [0; 16];
        let fired = match self.0.read_at(&mut left, 0) {
            Ok(_) => left[0] == b'0',
            Err(_) => false,
        };
        self.0.write_all_at(b"0", 0)?;
        Ok((result, fired))
    }
}
