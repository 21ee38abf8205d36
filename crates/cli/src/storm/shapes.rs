//! What a guest kernel sends when a process changes its memory map: first TLBIs and their
//! SYNC, then an ATC_INV and its own (the device must not get back what the SMMU still holds).

use super::FIRST_STREAM;
use smmu_core::command::{AtcInv, Cfgi, Command, Tlbi};
use smmu_core::encode::{encode, pieces};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, StreamId, SubstreamId, Vmid};
use vcmdq::testing::Numbers;

const PAGE: u64 = 4096;

/// Without range invalidation, so many pages are one ASID (Linux: as many as a table has entries).
const PAGES_OF_A_TABLE: u64 = 512;

/// Where processes map what they unmap page by page, and where what is mapped by blocks.
const SMALL: u64 = 0x5500_0000_0000;
const HUGE: u64 = 0x6600_0000_0000;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Unmap4K,
    Unmap16K,
    Unmap64K,
    Unmap128K,
    Unmap256K,
    /// A block of 2 MiB goes.
    HugePage,
    /// The whole address space becomes copy-on-write.
    Fork,
    /// The address space goes, and with it the device's view of it.
    Exit,
}

impl Operation {
    pub(super) const ALL: [Self; 8] = [
        Self::Unmap4K,
        Self::Unmap16K,
        Self::Unmap64K,
        Self::Unmap128K,
        Self::Unmap256K,
        Self::HugePage,
        Self::Fork,
        Self::Exit,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unmap4K => "munmap 4K",
            Self::Unmap16K => "munmap 16K",
            Self::Unmap64K => "munmap 64K",
            Self::Unmap128K => "munmap 128K",
            Self::Unmap256K => "munmap 256K",
            Self::HugePage => "huge page 2M",
            Self::Fork => "fork",
            Self::Exit => "exit",
        }
    }

    /// Four of five are munmaps, of every size alike.
    pub(super) fn choose(random: &mut Numbers) -> Self {
        match random.below(25) {
            n @ 0..20 => Self::ALL[(n / 4) as usize],
            20 | 21 => Self::HugePage,
            22 | 23 => Self::Fork,
            _ => Self::Exit,
        }
    }

    /// The commands of each SYNC, in order.
    pub(super) fn submissions(
        self,
        process: &Process,
        random: &mut Numbers,
        ril: bool,
    ) -> Vec<Vec<RawCommand>> {
        let unmap = |pages: u64, random: &mut Numbers| {
            let first = process.small + random.below(1 << 18) / pages * pages * PAGE;
            vec![
                process.tlbi_pages(first, pages, ril),
                process.atc_inv(first, pages),
            ]
        };
        match self {
            Self::Unmap4K => unmap(1, random),
            Self::Unmap16K => unmap(4, random),
            Self::Unmap64K => unmap(16, random),
            Self::Unmap128K => unmap(32, random),
            Self::Unmap256K => unmap(64, random),
            Self::HugePage => {
                let first = process.huge + random.below(1 << 9) * PAGES_OF_A_TABLE * PAGE;
                vec![
                    process.tlbi_block(first, ril),
                    process.atc_inv(first, PAGES_OF_A_TABLE),
                ]
            }
            Self::Fork => vec![process.tlbi_asid(), process.atc_inv_all()],
            Self::Exit => vec![
                process.cfgi_cd(),
                process.tlbi_asid(),
                process.atc_inv_all(),
            ],
        }
    }
}

/// An address space that a device shares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    asid: Asid,
    stream: StreamId,
    pasid: SubstreamId,
    small: u64,
    huge: u64,
}

impl Process {
    /// Process `number` of a CPU.
    pub(super) fn new(vcpu: u16, number: u16) -> Self {
        let asid = 1 + vcpu * 64 + number;
        let offset = u64::from(vcpu) << 36;
        Self {
            asid: Asid(asid),
            stream: StreamId(FIRST_STREAM + u32::from(vcpu)),
            pasid: SubstreamId(u32::from(asid)),
            small: SMALL + offset,
            huge: HUGE + offset,
        }
    }

    fn by_address(&self, range: TlbiRange) -> Command {
        Command::Tlbi(Tlbi::NhVa {
            vmid: Vmid(0),
            asid: self.asid,
            range,
        })
    }

