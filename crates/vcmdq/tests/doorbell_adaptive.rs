//! A page that is mapped into the guest while that is busy, and traps while it is idle.

mod common;
mod doorbell_vmm;

use common::*;
use doorbell_vmm::{Mapping, busy_and_idle, engine_of_syncs};
use smmu_core::spec::vcmdq::offset;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vcmdq::cmdqv::{CmdqvError, CmdqvSettings, HeapVintfPage};
use vcmdq::stepping::PageRegisters;
use vcmdq::testing::QueueRegisters;
use vcmdq::testing::commands::sync;
use vcmdq::{
    DoorbellMode, Engine, HeapPage, RingError, RingPage, Settings, StartError, StdThreads,
};

fn rig() -> (Rig, Arc<Mapping>) {
    let mapping = Arc::new(Mapping::default());
    let rig = Rig::with(all_features(), 6, mapping.mode(), false);
    while rig.engine.take_ready().is_some() {}
    (rig, mapping)
}

#[test]
fn law5_a_trapped_write_goes_into_the_page_and_rings() {
    let (mut rig, mapping) = rig();
    rig.put(&[sync(); 2]);
    mapping.write_prod(&rig.ring, 2);
    assert_eq!(
        u32::from_le(mapping.page.words()[1].load(Ordering::Relaxed)),
        2
    );
    assert!(rig.serve());
    assert_eq!(
        (rig.cons(), PageRegisters(mapping.page.clone()).read_cons()),
        (2, 2)
    );
}

#[test]
fn law5_what_was_stored_before_the_page_traps_is_consumed() {
    let (mut rig, mapping) = rig();
    assert!(rig.ring.flip_way(true) && rig.serve());
    rig.put(&[sync()]);
    mapping.write_prod(&rig.ring, 1);
    assert!(!rig.serve(), "nobody rings");
    assert!(rig.ring.flip_way(false) && rig.serve());
    assert_eq!(rig.cons(), 1);
}

#[test]
fn law5_a_trapped_write_that_is_late_does_not_undo_a_store() {
    let (mut rig, mapping) = rig();
    assert!(rig.ring.flip_way(true) && rig.serve());
    rig.put(&[sync(); 3]);
    mapping.write_prod(&rig.ring, 3);
    rig.ring.doorbell(2);
    assert_eq!((rig.ring.prod(), rig.ring.metrics().stale_prods), (3, 1));
    assert!(rig.serve());
    assert_eq!(rig.cons(), 3);
}

/// Law 8: a guest that scribbles over PROD all the time keeps no doorbell from returning.
#[test]
fn law8_a_guest_that_changes_prod_all_the_time_delays_no_doorbell() {
    let (mut rig, mapping) = rig();
    rig.put(&[sync(); 64]);
    let stop = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u32;
            while stop.load(Ordering::Relaxed) == 0 {
                n = n.wrapping_add(1);
                mapping.page.words()[1].store(n, Ordering::Relaxed);
            }
        });
        (0..20_000).for_each(|prod| rig.ring.doorbell(prod % 128));
        stop.store(1, Ordering::Relaxed);
    });
    rig.serve();
    assert!(!rig.stopped());
    let cons = rig.cons();
    mapping.page.words()[1].store(cons.to_le(), Ordering::Relaxed);
    rig.ring.doorbell((cons + 1) % 128);
    assert!(rig.serve());
    assert_eq!(rig.cons(), (cons + 1) % 128);
}

#[test]
fn law5_a_page_that_comes_and_goes_loses_nothing() {
    let mapping = Arc::new(Mapping::default());
    let mode = mapping.mode();
    busy_and_idle(mode, |_| {}, |ring, prod| mapping.write_prod(ring, prod));
}

#[test]
fn the_queues_of_a_vintf_share_one_passage() {
    let (_memory, engine, frame) = engine_of_syncs(Settings::default(), None);
    let passage: Arc<dyn vcmdq::Passage> = Arc::new(Mapping::default());
    let without = CmdqvSettings::default();
    let refused = frame.add_adaptive_cmdqv(without, &passage).unwrap_err();
    assert!(matches!(refused, CmdqvError::NoPage));
    let settings = CmdqvSettings {
        log2_queues: 1,
        page: Some(Arc::new(HeapVintfPage::default())),
    };
    let cmdqv = frame.add_adaptive_cmdqv(settings, &passage).unwrap();
    cmdqv.write(offset::CONFIG, 4, 1);
    cmdqv.write(offset::VINTF, 4, 1);
    for queue in 0..2 {
        cmdqv.write(offset::CMDQ_ALLOC + 4 * queue, 4, 1 | queue << 1);
        let page0 = offset::VINTF_PAGES + queue * offset::VCMDQ_STRIDE;
        let page1 = page0 + offset::VINTF_PAGE_BYTES;
        cmdqv.write(page1 + offset::VCMDQ_BASE, 8, BASE.0 | 4);
        cmdqv.write(page0 + offset::VCMDQ_CONFIG, 4, 1);
    }
    let mut stepper = vcmdq::stepping::Stepper::default();
    let mut serve = || {
        while let Some(ring) = engine.take_ready() {
            stepper.serve(&cmdqv.rings()[ring as usize]);
        }
    };
    serve();
    assert!(cmdqv.rings()[0].flip_way(true));
    assert!(cmdqv.rings()[1].has_open_way());
    assert!(cmdqv.rings()[1].flip_way(false));
    assert!(!cmdqv.rings()[0].has_open_way());
    let prod = offset::VINTF_PAGES + offset::VCMDQ_STRIDE + offset::VCMDQ_PROD;
    cmdqv.write(prod, 4, 3);
    serve();
    assert_eq!((cmdqv.rings()[0].cons(), cmdqv.rings()[1].cons()), (0, 3));
}

/// A page as a VMM may have it by mistake.
struct Bad {
    page: HeapPage,
    from: usize,
    coherent: bool,
}

impl RingPage for Bad {
    fn words(&self) -> &[AtomicU32] {
        &self.page.words()[self.from..]
    }

    fn is_coherent(&self) -> bool {
        self.coherent
    }
}

#[test]
fn pages_that_cannot_work_are_refused_with_the_reason() {
    let (_memory, _engine, frame) = engine_of_syncs(Settings::default(), None);
    let passage = Arc::new(Mapping::default());
    let refused = |from, coherent| {
        let page = HeapPage::default();
        let page = Arc::new(Bad {
            page,
            from,
            coherent,
        });
        let passage = passage.clone();
        frame
            .add_ring(DoorbellMode::Adaptive { page, passage })
            .unwrap_err()
    };
    let misaligned = refused(8, true);
    assert!(matches!(misaligned, RingError::PageMisaligned(at) if at % 4096 == 32));
    assert!(misaligned.to_string().contains("multiple of 4096"));
    let incoherent = refused(0, false);
    assert_eq!(incoherent, RingError::PageNotCoherent);
    assert!(incoherent.to_string().contains("FEAT_S2FWB"));
    assert_eq!(refused(30, true), RingError::PageTooSmall(2));
}

#[test]
fn workers_that_spin_without_yielding_need_a_core_each() {
    let settings = Settings {
        workers: 64,
        ..Settings::default()
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    if cores < 64 {
        let stubborn = Settings {
            yield_after: settings.spin,
            ..settings.clone()
        };
        let refused = Engine::start(stubborn, Arc::new(StdThreads)).unwrap_err();
        assert!(matches!(refused, StartError::Spinning { workers: 64, .. }));
        assert!(refused.to_string().contains("yield_after"));
    }
    assert!(Engine::without_workers(settings).is_ok());
}
