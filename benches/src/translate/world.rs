//! A guest that has set up its SMMU: 256 streams with a context each, which share page tables of
//! 64 Ki pages of 4 KiB.
//!
//! Stream n has ASID n. All of it lies beside the ring of [`rig`](crate::rig).

use crate::rig::guest_memory;
use dispatch::backend::software::{Port, SoftwareSettings};
use dispatch::backend::{Backend, Software};
use dispatch::{Batch, Invalidation, Scope, Stage};
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::config::StreamTable;
use smmu_core::guest_memory::{GuestMemory, load_u64, store_u64};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::cd::CdWord0;
use smmu_core::tlb::{Entry, PageClass, Space, TlbSettings};
use smmu_core::translate::{Setup, Translated};
use smmu_core::walk::Leaf;
use smmu_core::{Asid, Capabilities, Gpa, StreamId, Vmid};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Pages that the tables map: as many as a cache of the default size holds.
pub const PAGES: u64 = 1 << 16;
/// The only VMID.
pub const VMID: Vmid = Vmid(0);

const LOG2_STREAMS: u8 = 8;
const CONTEXTS: u64 = 0x1_0000;
const LEVEL1: u64 = 0x20_0000;
const LEVEL2: u64 = LEVEL1 + 0x1000;
const LEVEL3: u64 = LEVEL2 + 0x1000;
/// The first page's address, in a lower half of 39 bits.
const FIRST: u64 = 1 << 32;
/// And where it lies.
const OUTPUT: u64 = 0x8000_0000;
/// AttrIndx=1, AP=01, SH=3, AF, nG: a page of one ASID that everybody may read and write.
const LEAF: u64 = 0xf47;

/// See the [module](self).
pub struct World {
    /// What translates.
    pub software: Arc<Software>,
    /// Where the tables lie.
    pub memory: Arc<dyn GuestMemory>,
    setup: Setup,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new(TlbSettings::default())
    }
}

impl World {
    /// With an empty cache of the given size.
    #[must_use]
    pub fn new(tlb: TlbSettings) -> Self {
        let memory: Arc<dyn GuestMemory> = guest_memory();
        write_tables(&*memory);
        let setup = Setup {
            streams: StreamTable {
                base: Gpa(0),
                log2size: LOG2_STREAMS,
                split: 6,
                two_level: false,
            },
            caps: Capabilities::default(),
            e2h: false,
            record_bad_stream_id: false,
        };
        let software = Arc::new(Software::with_settings(SoftwareSettings {
            tlb,
            ..SoftwareSettings::default()
        }));
        software.memory_changed(memory.clone());
        software.set_up(Some(setup));
        Self {
            software,
            memory,
            setup,
        }
    }

    /// A device's way in.
    ///
    /// # Panics
    ///
    /// If there are more than 256.
    #[must_use]
    pub fn port(&self, asid: Asid) -> Port {
        self.software
            .port(StreamId(u32::from(asid.0)))
            .expect("a guard for each")
    }

    /// Translates without any cache: stream table, context, walk.
    ///
    /// # Panics
    ///
    /// If the page is not mapped.
    #[inline]
    #[must_use]
    pub fn walk(&self, asid: Asid, page: u64) -> Leaf {
        self.walk_for(asid, page, Operation::Read)
    }

    /// The same of any operation.
    ///
    /// # Panics
    ///
    /// If the page is not mapped, or not for this.
    #[inline]
    #[must_use]
    pub fn walk_for(&self, asid: Asid, page: u64, operation: Operation) -> Leaf {
        let transaction = Transaction {
            stream: StreamId(u32::from(asid.0)),
            substream: None,
            access: Access {
                operation,
                ..read(page)
            },
        };
        match self.setup.translate(&*self.memory, &transaction) {
            Ok(Translated::Mapped(leaf)) => leaf,
            other => panic!("page {page} is mapped: {other:?}"),
        }
    }

