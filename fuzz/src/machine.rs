//! One translation by the crate and by the naive SMMU.

use crate::input::{Input, Output};
use crate::memory::Ram;
use crate::naive::asked;
use crate::naive::attributes::{INCOMING, STREAMING};
use crate::naive::model::{self, Registers, Request};
use crate::reached::Reached;
use smmu_core::caps::Capabilities;
use smmu_core::translate::Setup;

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
        incoming: if flags & 16 == 0 { INCOMING } else { STREAMING },
    }
}

/// What [`request`] reads.
pub(crate) fn write_request(to: Output, flags: u8, substream: u32, address: u64) -> Output {
    to.u8(flags).u32(substream).u64(address)
}

impl Machine {
    pub(crate) fn caps(&self) -> Capabilities {
        asked::caps(&self.registers)
    }

    pub(crate) fn setup(&self) -> Setup {
        asked::setup(&self.registers)
    }

    /// Has both translate, and compares: page, permission, fault, every bit of the event record, and what
    /// was written.
    pub(crate) fn compare(&self, request: &Request) -> Reached {
        let input = asked::input(&self.setup(), &self.ram, request);
        self.ram.take_log();
        let expected = model::translate(&self.ram, &self.registers, request);
        let naive = self.ram.take_log();
        self.ram.undo(&naive);
        let found = asked::answer(&self.setup(), &self.ram, request, input);
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
}
