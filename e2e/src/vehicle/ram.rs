//! Guest RAM: a file without a name that QEMU and the engine map.

use anyhow::{Context, Result};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vcmdq::VmMemory;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

/// Where RAM begins on the machine `virt`.
pub const RAM_BASE: u64 = 0x4000_0000;

/// Where files are memory.
const SHARED: &str = "/dev/shm";

/// RAM of one machine. Gone when this and QEMU are.
#[derive(Debug)]
pub struct Ram {
    file: Arc<File>,
    memory: Arc<VmMemory<GuestMemoryMmap>>,
}

impl Ram {
    /// RAM of so many MiB.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub fn new(mib: u64) -> Result<Self> {
        let bytes = mib << 20;
        let shared = Path::new(SHARED);
        let file = match shared.is_dir() {
            true => tempfile::tempfile_in(shared),
            false => tempfile::tempfile(),
        };
        let file = Arc::new(file.context("cannot make guest RAM")?);
        file.set_len(bytes).context("cannot make guest RAM")?;
        let length = usize::try_from(bytes)?;
        let part = FileOffset::from_arc(file.clone(), 0);
        let ranges = [(GuestAddress(RAM_BASE), length, Some(part))];
        let map = GuestMemoryMmap::from_ranges_with_files(ranges);
        let memory = Arc::new(VmMemory::new(map.context("cannot map guest RAM")?));
        Ok(Self { file, memory })
    }

    /// A path by which QEMU, as a child of this process, opens it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let (process, file) = (std::process::id(), self.file.as_raw_fd());
        format!("/proc/{process}/fd/{file}").into()
    }

    /// As the engine sees it.
    #[must_use]
    pub fn memory(&self) -> &Arc<VmMemory<GuestMemoryMmap>> {
        &self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use vm_memory::Bytes;

    #[test]
    fn who_opens_the_path_sees_what_is_written() {
        let ram = Ram::new(2).expect("two MiB");
        let at = GuestAddress(RAM_BASE + 0x1000);
        ram.memory().map().write_obj(0x1234_u32, at).expect("RAM");
        let mut seen = [0; 4];
        let other = File::open(ram.path()).expect("the same file");
        other.read_exact_at(&mut seen, 0x1000).expect("two MiB");
        assert_eq!(u32::from_le_bytes(seen), 0x1234);
    }
}
