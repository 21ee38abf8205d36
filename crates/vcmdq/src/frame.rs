//! One guest-visible SMMU: its streams, instances and rings.

use crate::budget::AskedCosts;
use crate::cmdqv::cover::Cover;
use crate::cmdqv::group::{Group, Member, Vintf};
use crate::cmdqv::state as cmdqv;
use crate::consumer::Consumer;
use crate::doorbell::Bell;
use crate::doorbell::check::check;
use crate::doorbell::zones::Zones;
use crate::engine::EngineShared;
use crate::error::{BindError, InstanceError, RemoveError, RestoreError, RingError};
use crate::events::EventSink;
use crate::events::pages::PageRequests;
use crate::fetch::Entries;
use crate::instance::{Instance, InstanceId, Placement, calls_in_lane};
use crate::no_memory::NoMemory;
use crate::registers::gate::IrqGate;
use crate::ring::{DoorbellMode, Ring};
use crate::rings::Home;
use crate::seams::{Interrupts, Seams, StreamHost};
use crate::settings::FrameSettings;
use crate::snapshot::{FrameState, RingState};
use crate::streams::{Binding, Streams};
use crate::traffic::{FrameTraffic, Telling};
use crate::worker::{Deaths, Lane};
use dispatch::{Backend, BackendCapabilities, Traffic, WaiterId, Wake};
use smmu_core::queue_index::Geometry;
use smmu_core::{Capabilities, Gpa, GuestMemory, StreamId};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq_sync::snapshot::Snapshot;

/// What the rings of a frame share.
pub(crate) struct FrameShared {
    pub(crate) settings: FrameSettings,
    /// The gate below, as everybody inside calls it.
    pub(crate) interrupts: Arc<dyn Interrupts>,
    pub(crate) gate: Arc<IrqGate>,
    pub(crate) traffic: FrameTraffic,
    pub(crate) host: Arc<dyn StreamHost>,
    pub(crate) events: EventSink,
    /// With IDR0.PRI.
    pub(crate) pages: Option<PageRequests>,
    pub(crate) streams: Snapshot<Streams>,
    pub(crate) vintf: Vintf,
    /// What rings have queued outside of the engine.
    pub(crate) zones: Zones,
    /// Calls that can block.
    pub(crate) lane: Arc<Lane>,
    /// [`StreamHost::may_block`].
    pub(crate) host_blocks: bool,
}

/// What control calls change; workers never look here.
struct FrameControl {
    memory: Arc<dyn GuestMemory>,
    instances: Vec<Arc<Instance>>,
    rings: Vec<Arc<Ring>>,
    home: Home,
    /// A thread has been hired for calls that can block.
    spare: bool,
    cmdqv: Option<Arc<cmdqv::Shared>>,
}

/// One guest-visible SMMU.
///
/// All methods are control calls: from any thread, not from inside a callback of the engine; they
/// may wait for the workers' present slices, never for a guest.
pub struct Frame {
    shared: Arc<FrameShared>,
    control: Mutex<FrameControl>,
    engine: Arc<EngineShared>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let control = self.control();
        f.debug_struct("Frame")
            .field("instances", &control.instances)
            .field("rings", &control.rings)
            .finish_non_exhaustive()
    }
}

/// A barrier that is done is a reason to look at the ring that waits for it.
struct WakeRing(Arc<Bell>, Vintf);

impl Wake for WakeRing {
    fn wake(&self, waiter: WaiterId) {
        self.0.ring(waiter.0);
        self.1.wake(&self.0, waiter.0);
    }
}

impl Frame {
    pub(crate) fn new(settings: FrameSettings, seams: Seams, engine: Arc<EngineShared>) -> Self {
        let (memory, wires) = (seams.memory.clone(), seams.interrupts);
        let gate = Arc::new(IrqGate::new(wires, settings.device_id, memory.clone()));
        let shared = FrameShared {
            pages: (settings.caps.idr0.pri())
                .then(|| PageRequests::new(&settings.caps, memory.clone(), gate.clone())),
            events: EventSink::new(&settings.caps, memory, gate.clone()),
            settings,
            interrupts: gate.clone(),
            gate,
            traffic: FrameTraffic::default(),
            lane: Arc::new(Lane::new(engine.settings.max_rings)),
            host_blocks: seams.streams.may_block(),
            host: seams.streams,
            streams: Snapshot::new(Streams::default()),
            vintf: Vintf::default(),
            zones: Zones::default(),
        };
        let wake = Arc::new(WakeRing(engine.bell.clone(), shared.vintf.clone()));
        shared.events.queue().attach(wake);
        let control = FrameControl {
            memory: seams.memory,
            instances: Vec::new(),
            rings: Vec::new(),
            home: Home::default(),
            spare: false,
            cmdqv: None,
        };
        Self {
            shared: Arc::new(shared),
            control: Mutex::new(control),
            engine,
        }
    }

