//! A stream that is being bound, and what is told of it meanwhile.

use crate::guest::{Machine, atc, wait_for};
use crate::host::world::stage1;
use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, Traffic, WaiterId, Wake};
use smmu_core::StreamId;
use smmu_core::spec::register::Gbpa;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use vcmdq::{Binding, Placement, StreamHost};

/// Calls that last until they are let go, so that `Frame::bind` waits for the window that makes one.
struct Slow {
    called: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Backend for Slow {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            ranges_of_any_granule: false,
            caches_contexts: false,
            may_block: true,
            widen_above: u64::MAX,
        }
    }

    fn submit(&self, _: &Batch) -> Result<(), Rejected> {
        self.called.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        Ok(())
    }

    fn barrier(&self, _: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _: Arc<dyn Wake>) {}

    fn fail_closed(&self, _: Option<StreamId>) {}
}

/// What a worker tells of a stream while that is being bound is newer than what the registers said when somebody
/// looked: it is not undone.
#[test]
fn what_is_told_of_a_stream_that_is_being_bound_is_not_undone() {
    let machine = Machine::new();
    machine.boot();
    machine.write_ste(1, stage1(0x4000));
    let ((called, calls), (let_go, go_on)) = (channel(), channel());
    let go_on = Mutex::new(go_on);
    let placement = Placement { smmu: 1, stage2: 1 };
    let slow = Binding {
        instance: (machine.frame).add_instance(Arc::new(Slow { called, go_on }), placement),
        placement,
    };
    machine.frame.bind(StreamId(9), slow).unwrap();
    let newer = Traffic::Disabled(Gbpa::new(), machine.frame.capabilities());
    std::thread::scope(|scope| {
        scope.spawn(|| machine.send(&[atc(9)]));
        calls.recv().unwrap();
        let plugging = scope.spawn(|| machine.plug(1, 101));
        wait_for("the stream", || {
            machine.streams.stream(StreamId(1)).is_some()
        });
        machine.streams.traffic_changed(StreamId(1), &newer);
        let told = machine.config(101);
        assert!(
            !plugging.is_finished(),
            "the window that it waits for is not over"
        );
        let_go.send(()).unwrap();
        plugging.join().unwrap();
        assert_eq!((told, machine.config(101)), (Some(4), Some(4)));
    });
}
