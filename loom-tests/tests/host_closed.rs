//! A host's backend that fails closed, beside invalidations and beside its reopening: what is left out because every
//! stream aborts is of use to no device.
#![cfg(loom)]

use dispatch::{Backend, Batch, Invalidation, Scope, Stage};
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use loom_tests::{model, twin};
use smmu_core::{Asid, StreamId, Vmid};
use vcmdq_iommufd::testing::{FailedClosed, replace_target};
use vcmdq_iommufd::uapi::{Errno, Invalidate, InvalidateError};
use vcmdq_iommufd::{ArmSmmuv3, HostStreams, Iommufd, IommufdBackend, IommufdSettings, Target};
use vcmdq_sync::weak::Site;

/// The guest's table, and a device that caches what it has read there unless it aborts.
#[derive(Default)]
struct Host {
    table: AtomicU64,
    cached: Mutex<Option<u64>>,
    aborts: AtomicBool,
    /// Invalidations that were executed.
    executed: AtomicU64,
    /// Not everything can be invalidated.
    is_sick: AtomicBool,
}

/// CMD_TLBI_NSNH_ALL.
const EVERYTHING: u8 = 0x30;

impl Host {
    /// What an access of the device uses.
    fn access(&self) -> Option<u64> {
        let mut cached = self.cached.lock().expect("model");
        if self.aborts.load(Ordering::Relaxed) {
            return None;
        }
        Some(*cached.get_or_insert_with(|| self.table.load(Ordering::Relaxed)))
    }

    /// As a worker that serves a ring.
    fn invalidate(&self, backend: &IommufdBackend) -> bool {
        let mut batch = Batch::new();
        let (vmid, stage, scope) = (Vmid(0), Stage::One, Scope::Context(Asid(1)));
        batch.push(Invalidation { vmid, stage, scope }, 0);
        backend.submit(&batch).is_ok()
    }
}

struct Kernel(Arc<Host>);

impl Iommufd for Kernel {
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        if call.entries[0] == EVERYTHING && self.0.is_sick.load(Ordering::Relaxed) {
            let errno = Errno::TIMEDOUT;
            return Err(InvalidateError { errno, handled: 0 });
        }
        *self.0.cached.lock().expect("model") = None;
        self.0.executed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Streams(Arc<Host>);

impl HostStreams for Streams {
    fn reads_contexts(&self, _: StreamId) -> bool {
        true
    }

