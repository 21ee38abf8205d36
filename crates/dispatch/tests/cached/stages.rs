//! By hand: what a command takes where the guest has a stage 2 of its own, and what it leaves; and which
//! stage a fault is of, found in a cache or by a walk.

mod refused;
mod removal;
mod under_way;

use crate::memory::Memory;
use crate::rig::{execute, setup};
use dispatch::Backend;
use dispatch::backend::Software;
use dispatch::backend::software::Denied;
use smmu_core::access::{Access, Operation};
use smmu_core::caps::Capabilities;
use smmu_core::translate::Failed;
use smmu_core::{StreamId, SubstreamId};
use std::sync::Arc;

pub(crate) const CDS: u64 = 0x1000;
/// T0SZ=25, SL0=1 (level 1), 4 KiB, S2PS=48 bits, AA64, S2R.
pub(crate) const DW2: u64 = 25 << 32 | 1 << 38 | 5 << 48 | 1 << 51 | 1 << 58;
/// Stage 1: levels 1 to 3, of 4 KiB.
pub(crate) const TABLES: u64 = 0x1_0000;
/// Stage 2: level 1, level 2, level 3 of the first 2 MiB, level 3 of [`PIECES`].
pub(crate) const SECOND: u64 = 0x2_0000;
/// AF, SH, AP=01, nG, page.
const OWN: u64 = 0xf43;
const GLOBAL: u64 = 0x743;
/// Readable, writable, AF, write-back, page.
const RIGHTS: u64 = 0x4ff;

/// Intermediate addresses: pages, a block of stage 2, and 2 MiB of which stage 2 maps pages.
pub(crate) const PAGE: u64 = 0x10_0000;
pub(crate) const NEIGHBOUR: u64 = 0x10_1000;
pub(crate) const OF_GLOBAL: u64 = 0x10_2000;
pub(crate) const BLOCK: u64 = 0x40_0000;
pub(crate) const PIECES: u64 = 0x60_0000;
/// And what stage 1 makes them of.
pub(crate) const VA: u64 = 0x20_3000;
pub(crate) const VA_NEIGHBOUR: u64 = 0x20_4000;
pub(crate) const VA_GLOBAL: u64 = 0x20_5000;
pub(crate) const VA_IN_BLOCK: u64 = 0x20_8000;
pub(crate) const VA_PIECES: u64 = 0x40_0000;

/// Stream, SubstreamID.
pub(crate) type Who = (u32, Option<u32>);

pub(crate) const ALONE: Who = (1, None);
pub(crate) const ONE: Who = (2, Some(1));
const TWO: Who = (2, Some(2));
const OTHER_ALONE: Who = (3, None);
const OTHER: Who = (4, Some(1));
pub(crate) const FIRST_ONLY: Who = (5, Some(1));

pub(crate) const VMID: u64 = 9;
const OTHER_VMID: u64 = 5;

pub(crate) struct Stages {
    pub(crate) memory: Arc<Memory>,
    pub(crate) core: Arc<Software>,
    pub(crate) caps: Capabilities,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// With more or fewer capabilities.
    pub(crate) fn with(change: impl FnOnce(&mut Capabilities)) -> Self {
        let memory = Arc::new(Memory::new(0x4_0000));
        let mut caps = Capabilities::default();
        caps.idr0.set_s2p(true);
        caps.idr0.set_httu(2);
        change(&mut caps);
        let setup = setup(caps);
        let core = Arc::new(Software::default());
        core.memory_changed(memory.clone());
        core.set_up(Some(setup));
        let stages = Self { memory, core, caps };
        stages.configure();
        stages.map(1);
        stages
    }

    fn configure(&self) {
        for (stream, config, vmid) in [
            (1, 6, VMID),
            (2, 7, VMID),
            (3, 6, OTHER_VMID),
            (4, 7, OTHER_VMID),
            (5, 5, VMID),
        ] {
            // V, Config, two bits of SubstreamID if there is a stage 1.
            let first = 1 | config << 1 | if config == 6 { 0 } else { CDS | 2 << 59 };
            self.memory
                .set_all(64 * stream, &[first, 0, vmid | DW2, SECOND]);
        }
        for substream in 1..3u64 {
            // T0SZ=T1SZ=25, TG1=4K, EPD1, V, IPS=48 bits, AA64, R, A.
            let first = 0x6205_c099_0019 | substream << 48;
            self.memory
                .set_all(CDS + 64 * substream, &[first, TABLES, 0, 0xf404_ff44]);
        }
        self.memory.set(TABLES, (TABLES + 0x1000) | 3);
        self.memory.set(TABLES + 0x1008, (TABLES + 0x2000) | 3);
        self.memory.set(SECOND, (SECOND + 0x1000) | 3);
        self.memory.set(SECOND + 0x1000, (SECOND + 0x2000) | 3);
        self.memory.set(SECOND + 0x1018, (SECOND + 0x3000) | 3);
        // Configuration and tables lie where they lie.
        for page in 0..0x40 {
            self.memory
                .set(SECOND + 0x2000 + 8 * page, page << 12 | RIGHTS);
        }
        self.map_first(0);
    }

    /// Stage 2 maps everything to the `n`th place.
    fn map(&self, n: u64) {
        let to = n << 32;
        for page in 0x100..0x140 {
            self.memory
                .set(SECOND + 0x2000 + 8 * page, to | page << 12 | RIGHTS);
        }
        self.memory.set(SECOND + 0x1010, to | BLOCK | RIGHTS & !2);
        for page in 0..512 {
            let at = SECOND + 0x3000 + 8 * page;
            self.memory.set(at, to | PIECES | page << 12 | RIGHTS);
        }
    }

    /// Stage 1 maps everything to so many bytes further on.
    fn map_first(&self, offset: u64) {
        for (va, ipa, kind) in [
            (VA, PAGE, OWN),
            (VA_NEIGHBOUR, NEIGHBOUR, OWN),
            (VA_GLOBAL, OF_GLOBAL, GLOBAL),
            (VA_IN_BLOCK, BLOCK + 0x3000, OWN),
        ] {
            let at = TABLES + 0x2000 + 8 * (va >> 12 & 0x1ff);
            self.memory.set(at, (ipa + offset) | kind);
        }
        // A block cannot move by less than itself.
        let block = if offset == 0 { PIECES } else { BLOCK };
        self.memory.set(TABLES + 0x1010, block | OWN & !2);
    }

    pub(crate) fn execute(&self, commands: &[[u64; 2]]) {
        execute(&self.core, &self.caps, commands, false);
    }

    pub(crate) fn access(
        &self,
        who: Who,
        address: u64,
        operation: Operation,
    ) -> Result<u64, Denied> {
        let mut port = self.core.port(StreamId(who.0)).expect("a guard");
        let access = Access {
            address,
            operation,
            privileged: true,
        };
        let guard = port.translate(who.1.map(SubstreamId), access, 1, |_| ())?;
        Ok(guard.output().address)
    }

    fn read(&self, who: Who, address: u64) -> u64 {
        self.access(who, address, Operation::Read).expect("mapped")
    }

    fn write_fails(&self, who: Who, address: u64) -> Failed {
        match self.access(who, address, Operation::Write) {
            Err(Denied::Fault(failed)) => failed,
            other => panic!("{other:x?}"),
        }
    }
}

fn of_vmid(operation: u64) -> u64 {
    operation | VMID << 32
}

const S2_IPA: u64 = 0x2a;
const ASID_ONE: u64 = 1 << 48;
