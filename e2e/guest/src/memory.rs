//! Memory that the device uses, too: every access is by whole words or volatile.

use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use vm_memory::{
    GuestAddress, GuestMemoryMmap, GuestRegionCollection, GuestRegionMmap, MmapRegion,
    VolatileMemory,
};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// A private mapping, whole pages.
#[derive(Debug)]
pub(crate) struct Memory(Arc<MmapRegion<()>>);

impl Memory {
    /// `pages` pages of zeros.
    pub(crate) fn new(pages: usize) -> Result<Self> {
        let region = MmapRegion::new(pages * PAGE).context("no memory")?;
        Ok(Self(Arc::new(region)))
    }

    /// The same memory as a guest's that sees it at `address`.
    pub(crate) fn of_guest(&self, address: u64) -> Result<GuestMemoryMmap<()>> {
        let region = GuestRegionMmap::with_arc(self.0.clone(), GuestAddress(address));
        let regions = vec![region.context("no room at that address")?];
        Ok(GuestRegionCollection::from_regions(regions)?)
    }

    /// Where the process sees the byte at `at`.
    pub(crate) fn address(&self, at: usize) -> u64 {
        self.0.as_ptr() as u64 + at as u64
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.size()
    }

    /// A word that a walker or the device reads.
    pub(crate) fn word(&self, at: usize) -> Result<&AtomicU64> {
        let word = self.0.get_atomic_ref(at);
        word.map_err(|error| anyhow!("word at {at:#x}: {error}"))
    }

    /// The same, of half the width.
    pub(crate) fn half(&self, at: usize) -> Result<&AtomicU32> {
        let word = self.0.get_atomic_ref(at);
        word.map_err(|error| anyhow!("word at {at:#x}: {error}"))
    }

    /// Copies to `at`.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let slice = self.0.get_slice(at, bytes.len());
        slice
            .map_err(|error| anyhow!("{} bytes at {at:#x}: {error}", bytes.len()))?
            .copy_from(bytes);
        Ok(())
    }

    /// Copies from `at`.
    pub(crate) fn read(&self, at: usize, bytes: usize) -> Result<Vec<u8>> {
        let mut all = vec![0; bytes];
        let slice = self.0.get_slice(at, bytes);
        slice
            .map_err(|error| anyhow!("{bytes} bytes at {at:#x}: {error}"))?
            .copy_to(&mut all);
        Ok(all)
    }
}

/// Bytes that nobody can guess, so that no other ones pass for them.
pub(crate) fn random(bytes: usize) -> Result<Vec<u8>> {
    let mut all = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut all)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn bytes_come_back_and_words_are_among_them() {
        let memory = Memory::new(2).expect("two pages");
        memory.write(PAGE - 4, b"abcdefgh").expect("it is there");
        assert_eq!(memory.read(PAGE - 4, 8).expect("it is there"), b"abcdefgh");
        let word = memory.half(PAGE).expect("it is there");
        assert_eq!(word.load(Ordering::Relaxed).to_le_bytes(), *b"efgh");
        assert!(memory.write(2 * PAGE - 4, b"abcdefgh").is_err());
        assert!(memory.word(2 * PAGE).is_err());
    }
}
