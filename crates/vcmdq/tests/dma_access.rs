//! What a device model reads and writes through its stream's address space.

mod dma_world;

use dma_world::*;
use smmu_core::access::{Access, Operation};
use smmu_core::fault::{Fault, Place};
use smmu_core::{Gpa, StreamId, SubstreamId};
use vcmdq::dma::{DmaError, Incomplete, Segment};

const VA: u64 = 0x40_0000;
const DATA: u64 = 0x40_0000;

/// Two pages that lie apart, at addresses that do not.
fn two_pages() -> World {
    let world = World::new();
    let space = world.guest.space(1);
    world.guest.map(&space, VA, DATA, PAGE);
    world.guest.map(&space, VA + 0x1000, DATA + 0x5000, PAGE);
    world.guest.attach(3, &space);
    world
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + 1) as u8).collect()
}

#[test]
fn an_access_goes_on_where_the_next_page_lies() {
    let world = two_pages();
    let mut device = world.device(3);
    let data = pattern(0x1800);
    device.write(VA + 0x401, &data).unwrap();
    assert_eq!(world.guest.bytes(DATA + 0x401, 0xBFF), data[..0xBFF]);
    assert_eq!(world.guest.bytes(DATA + 0x5000, 0xC01), data[0xBFF..]);
    let mut back = vec![0; data.len()];
    device.read(VA + 0x401, &mut back).unwrap();
    assert_eq!(back, data);
}

#[test]
fn neighbouring_bytes_stay_as_they_are() {
    let world = two_pages();
    let mut device = world.device(3);
    for len in 0..=24usize {
        for skip in 0..8u64 {
            for at in (DATA..DATA + 0x40).step_by(8) {
                world.guest.set(at, !0);
            }
            let data = pattern(len);
            device.write(VA + 8 + skip, &data).unwrap();
            let mut expected = vec![0xFF; 0x40];
            expected[8 + skip as usize..][..len].copy_from_slice(&data);
            assert_eq!(world.guest.bytes(DATA, 0x40), expected, "{len} at {skip}");
            let mut back = vec![0; len];
            device.read(VA + 8 + skip, &mut back).unwrap();
            assert_eq!(back, data);
        }
    }
}

#[test]
fn writes_enter_the_dirty_log_by_guest_physical_address() {
    let world = two_pages();
    let mut device = world.device(3);
    let _before = world.guest.memory.take_dirty();
    let mut buffer = [0; 0x20];
    device.read(VA + 0xFF0, &mut buffer).unwrap();
    assert_eq!(world.guest.memory.take_dirty(), []);
    device.write(VA + 0xFF0, &buffer).unwrap();
    let dirty = [Gpa(DATA), Gpa(DATA + 0x5000)];
    assert_eq!(world.guest.memory.take_dirty(), dirty);
    device.fetch_add_u32(VA + 0x1004, 1).unwrap();
    assert_eq!(world.guest.memory.take_dirty(), [Gpa(DATA + 0x5000)]);
    let same = device.compare_exchange_u64(VA, 1, 2).unwrap();
    assert_eq!((same, world.guest.memory.take_dirty()), (0, vec![]));
}

#[test]
fn an_access_stops_where_the_mapping_ends_and_says_how_far_it_came() {
    let world = two_pages();
    let mut device = world.device(3);
    let data = pattern(0x1000);
    let stopped = device.write(VA + 0x1800, &data).unwrap_err();
    let DmaError::Fault(failed) = &stopped.cause else {
        panic!("{stopped:?}");
    };
    assert_eq!(stopped.done, 0x800);
    assert_eq!(failed.fault, Fault::Translation(Place::Stage1));
    assert_eq!(failed.transaction.access.address, VA + 0x2000);
    assert_eq!(failed.transaction.access.operation, Operation::Write);
    assert_eq!(world.guest.bytes(DATA + 0x5800, 0x800), data[..0x800]);
    // One fault, one record in the guest's queue: F_TRANSLATION of stream 3 at the address.
    assert_eq!(world.faults.take().len(), 1);
    assert_eq!(world.faults.sink.queue().prod(), 1);
    assert_eq!(world.guest.get(EVENTS.0), 0x10 | 3 << 32);
    assert_eq!(world.guest.get(EVENTS.0 + 16), VA + 0x2000);
}

