//! A software SMMU in the smallest memory: one stream, a table of two STEs, one CD, one level of
//! translation table.

use dispatch::backend::Software;
use dispatch::backend::software::{Port, SoftwareSettings};
use dispatch::{Backend, Barrier, Batch, Invalidation, Scope, Stage, WaiterId};
use loom::thread;
use smmu_core::access::{Access, Operation};
use smmu_core::caps::TableUpdates;
use smmu_core::config::StreamTable;
use smmu_core::guest_memory::{load_u64, store_u64};
use smmu_core::range::TlbiRange;
use smmu_core::tlb::TlbSettings;
use smmu_core::translate::Setup;
use smmu_core::{Asid, Capabilities, Gpa, GuestMemory, StreamId, Vmid};
use std::sync::Arc;
use vcmdq::testing::HeapMemory;
use vcmdq_sync::atomic::{AtomicBool, Ordering};

/// The stream.
pub const STREAM: StreamId = StreamId(1);
/// Who submits and waits.
pub const WAITER: WaiterId = WaiterId(3);

const STE: u64 = 64;
const CD: u64 = 128;
const TABLE: u64 = 256;
const BYTES: u64 = 384;
/// Behind the table of one block or one table: a page of its own, with one descriptor.
const LAST_TABLE: u64 = 0x1000;
/// As far into another block of 2 MiB as that table is into the first one.
const OTHER_LAST_TABLE: u64 = 0x20_0000 + LAST_TABLE;
/// A page that everybody may read and write, not global.
const PAGE: u64 = 0xF43;
/// The table of stage 2: blocks of 2 MiB.
const STAGE2: u64 = 0x2000;
/// T0SZ=39, SL0=0 (level 2), 4 KiB, S2PS=48 bits, AA64, S2R.
const STAGE2_WORD: u64 = 39 << 32 | 5 << 48 | 1 << 51 | 1 << 58;
/// A block of stage 2 that everybody may read and write.
const STAGE2_BLOCK: u64 = 0x4FD;
/// The intermediate address that is not the tables'. Its block is in another set of the cache than the page
/// that stage 1 makes of it.
const IPA: u64 = 0x20_0000;
/// A page that everybody may read and write, not global; the access flag is clear.
const UNUSED: u64 = 0x20_0B47;
/// T0SZ=39 (16 blocks of 2 MiB), EPD1, V, IPS=48 bits, AA64, R, A, ASID 1.
const CD_WORD: u64 = 0x0001_6205_C000_0027;
/// A block that everybody may read and write, not global.
const BLOCK: u64 = 0xF45;
const NOT_GLOBAL: u64 = 0x800;

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
        let memory = Arc::new(HeapMemory::with_regions(&[
            (Gpa(0), BYTES),
            (Gpa(LAST_TABLE), 16),
            (Gpa(STAGE2), 128),
            (Gpa(OTHER_LAST_TABLE), 8),
        ]));
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
        let mut caps = Capabilities::builder()
            .table_updates(TableUpdates::DirtyState)
            .build()
            .expect("they can be");
        caps.idr0.set_s2p(true);
        Setup {
            streams: StreamTable {
                base: Gpa(0),
                log2size: 1,
                split: 6,
                two_level: false,
            },
            caps,
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

    /// The guest has the second page translated, and puts a stage 2 under that: configuration and tables lie
    /// where they lay, everything else in a block of its own.
    pub fn nest_to(&self, block: u64) {
        self.translate_to(0);
        self.set(TABLE, LAST_TABLE | 3);
        self.set(LAST_TABLE + 8, (IPA + 0x1000) | PAGE);
        self.set(STAGE2, STAGE2_BLOCK);
        self.map_stage2(block);
        self.set(STE + 24, STAGE2);
        self.set(STE + 16, STAGE2_WORD);
        self.set(STE, 0xF | CD);
    }

    /// The guest changes where that block lies; invalidations of stage 2 and then 1 are due.
    pub fn map_stage2(&self, block: u64) {
        self.set(STAGE2 + 8 * (IPA >> 21), block | STAGE2_BLOCK);
    }

    /// The guest has the stream translated with hardware update of access flags, through a table below
    /// the first one. Nobody has used the page at address 0.
    pub fn translate_unused(&self) {
        self.set(TABLE, LAST_TABLE | 3);
        self.set(LAST_TABLE, UNUSED);
        self.set(CD + 8, TABLE);
        self.set(CD, CD_WORD | 1 << 43);
        self.set(STE, 0xB | CD);
    }

    /// The guest puts a stage 2 under the stream in which the last table of stage 1 lies in a block that can
    /// [move](Self::move_last_table): then its page is `to[1]`, and `to[0]` before.
    pub fn nest_last_table(&self, to: [u64; 2]) {
        self.translate_to(0);
        self.set(TABLE, (IPA + LAST_TABLE) | 3);
        self.set(LAST_TABLE, to[0] | PAGE);
        self.set(OTHER_LAST_TABLE, to[1] | PAGE);
        self.set(STAGE2, STAGE2_BLOCK);
        self.map_stage2(0);
        self.set(STE + 24, STAGE2);
        self.set(STE + 16, STAGE2_WORD);
        self.set(STE, 0xF | CD);
    }

    /// The guest has stage 2 map the block of the last table elsewhere; invalidations of stage 2 and then 1
    /// are due.
    pub fn move_last_table(&self) {
        self.map_stage2(OTHER_LAST_TABLE - LAST_TABLE);
    }

    /// The guest takes the last table away, or only its page; a TLBI is due. By a swap, as a guest does
    /// that wants to know whether the page has been used.
    pub fn unmap(&self, whole_table: bool) {
        let at = Gpa(if whole_table { TABLE } else { LAST_TABLE });
        self.memory.words(at, 1).expect("backed")[0].swap(0, Ordering::AcqRel);
    }

    /// The guest uses the memory of the last table for something that looks as the table did.
    pub fn reuse_table(&self) {
        self.set(LAST_TABLE, UNUSED);
    }

    /// Whether the first word of the last table is as the guest made it for an unused page.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.last_word() == UNUSED
    }

    /// The first word of the last table.
    #[must_use]
    pub fn last_word(&self) -> u64 {
        load_u64(&*self.memory, Gpa(LAST_TABLE), Ordering::Relaxed).expect("backed")
    }

    /// A way in.
    #[must_use]
    pub fn port(&self) -> Port {
        self.core.port(STREAM).expect("a slot")
    }

    /// The guest changes where the block lies, which is global now; a TLBI of any ASID is due.
    pub fn map_globally(&self, block: u64) {
        self.set(TABLE, block | BLOCK & !NOT_GLOBAL);
    }

    /// TLBI of one page.
    pub fn invalidate(&self, va: u64) {
        self.invalidate_of(Asid(1), va);
    }

    /// TLBI of one page and of the tables on the way to it.
    pub fn invalidate_with_tables(&self, va: u64) {
        self.invalidate_page(Asid(1), va, false);
    }

    /// TLBI of one page of an ASID.
    pub fn invalidate_of(&self, asid: Asid, va: u64) {
        self.invalidate_page(asid, va, true);
    }

    fn invalidate_page(&self, asid: Asid, va: u64, leaf: bool) {
        let range = TlbiRange {
            addr: va,
            bytes: 4096,
            granule: None,
            ttl: 0,
            leaf,
        };
        let asid = Some(asid);
        self.submit(Scope::Addresses { asid, range });
    }

    /// TLBI of everything.
    pub fn invalidate_all(&self) {
        self.submit(Scope::All);
    }

    /// TLBI_NH_ALL.
    pub fn invalidate_all_of_stage1(&self) {
        self.submit(Scope::Vmid);
    }

    /// TLBI_S12_VMALL.
    pub fn invalidate_both_stages(&self) {
        self.submit_each(&[(Stage::Both, Scope::Vmid)]);
    }

    /// TLBI_S2_IPA of what [`map_stage2`](Self::map_stage2) changes, and NH_ALL behind it, as Linux does.
    pub fn invalidate_stage2(&self) {
        let range = TlbiRange {
            addr: IPA,
            bytes: 4096,
            granule: None,
            ttl: 0,
            leaf: true,
        };
        let asid = None;
        let scope = Scope::Addresses { asid, range };
        self.submit_each(&[(Stage::Two, scope), (Stage::One, Scope::Vmid)]);
    }

    fn submit(&self, scope: Scope) {
        self.submit_each(&[(Stage::One, scope)]);
    }

    fn submit_each(&self, requests: &[(Stage, Scope)]) {
        let mut batch = Batch::new();
        batch.set_waiter(WAITER);
        for &(stage, scope) in requests {
            let vmid = Vmid(0);
            batch.push(Invalidation { vmid, stage, scope }, 0);
        }
        self.core.submit(&batch).expect("nothing refuses");
    }
}

impl Default for SmallSmmu {
    fn default() -> Self {
        Self::new()
    }
}

/// A device accesses address 0x1000 through `port`, while the guest moves the block behind it from `old`
/// to `new` and invalidates, by `move_block`. Nobody uses the old block after the SYNC. The port comes back.
pub fn access_against_sync(
    small: &SmallSmmu,
    mut port: Port,
    [old, new]: [u64; 2],
    move_block: impl FnOnce(&SmallSmmu),
) -> Port {
    let synced = loom::sync::Arc::new(AtomicBool::new(false));
    let device = {
        let synced = synced.clone();
        thread::spawn(move || {
            {
                let guard = port.translate(None, read(0x1000), 8, |_| ());
                let address = guard.as_ref().map(|guard| guard.output().address);
                if address == Ok(old + 0x1000) {
                    let synced = synced.load(Ordering::Relaxed);
                    assert!(!synced, "what was removed is used after its SYNC");
                } else {
                    assert_eq!(address, Ok(new + 0x1000));
                }
            }
            port
        })
    };
    move_block(small);
    while small.core.barrier(WAITER) == Barrier::Pending {
        thread::yield_now();
    }
    synced.store(true, Ordering::Relaxed);
    device.join().expect("device")
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
