//! Memory that can only be read: whatever writes there meets an external abort, which is reported as
//! the architecture has it, and nothing is written.
#![cfg(feature = "vm-memory")]

mod dma_world;

use dispatch::backend::software::{NotLent, Notifier, RemoteSettings, Wanted};
use dispatch::{Backend, Traffic};
use dma_world::*;
use smmu_core::caps::TableUpdates;
use smmu_core::command::{Command, Msi, Signal};
use smmu_core::encode::encode;
use smmu_core::fault::{Fault, Place};
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::Gbpa;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::sync::{Arc, Mutex};
use vcmdq::VmMemory;
use vcmdq::dma::{Device, DeviceSeams, DmaError, MmioSink, StreamMemory};
use vcmdq::events::{EventQueue, Unwritable};
use vcmdq::gerror_bits;
use vcmdq::seams::{NoInterrupts, NoTarget};
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, RingSettings, Settings};
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    Permissions,
};

type Map = GuestMemoryMmap<()>;

const VA: u64 = 0x40_0000;
/// Everything from here on can only be read.
const ROM: u64 = 0x60_0000;
const FILLED: u64 = 0x5555_AAAA_1234_8765;

struct Rig {
    world: World<VmMemory<Map>>,
    space: Space,
    cd: u64,
}

fn memory() -> Arc<VmMemory<Map>> {
    let ranges = [
        (GuestAddress(0), ROM as usize),
        (GuestAddress(ROM), 0x10_0000),
    ];
    let map = Map::from_ranges(&ranges).unwrap();
    for at in (ROM..ROM + 0x1_0000).step_by(8) {
        map.write_obj(FILLED, GuestAddress(at)).unwrap();
    }
    let rom = |region: &<Map as GuestMemoryBackend>::R| region.start_addr().0 == ROM;
    Arc::new(VmMemory::with_read_only(map, rom))
}

fn rig() -> Rig {
    let updates = Capabilities::builder().table_updates(TableUpdates::DirtyState);
    let caps = updates.messages(true).build().unwrap();
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let world = World::around(engine, caps, small(), memory());
    let guest = &world.guest;
    let space = guest.space(1);
    let cd = guest.attach(1, &space);
    guest.map(&space, VA, ROM, PAGE);
    guest.map(&space, VA + 0x1000, ROM - 0x1000, PAGE);
    Rig { world, space, cd }
}

impl Rig {
    fn rom(&self, at: u64) -> u64 {
        self.world.guest.get(at)
    }

    /// What no SMMU could: the guest's firmware has been written before it was made read-only.
    fn burn(&self, at: u64, value: u64) {
        let map = self.world.guest.memory.map();
        map.write_obj(value, GuestAddress(at)).unwrap();
    }

    /// The commands from the first slot of a new ring on.
    fn send(&mut self, base: u64, commands: &[RawCommand]) {
        let base = Gpa(base);
        let (ring, log2size) = (&self.world.ring, LOG2SIZE);
        ring.disable();
        ring.configure(RingSettings { base, log2size }).unwrap();
        ring.enable();
        for (slot, raw) in (0..).zip(commands) {
            self.burn(base.0 + 16 * slot, raw.dw0);
            self.burn(base.0 + 16 * slot + 8, raw.dw1);
        }
        self.world.ring.doorbell(commands.len() as u32);
        self.world.serve();
    }

    fn device(&self, mmio: Arc<dyn MmioSink>) -> Device {
        let faults = self.world.faults.clone();
        Device::new(&self.world.core, requester(1), DeviceSeams { faults, mmio }).unwrap()
    }
}

fn message(addr: u64) -> RawCommand {
    let msi = Msi {
        addr: Gpa(addr),
        data: 5,
    };
    encode(&Command::Sync(Signal::Irq { msi: Some(msi) }))
}

#[test]
fn law4_a_message_to_read_only_memory_is_an_error_and_the_sync_completes() {
    let mut rig = rig();
    rig.send(RING.0, &[message(ROM + 8), sync()]);
    assert_eq!(rig.world.ring.cons(), 2);
    assert_eq!(rig.world.ring.gerror(), gerror_bits::MSI_CMDQ_ABT_ERR);
    assert_eq!(rig.world.ring.metrics().lost_messages, 1);
    assert_eq!(rig.rom(ROM + 8), FILLED);
}

