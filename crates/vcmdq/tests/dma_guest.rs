//! vm-memory's trait over a stream: device models that know nothing of an SMMU.
#![cfg(feature = "vm-memory")]

mod dma_world;

use dispatch::backend::Software;
use dma_world::*;
use smmu_core::caps::TableUpdates;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vcmdq::VmMemory;
use vcmdq::dma::{DeviceError, DeviceSeams, DmaError, StreamMemory};
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, Settings, StdThreads};
use vm_memory::bitmap::{AtomicBitmap, Bitmap};
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap,
    GuestMemoryRegion, Permissions,
};

type Map = GuestMemoryMmap<AtomicBitmap>;

const VA: u64 = 0x40_0000;
const DATA: u64 = 0x40_0000;

struct Vm {
    world: World<VmMemory<Map>>,
    space: Space,
}

impl Deref for Vm {
    type Target = World<VmMemory<Map>>;

    fn deref(&self) -> &Self::Target {
        &self.world
    }
}

fn map() -> Arc<VmMemory<Map>> {
    // Two regions side by side: a run ends between them.
    let ranges = [
        (GuestAddress(0), DATA as usize + 0x800),
        (GuestAddress(DATA + 0x800), 0x3F_F800),
    ];
    Arc::new(VmMemory::new(Map::from_ranges(&ranges).unwrap()))
}

fn vm(caps: Capabilities) -> Vm {
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let world = World::around(engine, caps, small(), map());
    let guest = &world.guest;
    let space = guest.space(1);
    guest.attach(1, &space);
    guest.map(&space, VA, DATA, PAGE);
    guest.map(&space, VA + 0x1000, DATA + 0x5000, PAGE);
    guest.map(&space, VA + 0x2000, DATA + 0x6000, PAGE | READ_ONLY);
    Vm { world, space }
}

impl Vm {
    fn stream(&self) -> StreamMemory<Map> {
        let seams = DeviceSeams::new(self.faults.clone());
        StreamMemory::new(&self.core, requester(1), seams)
    }

    /// TLBI of a page and SYNC, at the beginning of an empty ring.
    fn invalidate(&self, va: u64) {
        for (slot, raw) in (0..).zip([tlbi(1, va), sync()]) {
            self.guest.set(RING.0 + slot * 16, raw.dw0);
            self.guest.set(RING.0 + slot * 16 + 8, raw.dw1);
        }
        self.ring.doorbell(2);
    }

    fn dirty(&self, at: u64) -> bool {
        let (region, offset) = self
            .guest
            .memory
            .map()
            .to_region_addr(GuestAddress(at))
            .unwrap();
        region.bitmap().dirty_at(offset.0 as usize)
    }

    fn clean(&self) {
        for region in GuestMemoryBackend::iter(self.guest.memory.map()) {
            Deref::deref(region).bitmap().reset();
        }
    }
}

