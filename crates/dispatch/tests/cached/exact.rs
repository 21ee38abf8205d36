//! By hand: a command takes what it names and leaves its neighbours. What is left is seen by
//! changing the tables behind the SMMU's back: an old answer can only come from a cache.

use crate::memory::Memory;
use crate::rig::{execute, setup};
use dispatch::Backend;
use dispatch::backend::Software;
use dispatch::backend::software::Denied;
use smmu_core::access::{Access, Operation};
use smmu_core::caps::Capabilities;
use smmu_core::translate::Setup;
use smmu_core::{StreamId, SubstreamId};
use std::sync::Arc;

pub(crate) const CDS: u64 = 0x1000;
pub(crate) const TABLES: u64 = 0x1_0000;
/// A page that everybody may read: AF, SH, AP=01, nG.
pub(crate) const OWN: u64 = 0xf43;
const GLOBAL: u64 = 0x743;

/// Two streams with one CD table of three contexts (ASIDs 1, 2 and 3, one tree), and a third
/// with a VMID of its own.
pub(crate) struct Hand {
    pub(crate) memory: Arc<Memory>,
    pub(crate) core: Arc<Software>,
    pub(crate) caps: Capabilities,
    pub(crate) setup: Setup,
}

/// Who accesses: stream, substream.
type Who = (u32, u32);

const ONE: Who = (4, 1);
const TWO: Who = (4, 2);
const TWIN: Who = (5, 1);
const OTHER_VMID: Who = (6, 1);

pub(crate) const PAGE: u64 = 0x20_3000;
pub(crate) const NEIGHBOUR: u64 = 0x20_4000;
/// In another set of eight.
pub(crate) const FAR: u64 = 0x20_8000;
pub(crate) const GLOBAL_PAGE: u64 = 0x20_5000;
pub(crate) const BLOCK: u64 = 0x40_0000;
const UPPER: u64 = !0 << 39 | PAGE;
/// Of 64 KiB, in a tree of its own: substream 3.
const BIG: u64 = 0x21_0000;
const THREE: Who = (4, 3);

impl Hand {
    pub(crate) fn new() -> Self {
        let memory = Arc::new(Memory::new(0x8_0000));
        let mut caps = Capabilities::default();
        caps.idr0.set_s2p(true);
        caps.idr5.set_gran64k(true);
        for (stream, vmid) in [(4, 0), (5, 0), (6, 9)] {
            // V, Config=101, S1CDMax=2.
            memory.set_all(64 * stream, &[0xb | CDS | 2 << 59, 0, vmid]);
        }
        for substream in 1..4u64 {
            // T0SZ=T1SZ=25, TG1=4K, V, IPS=48 bits, AA64, R, A.
            let mut first = 0x6205_8099_0019 | substream << 48;
            let mut lower = TABLES;
            if substream == 3 {
                // TG0=64K
                first |= 1 << 6;
                lower = 0x2_0000;
            }
            memory.set_all(CDS + 64 * substream, &[first, lower, TABLES, 0xf404_ff44]);
        }
        let (second, third) = (TABLES + 0x1000, TABLES + 0x2000);
        memory.set(TABLES, second | 3);
        memory.set(second + 8, third | 3);
        // 64 KiB: 512 MiB each, then pages.
        memory.set(0x2_0000, 0x3_0003);
        let setup = setup(caps);
        let hand = Self {
            memory,
            core: Arc::new(Software::default()),
            caps,
            setup,
        };
        hand.map(1);
        hand.core.memory_changed(hand.memory.clone());
        hand.core.set_up(Some(setup));
        hand
    }

    /// Maps everything to the `n`th place.
    fn map(&self, n: u64) {
        let third = TABLES + 0x2000;
        for page in [PAGE, NEIGHBOUR, FAR] {
            self.memory.set(
                third + 8 * (page >> 12 & 0x1ff),
                n << 32 | page & !0xfff | OWN,
            );
        }
        self.memory.set(
            third + 8 * (GLOBAL_PAGE >> 12 & 0x1ff),
            n << 32 | GLOBAL_PAGE | GLOBAL,
        );
        self.memory
            .set(TABLES + 0x1000 + 16, n << 32 | BLOCK | OWN & !2);
        self.memory
            .set(0x3_0000 + 8 * (BIG >> 16), n << 32 | BIG | OWN);
    }

    pub(crate) fn execute(&self, commands: &[[u64; 2]]) {
        execute(&self.core, &self.caps, commands, false);
    }

    pub(crate) fn read(&self, (stream, substream): Who, address: u64) -> Result<u64, Denied> {
        let mut port = self.core.port(StreamId(stream)).expect("a guard");
        let access = Access {
            address,
            operation: Operation::Read,
            privileged: true,
        };
        let guard = port.translate(Some(SubstreamId(substream)), access, 1, |_| ())?;
        Ok(guard.output().address)
    }