/// Linux's way, with a ring that can only be read: each word would lie in its own slot.
#[test]
fn law4_a_ring_in_read_only_memory_takes_no_words() {
    let mut rig = rig();
    let base = ROM + 0x8000;
    let commands = [message(base + 8), message(base + 24)];
    rig.send(base, &commands);
    assert_eq!(rig.world.ring.cons(), 2);
    assert_eq!(rig.world.ring.gerror(), gerror_bits::MSI_CMDQ_ABT_ERR);
    assert_eq!(rig.world.ring.metrics().lost_messages, 2);
    for (slot, raw) in (0..).zip(commands) {
        assert_eq!(rig.rom(base + 16 * slot), raw.dw0);
        assert_eq!(rig.rom(base + 16 * slot + 8), raw.dw1);
    }
}

#[test]
fn a_record_to_read_only_memory_stops_the_event_queue() {
    let queue = EventQueue::new(7, memory(), Arc::new(NoInterrupts));
    // The first record fits below, the second does not.
    for (base, fits) in [(ROM, false), (ROM - 0x20, true)] {
        queue.configure(Gpa(base), 0).unwrap();
        queue.enable();
        let pushed = queue.push(&EventRecord([1, 2, 3, 4]));
        let expected = if fits { Ok(()) } else { Err(Unwritable::Error) };
        assert_eq!(pushed.map(|_| ()), expected, "{base:#x}");
        assert_eq!(queue.gerror() ^ queue.gerrorn() != 0, !fits);
        queue.acknowledge(queue.gerror());
        queue.disable();
    }
    assert_eq!(queue.metrics().aborted, 1);
}

#[test]
fn law3_an_update_of_a_read_only_descriptor_is_an_abort_of_the_walk() {
    let rig = rig();
    rig.world
        .guest
        .set(rig.cd, rig.world.guest.get(rig.cd) | 3 << 42);
    let table = rig.world.guest.descriptor(&rig.space, VA, 2);
    rig.world.guest.set(table, (ROM + 0x2000) | 3);
    let at = |va: u64| ROM + 0x2000 + 8 * (va >> 12 & 0x1FF);
    let used = (ROM - 0x1000) | PAGE;
    let clean = used | READ_ONLY | 1 << 51;
    let (unused, written) = (VA + 0x1000, VA + 0x2000);
    for (va, entry) in [(VA, used), (unused, used & !(1 << 10)), (written, clean)] {
        rig.burn(at(va), entry);
    }
    let mut device = rig.device(Arc::new(Doorbells::default()));
    device.write(VA, &[1; 8]).unwrap();
    device.read(written, &mut [0; 8]).unwrap();
    assert_eq!(rig.world.faults.take(), [], "nothing was to be updated");
    let results = [
        device.read(unused, &mut [0; 8]),
        device.write(written, &[1; 8]),
    ];
    for (va, result) in [unused, written].into_iter().zip(results) {
        assert!(matches!(result.unwrap_err().cause, DmaError::Fault(failed)
            if failed.fault == Fault::WalkAbort(Place::Stage1, Gpa(at(va)))));
    }
    assert_eq!(rig.world.faults.take().len(), 2);
    assert_eq!(rig.rom(at(unused)), used & !(1 << 10));
    assert_eq!(rig.rom(at(written)), clean);
}

#[test]
fn a_device_reads_it_and_its_writes_are_aborts() {
    let rig = rig();
    let mut device = rig.device(Arc::new(Doorbells::default()));
    let mut bytes = [0; 8];
    device.read(VA + 8, &mut bytes).unwrap();
    assert_eq!(bytes, FILLED.to_le_bytes());
    let refused = |at: u64, cause: &DmaError| match *cause {
        DmaError::NotBacked(found) => assert_eq!(found, Gpa(at)),
        ref other => panic!("{other:?}"),
    };
    let failed = device.write(VA + 8, &[1; 16]).unwrap_err();
    assert_eq!(failed.done, 0);
    refused(ROM + 8, &failed.cause);
    // An atomic access, also one that would change nothing.
    refused(ROM + 8, &device.fetch_add_u64(VA + 8, 1).unwrap_err());
    refused(ROM, &device.compare_exchange_u32(VA, 0, 1).unwrap_err());
    let held = device.hold(smmu_core::access::Operation::Write, VA, 8);
    refused(ROM, &held.unwrap().unwrap().write(0, &[1; 8]).unwrap_err());
    for at in (ROM..ROM + 0x20).step_by(8) {
        assert_eq!(rig.rom(at), FILLED);
    }
    assert_eq!(rig.world.faults.take(), [], "the SMMU has no event for it");
}

