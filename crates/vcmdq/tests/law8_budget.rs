//! What a ring may cost its worker at a time: counted by what reaches the backend and the VMM, not by
//! a clock.

mod common;

use common::*;
use dispatch::{
    Backend as _, BackendCapabilities, Barrier, Batch, Costs, Rejected, WaiterId, Wake,
};
use proptest::prelude::*;
use smmu_core::command::{Cfgi, Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::{Entry, PageClass, Space};
use smmu_core::{Asid, Gpa, StreamId, Vmid};
use std::sync::Arc;
use std::time::Duration;
use vcmdq::stepping::Stepper;
use vcmdq::testing::commands::{sync, sync_to};
use vcmdq::{Binding, DoorbellMode, Placement, RingSettings, Settings};

const SLICE: Duration = Duration::from_micros(2);
/// As `budget::CALLBACK` has it: at least as much as it costs.
const CALLBACK: u64 = 500;
/// What the last command may add: a request at its dearest, or a callback, and its call.
const LAST: u64 = 2000;

fn range(page: u64, pages: u64, granule: Option<Granule>) -> TlbiRange {
    TlbiRange {
        addr: page << 12,
        bytes: pages << 12,
        granule,
        ttl: 3 * u8::from(granule.is_some()),
        leaf: true,
    }
}

fn va(asid: u16, range: TlbiRange) -> RawCommand {
    let (vmid, asid) = (Vmid(0), Asid(asid));
    encode(&Command::Tlbi(Tlbi::NhVa { vmid, asid, range }))
}

fn vaa(range: TlbiRange) -> RawCommand {
    let vmid = Vmid(0);
    encode(&Command::Tlbi(Tlbi::NhVaa { vmid, range }))
}

/// The dearest commands of each kind, each of them another one.
fn dear(kind: usize, n: u64) -> RawCommand {
    let known = Some(Granule::K4);
    match kind {
        0 => va(n as u16, range(n * 1000, 1, known)),
        1 => va(n as u16, range(n << 20, 1, None)),
        2 => va(1, range(n << 20, 1024, known)),
        3 => vaa(range(n << 20, 1, known)),
        4 => vaa(range(n << 20, 1, None)),
        5 => vaa(range(n << 20, 32, known)),
        6 => encode(&Command::Tlbi(Tlbi::NhAsid {
            vmid: Vmid(0),
            asid: Asid(n as u16),
        })),
        7 => encode(&Command::Tlbi(Tlbi::NhAll {
            vmid: Vmid(n as u16),
        })),
        8 => encode(&Command::Sync(Signal::Irq { msi: None })),
        9 => encode(&Command::StallTerm { stream: STREAM }),
        _ => sync_to(Gpa(0x8_0000_0000 + n * 4), 1),
    }
}
const KINDS: usize = 11;

/// A ring of 256 entries, behind which pages and blocks of every size of 4 KiB tables have been
/// cached, global ones too; with stage 2, so that there are VMIDs.
fn dear_rig() -> Rig {
    let mut caps = all_features();
    caps.idr0.set_s2p(true);
    let mut rig = Rig::set(Settings::default(), caps, 8, DoorbellMode::Trap, false);
    let sizes = [
        PageClass::Page4K,
        PageClass::Block2M,
        PageClass::Block1G,
        PageClass::Block512G,
    ];
    for class in sizes {
        for space in [Space::Asid(Asid(1)), Space::Global] {
            let entry = Entry {
                vmid: Vmid(0),
                space,
                va: 1 << 40,
                class,
                payload: [0; 2],
            };
            let ticket = rig.software().ticket(Vmid(0), Asid(1));
            assert!(rig.software().fill(&entry, &ticket));
        }
    }
    rig.stepper = Stepper::with_slice(SLICE);
    rig.serve();
    rig
}

/// Serves the ring for one slice; what reached the backend and the VMM, in nanoseconds.
fn slice(rig: &mut Rig, costs: &Costs) -> Option<u64> {
    rig.engine.take_ready()?;
    rig.stepper.serve(&rig.ring);
    let batches = rig.backend.take();
    let requests = batches.iter().flat_map(|batch| batch.requests());
    let calls = batches.len() as u64 * u64::from(costs.call);
    let told = rig.outside.take().len() as u64;
    Some(calls + requests.map(|r| costs.of(&r)).sum::<u64>() + told * CALLBACK)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn law8_dear_commands_keep_the_worker_no_longer_than_cheap_ones(
        kinds in proptest::collection::vec(0..KINDS, 1..4),
        first in 0u64..1000,
    ) {
        let mut rig = dear_rig();
        let costs = rig.backend.costs();
        let commands: Vec<_> = (0..256)
            .map(|n| dear(kinds[n as usize % kinds.len()], first + n))
            .collect();
        rig.put(&commands);
        rig.ring.doorbell(rig.prod);
        let mut slices = 0;
        while rig.cons() != rig.prod {
            let before = rig.cons();
            let spent = slice(&mut rig, &costs).expect("the ring is ready until it is empty");
            prop_assert!(spent <= SLICE.as_nanos() as u64 + LAST, "{spent} in slice {slices}");
            prop_assert!(rig.cons() != before, "each slice gets on");
            slices += 1;
        }
        prop_assert!(slices > 1, "what is so dear is no single slice");
        prop_assert!(!rig.stopped());
    }
}

/// Nothing comes of a PREFETCH, but it has to be read.
#[test]
fn law8_hints_are_counted() {
    let mut rig = dear_rig();
    let hint = encode(&Command::PrefetchConfig {
        stream: STREAM,
        substream: None,
    });
    rig.put(&[hint; 250]);
    rig.ring.doorbell(rig.prod);
    rig.stepper = Stepper::with_slice(SLICE / 4);
    let costs = rig.backend.costs();
    slice(&mut rig, &costs);
    assert!((1..200).contains(&rig.cons()), "{}", rig.cons());
    rig.serve();
    assert_eq!(rig.cons(), rig.prod);
}

/// Neighbours cost what their range costs, so a window of them is as long as ever.
#[test]
fn law8_what_merges_is_cheap() {
    let mut rig = dear_rig();
    let pages: Vec<_> = (0..255).map(tlbi).chain([sync()]).collect();
    rig.put(&pages);
    rig.ring.doorbell(rig.prod);
    let costs = rig.backend.costs();
    slice(&mut rig, &costs);
    assert_eq!(rig.cons(), rig.prod);
    assert_eq!(rig.ring.metrics().windows, 1);
}

const MANY: u32 = 1000;

/// With a thousand streams more.
fn crowded() -> Rig {
    let mut rig = Rig::new();
    rig.stepper = Stepper::with_slice(SLICE);
    for stream in 0x1000..0x1000 + MANY {
        let (instance, placement) = (rig.instance, Placement::default());
        let binding = Binding {
            instance,
            placement,
        };
        rig.frame.bind(StreamId(stream), binding).unwrap();
    }
    rig.serve();
    rig
}

fn all() -> RawCommand {
    encode(&Command::Cfgi(Cfgi::All))
}

fn told(rig: &Rig) -> Vec<u32> {
    let stream = |told| match told {
        Told::Configuration(stream, _) => stream.0,
        other => panic!("{other:?}"),
    };
    rig.outside.take().into_iter().map(stream).collect()
}

/// Serves until something has been told, and not all.
fn halfway(rig: &mut Rig, commands: &[RawCommand]) -> Vec<u32> {
    rig.put(commands);
    rig.ring.doorbell(rig.prod);
    let mut seen = Vec::new();
    for _ in 0..4 {
        assert!(rig.engine.take_ready().is_some(), "there is more to do");
        rig.stepper.serve(&rig.ring);
        let now = told(rig);
        assert!((1..=6).contains(&now.len()), "a slice: {}", now.len());
        seen.extend(now);
    }
    seen
}

#[test]
fn law8_a_cfgi_for_all_streams_takes_effect_in_portions() {
    let mut rig = crowded();
    let stall = encode(&Command::StallTerm { stream: STREAM });
    let seen = halfway(&mut rig, &[tlbi(1), all(), stall]);
    assert_eq!(rig.cons(), 1, "CONS stays at the command");
    assert_eq!(rig.backend.take().len(), 1, "what is before it is done");
    rig.serve();
    assert_eq!(rig.cons(), 3);
    assert_eq!(rig.ring.metrics().commands, 3);
    let mut rest = rig.outside.take();
    assert_eq!(rest.pop(), Some(Told::TerminateStalls(STREAM)), "in order");
    let rest = rest.into_iter().map(|told| match told {
        Told::Configuration(stream, Cfgi::All) => stream.0,
        other => panic!("{other:?}"),
    });
    let streams: Vec<_> = seen.into_iter().chain(rest).collect();
    let every = std::iter::once(STREAM.0).chain(0x1000..0x1000 + MANY);
    assert!(streams.into_iter().eq(every), "each once");
}

#[test]
fn law8_a_cfgi_for_a_range_looks_at_no_other_streams() {
    let mut rig = crowded();
    let range = |stream, range| encode(&Command::Cfgi(Cfgi::SteRange { stream, range }));
    rig.send(&[range(StreamId(0x1015), 3), range(StreamId(0x10), 0)]);
    let sixteen = (0x1010..0x1020).chain([STREAM.0]);
    assert!(told(&rig).into_iter().eq(sixteen));
}

#[test]
fn law8_a_stream_that_comes_or_goes_meanwhile_disturbs_nothing() {
    let mut rig = crowded();
    let mut seen = halfway(&mut rig, &[all()]);
    let next = StreamId(seen.last().unwrap() + 1);
    rig.frame.unbind(next).unwrap();
    rig.frame.unbind(StreamId(0x1000)).unwrap();
    rig.serve();
    seen.extend(told(&rig));
    let rest = (0x1000..0x1000 + MANY).filter(|stream| *stream != next.0);
    assert!(seen.into_iter().eq(std::iter::once(STREAM.0).chain(rest)));
    assert_eq!(rig.cons(), 1);
}

/// Nothing that was fetched survives a disable: the guest may have written something else.
#[test]
fn law6_law8_a_cfgi_under_way_is_forgotten_when_the_ring_is_disabled() {
    for moved in [false, true] {
        let mut rig = crowded();
        halfway(&mut rig, &[all()]);
        rig.ring.disable();
        if moved {
            let place = RingSettings {
                base: BASE,
                log2size: rig.log2size,
            };
            rig.ring.configure(place).unwrap();
        }
        rig.write(0, sync());
        rig.ring.enable();
        rig.ring.doorbell(1);
        rig.serve();
        assert_eq!((rig.cons(), rig.stopped()), (1, false));
        assert_eq!(told(&rig), [0; 0], "it is a SYNC now");
    }
}

/// As the guest finds it, a pause is nothing: what was under way is done in the end, from its
/// beginning if need be.
#[test]
fn law8_law10_a_cfgi_under_way_is_done_after_a_pause_or_a_restore() {
    for restored in [false, true] {
        let mut rig = crowded();
        halfway(&mut rig, &[all(), sync()]);
        rig.frame.pause();
        rig.serve();
        assert_eq!(told(&rig), [0; 0]);
        let state = rig.frame.save();
        assert_eq!(state.rings[0].cons, 0);
        if restored {
            rig.frame.restore(&state).unwrap();
        }
        rig.frame.resume();
        rig.serve();
        assert_eq!(rig.cons(), 2);
        let mut seen = told(&rig);
        seen.dedup();
        assert_eq!(seen.len(), MANY as usize + 1);
    }
}

struct Blocking;

impl dispatch::Backend for Blocking {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            may_block: true,
            ..BackendCapabilities::default()
        }
    }

    fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