    /// Has access flags and dirty state of an address space updated by walks.
    #[must_use]
    pub fn updating(mut self, asid: Asid) -> Self {
        self.setup.caps.idr0.set_httu(2);
        let context = Gpa(CONTEXTS + 64 * u64::from(asid.0));
        let word = load_u64(&*self.memory, context, Ordering::Relaxed).expect("RAM");
        let word = CdWord0::from_bits(word).with_ha(true).with_hd(true);
        store_u64(&*self.memory, context, word.into(), Ordering::Relaxed).expect("RAM");
        self
    }

    /// Writes a page's descriptor anew, with these bits and without those.
    ///
    /// # Panics
    ///
    /// Never: the tables are RAM.
    pub fn set_leaf(&self, page: u64, with: u64, without: u64) {
        let leaf = ((OUTPUT + (page << 12)) | LEAF | with) & !without;
        let at = Gpa(LEVEL3 + 8 * page);
        store_u64(&*self.memory, at, leaf, Ordering::Relaxed).expect("RAM");
    }

    /// What a walk would put into a cache.
    #[must_use]
    pub fn entry(&self, asid: Asid, page: u64) -> Entry {
        entry(asid, page, self.walk(asid, page).pack())
    }
}

/// An entry of one 4 KiB page of an ASID.
#[must_use]
pub fn entry(asid: Asid, page: u64, payload: [u64; 2]) -> Entry {
    Entry {
        vmid: VMID,
        space: Space::Asid(asid),
        va: address(page),
        class: PageClass::Page4K,
        payload,
    }
}

/// Where a page is mapped.
#[inline]
#[must_use]
pub fn address(page: u64) -> u64 {
    FIRST + (page << 12)
}

/// A privileged read of its first byte.
#[inline]
#[must_use]
pub fn read(page: u64) -> Access {
    Access {
        address: address(page),
        operation: Operation::Read,
        privileged: true,
    }
}

/// Translates a read through a port and ends it. Returns where it went.
///
/// # Panics
///
/// If the page is not mapped.
#[inline]
pub fn translate(port: &mut Port, page: u64) -> u64 {
    let guard = port.translate(None, read(page), 64, |_| ());
    guard.expect("the page is mapped").output().address
}

/// Makes a batch one request.
#[inline]
pub fn only(batch: &mut Batch, scope: Scope) {
    batch.restart(VMID);
    let request = Invalidation {
        vmid: VMID,
        stage: Stage::One,
        scope,
    };
    batch.push(request, 0);
}

/// One page of an ASID, named as Linux does.
#[inline]
#[must_use]
pub fn one_page(asid: Asid, page: u64) -> Scope {
    pages(asid, page, 1)
}

/// Neighbouring pages of an ASID, by one range.
#[inline]
#[must_use]
pub fn pages(asid: Asid, first: u64, count: u64) -> Scope {
    let range = TlbiRange {
        addr: address(first),
        bytes: count << 12,
        granule: Some(Granule::K4),
        ttl: 3,
        leaf: true,
    };
    Scope::Addresses {
        asid: Some(asid),
        range,
    }
}

fn write_tables(memory: &dyn GuestMemory) {
    let set = |at, value| {
        store_u64(memory, Gpa(at), value, Ordering::Relaxed).expect("the tables are RAM");
    };
    for stream in 0..1 << LOG2_STREAMS {
        let context = CONTEXTS + 64 * stream;
        // V, Config=101 (stage 1), S1ContextPtr.
        set(64 * stream, 0xb | context);
        let dw0 = CdWord0::new()
            .with_t0sz(25)
            .with_t1sz(25)
            .with_tg1(2)
            .with_epd1(true)
            .with_v(true)
            .with_ips(5)
            .with_aa64(true)
            .with_r(true)
            .with_a(true)
            .with_asid(stream as u16);
        for (word, value) in [dw0.into(), LEVEL1, 0, 0xff44].into_iter().enumerate() {
            set(context + 8 * word as u64, value);
        }
    }
    set(LEVEL1 + 8 * (FIRST >> 30), LEVEL2 | 3);
    for table in 0..PAGES / 512 {
        set(LEVEL2 + 8 * table, (LEVEL3 + 4096 * table) | 3);
    }
    for page in 0..PAGES {
        set(LEVEL3 + 8 * page, (OUTPUT + (page << 12)) | LEAF);
    }
}