/// The writes that a VMM is told of.
#[derive(Default)]
struct Told(Mutex<Vec<(Gpa, Vec<u8>)>>);

impl MmioSink for Told {
    fn write(&self, _: StreamId, _: u32, at: Gpa, data: &[u8]) -> Result<(), NoTarget> {
        self.0.lock().unwrap().push((at, data.to_vec()));
        Ok(())
    }

    fn read(&self, _: StreamId, _: u32, at: Gpa, _: &mut [u8]) -> Result<(), NoTarget> {
        panic!("{at} is memory to be read");
    }
}

#[test]
fn the_vmm_may_take_a_devices_writes() {
    let rig = rig();
    let told = Arc::new(Told::default());
    let mut device = rig.device(told.clone());
    device.write(VA + 0x10, &[7; 12]).unwrap();
    let seen = std::mem::take(&mut *told.0.lock().unwrap());
    assert_eq!(seen, [(Gpa(ROM + 0x10), vec![7; 12])]);
    assert_eq!(rig.rom(ROM + 0x10), FILLED);
}

#[test]
fn a_stream_as_guest_memory_gives_no_slice_to_write() {
    let rig = rig();
    let stream = StreamMemory::<Map>::new(
        &rig.world.core,
        requester(1),
        DeviceSeams::new(rig.world.faults.clone()),
    );
    let at = GuestAddress(VA);
    let may = |access| stream.check_range(at, 0x1000, access);
    assert!(may(Permissions::Read) && !may(Permissions::Write));
    assert!(stream.check_range(GuestAddress(VA + 0x1000), 8, Permissions::Write));
    let slice = |access| stream.get_slices(at, 8, access).unwrap().next().unwrap();
    assert!(slice(Permissions::Read).is_ok());
    let refused = slice(Permissions::Write).err().map(|e| e.to_string());
    assert!(refused.is_some_and(|why| why.contains("external abort")));
}

/// One translation that reaches from memory that can be written into memory that cannot: all of GBPA's bypass is one.
#[test]
fn a_range_that_ends_in_read_only_memory_is_not_one_to_write() {
    let rig = rig();
    let bypass = Traffic::Disabled(Gbpa::new(), Capabilities::default());
    rig.world.core.traffic_changed(&bypass);
    let seams = DeviceSeams::new(rig.world.faults.clone());
    let stream = StreamMemory::<Map>::new(&rig.world.core, requester(1), seams);
    let may = |from: u64, count, access| stream.check_range(GuestAddress(from), count, access);
    for access in [Permissions::Write, Permissions::ReadWrite] {
        assert!(may(ROM - 0x1000, 0x1000, access));
        assert!(!may(ROM - 0x1000, 0x1001, access));
    }
    assert!(may(ROM - 0x1000, 0x2000, Permissions::Read));
}

/// Of a remote that is asked only.
struct Silent;

impl Notifier for Silent {
    fn told(&self) {}
}

#[test]
fn nothing_is_lent_to_be_written_that_can_only_be_read() {
    let rig = rig();
    let (settings, tell) = (RemoteSettings::default(), Box::new(Silent));
    let remote = rig.world.core.remote(StreamId(1), None, settings, tell);
    let mut remote = remote.unwrap();
    let mut lend = |wanted| remote.lend(VA, wanted, |_| ());
    assert!(lend(Wanted::Read).is_ok());
    for wanted in [Wanted::Write, Wanted::ReadWrite] {
        assert_eq!(lend(wanted), Err(NotLent::NotMemory(Gpa(ROM))));
    }
}