    fn fail_closed(&self, _: Option<StreamId>) {
        self.0.aborts.store(true, Ordering::Relaxed);
    }
}

fn rig() -> (Arc<Host>, Arc<IommufdBackend>) {
    rig_at(Target::from(1))
}

fn rig_at(target: Target) -> (Arc<Host>, Arc<IommufdBackend>) {
    let host = Arc::new(Host::default());
    let settings = IommufdSettings {
        buffers: 1,
        ..IommufdSettings::new(std::sync::Arc::new(Streams(host.clone())))
    };
    let kernel = std::sync::Arc::new(Kernel(host.clone()));
    let backend = IommufdBackend::new(kernel, target, ArmSmmuv3::new(true), settings);
    (host, Arc::new(backend))
}

/// One worker fails, another one has an invalidation. If that is not sent, the device aborts already.
fn nothing_is_left_out_of_what_a_device_may_use() {
    let (host, backend) = rig();
    let failing = {
        let backend = backend.clone();
        thread::spawn(move || backend.fail_closed(None))
    };
    assert!(host.invalidate(&backend), "the kernel takes it");
    let sent = host.executed.load(Ordering::Relaxed) == 1;
    let aborts = host.aborts.load(Ordering::Relaxed);
    failing.join().expect("the worker that fails");
    assert!(sent || aborts, "left out, and the device goes on");
}

/// The same of one stream, whose lock the worker that leaves something out does not take.
fn nothing_is_left_out_of_what_a_stream_may_use() {
    let failed = Arc::new(FailedClosed::default());
    let aborts = Arc::new(AtomicBool::new(false));
    let failing = {
        let (failed, aborts) = (failed.clone(), aborts.clone());
        thread::spawn(move || {
            aborts.store(true, Ordering::Relaxed);
            failed.set(true);
        })
    };
    let is_left_out = failed.get();
    let is_safe = !is_left_out || aborts.load(Ordering::Relaxed);
    failing.join().expect("the worker that fails");
    assert!(is_safe, "left out, and the stream goes on");
}

/// One worker fails; as soon as the device aborts, the VMM has everything removed and attaches it again. A third
/// thread changes a table and has it invalidated.
fn no_invalidation_is_left_out_behind_a_reopening() {
    let (host, backend) = rig();
    let failing = {
        let backend = backend.clone();
        thread::spawn(move || backend.fail_closed(None))
    };
    let reopening = {
        let (host, backend) = (host.clone(), backend.clone());
        thread::spawn(move || {
            if host.aborts.load(Ordering::Acquire) {
                backend.reopen().expect("the kernel takes it");
                host.aborts.store(false, Ordering::Release);
            }
        })
    };
    host.access();
    host.table.store(1, Ordering::Relaxed);
    assert!(host.invalidate(&backend), "the kernel takes it");
    let used = host.access();
    failing.join().expect("the worker that fails");
    reopening.join().expect("the thread that opens again");
    assert_ne!(used, Some(0), "the device uses what was invalidated");
}

/// The VMM tries to open the instance again, which fails, and replaces its stage 2: what is attached to the new one
/// is not closed by that.
fn no_invalidation_is_left_out_behind_another_stage_2() {
    let target = Target::from(1);
    let (host, backend) = rig_at(target.clone());
    backend.fail_closed(None);
    host.is_sick.store(true, Ordering::Relaxed);
    let reopening = {
        let backend = backend.clone();
        thread::spawn(move || backend.reopen().is_err())
    };
    replace_target(&target, 2);
    let _failed = reopening.join().expect("the thread that opens again");
    assert!(host.invalidate(&backend), "the kernel takes it");
    let sent = host.executed.load(Ordering::Relaxed) == 1;
    assert!(sent, "left out, and nothing of the new stage 2 has failed");
}

#[test]
fn law4_nothing_is_left_out_before_the_device_aborts() {
    model(
        "host closed",
        3,
        nothing_is_left_out_of_what_a_device_may_use,
    );
}

#[test]
fn closing_without_a_release_is_found_out() {
    twin(
        "host closed",
        Site::HostClosed,
        3,
        nothing_is_left_out_of_what_a_device_may_use,
    );
}

#[test]
fn law4_nothing_is_left_out_before_the_stream_aborts() {
    model(
        "host stream closed",
        3,
        nothing_is_left_out_of_what_a_stream_may_use,
    );
}

#[test]
fn closing_a_stream_without_a_release_is_found_out() {
    twin(
        "host stream closed",
        Site::HostClosed,
        3,
        nothing_is_left_out_of_what_a_stream_may_use,
    );
}

#[test]
fn law4_closing_beside_a_reopening_loses_no_invalidation() {
    model(
        "host reopened",
        3,
        no_invalidation_is_left_out_behind_a_reopening,
    );
}

#[test]
fn closing_what_was_reopened_is_found_out() {
    twin(
        "host reopened",
        Site::HostGeneration,
        3,
        no_invalidation_is_left_out_behind_a_reopening,
    );
}

#[test]
fn law4_a_reopening_that_fails_beside_another_stage_2_loses_no_invalidation() {
    model(
        "host replaced",
        3,
        no_invalidation_is_left_out_behind_another_stage_2,
    );
}

#[test]
fn closing_what_was_replaced_is_found_out() {
    twin(
        "host replaced",
        Site::HostGeneration,
        3,
        no_invalidation_is_left_out_behind_another_stage_2,
    );
}