fn within(limit: Duration, mut what: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if what() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// The VMM's bitmap has what the walk writes, and what the access does.
#[test]
fn law3_updates_of_descriptors_are_in_the_dirty_bitmap() {
    let updates = Capabilities::builder().table_updates(TableUpdates::DirtyState);
    let vm = vm(updates.build().unwrap());
    let cd = vm.guest.get(64) & !0xFFF;
    vm.guest.set(cd, vm.guest.get(cd) | 3 << 42);
    let at = vm.guest.descriptor(&vm.space, VA, 3);
    // DBM, read-only, never used.
    let clean = (DATA | PAGE | READ_ONLY | 1 << 51) & !(1 << 10);
    vm.guest.set(at, clean);
    let stream = vm.stream();
    let step = |what: &mut dyn FnMut()| {
        vm.clean();
        what();
        [at, DATA].map(|at| vm.dirty(at))
    };
    let read = &mut || {
        let _data: u32 = stream.read_obj(GuestAddress(VA)).unwrap();
    };
    let write = &mut || stream.write_obj(1u32, GuestAddress(VA)).unwrap();
    assert_eq!(step(read), [true, false], "the access flag");
    assert_eq!(step(read), [false, false]);
    assert_eq!(step(write), [true, true], "the dirty state, and the data");
    assert_eq!(step(write), [false, true]);
    assert_eq!(vm.guest.get(at), (clean | 1 << 10) & !READ_ONLY);
}

#[test]
fn bytes_and_objects_follow_the_translation() {
    let vm = vm(Capabilities::default());
    let stream = vm.stream();
    vm.clean();
    let data: Vec<u8> = (0..0x1000u32).map(|n| n as u8 ^ 0x5A).collect();
    stream.write_slice(&data, GuestAddress(VA + 0x401)).unwrap();
    assert_eq!(vm.guest.bytes(DATA + 0x401, 0xBFF), data[..0xBFF]);
    assert_eq!(vm.guest.bytes(DATA + 0x5000, 0x401), data[0xBFF..]);
    // By guest-physical address, and nothing else.
    assert!(vm.dirty(DATA) && vm.dirty(DATA + 0x800) && vm.dirty(DATA + 0x5000));
    assert!(!vm.dirty(DATA + 0x2000) && !vm.dirty(DATA + 0x6000));
    let mut back = vec![0; data.len()];
    stream
        .read_slice(&mut back, GuestAddress(VA + 0x401))
        .unwrap();
    assert_eq!(back, data);
    stream
        .store(0x1234u16, GuestAddress(VA + 0x1002), Ordering::Release)
        .unwrap();
    assert_eq!(
        stream
            .load::<u16>(GuestAddress(VA + 0x1002), Ordering::Acquire)
            .unwrap(),
        0x1234
    );
    assert_eq!(vm.guest.bytes(DATA + 0x5002, 2), [0x34, 0x12]);
    assert!(stream.physical_memory().is_none());
}

#[test]
fn what_is_not_mapped_is_an_error_that_says_why() {
    let vm = vm(Capabilities::default());
    let stream = vm.stream();
    let error = stream
        .write_slice(&[1], GuestAddress(VA + 0x2000))
        .unwrap_err();
    let GuestMemoryError::IOError(error) = error else {
        panic!("{error}");
    };
    let cause = error.get_ref().unwrap().downcast_ref::<DmaError>();
    assert!(matches!(cause, Some(DmaError::Fault(_))), "{cause:?}");
    // As far as it goes, as the trait wants it.
    assert_eq!(
        stream
            .read(&mut [0; 0x2000], GuestAddress(VA + 0x2800))
            .unwrap(),
        0x800
    );
    assert_eq!(vm.faults.take().len(), 2);
    assert_eq!(vm.faults.sink.queue().prod(), 2);
    let check = |va, count, access| stream.check_range(GuestAddress(va), count, access);
    assert!(check(VA, 0x3000, Permissions::Read) && check(VA, 0x2000, Permissions::ReadWrite));
    assert!(!check(VA, 0x2001, Permissions::Write) && !check(VA, 0x3001, Permissions::Read));
    assert!(check(0, 0, Permissions::Read));
    assert!(vm.faults.take().is_empty(), "a question is no transaction");
    // Beyond the map.
    vm.guest.map(&vm.space, VA + 0x3000, RAM, PAGE);
    assert!(
        stream
            .read_slice(&mut [0], GuestAddress(VA + 0x3000))
            .is_err()
    );
    assert!(!check(VA + 0x3000, 1, Permissions::Read));
}

/// Users collect slices and use them when the iterator is gone; parts and copies outlive the whole.
#[test]
fn law3_a_sync_waits_for_the_last_copy_of_a_slice() {
    let vm = vm(Capabilities::default());
    let stream = vm.stream();
    let slices: Vec<_> = stream
        .get_slices(GuestAddress(VA), 0x1800, Permissions::Write)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    // Cut where a region ends, and where a translation does.
    let lengths: Vec<_> = slices.iter().map(|slice| slice.len()).collect();
    assert_eq!(lengths, [0x800, 0x800, 0x800]);
    vm.invalidate(VA);
    let part = slices[0].subslice(0x10, 8).unwrap();
    drop(slices);
    assert!(!within(Duration::from_millis(50), || vm.ring.cons() == 2));
    vm.clean();
    part.write_slice(&[9; 8], 0).unwrap();
    assert_eq!(vm.guest.bytes(DATA + 0x10, 8), [9; 8]);
    assert!(vm.dirty(DATA));
    drop(part);
    assert!(within(SOON, || vm.ring.cons() == 2));
}

#[test]
fn slices_of_other_pages_are_not_waited_for() {
    let vm = vm(Capabilities::default());
    let stream = vm.stream();
    let mut slices = stream
        .get_slices(GuestAddress(VA), 8, Permissions::Read)
        .unwrap();
    let held = slices.next().unwrap().unwrap();
    assert!(slices.next().is_none());
    vm.invalidate(VA + 0x1000);
    assert!(within(SOON, || vm.ring.cons() == 2));
    assert_eq!(held.len(), 8);
}

/// A map with the same tables and commands as the machine's.
fn copy_of(vm: &Vm) -> Guest<VmMemory<Map>> {
    let copy = Guest::new(map());
    (0..0x4_0000)
        .step_by(8)
        .for_each(|at| copy.set(at, vm.guest.get(at)));
    copy
}

#[test]
fn law9_a_stream_goes_over_to_the_new_map_and_leaves_the_old_one() {
    let vm = vm(Capabilities::default());
    let stream = vm.stream();
    stream.write_slice(&[1], GuestAddress(VA)).unwrap();
    let copy = copy_of(&vm);
    vm.frame.update_memory(copy.memory.clone());
    stream.write_slice(&[2], GuestAddress(VA)).unwrap();
    assert_eq!(vm.guest.bytes(DATA, 1), [1]);
    assert_eq!(copy.bytes(DATA, 1), [2]);
    assert!(stream.check_range(GuestAddress(VA), 0x2000, Permissions::ReadWrite));
}

#[test]
fn law9_the_exchange_waits_for_slices_of_the_old_map() {
    let vm = vm(Capabilities::default());
    let stream = vm.stream();
    let mut slices = stream
        .get_slices(GuestAddress(VA), 8, Permissions::Write)
        .unwrap();
    let held = slices.next().unwrap().unwrap();
    let copy = copy_of(&vm);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            vm.frame.update_memory(copy.memory.clone());
            done.store(true, Ordering::SeqCst);
        });
        let early = within(Duration::from_millis(50), || done.load(Ordering::SeqCst));
        held.write_slice(&[7], 0).unwrap();
        drop(held);
        assert!(!early, "the old map was still in use");
        assert!(within(SOON, || done.load(Ordering::SeqCst)));
    });
    assert_eq!(vm.guest.bytes(DATA, 1), [7]);
    stream.write_slice(&[8], GuestAddress(VA)).unwrap();
    assert_eq!(
        (vm.guest.bytes(DATA, 1), copy.bytes(DATA, 1)),
        (vec![7], vec![8])
    );
}