    /// The place to which an access goes.
    fn place(&self, who: Who, address: u64) -> u64 {
        self.read(who, address).expect("mapped") >> 32
    }
}

const NAMES: [(&str, Who, u64); 12] = [
    ("page", ONE, PAGE),
    ("page of another stream", TWIN, PAGE),
    ("neighbour", ONE, NEIGHBOUR),
    ("far", ONE, FAR),
    ("global", ONE, GLOBAL_PAGE),
    ("global seen by two", TWO, GLOBAL_PAGE),
    ("page of two", TWO, PAGE),
    ("page of another VMID", OTHER_VMID, PAGE),
    ("global of another VMID", OTHER_VMID, GLOBAL_PAGE),
    ("block", ONE, BLOCK + 0x1f_f000),
    ("upper", ONE, UPPER),
    ("big", THREE, BIG + 0x3000),
];

/// What has gone after a command.
fn gone(command: [u64; 2]) -> Vec<&'static str> {
    let hand = Hand::new();
    for (name, who, address) in NAMES {
        assert_eq!(hand.place(who, address), 1, "{name}");
    }
    hand.map(2);
    for (name, who, address) in NAMES {
        assert_eq!(hand.place(who, address), 1, "{name} is cached");
    }
    hand.execute(&[command]);
    let moved = NAMES
        .iter()
        .filter(|&&(_, who, address)| hand.place(who, address) == 2);
    moved.map(|&(name, ..)| name).collect()
}

/// The same without what belongs to another VMID: the cache's tags do not hold it, so an address
/// goes with the same address of other VMIDs.
fn gone_here(command: [u64; 2]) -> Vec<&'static str> {
    let mut gone = gone(command);
    gone.retain(|name| !name.ends_with("another VMID"));
    gone
}

/// Without the entries that are not named by a test's list, in its order.
fn all_but(names: &[&str]) -> Vec<&'static str> {
    let all = NAMES.iter().map(|&(name, ..)| name);
    all.filter(|name| !names.contains(name)).collect()
}

pub(crate) const VA: u64 = 0x12;
const VAA: u64 = 0x13;

pub(crate) fn asid(asid: u64) -> u64 {
    asid << 48
}

#[test]
fn law7_an_address_takes_its_page_and_no_neighbour() {
    assert_eq!(
        gone_here([VA | asid(1), PAGE]),
        ["page", "page of another stream"]
    );
    assert_eq!(gone_here([VA | asid(2), PAGE]), ["page of two"]);
    assert_eq!(gone_here([VA | asid(7), PAGE]), [""; 0]);
    let everybody = ["page", "page of another stream", "page of two"];
    assert_eq!(gone_here([VAA, PAGE]), everybody);
    assert_eq!(gone_here([VA | asid(1), UPPER]), ["upper"]);
    let inside = BLOCK + 0x5000;
    assert_eq!(gone_here([VA | asid(1), inside]), ["block"]);
}

#[test]
fn law7_an_address_takes_global_entries_whatever_the_asid() {
    let global = ["global", "global seen by two"];
    assert_eq!(gone_here([VA | asid(1), GLOBAL_PAGE]), global);
    assert_eq!(gone_here([VA | asid(7), GLOBAL_PAGE]), global);
    assert_eq!(gone_here([VAA, GLOBAL_PAGE]), global);
}

#[test]
fn law7_an_asid_spares_globals_and_other_asids() {
    let of_one = [
        "page",
        "page of another stream",
        "neighbour",
        "far",
        "block",
        "upper",
    ];
    assert_eq!(gone([0x11 | asid(1), 0]), of_one);
    assert_eq!(gone([0x11 | asid(2), 0]), ["page of two"]);
    assert_eq!(gone([0x11 | asid(3), 0]), ["big"]);
}

#[test]
fn law7_a_vmid_takes_its_own_globals_and_no_other_vmid() {
    let other = ["page of another VMID", "global of another VMID"];
    assert_eq!(gone([0x10, 0]), all_but(&other));
    assert_eq!(gone([0x10 | 9 << 32, 0]), other);
    assert_eq!(gone([0x28 | 9 << 32, 0]), other);
    assert_eq!(gone([0x30, 0]), all_but(&[]));
}

