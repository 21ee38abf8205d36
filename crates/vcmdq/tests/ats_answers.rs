//! What devices are answered that ask for translations, and what becomes of accesses by such
//! translations (IHI 0070, 3.9).

mod dma_world;

use dispatch::Backend;
use dispatch::backend::Traffic;
use dispatch::backend::software::Denied;
use dma_world::*;
use smmu_core::access::{Access, Operation};
use smmu_core::ats::{AtsRefusal, AtsRequest, AtsTranslation};
use smmu_core::fault::Fault;
use smmu_core::spec::event::EventId;
use smmu_core::spec::register::Gbpa;
use smmu_core::{Capabilities, StreamId, SubstreamId};
use vcmdq::{Engine, Settings};

const VA: u64 = 0x40_0000;
const DATA: u64 = 0x40_0000;
/// STE.EATS=1.
const EATS: u64 = 1 << 28;

fn ats_caps() -> Capabilities {
    let mut caps = lenient();
    caps.idr0.set_ats(true);
    caps
}

fn world() -> World {
    let engine = Engine::without_workers(Settings::default()).unwrap();
    World::with(engine, ats_caps(), small())
}

/// Stream 1 with a page at `VA`, one that is read-only, and a block; EATS=1.
fn attached() -> (World, Space) {
    let world = world();
    let space = world.guest.space(1);
    world.guest.map(&space, VA, DATA, PAGE);
    world
        .guest
        .map(&space, VA + 0x1000, DATA + 0x1000, PAGE | READ_ONLY);
    world.guest.map_block(&space, VA + (2 << 20), 2 << 20, PAGE);
    let cd = world.guest.attach(1, &space);
    world.guest.ste(1, [0xB | cd, EATS]);
    (world, space)
}

fn request(address: u64) -> AtsRequest {
    AtsRequest {
        stream: StreamId(1),
        substream: None,
        address,
        no_write: false,
        execute: false,
        privileged: false,
    }
}

/// The answer to a request of a stream, and the event that it leads to.
fn ask(
    world: &World,
    request: AtsRequest,
) -> (Result<AtsTranslation, AtsRefusal>, Option<EventId>) {
    let mut port = world.core.port(request.stream).unwrap();
    let (mut into, mut event) = ([AtsTranslation::NOTHING], None);
    let answer = port.request(&request, &mut into, |failed| {
        event = failed.record(None).id();
    });
    let answer = answer.map(|grant| {
        assert_eq!(grant.count(), 1);
        into[0]
    });
    (answer, event)
}

#[test]
fn an_answer_says_what_the_tables_allow() {
    let (world, _) = attached();
    let (answer, event) = ask(&world, request(VA + 0x123));
    let page = answer.unwrap();
    assert_eq!((page.from, page.to, page.shift), (VA, DATA, 12));
    assert!(page.read && page.write && !page.execute && !page.untranslated_only);
    let (answer, _) = ask(&world, request(VA + 0x1000));
    let page = answer.unwrap();
    assert!(page.read && !page.write, "read-only");
    let block = ask(&world, request(VA + (2 << 20) + 0x5000)).0.unwrap();
    assert_eq!(
        (block.from, block.to, block.shift),
        (VA + (2 << 20), 2 << 20, 21)
    );
    let unmapped = ask(&world, request(VA + 0x2000)).0.unwrap();
    assert!(!unmapped.is_allowed(), "success without a right");
    assert_eq!(
        (event, ask(&world, request(VA + 0x2000)).1),
        (None, None),
        "no event"
    );
    assert!(world.faults.take().is_empty());
}

#[test]
fn a_request_that_will_not_write_gets_no_right_to() {
    let (world, _) = attached();
    let no_write = AtsRequest {
        no_write: true,
        ..request(VA)
    };
    let page = ask(&world, no_write).0.unwrap();
    assert!(page.read && !page.write);
}

#[test]
fn an_answer_for_several_pages_ends_where_the_next_gives_no_right() {
    let (world, _) = attached();
    let mut port = world.core.port(StreamId(1)).unwrap();
    let mut into = [AtsTranslation::NOTHING; 4];
    let grant = port.request(&request(VA), &mut into, |_| ()).unwrap();
    assert_eq!(grant.count(), 2);
    drop(grant);
    assert_eq!((into[1].from, into[1].to), (VA + 0x1000, DATA + 0x1000));
}

#[test]
fn what_is_no_ram_is_for_untranslated_accesses() {
    let (world, space) = attached();
    world.guest.map(&space, VA + 0x3000, DOORBELL, PAGE);
    let page = ask(&world, request(VA + 0x3000)).0.unwrap();
    assert!(page.write && page.untranslated_only && !page.allows(Operation::Write));
}

