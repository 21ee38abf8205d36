//! What a VMM needs of a frame whose streams belong to a host's SMMU.

use dispatch::Traffic;
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::offset;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use vcmdq::registers::RegisterFrame;
use vcmdq::snapshot::SavedCaps;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    Binding, Engine, Frame, FrameSettings, Placement, Seams, Settings, StdThreads, StreamHost,
};

const OVFLG: u32 = 1 << 31;

fn frame_of(streams: Option<Arc<dyn StreamHost>>) -> (Engine, Arc<Frame>) {
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let mut seams = Seams::new(Arc::new(HeapMemory::new(1 << 16)));
    if let Some(streams) = streams {
        seams.streams = streams;
    }
    let frame = Arc::new(engine.add_frame(FrameSettings::default(), seams));
    (engine, frame)
}

/// Stands still when it is told, until it is let go.
struct Slow {
    told: mpsc::SyncSender<()>,
    go_on: AtomicBool,
}

impl StreamHost for Slow {
    fn traffic_changed(&self, _: StreamId, _: &Traffic) {
        let _ = self.told.send(());
        while !self.go_on.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn law11_a_vmm_that_is_told_slowly_holds_up_no_register_write() {
    let (told, is_told) = mpsc::sync_channel(64);
    let host = Arc::new(Slow {
        told,
        go_on: AtomicBool::new(false),
    });
    let (engine, frame) = frame_of(Some(host.clone()));
    let backend = Arc::new(dispatch::backend::Software::default());
    let instance = frame.add_instance(backend, Placement::default());
    let placement = Placement::default();
    frame
        .bind(
            StreamId(1),
            Binding {
                instance,
                placement,
            },
        )
        .unwrap();
    let registers = Arc::new(RegisterFrame::new(frame.clone()).unwrap());
    let update_and_abort = |abort: u64| (1 << 31) | abort << 20;
    registers.write(offset::GBPA, 4, update_and_abort(1));
    is_told.recv().unwrap();
    let (done, is_done) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let now = frame.traffic();
            registers.write(offset::GBPA, 4, update_and_abort(0));
            done.send(now).unwrap();
        });
        // A write that waits for the VMM never returns: nobody lets it go before.
        let returned = is_done.recv_timeout(Duration::from_secs(20));
        host.go_on.store(true, Ordering::Release);
        assert!(matches!(returned, Ok(Some(Traffic::Disabled(..)))));
    });
    engine.stop();
}

#[test]
fn events_lost_on_the_way_are_flagged_as_an_overflow_once() {
    let (engine, frame) = frame_of(None);
    let queue = frame.events().queue();
    queue.configure(Gpa(0x1000), 3).unwrap();
    queue.lost(2);
    assert_eq!(queue.prod() & OVFLG, 0, "EVENTQEN is 0");
    frame.events().enable();
    queue.lost(3);
    queue.lost(1);
    assert_eq!(queue.prod(), OVFLG, "not toggled back");
    assert_eq!(queue.metrics().overflowed, 6);
    frame.events().write_cons(OVFLG);
    queue.lost(1);
    assert_eq!(queue.prod() & OVFLG, 0, "toggled anew when acknowledged");
    engine.stop();
}

#[test]
fn a_reporter_reaches_the_events_as_long_as_there_is_a_frame() {
    let (engine, frame) = frame_of(None);
    frame.events().queue().configure(Gpa(0x1000), 3).unwrap();
    frame.events().enable();
    let reporter = frame.event_reporter();
    let record = EventRecord([4, 0, 0, 0]);
    assert_eq!(reporter.with(|events| events.record(&record)), Some(Ok(())));
    assert_eq!(frame.events().queue().prod(), 1);
    drop(frame);
    assert_eq!(reporter.with(|events| events.record(&record)), None);
    engine.stop();
}

#[test]
fn law10_saved_capabilities_make_the_frame_that_they_are_restored_into() {
    let mut caps = Capabilities::default().with_ats();
    caps.idr5.set_gran64k(true);
    assert_eq!(SavedCaps::from(caps).capabilities(), Ok(caps));
    let mut saved = SavedCaps::from(caps);
    saved.0[0] |= 1 << 31;
    assert!(saved.capabilities().is_err(), "a reserved bit");
}