    /// Pages go, and perhaps tables: no level is promised. With ranges, a page count that would
    /// end in the reserved combination is one page more, as Linux makes it.
    fn tlbi_pages(&self, first: u64, pages: u64, ril: bool) -> Vec<RawCommand> {
        let granule = ril.then_some(Granule::K4);
        let pages = pages + u64::from(ril && pages % 32 == 1);
        let range = TlbiRange {
            addr: first,
            bytes: pages * PAGE,
            granule,
            ttl: 0,
            leaf: false,
        };
        pieces(range)
            .map(|piece| encode(&self.by_address(piece)))
            .collect()
    }

    /// A block goes and its table stays: only leaves of level 2. Without ranges it counts as the
    /// pages of a table, which is too many.
    fn tlbi_block(&self, first: u64, ril: bool) -> Vec<RawCommand> {
        if !ril {
            return self.tlbi_asid();
        }
        let bytes = PAGES_OF_A_TABLE * PAGE;
        let range = TlbiRange {
            addr: first,
            bytes,
            granule: Some(Granule::K4),
            ttl: 2,
            leaf: true,
        };
        vec![encode(&self.by_address(range))]
    }

    fn tlbi_asid(&self) -> Vec<RawCommand> {
        vec![encode(&Command::Tlbi(Tlbi::NhAsid {
            vmid: Vmid(0),
            asid: self.asid,
        }))]
    }

    fn cfgi_cd(&self) -> Vec<RawCommand> {
        let cfgi = Cfgi::Cd {
            stream: self.stream,
            substream: self.pasid,
            leaf: true,
        };
        vec![encode(&Command::Cfgi(cfgi))]
    }

    /// The smallest aligned power of two that holds all of the pages.
    fn atc_inv(&self, first: u64, pages: u64) -> Vec<RawCommand> {
        let (low, high) = (first / PAGE, first / PAGE + pages - 1);
        let size = (64 - (low ^ high).leading_zeros()) as u8;
        self.atc(first & !((PAGE << size) - 1), size)
    }

    fn atc_inv_all(&self) -> Vec<RawCommand> {
        self.atc(0, 52)
    }

    fn atc(&self, addr: u64, size: u8) -> Vec<RawCommand> {
        let (stream, substream) = (self.stream, Some(self.pasid));
        vec![encode(&Command::AtcInv(AtcInv {
            stream,
            substream,
            global: false,
            addr,
            size,
        }))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smmu_core::Capabilities;
    use smmu_core::decode::decode;

    fn decoded(operation: Operation, ril: bool) -> Vec<Vec<Command>> {
        let mut caps = Capabilities::default().with_ats();
        caps.idr3.set_ril(ril);
        let submissions = operation.submissions(&Process::new(3, 5), &mut Numbers::new(7), ril);
        let legal = |raw: &RawCommand| decode(*raw, &caps).expect("legal");
        submissions
            .iter()
            .map(|commands| commands.iter().map(legal).collect())
            .collect()
    }

    fn lengths(operation: Operation, ril: bool) -> Vec<usize> {
        decoded(operation, ril).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_range_is_one_command_or_one_for_each_page() {
        assert_eq!(lengths(Operation::Unmap256K, true), [1, 1]);
        assert_eq!(lengths(Operation::Unmap256K, false), [64, 1]);
        assert_eq!(lengths(Operation::Unmap4K, true), [1, 1]);
        assert_eq!(lengths(Operation::Exit, true), [1, 1, 1]);
    }

    #[test]
    fn the_device_forgets_at_least_the_pages() {
        for operation in Operation::ALL {
            for ril in [true, false] {
                let commands: Vec<_> = decoded(operation, ril).concat();
                let Some(Command::AtcInv(inv)) = commands.last() else {
                    panic!("{operation:?} ends with {commands:?}");
                };
                for command in &commands {
                    if let Command::Tlbi(Tlbi::NhVa { range, .. }) = command {
                        // The page too many that a range may have is not the device's matter.
                        let last = if operation == Operation::Unmap4K {
                            range.addr
                        } else {
                            range.last()
                        };
                        assert!(inv.addr <= range.addr && last <= inv.last(), "{commands:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_operation_happens() {
        let mut random = Numbers::new(1);
        let mut seen = [0; Operation::ALL.len()];
        (0..1000).for_each(|_| seen[Operation::choose(&mut random) as usize] += 1);
        assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
    }
}
