//! By hand: bugs that other emulations had, with caches in between.

use crate::exact::{Hand, PAGE};
use crate::memory::Memory;
use crate::world::{Dice, World};
use dispatch::Backend;
use dispatch::backend::Software;
use dispatch::backend::software::{Denied, Port};
use smmu_core::access::{Access, Operation};
use smmu_core::fault::{Fault, Place};
use smmu_core::tlb::TlbSettings;
use smmu_core::{StreamId, SubstreamId};
use std::sync::Arc;

const STREAM: u32 = 4;
const STE: u64 = 64 * STREAM as u64;
const CD: u64 = 0x1040;
/// The page's descriptors, from the top.
const WALK: [u64; 3] = [0x1_0000, 0x1_1008, 0x1_2000 + 8 * 3];

fn fault(denied: Denied) -> Fault {
    match denied {
        Denied::Fault(failed) => failed.fault,
        Denied::Aborted => panic!("aborted without an event"),
    }
}

fn ask(port: &mut Port, address: u64, operation: Operation) -> Result<u64, Denied> {
    let access = Access {
        address,
        operation,
        privileged: true,
    };
    let guard = port.translate(Some(SubstreamId(1)), access, 1, |_| ())?;
    Ok(guard.output().address)
}

fn read(port: &mut Port) -> Result<u64, Denied> {
    ask(port, PAGE, Operation::Read)
}

/// Rows 17 and 18: CFGI_ALL, and switching the SMMU off and on, have each stream's STE and CD read
/// again, however many there are and whoever has read them.
#[test]
fn peers_row17_row18_every_configuration_is_read_again_after_cfgi_all() {
    let hand = Hand::new();
    let mut ports: Vec<Port> = [4, 5, 6, 4]
        .map(|stream| hand.core.port(StreamId(stream)).expect("a guard"))
        .into();
    let mut expect = |what: &str, well: &dyn Fn(Result<u64, Denied>) -> bool| {
        for port in &mut ports {
            let result = read(port);
            assert!(well(result), "{what}: stream {} {result:x?}", port.stream());
        }
    };
    let mapped = |result: Result<u64, Denied>| result.is_ok();
    let aborted = |result| result == Err(Denied::Aborted);
    expect("as it was", &mapped);
    // Config=000.
    let stes = [4, 5, 6].map(|stream| (64 * stream, hand.memory.get(64 * stream).expect("STE")));
    stes.iter()
        .for_each(|&(at, ste)| hand.memory.set(at, ste & !0xe));
    expect("kept", &mapped);
    hand.execute(&[[0x04, 31]]);
    expect("after CFGI_ALL", &aborted);
    // V=0, which is kept as any other configuration.
    stes.iter().for_each(|&(at, _)| hand.memory.set(at, 0));
    hand.execute(&[[0x04, 31]]);
    let bad_ste = |result: Result<u64, Denied>| result.map_err(fault) == Err(Fault::BadSte);
    expect("invalid", &bad_ste);
    stes.iter().for_each(|&(at, ste)| hand.memory.set(at, ste));
    expect("an invalid STE is kept, too", &bad_ste);
    hand.core.set_up(None);
    expect("the SMMU is off", &aborted);
    hand.core.set_up(Some(hand.setup));
    expect("on again", &mapped);
}

/// A structure that could not be fetched is not kept: it may be there the next time.
#[test]
fn a_failed_fetch_is_not_kept() {
    let hand = Hand::new();
    let mut port = hand.core.port(StreamId(STREAM)).expect("a guard");
    let ste = hand.memory.get(STE).expect("STE");
    let outside = 0x8000_0000;
    hand.memory.set(STE, ste & !0x00ff_ffff_ffff_ffc0 | outside);
    let cd_fetch = read(&mut port).map_err(fault);
    assert_eq!(
        cd_fetch,
        Err(Fault::CdFetch(smmu_core::Gpa(outside + 0x40)))
    );
    hand.memory.set(STE, ste);
    assert!(read(&mut port).is_ok(), "without a command");
}

