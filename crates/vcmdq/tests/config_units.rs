//! STEs and CDs are read in aligned units of 16 bytes: none of them torn, each of them once.

mod dma_world;

use dispatch::Backend;
use dispatch::backend::Software;
use dma_world::*;
use smmu_core::access::{Access, Operation};
use smmu_core::config::context::{ContextLookup, lookup};
use smmu_core::config::{ContextTable, ContextTableFormat, DefaultSubstream, Stage1Config};
use smmu_core::guest_memory::{GuestMemory, MemoryError};
use smmu_core::walk::NoStage2;
use smmu_core::{Asid, Capabilities, Gpa, StreamId, SubstreamId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use vcmdq::testing::HeapMemory;
use vcmdq_sync::wide;

const STREAM: StreamId = StreamId(1);
const LOOKS: u32 = 200_000;

fn access() -> Access {
    Access {
        address: 0x40_0000,
        operation: Operation::Read,
        privileged: false,
    }
}

/// Stops the writer, also when a look panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Flips the unit at `at` between two values with 128-bit stores, as a guest may, while `look`
/// reads it. Returns whether both have been seen.
fn flipped<M: GuestMemory>(
    memory: &M,
    at: Gpa,
    values: [[u64; 2]; 2],
    mut look: impl FnMut() -> usize,
) -> bool {
    let unit = memory.words(at, 2).unwrap().first_chunk().expect("a unit");
    let done = AtomicBool::new(false);
    wide::store(unit, values[0]);
    let mut seen = [false; 2];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..2).cycle() {
                wide::store(unit, values[n]);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _stop = Stop(&done);
        let mut looks = 0;
        // Until the writer has had its turn, however busy the machine is.
        while looks < LOOKS || seen != [true; 2] && looks < 1000 * LOOKS {
            seen[look()] = true;
            looks += 1;
        }
    });
    seen == [true; 2]
}

/// Every STE that is seen is one that the guest wrote.
fn no_ste_is_torn<M: GuestMemory>(memory: &M) {
    let streams = setup(Capabilities::default()).streams;
    let values = [[0xB | 0x1000, 0x11], [0xB | 0x2000, 0x22]];
    for unit in [0, 3] {
        let at = Gpa(64 * u64::from(STREAM.0) + 16 * unit);
        let both = flipped(memory, at, values, || {
            let ste = streams.raw_ste(memory, STREAM).unwrap().0;
            let unit = [ste[2 * unit as usize], ste[2 * unit as usize + 1]];
            let known = values.iter().position(|value| *value == unit);
            known.unwrap_or_else(|| panic!("half of one STE and half of another: {unit:x?}"))
        });
        assert!(both, "the writer never came to its turn");
    }
}

/// Every context that is seen has the ASID that belongs to its table.
fn no_cd_is_torn<M: GuestMemory + Send>(memory: Arc<M>) {
    let guest = Guest::new(memory);
    let spaces = [guest.space(5), guest.space(9)];
    let cd = guest.page();
    guest.cd(cd, &spaces[0], CD);
    let value = |space: &Space| [CD | u64::from(space.asid) << 48, space.lower];
    let values = [value(&spaces[0]), value(&spaces[1])];
    let contexts = ContextTable {
        base: Gpa(cd),
        log2size: 0,
        format: ContextTableFormat::Linear,
    };
    let stage1 = Stage1Config {
        contexts,
        default_substream: DefaultSubstream::Terminate,
        stall_disabled: false,
        el2: false,
    };
    let caps = Capabilities::default();
    let memory = &*guest.memory;
    let both = flipped(memory, Gpa(cd), values, || {
        let found = lookup(memory, &NoStage2, &stage1, None, &caps, false).unwrap();
        let ContextLookup::Context(context) = found else {
            panic!("bypassed")
        };
        let table = context.lower.expect("a lower half").table;
        let known = spaces
            .iter()
            .position(|s| Asid(s.asid) == context.asid && s.lower == table);
        known.expect("the ASID of one address space and the table of another")
    });
    assert!(both, "the writer never came to its turn");
}

/// Whether this host has 128-bit loads; says so if not.
fn host_can() -> bool {
    if !wide::is_whole() {
        println!("skipped: this host has no 16-byte load that cannot tear");
    }
    wide::is_whole()
}

#[test]
fn no_unit_of_an_ste_is_torn() {
    if host_can() {
        no_ste_is_torn(&HeapMemory::new(RAM));
    }
}

#[test]
fn no_unit_of_a_cd_is_torn() {
    if host_can() {
        no_cd_is_torn(Arc::new(HeapMemory::new(RAM)));
    }
}

#[cfg(feature = "vm-memory")]
#[test]
fn no_unit_in_a_vmms_map_is_torn() {
    use vm_memory::{GuestAddress, GuestMemoryMmap};
    if host_can() {
        let map = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), RAM as usize)]);
        let memory = vcmdq::VmMemory::new(map.expect("anonymous memory"));
        no_ste_is_torn(&memory);
        no_cd_is_torn(Arc::new(memory));
    }
}

/// Memory that counts how often each unit of 16 bytes is asked for.
struct Counting {
    behind: Arc<HeapMemory>,
    asked: Mutex<BTreeMap<u64, u32>>,
}

impl GuestMemory for Counting {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        let words = self.behind.words(at, count)?;
        let mut asked = self.asked.lock().unwrap();
        let units = at.0 / 16..=(at.0 + 8 * words.len() as u64 - 1) / 16;
        units.for_each(|unit| *asked.entry(unit * 16).or_default() += 1);
        Ok(words)
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.behind.store_u32(at, value, order)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        self.behind.mark_dirty(at, len);
    }
}

/// How often each unit of the 64 bytes at `at` was asked for.
fn counts(memory: &Counting, at: u64) -> [u32; 4] {
    let asked = memory.asked.lock().unwrap();
    [0, 16, 32, 48].map(|n| asked.get(&(at + n)).copied().unwrap_or(0))
}

#[test]
fn each_unit_is_read_once_for_each_time_that_it_is_needed() {
    let behind = Arc::new(HeapMemory::new(RAM));
    let guest = Guest::new(behind.clone());
    let space = guest.space(3);
    let cd = guest.attach(STREAM.0, &space);
    guest.map(&space, access().address, 0x7000, PAGE);
    let asked = Mutex::default();
    let memory = Arc::new(Counting { behind, asked });
    let core = Arc::new(Software::with_settings(small()));
    core.memory_changed(memory.clone());
    core.set_up(Some(setup(lenient())));
    let mut port = core.port(STREAM).unwrap();
    let ste = 64 * u64::from(STREAM.0);
    for _ in 0..2 {
        let found = port
            .translate(None, access(), 8, |_| ())
            .map(|g| g.output());
        assert_eq!(found.map(|o| o.address), Ok(0x7000));
        assert_eq!(
            counts(&memory, ste),
            [1; 4],
            "and not again while it is kept"
        );
        assert_eq!(counts(&memory, cd), [1; 4]);
    }
    let change = smmu_core::command::Cfgi::Cd {
        stream: STREAM,
        substream: SubstreamId(0),
        leaf: true,
    };
    core.configuration_changed(&change, dispatch::WaiterId(0));
    assert!(port.translate(None, access(), 8, |_| ()).is_ok());
    assert_eq!(
        (counts(&memory, ste), counts(&memory, cd)),
        ([2; 4], [2; 4])
    );
}
