//! Streams of commands: recorded ones and made-up ones.

use smmu_core::command::{Cfgi, Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::{RawCommand, opcode};
use smmu_core::{Asid, Gpa, StreamId, Vmid};
use vcmdq::testing::commands;

pub use vcmdq::testing::commands::{atc_inv, tlbi};

/// A stream that the project has a goal for.
#[derive(Clone, Debug)]
pub struct Stream {
    /// For the reader.
    pub name: &'static str,
    /// At most so many nanoseconds per command, through to the software backend. Without the
    /// backend half of it.
    pub goal_ns: Option<f64>,
    /// At least so many times as fast as the baseline.
    pub goal_ratio: Option<f64>,
    /// What OpenVMM's SMMU emulator needs per command without a host backend, in nanoseconds, as
    /// published (summer 2026, AMD EPYC, Zen 5).
    pub published_ns: Option<f64>,
    /// The commands, in ring order.
    pub commands: Vec<RawCommand>,
}

/// Commands that Linux inserts at once: 63 and their SYNC.
pub const PIECE: usize = 64;

/// All that have a goal. The made-up ones fill `entries` slots.
#[must_use]
pub fn with_goals(entries: usize) -> Vec<Stream> {
    let stream = |name, goal_ns, commands| Stream {
        name,
        goal_ns: Some(goal_ns),
        goal_ratio: None,
        published_ns: None,
        commands,
    };
    vec![
        Stream {
            goal_ratio: Some(4.0),
            ..stream("neighbours", 4.0, neighbours(entries / PIECE))
        },
        stream("recorded", 8.0, recorded()),
        stream("random", 12.0, random(entries / PIECE)),
    ]
}

/// Streams that somebody else has published figures for: 256 neighbouring pages, some of the
/// places taken by SYNCs that signal nothing.
#[must_use]
pub fn published() -> Vec<Stream> {
    let stream = |name, sync_every: usize, ns| Stream {
        name,
        goal_ns: None,
        goal_ratio: None,
        published_ns: Some(ns),
        commands: (0..256)
            .map(|n| match n % sync_every {
                last if last + 1 == sync_every => encode(&Command::Sync(Signal::None)),
                _ => tlbi(Asid(1), 0x5_5000_0000 + n as u64),
            })
            .collect(),
    };
    vec![
        stream("no SYNC", usize::MAX, 12.4),
        stream("SYNC/16", 16, 14.1),
        stream("SYNC/2", 2, 18.7),
    ]
}

/// What Linux 7.2 sent while it booted from an NVMe disk with strict invalidation.
#[must_use]
pub fn recorded() -> Vec<RawCommand> {
    include_bytes!("../../crates/smmu-core/tests/vectors/linux-7.2-boot-nvme-strict.cmdq")
        .chunks_exact(16)
        .map(|bytes| RawCommand::from_le_bytes(std::array::from_fn(|at| bytes[at])))
        .collect()
}

/// Pieces of 63 neighbouring 4 KiB pages and a SYNC; each at another address of another ASID, so
/// that no two of them touch.
#[must_use]
pub fn neighbours(pieces: usize) -> Vec<RawCommand> {
    let mut numbers = Numbers::new(1);
    let mut commands = Vec::with_capacity(pieces * PIECE);
    for _ in 0..pieces {
        let (asid, first) = (numbers.asid(), numbers.page());
        commands.extend((0..63).map(|page| tlbi(asid, first + page)));
        commands.push(sync());
    }
    commands
}

/// Pieces of 63 pages at random addresses of random ASIDs, and a SYNC.
#[must_use]
pub fn random(pieces: usize) -> Vec<RawCommand> {
    let mut numbers = Numbers::new(2);
    let mut commands = Vec::with_capacity(pieces * PIECE);
    for _ in 0..pieces {
        commands.extend((0..63).map(|_| tlbi(numbers.asid(), numbers.page())));
        commands.push(sync());
    }
    commands
}

/// TLBIs alone, at random addresses.
#[must_use]
pub fn tlbis(count: usize) -> Vec<RawCommand> {
    let mut numbers = Numbers::new(3);
    (0..count)
        .map(|_| tlbi(numbers.asid(), numbers.page()))
        .collect()
}

/// Commands of every kind that a guest with ATS sends, in an order that no predictor learns.
#[must_use]
pub fn mixed(count: usize) -> Vec<RawCommand> {
    let mut numbers = Numbers::new(4);
    let vmid = Vmid(0);
    let stream = StreamId(0x10);
    let any = |numbers: &mut Numbers| match numbers.word() % 8 {
        0 => sync(),
        1 => encode(&Command::Tlbi(Tlbi::NhAsid {
            vmid,
            asid: numbers.asid(),
        })),
        2 => encode(&Command::Tlbi(Tlbi::NhVaa {
            vmid,
            range: page(numbers.page()),
        })),
        3 => encode(&Command::Tlbi(Tlbi::NhAll { vmid })),
        4 => atc_inv(stream, numbers.page()),
        5 => encode(&Command::Cfgi(Cfgi::Ste { stream, leaf: true })),
        _ => tlbi(numbers.asid(), numbers.page()),
    };
    (0..count).map(|_| any(&mut numbers)).collect()
}

/// A SYNC by message. [`at_slot`] says where to.
#[must_use]
pub fn sync() -> RawCommand {
    encode(&Command::Sync(Signal::Irq { msi: None }))
}

/// The command as a driver writes it into the slot at `slot`: a SYNC's message, if it asks for
/// one, goes to its own first word, and is zero.
#[must_use]
pub fn at_slot(raw: RawCommand, slot: Gpa) -> RawCommand {
    if raw.opcode() != opcode::SYNC || raw == encode(&Command::Sync(Signal::None)) {
        return raw;
    }
    sync_to(slot)
}

/// A SYNC whose message, zero, goes to `slot`.
#[must_use]
pub fn sync_to(slot: Gpa) -> RawCommand {
    commands::sync_to(slot, 0)
}

fn page(number: u64) -> TlbiRange {
    TlbiRange {
        addr: number << 12,
        bytes: 4096,
        granule: Some(Granule::K4),
        ttl: 3,
        leaf: true,
    }
}

/// ASIDs and pages that are the same in every run.
#[derive(Clone, Debug)]
pub struct Numbers(vcmdq::testing::Numbers);

impl Numbers {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(vcmdq::testing::Numbers::new(seed))
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0.word()
    }

    /// An ASID: any but the last, which the benches keep for bystanders.
    pub fn asid(&mut self) -> Asid {
        Asid((self.word() % 0xFFFF) as u16)
    }

    /// A page of the lower half of a 48-bit address space, 64 pages from its end at least.
    pub fn page(&mut self) -> u64 {
        self.word() % ((1 << 35) - 64)
    }
}