    fn control(&self) -> MutexGuard<'_, FrameControl> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a backend behind the frame. `placement` is what all of its streams share (law 1).
    ///
    /// # Panics
    ///
    /// Where [`try_add_instance`](Self::try_add_instance) fails.
    pub fn add_instance(&self, backend: Arc<dyn Backend>, placement: Placement) -> InstanceId {
        match self.try_add_instance(backend, placement) {
            Ok(id) => id,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same. If the backend may block or has [long calls](dispatch::Costs::is_long_call), or the
    /// frame's [`StreamHost`] may block, one spare thread is hired for the frame, so that such a call
    /// delays no other frame (law 11); and beside other instances with such backends one that makes
    /// this one's calls while theirs are made. Nothing is added if there is none to be had.
    pub fn try_add_instance(
        &self,
        backend: Arc<dyn Backend>,
        placement: Placement,
    ) -> Result<InstanceId, InstanceError> {
        let mut control = self.control();
        let in_lane = calls_in_lane(&*backend);
        if (in_lane || self.shared.host_blocks) && !control.spare {
            self.engine.hire()?;
            control.spare = true;
        }
        let beside_others = in_lane && control.instances.iter().any(|other| other.in_lane);
        let caller = beside_others.then(|| self.engine.hire_caller(&backend));
        let caller = caller.transpose()?;
        if in_lane {
            self.shared.lane.always_blocks();
        }
        let id = InstanceId(control.instances.len() as u32);
        let wake = Arc::new(WakeRing(
            self.engine.bell.clone(),
            self.shared.vintf.clone(),
        ));
        backend.memory_changed(control.memory.clone());
        self.shared.traffic.add(backend.clone());
        let instance = Instance::new(id, placement, backend, wake, caller);
        control.instances.push(Arc::new(instance));
        for ring in &control.rings {
            ring.with_consumer(|consumer| set_instances(consumer, &control.instances));
        }
        Ok(id)
    }

    /// Says that a stream (by the guest's number, vSID) belongs to an instance. Refused if it is
    /// behind another physical SMMU or uses another stage 2 than the instance (law 1).
    pub fn bind(&self, stream: StreamId, binding: Binding) -> Result<(), BindError> {
        let bits = u32::from(self.shared.settings.caps.idr1.sidsize());
        if bits < 32 && stream.0 >> bits != 0 {
            return Err(BindError::BeyondSidSize(stream));
        }
        let instances = self.control().instances.clone();
        self.shared
            .streams
            .replace(|streams| streams.bind(stream, binding, &instances))
    }

    /// Takes a stream away. When it returns, no batch that was checked while it was bound is in
    /// flight, and commands that name it reach no backend.
    pub fn unbind(&self, stream: StreamId) -> Result<(), BindError> {
        self.shared
            .streams
            .replace(|streams| streams.unbind(stream))
    }

    /// Adds a ring of size one at address zero, disabled: [`Ring::configure`] moves it.
    pub fn add_ring(&self, mode: DoorbellMode) -> Result<Arc<Ring>, RingError> {
        self.add_ring_of(mode, None)
    }

    /// The same, perhaps as one of a VINTF.
    pub(crate) fn add_ring_of(
        &self,
        mode: DoorbellMode,
        member: Option<Member>,
    ) -> Result<Arc<Ring>, RingError> {
        let mut control = self.control();
        check(&mode, &control.rings, &*control.memory, member.is_some())?;
        let mut consumer = Consumer {
            entries: Entries::new(Gpa(0), Geometry::capped(0, 0)),
            cons: Geometry::capped(0, 0).pointer(0),
            halted: None,
            waiting: false,
            events_due: None,
            lost_atc_inv: false,
            configuring: None,
            telling: Telling::default(),
            running: false,
            in_window: false,
            tells_traffic: false,
            armed: false,
            refused: None,
            cover: member.clone().map(|member| Box::new(Cover::new(member))),
            memory: control.memory.clone(),
            instances: Vec::new(),
            capabilities: NOTHING,
            calls_in_lane: false,
            fans_out: false,
            costs: AskedCosts::default(),
            frame: self.shared.clone(),
            deaths: Deaths::default(),
            watched: None,
            timing: None,
        };
        set_instances(&mut consumer, &control.instances);
        let ring = (self.engine).add_ring(&mut control.home, mode, consumer, member)?;
        if let DoorbellMode::Coalesced(zone) = &ring.mode {
            self.shared.zones.add(zone);
        }
        control.rings.push(ring.clone());
        Ok(ring)
    }

    /// Takes a ring away, in whatever state it is. When this returns, no thread of the engine
    /// touches guest memory for it or calls what the frame was given because of it; whoever still
    /// holds it holds a ring that consumes nothing. Its number and room are another ring's to have.
    ///
    /// Waits for the slice under way, which may be in a call that blocks.
    pub fn remove_ring(&self, ring: &Arc<Ring>) -> Result<(), RemoveError> {
        let mut control = self.control();
        let at = control.rings.iter().position(|own| Arc::ptr_eq(own, ring));
        let at = at.ok_or(RemoveError::NotOfFrame)?;
        if ring.member.is_some() || ring.with_consumer(|consumer| consumer.tells_traffic) {
            return Err(RemoveError::OfRegisters);
        }
        let ring = control.rings.remove(at);
        self.take_away(&mut control, &ring);
        Ok(())
    }

    fn take_away(&self, control: &mut FrameControl, ring: &Arc<Ring>) {
        self.engine.remove_ring(&mut control.home, ring);
        if let DoorbellMode::Coalesced(zone) = &ring.mode {
            self.shared.zones.remove(zone);
        }
    }

    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        self.control().instances.clone()
    }

    #[cfg(all(feature = "vm-memory", not(loom)))]
    pub(crate) fn memory(&self) -> Arc<dyn GuestMemory> {
        self.control().memory.clone()
    }

    /// What the frame's registers say about traffic now: what a device that is plugged in later goes
    /// by. Nothing without a [register frame](crate::registers::RegisterFrame).
    #[must_use]
    pub fn traffic(&self) -> Option<Traffic> {
        self.shared.traffic.now()
    }

    /// What the frame advertises; fixed.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.shared.settings.caps
    }

