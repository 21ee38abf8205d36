//! One translation by the crate and by the naive SMMU.

use crate::input::{Input, Output};
use crate::memory::Ram;
use crate::naive::model::{self, Answer, Registers, Request};
use crate::reached::Reached;
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::caps::Capabilities;
use smmu_core::config::StreamTable;
use smmu_core::spec::register::{Idr0, Idr1, Idr3, Idr5, StrtabBase, StrtabBaseCfg};
use smmu_core::translate::{Setup, Translated};
use smmu_core::walk::Leaf;
use smmu_core::{StreamId, SubstreamId};

/// Where the STE lies: that of stream 0.
pub(crate) const STE: u64 = 0;

/// How often a translation may ask for memory. STE and CD are four units of 16 bytes each and one
/// descriptor of a first level; a walk of stage 1 is five descriptors and an update. Each of the two
/// descriptors of CDs, of the five and of the output, and the update, may need a walk of stage 2,
/// which is five descriptors and an update.
pub(crate) const MOST_ASKED: usize = 4 + 5 + 6 + 9 * 6;
/// How often a walk of either stage is done at most if its descriptors change under it.
pub(crate) const MOST_WALKS: usize = 17;

/// Two SMMUs over one memory, with one stream.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) ram: Ram,
    pub(crate) registers: Registers,
}

/// Registers with any identification; the stream table is linear and begins at zero.
pub(crate) fn registers(input: &mut Input<'_>) -> Registers {
    let [idr0, idr1, idr3, idr5] = std::array::from_fn(|_| input.u32());
    Registers {
        idr0,
        idr1,
        idr3,
        idr5,
        strtab_base: STE,
        strtab_base_cfg: 6,
        e2h: input.u8() & 1 != 0,
    }
}

/// What [`registers`] reads.
pub(crate) fn write_registers(to: Output, idrs: [u32; 4]) -> Output {
    idrs.into_iter().fold(to, Output::u32).u8(0)
}

/// S1P, S2P, AArch64 tables, 16-bit ASIDs and VMIDs, two-level CDs, HYP, ATS; 20 bits of
/// SubstreamID and overrides; every granule, 48 bits.
pub(crate) const LENIENT: [u32; 4] = {
    let idr0 = 0xb | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 18 | 1 << 19;
    [
        idr0,
        16 | 20 << 6 | 1 << 26,
        1 << 2 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 13,
        5 | 7 << 4,
    ]
};

/// A transaction of stream 0.
pub(crate) fn request(input: &mut Input<'_>) -> Request {
    let (flags, substream, address) = (input.u8(), input.u32(), input.u64());
    let write = flags & 1 != 0;
    Request {
        stream: 0,
        substream: (flags & 2 != 0).then_some(substream & 0xF_FFFF),
        address,
        write,
        execute: !write && flags & 4 != 0,
        privileged: flags & 8 != 0,
    }
}

/// What [`request`] reads.
pub(crate) fn write_request(to: Output, flags: u8, substream: u32, address: u64) -> Output {
    to.u8(flags).u32(substream).u64(address)
}

impl Machine {
    pub(crate) fn caps(&self) -> Capabilities {
        Capabilities {
            idr0: Idr0::from_bits(self.registers.idr0),
            idr1: Idr1::from_bits(self.registers.idr1),
            idr3: Idr3::from_bits(self.registers.idr3),
            idr5: Idr5::from_bits(self.registers.idr5),
            ..Capabilities::default()
        }
    }

    pub(crate) fn setup(&self) -> Setup {
        let (registers, caps) = (&self.registers, self.caps());
        Setup {
            streams: StreamTable::from_registers(
                StrtabBase::from_bits(registers.strtab_base),
                StrtabBaseCfg::from_bits(registers.strtab_base_cfg),
                &caps,
            ),
            caps,
            e2h: registers.e2h,
            record_bad_stream_id: true,
        }
    }

    /// Has both translate, and compares: page, permission, fault, every bit of the event record, and what
    /// was written.
    pub(crate) fn compare(&self, request: &Request) -> Reached {
        self.ram.take_log();
        let expected = model::translate(&self.ram, &self.registers, request);
        let naive = self.ram.take_log();
        self.ram.undo(&naive);
        let found = self.answer(request);
        let own = self.ram.take_log();
        self.ram.undo(&own);
        let mut most = MOST_ASKED;
        if naive.meets_itself() {
            most *= MOST_WALKS * MOST_WALKS;
        } else {
            assert_eq!(found, expected, "{request:x?} {:x?}", self.registers);
            assert!(own.writes().eq(naive.writes()), "{own:x?} {naive:x?}");
        }
        assert!(
            own.asked() <= most,
            "memory was asked {} times",
            own.asked()
        );
        let mut reached = Reached::from(&expected);
        if naive.writes().next().is_some() {
            reached |= Reached::UPDATE;
        }
        reached
    }

    /// Reads, writes and executes, with privilege and without.
    pub(crate) fn compare_every_access(&self, request: &Request) -> Reached {
        let mut reached = Reached::NOTHING;
        for (write, execute) in [(false, false), (true, false), (false, true)] {
            for privileged in [false, true] {
                reached |= self.compare(&Request {
                    write,
                    execute,
                    privileged,
                    ..*request
                });
            }
        }
        reached
    }

    /// The crate's answer in the model's words.
    fn answer(&self, request: &Request) -> Answer {
        match self.setup().translate(&self.ram, &transaction(request)) {
            Ok(Translated::Aborted) => Answer::SilentAbort,
            Ok(Translated::Bypassed(address)) => Answer::Bypass(address),
            Ok(Translated::Mapped(leaf)) => {
                let kept = Leaf::unpack(leaf.pack());
                assert_eq!(kept, Some(leaf), "as caches hold it");
                Answer::Page {
                    output: leaf.output(request.address),
                    bytes: 1 << leaf.shift,
                    global: leaf.global,
                    mair: leaf.memory.mair,
                    shareability: leaf.memory.shareability,
                }
            }
            Err(failed) => Answer::Event(failed.record(None).0),
        }
    }
}

pub(crate) fn transaction(request: &Request) -> Transaction {
    Transaction {
        stream: StreamId(request.stream),
        substream: request.substream.map(SubstreamId),
        access: Access {
            address: request.address,
            operation: match (request.write, request.execute) {
                (true, _) => Operation::Write,
                (false, true) => Operation::Execute,
                (false, false) => Operation::Read,
            },
            privileged: request.privileged,
        },
    }
}
