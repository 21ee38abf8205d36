//! What a guest's kernel keeps in its memory for an SMMU: the stream table, and for each address space
//! a context descriptor and page tables. A VMM has none of this; it stands here because the examples
//! have no guest.

use smmu_core::spec::cd::{CdWord0, CdWord1};
use smmu_core::spec::pte::{LeafDescriptor, TableDescriptor};
use smmu_core::spec::ste::{Ste, SteWord0, config};
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

/// The guest's RAM, as the VMM has mapped it.
pub(crate) type Ram = GuestMemoryMmap<()>;

/// Where the stream table lies: linear, for 16 streams.
pub(crate) const STREAM_TABLE: u64 = 0x1_0000;
/// log2 of its entries.
pub(crate) const LOG2_STREAMS: u8 = 4;

/// From here on: a context descriptor and two tables, one page each, for every ASID.
const SPACES: u64 = 0x10_0000;

/// An address space of 2 MiB in pages of 4 KiB, from I/O virtual address zero on.
pub(crate) struct Space {
    ram: Ram,
    asid: u16,
}

impl Space {
    /// An empty one, ready to be attached.
    pub(crate) fn new(ram: &Ram, asid: u16) -> Result<Self, GuestMemoryError> {
        let ram = ram.clone();
        let space = Self { ram, asid };
        let [context, upper, lower] = space.pages();
        let table = TableDescriptor::new().with_valid(true).with_table(true);
        space.set(upper, table.with_next(lower >> 12).into_bits())?;
        space.set(
            context + 8,
            CdWord1::new().with_ttb0(upper >> 4).into_bits(),
        )?;
        // MAIR: attribute 0 is ordinary memory.
        space.set(context + 24, 0xFF)?;
        // 30 bits of input, two levels; walks through the caches; faults abort and are recorded.
        let word = CdWord0::new()
            .with_t0sz(34)
            .with_ir0(1)
            .with_or0(1)
            .with_sh0(3)
            .with_epd1(true)
            .with_ips(5)
            .with_aa64(true)
            .with_a(true)
            .with_r(true)
            .with_asid(asid)
            .with_v(true);
        space.set(context, word.into_bits())?;
        Ok(space)
    }

    /// Makes it the address space of a stream. CFGI_STE and SYNC are to follow.
    pub(crate) fn attach(&self, stream: u32) -> Result<(), GuestMemoryError> {
        let [context, ..] = self.pages();
        let ste = SteWord0::new()
            .with_config(config::STAGE1)
            .with_s1contextptr(context >> 6)
            .with_v(true);
        let at = STREAM_TABLE + Ste::BYTES * u64::from(stream);
        self.set(at, ste.into_bits())
    }

    /// Maps a page for reading and writing. Nothing is to follow: faults are not cached.
    pub(crate) fn map(&self, iova: u64, at: u64) -> Result<(), GuestMemoryError> {
        let page = LeafDescriptor::new()
            .with_valid(true)
            .with_page(true)
            .with_unprivileged(true)
            .with_sh(3)
            .with_af(true)
            .with_ng(true)
            .with_output(at >> 12);
        self.set(self.entry(iova), page.into_bits())
    }

    /// Unmaps it. TLBI and SYNC are to follow before the page may be used for anything else.
    pub(crate) fn unmap(&self, iova: u64) -> Result<(), GuestMemoryError> {
        self.set(self.entry(iova), 0)
    }

    fn pages(&self) -> [u64; 3] {
        [0, 1, 2].map(|n| SPACES + 0x3000 * u64::from(self.asid) + 0x1000 * n)
    }

    fn entry(&self, iova: u64) -> u64 {
        let [.., lower] = self.pages();
        lower + 8 * (iova >> 12 & 0x1FF)
    }

    fn set(&self, at: u64, word: u64) -> Result<(), GuestMemoryError> {
        // Release: an SMMU that sees this word sees what was written before it.
        let at = GuestAddress(at);
        self.ram.store(word.to_le(), at, Ordering::Release)
    }
}