    pub(crate) fn shared(&self) -> &Arc<FrameShared> {
        &self.shared
    }

    /// Gives the frame its VINTF; false if it has one.
    pub(crate) fn set_vintf(&self, group: &Arc<Group>) -> bool {
        self.shared.vintf.set(group.clone())
    }

    pub(crate) fn room_for(&self, rings: usize) -> Result<(), RingError> {
        self.engine.rings.room_for(rings)
    }

    pub(crate) fn set_cmdqv(&self, cmdqv: &Arc<cmdqv::Shared>) {
        self.control().cmdqv = Some(cmdqv.clone());
    }

    pub(crate) fn interrupts(&self) -> Arc<dyn Interrupts> {
        self.shared.interrupts.clone()
    }

    /// The rings, in the order in which they were added.
    #[must_use]
    pub fn rings(&self) -> Vec<Arc<Ring>> {
        self.control().rings.clone()
    }

    /// Where faults of the frame's devices go: the event queue and the stalled transactions.
    #[must_use]
    pub fn events(&self) -> &EventSink {
        &self.shared.events
    }

    /// Exchanges the whole map of guest memory. When it returns, nothing uses the old one (law 9).
    pub fn update_memory(&self, memory: Arc<dyn GuestMemory>) {
        let mut control = self.control();
        control.memory = memory;
        self.shared
            .events
            .queue()
            .update_memory(control.memory.clone());
        if let Some(pages) = &self.shared.pages {
            pages.queue().update_memory(control.memory.clone());
        }
        self.shared.gate.update_memory(control.memory.clone());
        for instance in &control.instances {
            instance.backend.memory_changed(control.memory.clone());
        }
        for ring in &control.rings {
            // law9b: a ring that is being consumed is left for later.
            if vcmdq_sync::broken!(break_law9b) {
                if let Some(mut claim) = ring.consumer.enter() {
                    claim.with(|consumer| consumer.memory = control.memory.clone());
                }
                continue;
            }
            // law9a: rings find the new map when they are added.
            if !vcmdq_sync::broken!(break_law9a) {
                ring.with_consumer(|consumer| consumer.memory = control.memory.clone());
            }
        }
    }

    /// Stops consumption and the event queue. When it returns, no worker touches guest memory for
    /// this frame until [`resume`](Self::resume), and no event is written (law 10). DMA of device
    /// models is the VMM's to stop.
    pub fn pause(&self) {
        self.control().rings.iter().for_each(|ring| ring.pause());
        self.shared.events.queue().pause();
        if let Some(pages) = &self.shared.pages {
            pages.queue().pause();
        }
    }

