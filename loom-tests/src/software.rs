//! A software SMMU in the smallest memory: one stream, a table of two STEs, one CD, one level of
//! translation table.

use dispatch::backend::Software;
use dispatch::backend::software::{Port, SoftwareSettings};
use dispatch::{Backend, Batch, Invalidation, Scope, Stage, WaiterId};
use smmu_core::access::{Access, Operation};
use smmu_core::config::StreamTable;
use smmu_core::guest_memory::store_u64;
use smmu_core::range::TlbiRange;
use smmu_core::tlb::TlbSettings;
use smmu_core::translate::Setup;
use smmu_core::{Asid, Capabilities, Gpa, StreamId, Vmid};
use std::sync::Arc;
use vcmdq::testing::HeapMemory;
use vcmdq_sync::atomic::Ordering;

/// The stream.
pub const STREAM: StreamId = StreamId(1);
/// Who submits and waits.
pub const WAITER: WaiterId = WaiterId(3);

const STE: u64 = 64;
const CD: u64 = 128;
const TABLE: u64 = 256;
const BYTES: u64 = 384;
/// T0SZ=39 (16 blocks of 2 MiB), EPD1, V, IPS=48 bits, AA64, R, A, ASID 1.
const CD_WORD: u64 = 0x0001_6205_C000_0027;
/// A block that everybody may read and write, not global.
const BLOCK: u64 = 0xF45;

/// See the [module](self).
pub struct SmallSmmu {
    /// The backend.
    pub core: Arc<Software>,
    memory: Arc<HeapMemory>,
}

impl std::fmt::Debug for SmallSmmu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmallSmmu").finish_non_exhaustive()
    }
}

impl SmallSmmu {
    /// The stream bypasses.
    #[must_use]
    pub fn new() -> Self {
        let memory = Arc::new(HeapMemory::new(BYTES));
        let settings = SoftwareSettings {
            tlb: TlbSettings {
                log2_entries: 7,
                log2_asids: 4,
            },
            guards: 1,
            ..SoftwareSettings::default()
        };
        let core = Arc::new(Software::with_settings(settings));
        let small = Self { core, memory };
        small.core.memory_changed(small.memory.clone());
        small.core.set_up(Some(small.setup()));
        small.set(STE, 0x9);
        small
    }

    fn setup(&self) -> Setup {
        Setup {
            streams: StreamTable {
                base: Gpa(0),
                log2size: 1,
                split: 6,
                two_level: false,
            },
            caps: Capabilities::default(),
            e2h: false,
            record_bad_stream_id: false,
        }
    }

    fn set(&self, at: u64, value: u64) {
        store_u64(&*self.memory, Gpa(at), value, Ordering::Relaxed).expect("backed");
    }

    /// The guest makes the stream abort; a CFGI is due.
    pub fn abort(&self) {
        self.set(STE, 0x1);
    }

    /// The guest has the stream translated, by one block of 2 MiB from address 0 on.
    pub fn translate_to(&self, block: u64) {
        self.map(block);
        self.set(CD + 8, TABLE);
        self.set(CD, CD_WORD);
        self.set(STE, 0xB | CD);
    }

    /// The guest changes where the block lies; a TLBI is due.
    pub fn map(&self, block: u64) {
        self.set(TABLE, block | BLOCK);
    }

    /// A way in.
    #[must_use]
    pub fn port(&self) -> Port {
        self.core.port(STREAM).expect("a slot")
    }

    /// TLBI of one page.
    pub fn invalidate(&self, va: u64) {
        let range = TlbiRange {
            addr: va,
            bytes: 4096,
            granule: None,
            ttl: 0,
            leaf: true,
        };
        self.submit(Scope::Addresses {
            asid: Some(Asid(1)),
            range,
        });
    }

    /// TLBI of everything.
    pub fn invalidate_all(&self) {
        self.submit(Scope::All);
    }

    fn submit(&self, scope: Scope) {
        let mut batch = Batch::new();
        batch.set_waiter(WAITER);
        let (vmid, stage) = (Vmid(0), Stage::One);
        batch.push(Invalidation { vmid, stage, scope }, 0);
        self.core.submit(&batch).expect("nothing refuses");
    }
}

impl Default for SmallSmmu {
    fn default() -> Self {
        Self::new()
    }
}

/// A read of an address.
#[must_use]
pub fn read(address: u64) -> Access {
    Access {
        address,
        operation: Operation::Read,
        privileged: false,
    }
}
