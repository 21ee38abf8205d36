//! Writes of PROD that the hypervisor queues: when they are handed over, what of them counts, and
//! that none is lost when the zone comes and goes.

mod common;
mod doorbell_vmm;

use common::*;
use doorbell_vmm::{Clock, Zone, busy_and_idle, engine_of_syncs};
use smmu_core::spec::register::offset;
use std::sync::Arc;
use vcmdq::registers::{RegisterFrame, RegisterFrameError};
use vcmdq::testing::commands::sync;
use vcmdq::{DoorbellMode, Engine, HeapPage, RingError, Settings};

/// A ring behind a zone, which is open.
fn rig() -> (Rig, Arc<Zone>) {
    let zone = Arc::new(Zone::default());
    let mode = DoorbellMode::Coalesced(zone.clone());
    let rig = Rig::with(all_features(), 6, mode, false);
    zone.serves(&rig.ring);
    assert!(rig.ring.flip_way(true));
    while rig.engine.take_ready().is_some() {}
    (rig, zone)
}

fn stale(rig: &Rig) -> u64 {
    rig.ring.metrics().stale_prods
}

#[test]
fn law5_a_worker_that_is_awake_finds_what_is_queued() {
    let (mut rig, zone) = rig();
    rig.put(&[sync(), sync()]);
    zone.write_prod(1);
    zone.write_prod(2);
    assert!(!rig.serve(), "nobody rings");
    rig.stepper.look(&rig.ring);
    assert!(rig.serve());
    assert_eq!((rig.cons(), stale(&rig)), (2, 0));
}

#[test]
fn law5_what_was_queued_when_the_zone_ends_is_consumed() {
    let (mut rig, zone) = rig();
    rig.put(&[sync()]);
    zone.write_prod(1);
    assert!(rig.ring.flip_way(false));
    assert!(!rig.ring.has_open_way());
    assert!(rig.serve());
    assert_eq!(rig.cons(), 1);
    rig.put(&[sync()]);
    zone.write_prod(2);
    assert!(rig.serve(), "it traps now");
    assert_eq!(rig.cons(), 2);
}

#[test]
fn law5_a_queued_prod_that_is_older_than_a_trapped_one_is_dropped() {
    let (mut rig, _zone) = rig();
    rig.put(&[sync(); 5]);
    rig.ring.doorbell(5);
    rig.ring.coalesced(3);
    assert_eq!((rig.ring.prod(), stale(&rig)), (5, 1));
    assert!(rig.serve());
    rig.ring.coalesced(4);
    assert_eq!((rig.ring.prod(), stale(&rig)), (5, 2), "behind CONS");
    assert!(!rig.serve());
    rig.ring.coalesced(6);
    assert_eq!((rig.ring.prod(), stale(&rig)), (6, 2));
}

#[test]
fn a_trapped_doorbell_takes_what_was_queued_before_it_first() {
    let (mut rig, zone) = rig();
    rig.put(&[sync(); 3]);
    zone.write_prod(1);
    zone.write_prod(2);
    // The queue is full: this one exits although the zone is open.
    rig.ring.doorbell(3);
    assert_eq!((rig.ring.prod(), stale(&rig)), (3, 0));
    assert!(zone.is_empty());
    assert!(rig.serve());
    assert_eq!(rig.cons(), 3);
}

#[test]
fn law4_a_guest_may_set_prod_back_while_cmdq_err_is_active() {
    let (mut rig, zone) = rig();
    rig.put(&[sync(), illegal(), sync(), sync()]);
    zone.write_prod(4);
    rig.stepper.look(&rig.ring);
    assert!(rig.serve());
    assert_eq!((rig.cons(), rig.stopped()), (1, true));
    zone.write_prod(2);
    rig.stepper.look(&rig.ring);
    assert_eq!((rig.ring.prod(), stale(&rig)), (2, 0));
    rig.write(1, sync());
    rig.acknowledge();
    assert_eq!(rig.cons(), 2);
}

