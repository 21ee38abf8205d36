//! A frame with rings, and a kernel for each of its instances.

use dispatch::Cause;
use dispatch::backend::faulty::Faulty;
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::decode::decode;
use smmu_core::encode::encode;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Capabilities, Gpa, StreamId, SubstreamId};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use vcmdq::metrics::RingMetrics;
use vcmdq::seams::NoTarget;
use vcmdq::stepping::Stepper;
use vcmdq::testing::{HeapMemory, commands};
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, InstanceId, Interrupts, Line, Placement,
    Ring, RingSettings, Seams, Settings, StreamHost,
};
use vcmdq_iommufd::testing::{Counting, FakeKernel, FakeStreams};
use vcmdq_iommufd::{ArmSmmuv3, IommufdBackend, IommufdSettings};

const LOG2SIZE: u8 = 10;
const VIOMMU: u32 = 3;

/// The stream of an instance.
pub(crate) fn stream(instance: usize) -> StreamId {
    StreamId(0x10 + instance as u32)
}

/// What the VMM was told of failures.
#[derive(Default)]
pub(crate) struct Vmm(pub(crate) Mutex<Vec<(Option<StreamId>, Cause)>>);

impl Interrupts for Vmm {
    fn pulse(&self, _line: Line) {}

    fn message(&self, _device_id: u32, _msi: smmu_core::command::Msi) -> Result<(), NoTarget> {
        Ok(())
    }
}

impl StreamHost for Vmm {
    fn failed_closed(&self, _instance: InstanceId, stream: Option<StreamId>, cause: Cause) {
        self.0.lock().unwrap().push((stream, cause));
    }
}

/// A physical SMMU, as the kernel shows it.
pub(crate) struct Host {
    pub(crate) kernel: Arc<FakeKernel>,
    pub(crate) streams: Arc<FakeStreams>,
    pub(crate) backend: Arc<Faulty<IommufdBackend>>,
    executed: Mutex<Vec<RawCommand>>,
}

impl Host {
    fn new(instance: usize, counting: Counting) -> Self {
        let kernel = Arc::new(FakeKernel::new(counting, VIOMMU, &[stream(instance).0]));
        let streams = Arc::new(FakeStreams::default());
        let settings = IommufdSettings::new(streams.clone());
        let encoder = ArmSmmuv3::new(true);
        let backend = IommufdBackend::new(kernel.clone(), VIOMMU, encoder, settings);
        Self {
            kernel,
            streams,
            backend: Arc::new(Faulty::new(backend)),
            executed: Mutex::default(),
        }
    }

    /// All that it has executed since it was made.
    pub(crate) fn executed(&self) -> Vec<Command> {
        let mut executed = self.executed.lock().unwrap();
        executed.extend(self.kernel.take_executed());
        let caps = Capabilities::default().with_ats();
        let each = executed.iter().map(|raw| decode(*raw, &caps));
        each.map(|command| command.expect("legal")).collect()
    }

    /// Whether the page of ASID 1 has been removed, or every stream aborts.
    pub(crate) fn is_safe(&self, page: u64) -> bool {
        self.streams.closed().contains(&None)
            || self.executed().iter().any(|command| match command {
                Command::Tlbi(Tlbi::NhVa { asid, range, .. }) => {
                    *asid == Asid(1) && range.addr <= page << 12 && range.last() >= page << 12
                }
                Command::Tlbi(Tlbi::NhAll { .. } | Tlbi::NsnhAll) => true,
                _ => false,
            })
    }
}

pub(crate) struct World {
    pub(crate) vmm: Arc<Vmm>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) rings: Vec<Arc<Ring>>,
    memory: Arc<HeapMemory>,
    stepper: Stepper,
    prods: Vec<u32>,
    _frame: Frame,
    _engine: Engine,
}

fn base(ring: usize) -> Gpa {
    Gpa(0x1_0000 + (ring as u64) * (16 << LOG2SIZE))
}

impl World {
    pub(crate) fn new(rings: usize, instances: usize, counting: Counting) -> Self {
        let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), base(rings).0)]));
        let vmm = Arc::new(Vmm::default());
        let engine = Engine::without_workers(Settings::default()).unwrap();
        let mut caps = Capabilities::default().with_ats();
        caps.idr0.set_stall_model(0);
        let settings = FrameSettings {
            caps,
            ..FrameSettings::default()
        };
        let seams = Seams {
            memory: memory.clone(),
            interrupts: vmm.clone(),
            streams: vmm.clone(),
        };
        let frame = engine.add_frame(settings, seams);
        let hosts: Vec<_> = (0..instances).map(|n| Host::new(n, counting)).collect();
        for (n, host) in hosts.iter().enumerate() {
            let placement = Placement {
                smmu: n as u32,
                stage2: 0,
            };
            let instance = frame.add_instance(host.backend.clone(), placement);
            let binding = Binding {
                instance,
                placement,
            };
            frame.bind(stream(n), binding).unwrap();
        }
        let rings: Vec<_> = (0..rings)
            .map(|n| {
                let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
                let (base, log2size) = (base(n), LOG2SIZE);
                ring.configure(RingSettings { base, log2size }).unwrap();
                ring.enable();
                ring
            })
            .collect();
        Self {
            vmm,
            hosts,
            prods: vec![0; rings.len()],
            rings,
            memory,
            stepper: Stepper::default(),
            _frame: frame,
            _engine: engine,
        }
    }

    /// Publishes commands.
    pub(crate) fn send(&mut self, ring: usize, commands: &[RawCommand]) {
        for raw in commands {
            let prod = &mut self.prods[ring];
            let at = base(ring).0 + 16 * u64::from(*prod % (1 << LOG2SIZE));
            for (at, value) in [(at, raw.dw0), (at + 8, raw.dw1)] {
                store_u64(&*self.memory, Gpa(at), value, Ordering::Relaxed).unwrap();
            }
            *prod = (*prod + 1) % (2 << LOG2SIZE);
        }
        self.rings[ring].doorbell(self.prods[ring]);
    }

    /// Serves all rings together, until nothing moves.
    pub(crate) fn serve(&mut self) {
        while self.stepper.serve_together(&self.rings) {}
    }

    pub(crate) fn error(&self, ring: usize) -> u32 {
        self.rings[ring].cons() >> 24
    }

    /// Whether CONS has passed all that was sent.
    pub(crate) fn is_through(&self, ring: usize) -> bool {
        self.rings[ring].cons() == self.prods[ring]
    }

    pub(crate) fn metrics(&self) -> RingMetrics {
        let mut sum = RingMetrics::default();
        self.rings.iter().for_each(|ring| sum.add(&ring.metrics()));
        sum
    }
}

pub(crate) fn tlbi(page: u64) -> RawCommand {
    commands::tlbi(Asid(1), page)
}

pub(crate) fn atc_inv(stream: StreamId) -> RawCommand {
    commands::atc_inv(stream, 0)
}

pub(crate) fn cfgi_cd(stream: StreamId) -> RawCommand {
    encode(&Command::Cfgi(Cfgi::Cd {
        stream,
        substream: SubstreamId(0),
        leaf: true,
    }))
}
