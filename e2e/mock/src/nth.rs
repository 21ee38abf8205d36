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

    /// Makes a call in which the n-th thing that can fail does; how many more it would have needed, 0 if it
    /// did. A call and nothing else: a page of the program that cannot be had ends the program.
    pub(crate) fn during<T>(&self, nth: u32, call: impl FnOnce() -> T) -> (T, u32) {
        if self.0.write_all_at(nth.to_string().as_bytes(), 0).is_err() {
            return (call(), nth);
        }
        let result = call();
        let mut text = [0; 16];
        // Reading can fail, too: then that was the n-th.
        let left = match self.0.read_at(&mut text, 0) {
            Ok(length) => number(&text[..length]).unwrap_or(nth),
            Err(_) => 1,
        };
        // What is left must not fail anything else; if this cannot be written, nothing is left.
        let _nothing_left = self.0.write_all_at(b"0", 0);
        (result, left)
    }
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_number_ends_with_its_line() {
        assert_eq!(number(b"12\n"), Some(12));
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b""), None);
    }
}