#[test]
fn requests_are_refused_as_the_architecture_says() {
    let (world, space) = attached();
    let cd = world.guest.attach(2, &space);
    let unsupported = |of: u32| match ask(&world, of_stream(of)) {
        (Err(AtsRefusal::Unsupported(_)), event) => event,
        other => panic!("{of}: {other:?}"),
    };
    assert_eq!(unsupported(2), Some(EventId::BadAtsRequest), "EATS=0");
    world.guest.bypass(3);
    assert_eq!(unsupported(3), Some(EventId::BadAtsRequest), "bypass");
    world.guest.ste(4, [1, EATS]);
    assert_eq!(unsupported(4), None, "Config=000");
    let aborted = |of: u32| match ask(&world, of_stream(of)) {
        (Err(AtsRefusal::Abort(fault)), None) => fault,
        other => panic!("{of}: {other:?}"),
    };
    assert_eq!(aborted(5), Fault::BadSte, "V=0");
    assert_eq!(aborted(0x40), Fault::BadStreamId);
    // The CD is the one of stream 2.
    world.guest.set(cd, 0);
    world.guest.ste(6, [0xB | cd, EATS]);
    assert_eq!(aborted(6), Fault::BadCd);
    world.guest.ste(7, [0xB | RAM, EATS]);
    assert!(matches!(aborted(7), Fault::CdFetch(_)));
    let with_pasid = AtsRequest {
        substream: Some(SubstreamId(1)),
        ..request(VA)
    };
    let (answer, event) = ask(&world, with_pasid);
    assert_eq!(
        (answer, event),
        (Err(AtsRefusal::Abort(Fault::BadSubstreamId)), None)
    );
    let caps = ats_caps();
    world
        .core
        .traffic_changed(&Traffic::Disabled(Gbpa::RESET, caps));
    assert_eq!(unsupported(1), Some(EventId::BadAtsRequest), "SMMUEN=0");
}

fn of_stream(stream: u32) -> AtsRequest {
    AtsRequest {
        stream: StreamId(stream),
        ..request(VA)
    }
}

fn write(address: u64) -> Access {
    Access {
        address,
        operation: Operation::Write,
        privileged: false,
    }
}

/// Where an access by a translation of the device's own goes, or why not.
fn translated(world: &World, stream: u32, to: u64) -> Result<u64, Denied> {
    let mut port = world.core.port(StreamId(stream)).unwrap();
    let access = port.translated(VA, write(to), 8, || true, |_| ())?;
    Ok(access.unwrap().address())
}

#[test]
fn translated_accesses_are_checked_if_atschk_says_so() {
    let (world, space) = attached();
    world.guest.attach(2, &space);
    world.guest.ste(4, [1, EATS]);
    for stream in [1, 2, 4, 5] {
        assert_eq!(
            translated(&world, stream, DATA),
            Ok(DATA),
            "nothing is looked at"
        );
    }
    world.core.set_ats_check(true);
    assert_eq!(translated(&world, 1, DATA + 8), Ok(DATA + 8));
    let Err(Denied::Fault(failed)) = translated(&world, 2, DATA) else {
        panic!("EATS=0");
    };
    let record = failed.record(None);
    assert_eq!(record.id(), Some(EventId::TranslationForbidden));
    assert_eq!((record.input_addr(), record.dw1().rnw()), (DATA, false));
    assert!(failed.verdict.record);
    assert_eq!(
        translated(&world, 4, DATA),
        Err(Denied::Aborted),
        "Config=000"
    );
    assert_eq!(translated(&world, 5, DATA), Err(Denied::Aborted), "V=0");
    let too_wide = translated(&world, 1, 1 << 50);
    assert_eq!(too_wide, Err(Denied::Aborted));
}

#[test]
fn translated_accesses_are_forbidden_while_the_smmu_is_off() {
    let (world, _) = attached();
    let caps = ats_caps();
    world
        .core
        .traffic_changed(&Traffic::Disabled(Gbpa::RESET, caps));
    let Err(Denied::Fault(failed)) = translated(&world, 1, DATA) else {
        panic!("SMMUEN=0");
    };
    assert_eq!(failed.fault, Fault::TranslationForbidden);
}

#[test]
fn a_stream_that_has_failed_closed_gets_nothing() {
    let (world, _) = attached();
    world.core.fail_closed(Some(StreamId(1)));
    let (answer, event) = ask(&world, request(VA));
    assert_eq!((answer, event), (Err(AtsRefusal::Unsupported(None)), None));
    assert_eq!(translated(&world, 1, DATA), Err(Denied::Aborted));
}