#[test]
fn blocks_are_used_whole_and_rights_are_checked() {
    let world = World::new();
    let space = world.guest.space(1);
    let block = 2 << 20;
    world.guest.map_block(&space, VA, block, PAGE);
    world
        .guest
        .map_block(&space, VA + block, block, PAGE | READ_ONLY);
    world.guest.attach(3, &space);
    let mut device = world.device(3);
    // Longer than what is touched under one guard.
    let data = pattern(0x1_2345);
    device.write(VA + 0x1_FFF3, &data).unwrap();
    assert_eq!(world.guest.bytes(block + 0x1_FFF3, data.len()), data);
    let mut back = vec![0; data.len()];
    device.read(VA + block + 0x1_FFF3, &mut back).unwrap();
    assert_eq!(back, data);
    let refused = device.write(VA + block, &data).unwrap_err();
    assert!(matches!(refused, Incomplete {
        done: 0,
        cause: DmaError::Fault(failed)
    } if failed.fault == Fault::Permission(Place::Stage1)));
    let crossing = device.write(VA + block - 8, &[0; 16]).unwrap_err();
    assert_eq!(crossing.done, 8);
}

#[test]
fn instructions_and_privilege_are_told_apart() {
    let world = World::new();
    let space = world.guest.space(1);
    let (never_executed, privileged) = (1 << 54, 1 << 6);
    world.guest.map(&space, VA, DATA, PAGE | never_executed);
    world
        .guest
        .map(&space, VA + 0x1000, DATA, PAGE & !privileged);
    world.guest.attach(3, &space);
    let mut device = world.device(3);
    let mut word = [0; 4];
    device.read(VA, &mut word).unwrap();
    device.fetch(VA, &mut word).unwrap_err();
    device.read(VA + 0x1000, &mut word).unwrap_err();
    device.set_privileged(true);
    device.read(VA + 0x1000, &mut word).unwrap();
    let seen: Vec<_> = world.faults.take();
    let operations = seen.iter().map(|f| f.transaction.access.operation);
    assert!(operations.eq([Operation::Execute, Operation::Read]));
}

#[test]
fn both_halves_and_an_ignored_top_byte() {
    let world = World::new();
    let space = world.guest.space(1);
    let high = 0xFFFF_FFFF_FFFF_F000;
    world.guest.map(&space, VA, DATA, PAGE);
    world.guest.map(&space, high, DATA + 0x1000, PAGE);
    world.guest.set(DATA, 0x1111);
    world.guest.set(DATA + 0x1000, 0x2222);
    let cd = world.guest.attach(3, &space);
    let mut device = world.device(3);
    let mut read = |va: u64| {
        let mut word = [0; 2];
        device
            .read(va, &mut word)
            .map(|()| u16::from_le_bytes(word))
            .ok()
    };
    assert_eq!((read(VA), read(high)), (Some(0x1111), Some(0x2222)));
    assert_eq!(
        (read(VA | 0x12 << 56), read(high & !(0xFF << 56))),
        (None, None)
    );
    world.guest.cd(cd, &space, CD | CD_TBI);
    let mut device = world.device(3);
    let mut read = |va: u64| {
        let mut word = [0; 2];
        device
            .read(va, &mut word)
            .map(|()| u16::from_le_bytes(word))
            .ok()
    };
    assert_eq!(read(VA | 0x12 << 56), Some(0x1111));
    assert_eq!(read(high & !(0xFF << 56)), Some(0x2222));
    // The access goes on at address zero, which is not mapped.
    let mut two = [0; 0x1001];
    let wrapped = device.read(high, &mut two).unwrap_err();
    assert_eq!(wrapped.done, 0x1000);
}

