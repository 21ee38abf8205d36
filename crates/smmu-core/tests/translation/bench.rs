//! One stream with one context and one page, valid in every respect, for tests to spoil.

use crate::naive::Ram;
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::caps::Capabilities;
use smmu_core::config::StreamTable;
use smmu_core::fault::Fault;
use smmu_core::spec::event::EventRecord;
use smmu_core::translate::{Failed, Setup, Translated};
use smmu_core::{Gpa, StreamId, SubstreamId};

pub(crate) const STREAM: u32 = 3;
pub(crate) const STE: u64 = 64 * STREAM as u64;
pub(crate) const CD: u64 = 0x1000;
pub(crate) const TTB0: u64 = 0x2000;
pub(crate) const TTB1: u64 = 0x3000;
/// A 4 KiB page is mapped here, through both halves.
pub(crate) const PAGE: u64 = 0x0000_0001_2345_6000;
pub(crate) const UPPER_PAGE: u64 = 0xffff_ff81_2345_6000;
/// And lies here.
pub(crate) const OUTPUT: u64 = 0x8765_4000;
/// V, Config=101, S1ContextPtr.
pub(crate) const DW0_STE: u64 = 0xb | CD;
/// T0SZ=T1SZ=25, TG1=4K, V, IPS=48 bits, AA64, R, A, ASID 1.
pub(crate) const DW0_CD: u64 = 0x0001_6205_8099_0019;
/// A page that everybody may read and write, not global: AttrIndx=1, AP=01, SH=3, AF, nG.
pub(crate) const LEAF: u64 = OUTPUT | 0xf47;

pub(crate) struct Bench {
    pub(crate) ram: Ram,
    pub(crate) setup: Setup,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let ram = Ram::new(0x1_0000);
        ram.set(STE, DW0_STE);
        ram.set_all(CD, &[DW0_CD, TTB0, TTB1, 0x0000_0000_f404_ff44]);
        // 39 bits: levels 1 to 3, indices 4, 0x11a and 0x56.
        for (ttb, second) in [(TTB0, 0x4000), (TTB1, 0x6000)] {
            ram.set(ttb + 8 * 4, second | 3);
            ram.set(second + 8 * 0x11a, (second + 0x1000) | 3);
            ram.set(second + 0x1000 + 8 * 0x56, LEAF);
        }
        let setup = Setup {
            streams: StreamTable {
                base: Gpa(0),
                log2size: 4,
                split: 6,
                two_level: false,
            },
            caps: Capabilities::default(),
            e2h: false,
            record_bad_stream_id: false,
        };
        Self { ram, setup }
    }

    /// The words of the first lower-half table walk, to be spoiled.
    pub(crate) const LEAF_AT: u64 = 0x5000 + 8 * 0x56;
    pub(crate) const SECOND_AT: u64 = 0x4000 + 8 * 0x11a;
    pub(crate) const FIRST_AT: u64 = TTB0 + 8 * 4;

    pub(crate) fn translate(
        &self,
        address: u64,
        operation: Operation,
        privileged: bool,
    ) -> Result<Translated, Failed> {
        self.of_substream(None, address, operation, privileged)
    }

    pub(crate) fn of_substream(
        &self,
        substream: Option<u32>,
        address: u64,
        operation: Operation,
        privileged: bool,
    ) -> Result<Translated, Failed> {
        let transaction = Transaction {
            stream: StreamId(STREAM),
            substream: substream.map(SubstreamId),
            access: Access {
                address,
                operation,
                privileged,
            },
        };
        self.setup.translate(&self.ram, &transaction)
    }

    /// Reads with privilege; where the address ends up.
    pub(crate) fn read(&self, address: u64) -> Result<u64, Fault> {
        match self.translate(address, Operation::Read, true) {
            Ok(Translated::Mapped(leaf)) => Ok(leaf.output(address)),
            Ok(Translated::Bypassed(output)) => Ok(output),
            Ok(Translated::Aborted) => panic!("a silent abort"),
            Err(failed) => Err(failed.fault),
        }
    }

    pub(crate) fn record(&self, address: u64) -> EventRecord {
        match self.translate(address, Operation::Read, true) {
            Err(failed) => failed.record(None),
            Ok(fine) => panic!("{fine:?} has no record"),
        }
    }
}
