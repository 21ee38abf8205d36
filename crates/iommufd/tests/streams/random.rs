//! Random guests, devices that come and go, and a host that fails: no stream is ever detached while it is plugged
//! in, and none ever points to anything but what the guest said last.

use crate::host::world::*;
use crate::host::*;
use proptest::prelude::*;
use rustix::io::Errno;
use smmu_core::StreamId;
use std::collections::BTreeMap;

const STREAMS: u32 = 6;
const DEVICES: [u32; 3] = [101, 102, 103];

#[derive(Clone, Debug)]
enum Step {
    /// The guest writes an STE, and perhaps says so.
    Ste(u32, [u64; 2], bool),
    /// SMMUEN=1, or GBPA with or without ABORT.
    Traffic(Option<bool>),
    Plug(u32, usize),
    Unplug(u32),
    Rebind(u32, u32),
    Gone(usize),
    Replace,
    FailClosed(Option<u32>),
    /// The next call of a kind fails.
    Fail(Call, Errno),
}

fn ste() -> impl Strategy<Value = [u64; 2]> {
    let contexts = (1u64..8).prop_map(|n| n * 0x4000);
    prop_oneof![
        3 => (contexts, any::<u64>()).prop_map(|(at, word)| [stage1(at)[0], word & !(3 << 28)]),
        1 => Just(ABORT),
        1 => Just(BYPASS),
        1 => Just([0, 0]),
        1 => any::<[u64; 2]>(),
        1 => any::<[u64; 2]>().prop_map(|[first, second]| [first & 0xFFFF_FFFF | 1, second]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0..STREAMS;
    let call = prop::sample::select(vec![
        Call::Nested,
        Call::Attach,
        Call::Destroy,
        Call::Vdevice,
        Call::Viommu,
        Call::Invalidate,
        Call::HwInfo,
    ]);
    let error = prop::sample::select(vec![
        Errno::IO,
        Errno::NOMEM,
        Errno::BUSY,
        Errno::INVAL,
        Errno::INTR,
    ]);
    prop_oneof![
        8 => (stream.clone(), ste(), prop::bool::weighted(0.8)).prop_map(|(s, w, t)| Step::Ste(s, w, t)),
        2 => prop_oneof![3 => Just(None), 1 => any::<bool>().prop_map(Some)].prop_map(Step::Traffic),
        4 => (stream.clone(), 0..DEVICES.len()).prop_map(|(s, d)| Step::Plug(s, d)),
        1 => stream.clone().prop_map(Step::Unplug),
        1 => (stream.clone(), stream.clone()).prop_map(|(from, to)| Step::Rebind(from, to)),
        1 => (0..DEVICES.len()).prop_map(Step::Gone),
        1 => Just(Step::Replace),
        1 => prop_oneof![4 => stream.prop_map(Some), 1 => Just(None)].prop_map(Step::FailClosed),
        3 => (call, error).prop_map(|(call, error)| Step::Fail(call, error)),
    ]
}

/// What the guest has said, and where devices are.
struct Model {
    world: World,
    memory: BTreeMap<u32, [u64; 2]>,
    /// What each stream's STE was when it was told last.
    told: BTreeMap<u32, [u64; 2]>,
    traffic: Option<Option<bool>>,
    plugged: BTreeMap<u32, u32>,
    ioas: u32,
    /// Something went wrong in this step or before: the stream may abort until it is told again.
    excused: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            world: World::new(),
            memory: BTreeMap::new(),
            told: BTreeMap::new(),
            traffic: None,
            plugged: BTreeMap::new(),
            ioas: IOAS,
            excused: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ste(stream, words, is_told) => {
                self.world.write_ste(*stream, words);
                self.memory.insert(*stream, *words);
                if *is_told {
                    self.look(*stream);
                    self.world.cfgi(*stream);
                }
            }
            Step::Traffic(gbpa) => {
                self.traffic = Some(*gbpa);
                self.look_at_all();
                self.tell_all();
            }
            Step::Plug(stream, device) => self.plug(*stream, DEVICES[*device]),
            Step::Unplug(stream) => self.unplug(*stream),
            Step::Rebind(from, to) => self.rebind(*from, *to),
            Step::Gone(device) => self.world.host.take_away(DEVICES[*device]),
            Step::Replace => self.replace(),
            Step::FailClosed(stream) => {
                let stream = stream.map(StreamId);
                self.world.streams.fail_closed(&self.world.instance, stream);
            }
            // What fails four times on end stays behind, and the log says so.
            Step::Fail(Call::Destroy, _) if self.world.host.failures(Call::Destroy) == 3 => {}
            Step::Fail(call, error) => {
                self.world.host.fail_next(*call, *error);
                self.excused = true;
            }
        }
    }

    /// The engine reads a stream's STE.
    fn look(&mut self, stream: u32) {
        let words = self.memory.get(&stream).copied().unwrap_or_default();
        self.told.insert(stream, words);
    }

    fn look_at_all(&mut self) {
        (0..STREAMS).for_each(|stream| self.look(stream));
    }

    fn tell_all(&self) {
        let traffic = match self.traffic {
            None => return,
            Some(None) => self.world.enabled(),
            Some(Some(abort)) => self.world.disabled(abort),
        };
        let streams: Vec<u32> = self.plugged.keys().copied().collect();
        self.world.traffic(&streams, &traffic);
    }

    fn plug(&mut self, stream: u32, device: u32) {
        if !self.plugged.values().any(|id| *id == device) {
            // Somebody has put it back.
            self.world
                .host
                .state()
                .devices
                .get_mut(&device)
                .unwrap()
                .gone = false;
        }
        self.world.host.take_history(device);
        let free =
            !self.plugged.contains_key(&stream) && !self.plugged.values().any(|id| *id == device);
        let done = self.world.plug(stream, device).is_ok();
        assert!(!done || free, "one device, one stream");
        assert!(done || !free || self.excused, "nothing speaks against it");
        if done {
            self.plugged.insert(stream, device);
            self.look_at_all();
            self.tell_all();
        } else if free {
            self.world.host.take_history(device);
        }
    }

    fn unplug(&mut self, stream: u32) {
        let done = self
            .world
            .streams
            .unplug(&self.world.frame, StreamId(stream))
            .is_ok();
        let device = self.plugged.remove(&stream);
        assert_eq!(done, device.is_some());
        if let Some(device) = device {
            assert_eq!(
                self.world.host.seen(device),
                Seen::Nothing,
                "its DMA is blocked"
            );
            self.world.host.take_history(device);
        }
    }

    fn rebind(&mut self, from: u32, to: u32) {
        let (frame, binding) = (&self.world.frame, self.world.binding);
        let rebound = self
            .world
            .streams
            .rebind(frame, StreamId(from), StreamId(to), binding);
        let Some(device) = self.plugged.get(&from).copied() else {
            return assert!(rebound.is_err());
        };
        if rebound.is_ok() {
            self.plugged.remove(&from);
            self.plugged.insert(to, device);
        } else if self.world.streams.stream(StreamId(from)).is_none() {
            let gone = self.world.host.state().devices[&device].gone;
            assert!(self.excused || gone, "could have been put back");
            self.plugged.remove(&from);
            self.world.host.take_history(device);
        }
        self.look_at_all();
        self.tell_all();
    }

    fn replace(&mut self) {
        let next = if self.ioas == IOAS { OTHER_IOAS } else { IOAS };
        let gone = |device: &u32| self.world.host.state().devices[device].gone;
        let Some(device) = DEVICES.into_iter().find(|device| !gone(device)) else {
            return;
        };
        let replaced = self
            .world
            .streams
            .replace_stage2(&self.world.instance, device, next);
        assert!(replaced.is_ok() || self.excused, "{replaced:?}");
        if replaced.is_ok() {
            self.ioas = next;
            self.look_at_all();
        }
    }

    /// The words of an STE as a table may have them, if it may have any: 0 aborts.
    fn said(&self, stream: u32) -> u64 {
        match self.traffic {
            None | Some(Some(true)) => 0,
            Some(Some(false)) => 4,
            Some(None) => {
                let [first, _] = self.told.get(&stream).copied().unwrap_or_default();
                match (first & 1, first >> 1 & 7) {
                    (0, _) => 0,
                    (_, config @ (4 | 5)) => config,
                    _ => 0,
                }
            }
        }
    }

    fn check(&mut self) {
        for (&stream, &device) in &self.plugged {
            let history = self.world.host.take_history(device);
            let gone = self.world.host.state().devices[&device].gone;
            for seen in history.into_iter().chain([self.world.host.seen(device)]) {
                self.check_seen(stream, gone, seen);
            }
            let state = self.world.streams.stream(StreamId(stream)).unwrap();
            let seen = self.world.host.seen(device);
            let aborts = matches!(seen, Seen::Nothing)
                || matches!(seen, Seen::Vste { vste, .. } if vste[0] >> 1 & 7 == 0);
            assert!(!state.closed || aborts, "closed");
            // In full: nothing went wrong, and what was said is what is done.
            if let (Seen::Vste { vste, .. }, false, false) = (seen, self.excused, state.closed) {
                let (config, said) = (vste[0] >> 1 & 7, self.said(stream));
                let is_valid = self.is_valid(stream);
                assert!(
                    config == said || (said == 5 && !is_valid && config == 0),
                    "{config} {said}"
                );
            }
        }
    }

    /// Whether an STE with Config=5 is one that the architecture takes.
    fn is_valid(&self, stream: u32) -> bool {
        let mut words = [0; 8];
        words[..2].copy_from_slice(&self.told[&stream]);
        let ste = smmu_core::spec::ste::Ste(words);
        smmu_core::config::interpret(&ste, &self.world.caps).is_ok()
    }

    fn check_seen(&self, stream: u32, gone: bool, seen: Seen) {
        let Seen::Vste { ioas, vste } = seen else {
            return assert!(gone || self.excused, "stream {stream} was detached");
        };
        match vste[0] >> 1 & 7 {
            0 => {}
            config => {
                assert_eq!(ioas, self.ioas, "an old stage 2");
                assert_eq!(config, self.said(stream), "not what the guest says");
                let contexts = |word: u64| word & ((1 << 56) - (1 << 6));
                let [told, _] = self.told.get(&stream).copied().unwrap_or_default();
                assert!(
                    config == 4 || contexts(vste[0]) == contexts(told),
                    "{vste:x?}, {told:x}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn law9_no_stream_is_detached_or_points_to_what_the_guest_does_not_say(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new();
        let objects = model.world.host.objects();
        for step in &steps {
            model.step(step);
            model.check();
        }
        model.excused = true;
        let plugged: Vec<u32> = model.plugged.keys().copied().collect();
        plugged.iter().for_each(|stream| model.unplug(*stream));
        model.world.host.state().devices.get_mut(&101).unwrap().gone = false;
        model.world.host.forget_failures();
        // What could not be destroyed before is with the vIOMMU.
        model.replace();
        prop_assert_eq!(model.world.host.objects(), objects);
        prop_assert!(model.world.host.vdevices().is_empty());
    }
}