/// A call that may block is made for all that is published, whatever it costs: it is waited for once.
#[test]
fn a_backend_that_may_block_gets_whole_windows() {
    for blocking in [false, true] {
        let mut rig = dear_rig();
        if blocking {
            rig.frame
                .add_instance(Arc::new(Blocking), Placement::default());
        }
        rig.put(&(0..200).map(|n| dear(3, n)).collect::<Vec<_>>());
        rig.ring.doorbell(rig.prod);
        let costs = rig.backend.costs();
        slice(&mut rig, &costs);
        assert_eq!(rig.cons() == 200, blocking, "{}", rig.cons());
    }
}

/// Where nothing is waited for, a longer window gains nothing; and not each of its commands looks at the
/// budget.
#[test]
fn law8_only_calls_that_block_are_made_for_windows_of_more_than_256() {
    for blocking in [false, true] {
        let mut rig = Rig::set(
            Settings::default(),
            all_features(),
            10,
            DoorbellMode::Trap,
            false,
        );
        if blocking {
            rig.frame
                .add_instance(Arc::new(Blocking), Placement::default());
        }
        rig.stepper = Stepper::with_slice(Duration::from_secs(1));
        rig.send(&(0..1008).map(tlbi).chain([sync()]).collect::<Vec<_>>());
        assert_eq!(rig.cons(), rig.prod);
        let sizes = rig.ring.metrics().window_sizes;
        // The SYNC is the one window more.
        let expected = if blocking { [0, 0, 1] } else { [4, 0, 0] };
        assert_eq!(sizes[8..], expected, "{sizes:?}");
    }
}