    /// Goes on after [`pause`](Self::pause) or [`restore`](Self::restore). PRODs that came meanwhile
    /// are consumed.
    pub fn resume(&self) {
        self.shared.events.resume();
        if let Some(pages) = &self.shared.pages {
            pages.queue().resume();
        }
        self.control().rings.iter().for_each(|ring| ring.resume());
    }

    /// The frame's state as plain data. Pauses the frame if it is not paused; a guest that runs
    /// on may publish more, which the state then does not hold.
    #[must_use]
    pub fn save(&self) -> FrameState {
        self.pause();
        let control = self.control();
        let rings = control.rings.iter().map(|ring| RingState::of(ring));
        FrameState {
            caps: self.shared.settings.caps.into(),
            rings: rings.collect(),
            cmdqv: control.cmdqv.as_ref().map(|cmdqv| cmdqv.save()),
            events: self.shared.events.save(),
            pages: self.shared.pages.as_ref().map(|pages| pages.queue().save()),
        }
    }

    /// Puts a saved state back into a paused frame with the same capabilities and number of rings.
    /// Doorbell modes and backends may differ. Nothing is changed if it is refused.
    pub fn restore(&self, state: &FrameState) -> Result<(), RestoreError> {
        let control = self.control();
        if !control.rings.iter().all(|ring| ring.is_paused()) {
            return Err(RestoreError::Running);
        }
        if state.caps != self.shared.settings.caps.into() {
            return Err(RestoreError::Capabilities);
        }
        if state.rings.len() != control.rings.len() {
            let (saved, here) = (state.rings.len(), control.rings.len());
            return Err(RestoreError::Rings { saved, here });
        }
        for (index, ring) in state.rings.iter().enumerate() {
            ring.validate(&self.shared.settings.caps)
                .map_err(|what| RestoreError::Malformed { ring: index, what })?;
        }
        cmdqv::validate(control.cmdqv.as_deref(), state.cmdqv.as_ref())?;
        let pages = match (&self.shared.pages, &state.pages) {
            (Some(pages), Some(state)) => Some((pages.queue(), state)),
            (None, None) => None,
            _ => return Err(RestoreError::Capabilities),
        };
        let check = pages.map(|(queue, state)| queue.check(state));
        check.transpose().map_err(RestoreError::Pages)?;
        // Last of what can refuse: it changes nothing if it does.
        self.shared.events.restore(&state.events)?;
        if let Some((queue, state)) = pages {
            queue.restore(state).map_err(RestoreError::Pages)?;
        }
        for (ring, state) in control.rings.iter().zip(&state.rings) {
            state.put(ring);
        }
        if let (Some(cmdqv), Some(state)) = (&control.cmdqv, &state.cmdqv) {
            cmdqv.restore(state);
        }
        Ok(())
    }
}

impl Consumer {
    /// Gives back what the frame was given.
    pub(crate) fn retire(&mut self) {
        self.memory = Arc::new(NoMemory);
        set_instances(self, &[]);
        self.watched = None;
    }
}

impl Drop for Frame {
    /// Takes the rings away, as [`remove_ring`](Self::remove_ring) does. A guest's registers and
    /// CMDQV may outlive the frame: their queues consume nothing then.
    fn drop(&mut self) {
        let mut control = self.control();
        for ring in std::mem::take(&mut control.rings) {
            self.take_away(&mut control, &ring);
        }
        if control.spare {
            self.engine.dismiss();
        }
        let callers = control.instances.iter().filter_map(|i| i.caller.as_ref());
        callers.for_each(|caller| caller.close());
        let nothing: Arc<dyn GuestMemory> = Arc::new(NoMemory);
        self.shared.events.queue().update_memory(nothing.clone());
        if let Some(pages) = &self.shared.pages {
            pages.queue().update_memory(nothing.clone());
        }
        self.shared.gate.update_memory(nothing);
    }
}

/// What a frame without instances can be asked for: anything, it is dropped.
const NOTHING: BackendCapabilities = BackendCapabilities {
    ranges: true,
    ranges_of_any_granule: true,
    caches_contexts: false,
    may_block: false,
    widen_above: u64::MAX,
};

fn set_instances(consumer: &mut Consumer, instances: &[Arc<Instance>]) {
    consumer.instances = instances.to_vec();
    let all = instances
        .iter()
        .map(|instance| instance.backend.capabilities());
    consumer.capabilities = all.fold(NOTHING, BackendCapabilities::and);
    consumer.calls_in_lane = instances.iter().any(|instance| instance.in_lane);
    consumer.fans_out = instances.iter().any(|instance| instance.caller.is_some());
    consumer.costs = AskedCosts::default();
}
