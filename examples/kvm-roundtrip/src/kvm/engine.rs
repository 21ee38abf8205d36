//! The engine behind the guest's queues, as a VMM links it.

use super::backend::Executor;
use super::consumer::Consumer;
use super::error::Error;
use super::layout::{RING_LOG2SIZE, ring};
use super::memory::{PagesSlot, QueuePage, Vm};
use super::placement::{Pinned, Worker};
use super::vmm::Vmm;
use super::zone::Zone;
use crate::data::{Host, Mode};
use smmu_core::{Gpa, StreamId};
use std::sync::Arc;
use std::time::Duration;
use vcmdq::{
    Binding, CoalescedZone, DoorbellMode, Engine, Frame, FrameSettings, Passage, Placement, Ring,
    RingPage, RingSettings, Seams, Settings, VmMemory,
};

/// The one device behind the frame.
const STREAM: StreamId = StreamId(0x10);
/// More than the commands of any round.
const INLINE: u32 = 256;
/// How long a worker sleeps between two looks whose processor a vCPU wants as well. It does not spin:
/// the vCPU that it would wait for could be the one that waits for its processor.
const SHORT_DOZE: Duration = Duration::from_micros(30);

/// A way around the exit, which is to be as it was when all is over.
enum Way {
    None,
    Pages(Arc<PagesSlot>),
    Zones(Vec<Arc<Zone>>),
}

/// One worker, one frame, a ring for each vCPU.
pub(crate) struct Behind {
    rings: Vec<Arc<Ring>>,
    executor: Executor,
    way: Way,
    // Takes its rings away when it is dropped.
    _frame: Frame,
    // Stops the worker when it is dropped.
    engine: Engine,
}

impl Behind {
    /// Rings that are served in this mode, by a worker on this processor.
    ///
    /// # Errors
    ///
    /// What the engine or KVM says.
    pub(crate) fn new(
        mode: Mode,
        vmm: &Vmm,
        vcpus: usize,
        executor: Executor,
        worker: Worker,
    ) -> Result<Self, Error> {
        let settings = settings(mode, vcpus, worker);
        let engine = Engine::start(settings, Arc::new(Pinned(worker)))?;
        let seams = Seams::new(Arc::new(VmMemory::new(vmm.vm().memory().clone())));
        let frame = engine.add_frame(FrameSettings::default(), seams);
        let placement = Placement::default();
        let instance = frame.add_instance(executor.backend.clone(), placement);
        let binding = Binding {
            instance,
            placement,
        };
        frame.bind(STREAM, binding)?;
        let way = Way::of(mode, vmm, vcpus)?;
        let rings = (0..vcpus)
            .map(|vcpu| add_ring(&frame, way.doorbell(mode, vmm.vm(), vcpu), vcpu))
            .collect::<Result<Vec<_>, _>>()?;
        vmm.writes().serve(&rings);
        Ok(Self {
            rings,
            executor,
            way,
            _frame: frame,
            engine,
        })
    }
}

/// What the modes and the place need that differs from the defaults.
fn settings(mode: Mode, vcpus: usize, worker: Worker) -> Settings {
    let settings = Settings::default();
    let (spin, doze) = if worker.shared {
        (Duration::ZERO, SHORT_DOZE)
    } else {
        (settings.spin, settings.doze)
    };
    match mode {
        // A doorbell consumes only while a worker sleeps, each with what one of them has.
        Mode::Inline => Settings {
            workers: vcpus,
            inline: Some(INLINE),
            spin: Duration::ZERO,
            ..settings
        },
        _ => Settings {
            spin,
            doze,
            ..settings
        },
    }
}

fn add_ring(frame: &Frame, doorbell: DoorbellMode, vcpu: usize) -> Result<Arc<Ring>, Error> {
    let added = frame.add_ring(doorbell)?;
    added.configure(RingSettings {
        base: Gpa(ring(vcpu)),
        log2size: RING_LOG2SIZE,
    })?;
    added.enable();
    Ok(added)
}

impl Way {
    /// The way, closed.
    fn of(mode: Mode, vmm: &Vmm, vcpus: usize) -> Result<Self, Error> {
        Ok(match mode {
            Mode::Adaptive => {
                let slot = PagesSlot::new(vmm.vm().clone());
                slot.set(false)?;
                Self::Pages(Arc::new(slot))
            }
            Mode::Coalesced => {
                let zones = (0..vcpus).map(|vcpu| Zone {
                    vm: vmm.vm().clone(),
                    writes: vmm.writes().clone(),
                    vcpu,
                });
                Self::Zones(zones.map(Arc::new).collect())
            }
            _ => Self::None,
        })
    }

    fn doorbell(&self, mode: Mode, vm: &Arc<Vm>, vcpu: usize) -> DoorbellMode {
        let page: Arc<dyn RingPage> = Arc::new(QueuePage::new(vm.clone(), vcpu));
        match self {
            Self::Pages(slot) => DoorbellMode::Adaptive {
                page,
                passage: slot.clone(),
            },
            Self::Zones(zones) => DoorbellMode::Coalesced(zones[vcpu].clone()),
            Self::None if mode == Mode::SharedPage => DoorbellMode::SharedPage(page),
            Self::None => DoorbellMode::Trap,
        }
    }
}

impl Consumer for Behind {
    fn doorbell(&self, vcpu: usize, prod: u32) {
        if let Some(ring) = self.rings.get(vcpu) {
            ring.doorbell(prod);
        }
    }

    fn is_ready(&self) -> bool {
        let ways = match &self.way {
            Way::None => 0,
            Way::Pages(_) => 1,
            Way::Zones(zones) => zones.len() as u64,
        };
        self.engine.metrics().flips >= ways
    }

    fn host(&self) -> Option<Host> {
        let mut sum = vcmdq::metrics::RingMetrics::default();
        self.rings.iter().for_each(|ring| sum.add(&ring.metrics()));
        let engine = self.engine.metrics();
        let (calls, requests) = self.executor.paid().unwrap_or((sum.calls, sum.requests));
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        Some(Host {
            rounds: 0,
            calls,
            requests,
            wake_ups: engine.wake_ups,
            inline_doorbells: sum.inline_doorbells,
            flips: engine.flips,
            failed_flips: engine.failed_flips,
            flip_us: us(engine.flip_time),
            longest_flip_us: us(engine.longest_flip),
        })
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // First, or the thread of the gates may open them again.
        self.engine.stop();
        let put_back = match &self.way {
            Way::None => Ok(()),
            Way::Pages(slot) => slot.open(),
            Way::Zones(zones) => zones.iter().try_for_each(|zone| zone.close()),
        };
        if let Err(error) = put_back {
            eprintln!("kvm-roundtrip: a way around the exit stays as it is: {error}");
        }
    }
}
