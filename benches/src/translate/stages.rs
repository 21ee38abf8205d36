//! A guest's stream table with one stream of stage 1 alone and one of both stages, over tables of four
//! levels, and the reads that a walk of them needs.

use dispatch::backend::software::{Port, SoftwareSettings};
use dispatch::backend::{Backend, Software};
use smmu_core::access::{Access, Operation};
use smmu_core::config::StreamTable;
use smmu_core::guest_memory::{GuestMemory, load_u64, store_u64};
use smmu_core::translate::Setup;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The stream without stage 2.
pub(super) const ALONE: StreamId = StreamId(1);
/// The stream with both.
pub(super) const NESTED: StreamId = StreamId(2);
/// A page of stage 1: everybody's, not global, used.
pub(super) const LEAF: u64 = 0xf47;
/// A page of stage 2: readable, writable, used.
pub(super) const RIGHTS: u64 = 0x4ff;

/// Where the CDs lie; the stream table begins at zero.
const CD: u64 = 0x1000;

/// See the [module](self).
pub(super) struct Stages {
    pub(super) software: Arc<Software>,
    memory: Arc<dyn GuestMemory>,
    /// Where the first table of each stage lies.
    first: u64,
    second: u64,
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stages").finish_non_exhaustive()
    }
}

impl Stages {
    /// The streams are configured; what the tables say is the caller's matter.
    pub(super) fn new(memory: Arc<dyn GuestMemory>, first: u64, second: u64) -> Self {
        let mut caps = Capabilities::default();
        caps.idr0.set_s2p(true);
        let software = Arc::new(Software::with_settings(SoftwareSettings::default()));
        software.memory_changed(memory.clone());
        software.set_up(Some(Setup {
            streams: StreamTable {
                base: Gpa(0),
                log2size: 2,
                split: 6,
                two_level: false,
            },
            caps,
            e2h: false,
            record_bad_stream_id: false,
        }));
        let stages = Self {
            software,
            memory,
            first,
            second,
        };
        stages.configure();
        stages
    }

    fn configure(&self) {
        // T0SZ=16, EPD1, V, IPS=48 bits, AA64, R, A, and an ASID for each stream.
        let cd = |asid: u64| 0x6205_c000_0010 | asid << 48;
        for (asid, at) in [(1, CD), (2, CD + 64)] {
            let words = [cd(asid), self.first, 0, 0xff44];
            for (at, value) in (at..).step_by(8).zip(words) {
                self.set(at, value);
            }
        }
        self.set(64, 0xb | CD);
        // Config=111; VMID 1, T0SZ=16, SL0=2 (level 0), 4 KiB, S2PS=48 bits, AA64.
        self.set(2 * 64 + 16, 1 | 16 << 32 | 2 << 38 | 5 << 48 | 1 << 51);
        self.set(2 * 64 + 24, self.second);
        self.set(2 * 64, 0xf | (CD + 64));
    }

    pub(super) fn set(&self, at: u64, value: u64) {
        store_u64(&*self.memory, Gpa(at), value, Ordering::Relaxed).expect("the tables are RAM");
    }

    pub(super) fn port(&self, stream: StreamId) -> Port {
        self.software.port(stream).expect("a guard for each")
    }

    fn read(&self, at: u64) -> u64 {
        load_u64(&*self.memory, Gpa(at), Ordering::Acquire).expect("RAM") & 0xffff_ffff_f000
    }

    /// The least that a stage can be: four reads, each of which needs the one before. `locate` says where a
    /// descriptor lies.
    fn stage(&self, first: u64, input: u64, locate: impl Fn(u64) -> u64) -> u64 {
        let step = |table: u64, level: u32| {
            self.read(locate(table + 8 * (input >> (39 - 9 * level) & 511)))
        };
        (0..4).fold(first, step) | input & 0xfff
    }

    /// The least that stage 1 alone can be: 4 reads.
    pub(super) fn alone(&self, address: u64) -> u64 {
        self.stage(self.first, address, |at| at)
    }

    /// The least that both can be: 24 reads.
    pub(super) fn both(&self, address: u64) -> u64 {
        let second = |ipa| self.stage(self.second, ipa, |at| at);
        second(self.stage(self.first, address, second))
    }
}

/// Where an address leads to.
pub(super) fn translate(port: &mut Port, address: u64) -> u64 {
    let access = Access {
        address,
        operation: Operation::Read,
        privileged: true,
    };
    let guard = port.translate(None, access, 64, |_| ());
    guard.expect("the page is mapped").output().address
}