/// What a VMM did that said it has one kind of map and then gave another.
#[test]
fn a_map_of_another_kind_is_an_error_that_says_so() {
    let vm = vm(Capabilities::default());
    let stream = vm.stream();
    let other = Guest::new(Arc::new(vcmdq::testing::HeapMemory::new(0x80_0000)));
    (0..0x4_0000)
        .step_by(8)
        .for_each(|at| other.set(at, vm.guest.get(at)));
    vm.frame.update_memory(other.memory.clone());
    let refused = stream.write_slice(&[2], GuestAddress(VA)).unwrap_err();
    let GuestMemoryError::IOError(cause) = refused else {
        panic!("{refused}")
    };
    let cause = cause.get_ref().and_then(|cause| cause.downcast_ref());
    assert!(matches!(cause, Some(DmaError::OtherMap)));
    let made = vm.frame.stream_memory::<Map>(&vm.core, requester(1));
    assert_eq!(made.err(), Some(DeviceError::OtherMap));
    // The engine's own handle has no such wish.
    let mut device = vm.frame.device(&vm.core, requester(1)).unwrap();
    device.write(VA, &[3]).unwrap();
    assert_eq!(other.bytes(DATA, 1), [3]);
}

#[test]
fn a_frame_gives_a_device_its_handle_in_one_call() {
    let vm = vm(Capabilities::default());
    let events = vm.frame.events();
    events.queue().configure(EVENTS, 6).unwrap();
    events.enable();
    let stream = vm
        .frame
        .stream_memory::<Map>(&vm.core, requester(1))
        .unwrap();
    stream.write_slice(&[4; 16], GuestAddress(VA)).unwrap();
    let (mut device, mut read) = (vm.frame.device(&vm.core, requester(1)).unwrap(), [0; 16]);
    device.read(VA, &mut read).unwrap();
    assert_eq!(read, [4; 16]);
    assert!(device.read(VA + 0x8000, &mut read).is_err());
    assert_eq!(
        events.queue().prod(),
        1,
        "faults go to the frame's own queue"
    );
    let refused = |core: &Arc<Software>, stream| vm.frame.device(core, requester(stream)).err();
    let strange = Arc::new(Software::with_settings(small()));
    assert_eq!(refused(&strange, 1), Some(DeviceError::NotBehind));
    assert_eq!(
        refused(&vm.core, 16),
        Some(DeviceError::NotBound(StreamId(16)))
    );
}

/// The thread of the device waits, without a guard, until the guest has mapped the page.
#[test]
fn a_stalled_slice_waits_for_the_guest() {
    let vm = vm(lenient());
    let cd = vm.guest.page();
    vm.guest.cd(cd, &vm.space, CD | CD_STALL);
    vm.guest.ste(1, [0xB | cd, 0]);
    let mut stream = vm.stream();
    let missing = GuestAddress(VA + 0x3000);
    std::thread::scope(|scope| {
        let device = scope.spawn(|| stream.write_slice(&[5], missing));
        assert!(within(SOON, || vm.faults.sink.queue().prod() == 1));
        // The SYNC does not wait for it.
        vm.invalidate(missing.0);
        assert!(within(SOON, || vm.ring.cons() == 2));
        vm.guest.map(&vm.space, missing.0, DATA + 0x7000, PAGE);
        let stag = (vm.guest.get(EVENTS.0 + 8) & 0xFFFF) as u16;
        let retry = smmu_core::command::ResumeAction::Retry;
        vm.faults
            .sink
            .resume_access(StreamId(1), smmu_core::Stag(stag), retry);
        device.join().unwrap().unwrap();
    });
    assert_eq!(vm.guest.bytes(DATA + 0x7000, 1), [5]);
    stream.set_stall_limit(Duration::ZERO);
    assert!(stream.write_slice(&[5], GuestAddress(VA + 0x4000)).is_err());
    assert_eq!(vm.faults.sink.stalls().unwrap().in_use(), 0);
    assert_eq!(Gpa(missing.0).0, VA + 0x3000);
}

/// VMMs keep them in tables that threads share.
#[test]
fn ports_guards_and_slices_may_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<dispatch::backend::software::Port>();
    shared::<dispatch::backend::software::OwnedGuard>();
    shared::<vcmdq::dma::HeldSlice<vm_memory::GuestMemoryMmap>>();
}