/// Row 28 of the peers' bugs: ranges that are no power of two, of one granule only, without an
/// ASID, in the upper half, to the top of the address space.
#[test]
fn law7_peers_row28_a_range_takes_its_pages_and_no_neighbour() {
    let tg = |code: u64| code << 10;
    let range = |num: u64, scale: u64| num << 12 | scale << 20;
    // Three pages from the one before: one too few for the global page, and one of it.
    let to_neighbour = ["page", "page of another stream", "neighbour"];
    let from = PAGE - 0x1000;
    assert_eq!(
        gone_here([VA | asid(1) | range(2, 0), from | tg(1)]),
        to_neighbour
    );
    let with_global = [
        "page",
        "page of another stream",
        "neighbour",
        "global",
        "global seen by two",
    ];
    assert_eq!(
        gone_here([VA | asid(1) | range(3, 0), from | tg(1)]),
        with_global
    );
    // Seven pages of 4 KiB, from the second on: `far` is the eighth.
    let all = [
        "page",
        "page of another stream",
        "neighbour",
        "global",
        "global seen by two",
        "page of two",
    ];
    assert_eq!(gone_here([VAA | range(6, 0), 0x20_1000 | tg(1)]), all);
    // 16 KiB holds none of them, 64 KiB one: whose granule it is.
    assert_eq!(gone_here([VAA | range(30, 3), tg(2)]), [""; 0]);
    let around = (BIG - 0x3_0000) | tg(3);
    assert_eq!(gone_here([VAA | range(6, 0), around]), ["big"]);
    assert_eq!(
        gone_here([VA | asid(3), BIG + 0xf000]),
        ["big"],
        "of unknown granule"
    );
    // The last byte before, and the first byte of, a block.
    assert_eq!(
        gone_here([VA | asid(1) | range(1, 0), (BLOCK - 0x2000) | tg(1)]),
        [""; 0]
    );
    assert_eq!(
        gone_here([VA | asid(1) | range(2, 0), (BLOCK - 0x2000) | tg(1)]),
        ["block"]
    );
    // To the top of the address space: more than that may go, but this must.
    let top = gone_here([VA | asid(1) | range(31, 31), (UPPER - 0x1000) | tg(1)]);
    assert!(top.contains(&"upper"), "{top:?}");
}

/// What is read again after a command: each context has moved to another ASID and tree.
fn read_again(command: [u64; 2]) -> Vec<Who> {
    let hand = Hand::new();
    let all = [ONE, TWO, TWIN, OTHER_VMID];
    let mut ports = all.map(|who| (who, hand.core.port(StreamId(who.0)).expect("a guard")));
    let mut places = || {
        ports.each_mut().map(|((_, substream), port)| {
            let access = Access {
                address: PAGE,
                operation: Operation::Read,
                privileged: true,
            };
            let substream = Some(SubstreamId(*substream));
            let guard = port.translate(substream, access, 1, |_| ());
            guard.expect("mapped").output().address >> 32
        })
    };
    assert_eq!(places(), [1; 4]);
    // A tree that leads elsewhere, under ASIDs that nobody has used.
    hand.memory.set(0x5_0000, 0x5_1003);
    hand.memory.set(0x5_1008, 0x5_2003);
    hand.memory
        .set(0x5_2000 + 8 * (PAGE >> 12 & 0x1ff), 2 << 32 | PAGE | OWN);
    for substream in 1..3u64 {
        let at = CDS + 64 * substream;
        let first = hand.memory.get(at).expect("in memory");
        hand.memory.set(at, first + (10 << 48));
        hand.memory.set(at + 8, 0x5_0000);
    }
    assert_eq!(places(), [1; 4], "kept");
    hand.execute(&[command]);
    let after = places();
    (0..4).filter(|&n| after[n] == 2).map(|n| all[n]).collect()
}

#[test]
fn law7_a_context_is_read_again_for_its_own_stream_only() {
    let cd = |(stream, substream): Who| {
        [
            0x05 | u64::from(stream) << 32 | u64::from(substream) << 12,
            1,
        ]
    };
    assert_eq!(read_again(cd(ONE)), [ONE]);
    assert_eq!(read_again(cd(TWO)), [TWO]);
    assert_eq!(
        read_again(cd(TWIN)),
        [TWIN],
        "one command for each stream of a CD table"
    );
    assert_eq!(read_again([0x06 | 4 << 32, 0]), [ONE, TWO]);
    assert_eq!(
        read_again([0x03 | 4 << 32, 1]),
        [ONE, TWO],
        "an STE takes its CDs along"
    );
    assert_eq!(
        read_again([0x30, 0]),
        [],
        "translations are not configuration"
    );
}

/// Row 28 of the peers' bugs: CFGI_STE_RANGE. Row 18: CFGI_ALL.
#[test]
fn law7_peers_row28_a_range_of_streams_is_aligned_and_whole() {
    let range = |stream: u64, range: u64| [0x04 | stream << 32, range];
    assert_eq!(read_again(range(4, 0)), [ONE, TWO, TWIN]);
    assert_eq!(read_again(range(5, 0)), [ONE, TWO, TWIN]);
    assert_eq!(read_again(range(7, 0)), [OTHER_VMID]);
    assert_eq!(read_again(range(3, 0)), []);
    assert_eq!(read_again(range(3, 1)), []);
    assert_eq!(read_again(range(3, 2)), [ONE, TWO, TWIN, OTHER_VMID]);
    assert_eq!(read_again(range(0x60, 30)), [ONE, TWO, TWIN, OTHER_VMID]);
    assert_eq!(read_again(range(0, 31)), [ONE, TWO, TWIN, OTHER_VMID]);
}