/// Row 20: a table beyond the output size makes the CD invalid, one that was valid when it was read
/// stays in use until CFGI_CD.
#[test]
fn peers_row20_a_kept_context_does_not_hide_a_ttb_that_is_too_wide() {
    let hand = Hand::new();
    let mut port = hand.core.port(StreamId(STREAM)).expect("a guard");
    assert!(read(&mut port).is_ok());
    let (first, ttb) = (
        hand.memory.get(CD).expect("CD"),
        hand.memory.get(CD + 8).expect("CD"),
    );
    // IPS=36 bits.
    hand.memory.set(CD, first & !(7 << 32) | 1 << 32);
    hand.memory.set(CD + 8, ttb | 1 << 36);
    assert!(read(&mut port).is_ok(), "kept");
    hand.execute(&[[0x05 | u64::from(STREAM) << 32 | 1 << 12, 1]]);
    assert_eq!(read(&mut port).map_err(fault), Err(Fault::BadCd));
    // An output beyond: from the tables, since a fault is not cached.
    hand.memory.set(CD + 8, ttb);
    hand.execute(&[[0x05 | u64::from(STREAM) << 32 | 1 << 12, 1], [0x30, 0]]);
    let leaf = hand.memory.get(WALK[2]).expect("leaf");
    hand.memory.set(WALK[2], leaf | 1 << 40);
    let size = Err(Fault::AddressSize(Place::Stage1));
    assert_eq!(read(&mut port).map_err(fault), size);
    hand.memory.set(WALK[2], leaf);
    assert!(read(&mut port).is_ok());
}

/// Row 22: CLASS is IN (2) for the access itself, from the cache as from the tables, and TT (1)
/// for a table that could not be read.
#[test]
fn peers_row22_the_class_of_an_event_does_not_depend_on_the_cache() {
    let hand = Hand::new();
    let mut port = hand.core.port(StreamId(STREAM)).expect("a guard");
    let class = |result: Result<u64, Denied>| match result {
        Err(Denied::Fault(failed)) => {
            let record = failed.record(None);
            (record.0[0] & 0xff, record.0[1] >> 40 & 3, record.0[2])
        }
        other => panic!("{other:x?}"),
    };
    let leaf = hand.memory.get(WALK[2]).expect("leaf");
    hand.memory.set(WALK[2], leaf | 1 << 7);
    let walked = class(ask(&mut port, PAGE, Operation::Write));
    assert!(read(&mut port).is_ok(), "now it is cached");
    hand.memory.set(WALK[2], 0);
    let cached = class(ask(&mut port, PAGE, Operation::Write));
    assert_eq!((walked, cached), ((0x13, 2, PAGE), (0x13, 2, PAGE)));
    hand.execute(&[[0x12 | 1 << 48, PAGE]]);
    assert_eq!(class(read(&mut port)), (0x10, 2, PAGE));
    hand.memory.set(WALK[1], 0x8000_0003);
    hand.execute(&[[0x12 | 1 << 48, PAGE]]);
    assert_eq!(class(read(&mut port)), (0x0b, 1, PAGE));
}

/// Row 27, stage 1: whatever lies in the STE, the CD and the tables, an access ends.
#[test]
fn peers_row27_random_bytes_never_panic_behind_caches() {
    let mut ends = [0; 3];
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let (world, memory) = World::new(&mut dice);
        let memory: Arc<Memory> = Arc::new(memory);
        let core = Arc::new(Software::new(TlbSettings {
            log2_entries: 7,
            log2_asids: 4,
        }));
        core.memory_changed(memory.clone());
        core.set_up(Some(world.setup));
        let mut port = core.port(StreamId(1)).expect("a guard");
        for _ in 0..40 {
            // Mostly in what is there already, so that the access comes as far as that.
            let change = world.change(&mut dice, false);
            for (at, value) in change {
                memory.set(
                    at,
                    value ^ dice.word() & dice.word() & dice.word() & dice.word(),
                );
            }
            crate::rig::execute(&core, &world.setup.caps, &[[0x04, 31]], false);
            let request = world.request(&mut dice);
            let access = crate::rig::access(&request);
            let substream = request.substream.map(SubstreamId);
            let end = match port.translate(substream, access, u64::MAX, |_| ()) {
                Ok(_) => 0,
                Err(Denied::Aborted) => 1,
                Err(Denied::Fault(_)) => 2,
            };
            ends[end] += 1;
        }
    }
    assert!(ends.iter().all(|&count| count > 100), "{ends:?}");
}