#[test]
fn a_ring_that_is_off_takes_any_prod() {
    let (mut rig, zone) = rig();
    rig.put(&[sync(); 5]);
    zone.write_prod(5);
    rig.stepper.look(&rig.ring);
    assert!(rig.serve());
    rig.ring.disable();
    zone.write_prod(0);
    rig.stepper.look(&rig.ring);
    assert_eq!((rig.ring.prod(), stale(&rig)), (0, 0));
}

#[test]
fn law10_a_snapshot_holds_what_is_queued() {
    let (rig, zone) = rig();
    zone.write_prod(7);
    assert_eq!(rig.frame.save().rings[0].prod, 7);
    assert!(zone.is_empty());
}

#[test]
fn every_other_access_to_the_registers_comes_behind_what_is_queued() {
    let (_memory, _engine, frame) = engine_of_syncs(Settings::default(), None);
    let frame = Arc::new(frame);
    let zone = Arc::new(Zone::default());
    let mode = DoorbellMode::Coalesced(zone.clone());
    let registers = RegisterFrame::with_doorbell(frame, mode).unwrap();
    zone.serves(registers.ring());
    assert!(registers.ring().flip_way(true));
    zone.write_prod(3);
    assert_eq!(registers.read(offset::CMDQ_PROD, 4), 3);
    zone.write_prod(4);
    registers.write(offset::EVENTQ_CONS, 4, 0);
    assert_eq!(registers.ring().prod(), 4);
}

#[test]
fn doorbells_that_cannot_be_had_are_refused_with_the_reason() {
    let (_memory, _engine, frame) = engine_of_syncs(Settings::default(), None);
    let frame = Arc::new(frame);
    let page = DoorbellMode::SharedPage(Arc::new(HeapPage::default()));
    let refused = RegisterFrame::with_doorbell(frame.clone(), page).unwrap_err();
    assert_eq!(refused, RegisterFrameError::Doorbell);
    assert!(refused.to_string().contains("page 0"));
    let zone = DoorbellMode::Coalesced(Arc::new(Zone::default()));
    frame.add_ring(zone.clone()).unwrap();
    let refused = frame.add_ring(zone).unwrap_err();
    assert_eq!(refused, RingError::DoorbellTaken);
}

#[test]
fn law8_a_way_is_flipped_at_most_twenty_times_a_second() {
    let clock = Arc::new(Clock::default());
    let engine = Engine::without_workers_on(Settings::default(), clock.clone()).unwrap();
    let (_memory, engine, frame) = engine_of_syncs(Settings::default(), Some(engine));
    let zone = Arc::new(Zone::default());
    let ring = frame
        .add_ring(DoorbellMode::Coalesced(zone.clone()))
        .unwrap();
    zone.serves(&ring);
    // Every millisecond the worker wants something else than there is.
    for _ in 0..1000 {
        ring.want_way(!ring.has_open_way());
        engine.flip_gates();
        clock.advance_us(1000);
    }
    assert_eq!(engine.metrics().flips, 20);
}

#[test]
fn a_zone_that_the_vmm_cannot_flip_stays_as_it_is_and_is_tried_again() {
    let clock = Arc::new(Clock::default());
    let engine = Engine::without_workers_on(Settings::default(), clock.clone()).unwrap();
    let (_memory, engine, frame) = engine_of_syncs(Settings::default(), Some(engine));
    let zone = Arc::new(Zone::default());
    let ring = frame
        .add_ring(DoorbellMode::Coalesced(zone.clone()))
        .unwrap();
    zone.serves(&ring);
    for open in [true, false] {
        zone.refuse(true);
        ring.want_way(open);
        engine.flip_gates();
        assert_eq!(ring.has_open_way(), !open);
        zone.refuse(false);
        clock.advance_us(60_000);
        engine.flip_gates();
        assert_eq!(ring.has_open_way(), open);
        clock.advance_us(60_000);
    }
    let metrics = engine.metrics();
    assert_eq!((metrics.flips, metrics.failed_flips), (4, 2));
}

#[test]
fn law5_a_zone_that_comes_and_goes_loses_nothing() {
    let zone = Arc::new(Zone::default());
    let mode = DoorbellMode::Coalesced(zone.clone());
    busy_and_idle(
        mode,
        |ring| zone.serves(ring),
        |_, prod| zone.write_prod(prod),
    );
}