#[test]
fn substreams_have_address_spaces_of_their_own() {
    let world = World::new();
    let [one, two] = [1, 2].map(|asid| world.guest.space(asid));
    world.guest.map(&one, VA, DATA, PAGE);
    world.guest.map(&two, VA, DATA + 0x1000, PAGE);
    let cds = world.guest.page();
    world.guest.cd(cds + 64, &one, CD);
    world.guest.cd(cds + 128, &two, CD);
    // Four CDs; traffic without a SubstreamID is terminated.
    world.guest.ste(3, [0xB | cds | 2 << 59, 0]);
    let mut device = world.device(3);
    for (substream, at) in [(1, DATA), (2, DATA + 0x1000), (1, DATA)] {
        device.set_substream(Some(SubstreamId(substream)));
        device.write(VA, &[substream as u8; 8]).unwrap();
        assert_eq!(world.guest.bytes(at, 8), [substream as u8; 8]);
    }
    let mut fault = |substream| {
        device.set_substream(substream);
        match device.write(VA, &[0]).unwrap_err().cause {
            DmaError::Fault(failed) => failed.fault,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault(None), Fault::StreamDisabled);
    assert_eq!(fault(Some(SubstreamId(3))), Fault::BadCd);
    assert_eq!(fault(Some(SubstreamId(4))), Fault::BadSubstreamId);
}

#[test]
fn bypass_reaches_memory_as_far_as_addresses_go() {
    let world = World::new();
    world.guest.bypass(3);
    let mut device = world.device(3);
    let data = pattern(0x2_0001);
    device.write(DATA + 5, &data).unwrap();
    assert_eq!(world.guest.bytes(DATA + 5, data.len()), data);
    // RAM ends in the middle.
    let stopped = device.read(RAM - 12, &mut [0; 24]).unwrap_err();
    assert!(
        matches!(stopped, Incomplete { done: 12, cause: DmaError::NotBacked(at) }
        if at == Gpa(RAM))
    );
    // 48 bits are all that an address has; what lies beyond is not part of the same translation.
    let last = Access {
        address: (1 << 48) - 8,
        operation: Operation::Read,
        privileged: false,
    };
    let mut port = world.core.port(StreamId(3)).unwrap();
    let guard = port.translate(None, last, 64, |_| ()).unwrap();
    assert_eq!(guard.output().bytes, 8);
    drop(guard);
    let beyond = device.read(1 << 48, &mut [0]).unwrap_err();
    assert!(matches!(beyond.cause, DmaError::Fault(failed) if failed.fault == Fault::InputSize));
}

#[test]
fn streams_that_may_not_access_memory_are_told_so() {
    let world = World::new();
    world.guest.ste(3, [1, 0]);
    let aborted = |stream| world.device(stream).read(VA, &mut [0]).unwrap_err().cause;
    assert!(matches!(aborted(3), DmaError::Aborted));
    assert!(matches!(aborted(4), DmaError::Fault(failed) if failed.fault == Fault::BadSte));
    assert!(matches!(aborted(16), DmaError::Fault(failed) if failed.fault == Fault::BadStreamId));
    world.core.set_up(None);
    assert!(matches!(aborted(4), DmaError::Aborted));
    assert_eq!(world.faults.take().len(), 2);
}

#[test]
fn reads_are_zero_and_writes_ignored_where_the_guest_wants_it_so() {
    let world = World::new();
    let space = world.guest.space(1);
    world.guest.map(&space, VA, DATA, PAGE);
    world.guest.map(&space, VA + 0x2000, DATA + 0x2000, PAGE);
    let cd = world.guest.attach(3, &space);
    world.guest.cd(cd, &space, CD & !CD_ABORT);
    let mut device = world.device(3);
    let data = [0xAB; 0x3000];
    device.write(VA, &data).unwrap();
    assert_eq!(world.guest.bytes(DATA, 0x1000), data[..0x1000]);
    assert_eq!(world.guest.bytes(DATA + 0x1000, 0x1000), [0; 0x1000]);
    assert_eq!(world.guest.bytes(DATA + 0x2000, 0x1000), data[..0x1000]);
    let mut back = [0xFF; 0x3000];
    device.read(VA, &mut back).unwrap();
    assert_eq!(back[0xFFF..0x1001], [0xAB, 0]);
    assert_eq!(back[0x1FFF..0x2001], [0, 0xAB]);
    assert_eq!(device.swap_u32(VA + 0x1000, 5).unwrap(), 0);
    // The record of each is the guest's to see all the same.
    assert_eq!(world.faults.sink.queue().prod(), 3);
}

#[test]
fn scatter_gather() {
    let world = two_pages();
    let mut device = world.device(3);
    let segments = [(VA + 0xFFC, 8), (VA, 0), (VA + 0x10, 3), (VA + 0x2000, 4)]
        .map(|(iova, len)| Segment { iova, len });
    let data = pattern(15);
    // The fourth is not reached: eleven bytes are all there are.
    assert_eq!(device.write_vectored(&segments, &data[..11]).unwrap(), 11);
    assert_eq!(world.guest.bytes(DATA + 0xFFC, 4), data[..4]);
    assert_eq!(world.guest.bytes(DATA + 0x5000, 4), data[4..8]);
    assert_eq!(world.guest.bytes(DATA + 0x10, 3), data[8..11]);
    let mut back = [0; 15];
    assert_eq!(device.read_vectored(&segments, &mut back[..9]).unwrap(), 9);
    assert_eq!(back[..9], data[..9]);
    assert_eq!(device.read_vectored(&segments[..3], &mut back).unwrap(), 11);
    let stopped = device.write_vectored(&segments, &data).unwrap_err();
    assert_eq!(stopped.done, 11);
}

#[test]
fn atomic_accesses() {
    let world = two_pages();
    let mut device = world.device(3);
    world.guest.set(DATA + 8, 0x1111_2222_3333_4444);
    assert_eq!(
        device.fetch_add_u32(VA + 12, 0xF000_0000).unwrap(),
        0x1111_2222
    );
    assert_eq!(world.guest.get(DATA + 8), 0x0111_2222_3333_4444);
    assert_eq!(
        device.compare_exchange_u32(VA + 8, 1, 9).unwrap(),
        0x3333_4444
    );
    assert_eq!(
        device.compare_exchange_u32(VA + 8, 0x3333_4444, 9).unwrap(),
        0x3333_4444
    );
    assert_eq!(world.guest.get(DATA + 8), 0x0111_2222_0000_0009);
    assert_eq!(
        device.fetch_add_u64(VA + 8, u64::MAX).unwrap(),
        0x0111_2222_0000_0009
    );
    assert_eq!(device.swap_u64(VA + 8, 7).unwrap(), 0x0111_2222_0000_0008);
    assert_eq!(device.compare_exchange_u64(VA + 8, 7, 8).unwrap(), 7);
    assert_eq!(world.guest.get(DATA + 8), 8);
    assert!(matches!(device.swap_u32(VA + 2, 0), Err(DmaError::Misaligned(at, 4)) if at == VA + 2));
    assert!(matches!(
        device.swap_u64(VA + 0x2000, 0),
        Err(DmaError::Fault(_))
    ));
}

#[test]
fn what_is_no_ram_goes_to_the_vmm_with_stream_and_device() {
    let world = World::new();
    let space = world.guest.space(1);
    world.guest.map(&space, VA, DATA, PAGE);
    world.guest.map(&space, VA + 0x1000, DOORBELL, PAGE);
    world
        .guest
        .map(&space, VA + 0x2000, DOORBELL + 0x1000, PAGE);
    world.guest.attach(3, &space);
    let mut device = world.device(3);
    device.write(VA + 0x1040, &7u32.to_le_bytes()).unwrap();
    let message = (StreamId(3), 0x43, Gpa(DOORBELL + 0x40), vec![7, 0, 0, 0]);
    assert_eq!(*world.doorbells.written.lock().unwrap(), [message]);
    // From RAM into the doorbell page and out of it, where nothing is.
    let mut back = [0; 0x1010];
    let stopped = device.read(VA + 0xFF8, &mut back).unwrap_err();
    assert_eq!(stopped.done, 0x1008);
    assert!(matches!(stopped.cause, DmaError::NotBacked(at) if at == Gpa(DOORBELL + 0x1000)));
    assert_eq!(back[7..9], [0, 0xFF]);
    let atomic = device.swap_u32(VA + 0x1000, 0).unwrap_err();
    assert!(matches!(atomic, DmaError::NotBacked(at) if at == Gpa(DOORBELL)));
    assert!(
        world.faults.take().is_empty(),
        "an SMMU has no event for it"
    );
}

#[test]
fn a_held_access_works_on_any_thread_and_only_as_it_was_taken() {
    let world = two_pages();
    let mut device = world.device(3);
    let held = device
        .hold(Operation::Write, VA + 0x800, 0x1000)
        .unwrap()
        .unwrap();
    assert_eq!((held.at(), held.len()), (Gpa(DATA + 0x800), 0x800));
    let done = std::thread::spawn(move || held.write(0x7FE, &[1, 2, 3]).unwrap());
    assert_eq!(done.join().unwrap(), 2);
    assert_eq!(world.guest.bytes(DATA + 0xFFE, 2), [1, 2]);
    let read_only = device
        .hold(Operation::Read, VA + 0xFFE, 2)
        .unwrap()
        .unwrap();
    let mut back = [0; 4];
    assert_eq!(read_only.read(0, &mut back).unwrap(), 2);
    assert_eq!(back, [1, 2, 0, 0]);
    assert_eq!(read_only.write(0, &[9]).unwrap(), 0);
    assert_eq!(world.guest.bytes(DATA + 0xFFE, 2), [1, 2]);
    assert!(device.hold(Operation::Read, VA + 0x2000, 8).is_err());
}
