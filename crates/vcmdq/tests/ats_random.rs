//! A device's translation cache under random fills and invalidations against one that does exactly what it
//! is told (law 7), and devices with caches on a real engine whose guest changes a mapping all the
//! time (law 3).

mod dma_world;

use dispatch::backend::Software;
use dispatch::{Backend, Batch, Invalidation, Scope, Stage};
use dma_world::*;
use proptest::prelude::*;
use smmu_core::ats::AtsTranslation;
use smmu_core::command::{AtcInv, Command};
use smmu_core::encode::encode;
use smmu_core::{StreamId, SubstreamId, Vmid};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use vcmdq::dma::ats::{Atc, AtsDevice, AtsError};
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, Settings, StdThreads};

#[derive(Clone, Copy, Debug)]
enum Step {
    Fill(Option<u32>, u64, u32),
    Invalidate(Option<u32>, bool, u64, u8),
    /// A fill whose translation was asked for before the last invalidation.
    Late(Option<u32>, u64),
}

fn any_pasid() -> impl Strategy<Value = Option<u32>> {
    proptest::option::of(0u32..3)
}

/// Pages of two blocks of 2 MiB, and the last ones of all.
fn any_address() -> impl Strategy<Value = u64> {
    let near = (0u64..2, 0u64..6).prop_map(|(block, page)| block << 21 | page << 12);
    prop_oneof![9 => near, 1 => Just(!0xFFFu64)]
}

fn any_step() -> impl Strategy<Value = Step> {
    let shift = prop_oneof![4 => Just(12), 1 => Just(16), 1 => Just(21)];
    let size = prop_oneof![8 => 0u8..12, 1 => Just(51), 1 => Just(52)];
    prop_oneof![
        5 => (any_pasid(), any_address(), shift).prop_map(|(p, a, s)| Step::Fill(p, a, s)),
        2 => (any_pasid(), any::<bool>(), any_address(), size)
            .prop_map(|(p, g, a, s)| Step::Invalidate(p, g, a, s)),
        1 => (any_pasid(), any_address()).prop_map(|(p, a)| Step::Late(p, a)),
    ]
}

fn translation(address: u64, shift: u32, to: u64) -> AtsTranslation {
    let within = (1u64 << shift) - 1;
    AtsTranslation {
        from: address & !within,
        to: to << 24,
        shift,
        read: true,
        ..AtsTranslation::NOTHING
    }
}

/// What may be found: each with its PASID.
#[derive(Default)]
struct Exact(Vec<(Option<u32>, AtsTranslation)>);

impl Exact {
    fn invalidate(&mut self, pasid: Option<u32>, global: bool, (first, last): (u64, u64)) {
        self.0.retain(|(own, kept)| {
            let whose = pasid.is_none() || global || *own == pasid;
            !(whose && kept.from <= last && first <= kept.last())
        });
    }

    fn allows(&self, pasid: Option<u32>, found: &AtsTranslation) -> bool {
        self.0.contains(&(pasid, *found))
    }
}

fn invalidate(core: &Software, pasid: Option<u32>, global: bool, addr: u64, size: u8) {
    let mut batch = Batch::new();
    let scope = Scope::DeviceTlb {
        stream: StreamId(1),
        pasid: pasid.map(SubstreamId),
        global,
        addr,
        size,
    };
    let (vmid, stage) = (Vmid(0), Stage::One);
    batch.push(Invalidation { vmid, stage, scope }, 0);
    core.submit(&batch).unwrap();
}

fn span(addr: u64, size: u8) -> (u64, u64) {
    let inv = AtcInv {
        stream: StreamId(1),
        substream: None,
        global: false,
        addr,
        size,
    };
    (addr, inv.last())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn law7_a_devices_cache_never_has_what_was_invalidated(
        entries in 1usize..20,
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let core = Arc::new(Software::with_settings(small()));
        let mut atc = Atc::new(entries);
        core.attach_atc(StreamId(1), atc.target());
        let mut exact = Exact::default();
        let mut hits = 0;
        for (to, step) in (1u64..).zip(&steps) {
            match *step {
                Step::Fill(pasid, address, shift) => {
                    let found = translation(address, shift, to);
                    let ticket = atc.ticket();
                    prop_assert!(atc.fill(ticket, pasid.map(SubstreamId), address, &found));
                    exact.0.push((pasid, found));
                    let again = atc.lookup(pasid.map(SubstreamId), false, address);
                    prop_assert!(again.is_some(), "what was filled last is found");
                }
                Step::Invalidate(pasid, global, addr, size) => {
                    let aligned = addr & !(4096u64.checked_shl(size.into()).unwrap_or(0).wrapping_sub(1));
                    let addr = if size == 52 { 0 } else { aligned };
                    invalidate(&core, pasid, global, addr, size);
                    exact.invalidate(pasid, global, span(addr, size));
                }
                Step::Late(pasid, address) => {
                    let ticket = atc.ticket();
                    invalidate(&core, None, false, 1 << 40, 0);
                    let found = translation(address, 12, to);
                    prop_assert!(!atc.fill(ticket, pasid.map(SubstreamId), address, &found));
                }
            }
            for pasid in [None, Some(0), Some(1), Some(2)] {
                for page in (0..12).map(|n| (n / 6) << 21 | (n % 6) << 12).chain([!0xFFF]) {
                    let Some(hit) = atc.lookup(pasid.map(SubstreamId), false, page) else {
                        continue;
                    };
                    hits += 1;
                    prop_assert!(exact.allows(pasid, &hit.translation), "{pasid:?} {page:#x}");
                    prop_assert!(atc.keeps(&hit));
                }
            }
        }
        prop_assert_eq!(core.atc_metrics(StreamId(1)).missing, 0);
        let fills = steps.iter().any(|step| matches!(step, Step::Fill(..)));
        prop_assert!(!fills || hits > 0);
    }
}

const VA: u64 = 0x40_0000;
const DATA: u64 = 0x40_0000;
const PAGES: u64 = 16;
const ROUNDS: u64 = 200;
const EATS: u64 = 1 << 28;
/// What a page holds that the guest has taken back.
const POISON: u64 = 0xDEAD_DEAD_DEAD_DEAD;

fn fill(world: &World, at: u64, value: u64) {
    for word in (at..at + 0x1000).step_by(8) {
        world.guest.set(word, value);
    }
}

fn use_mapping(device: &mut AtsDevice, writes: bool, stop: &AtomicU64, used: &AtomicU64) {
    let mut bytes = [0; 0x1000];
    while stop.load(Ordering::Relaxed) == 0 {
        let accessed = if writes {
            device.write(VA + 0x100, &[0x11; 0x200])
        } else {
            device.read(VA, &mut bytes)
        };
        match accessed {
            Ok(()) => {
                let stale = |word: &[u8]| word == POISON.to_le_bytes();
                assert!(!bytes.chunks_exact(8).any(stale), "read behind its SYNC");
                used.fetch_add(1, Ordering::Relaxed);
            }
            Err(failed) => assert!(matches!(failed.cause, AtsError::NoRight(_)), "{failed}"),
        }
    }
}

fn wait(world: &World) {
    let begun = Instant::now();
    while !world.done() {
        assert!(begun.elapsed() < SOON, "CONS {:#x}", world.ring.cons());
        std::thread::yield_now();
    }
}

/// One mapping comes and goes: TLBI, SYNC, ATC_INV, SYNC, every other time all in one go. Its page is
/// poisoned when the last SYNC is complete.
fn round(world: &mut World, descriptor: u64, round: u64, used: &AtomicU64) {
    let at = DATA + (round % PAGES) * 0x1000;
    for word in (at..at + 0x1000).step_by(8) {
        let found = world.guest.get(word);
        assert_eq!(found, POISON, "written behind its SYNC, {round}");
    }
    fill(world, at, round);
    world.guest.set(descriptor, at | PAGE);
    let (before, begun) = (used.load(Ordering::Relaxed), Instant::now());
    while used.load(Ordering::Relaxed) < before + 2 {
        assert!(begun.elapsed() < SOON, "no access succeeds");
        std::thread::yield_now();
    }
    world.guest.set(descriptor, 0);
    let atc_inv = encode(&Command::AtcInv(AtcInv {
        stream: StreamId(1),
        substream: None,
        global: false,
        addr: VA,
        size: 0,
    }));
    if round % 2 == 0 {
        world.publish(&[tlbi(1, VA), sync()]);
        wait(world);
        world.publish(&[atc_inv, sync()]);
    } else {
        world.publish(&[tlbi(1, VA), sync(), atc_inv, sync()]);
    }
    wait(world);
    fill(world, at, POISON);
}

#[test]
fn law3_no_device_uses_what_it_kept_after_the_sync_behind_the_atc_inv() {
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let mut caps = smmu_core::Capabilities::default();
    caps.idr0.set_ats(true);
    let mut world = World::with(engine, caps, small());
    let space = world.guest.space(1);
    let cd = world.guest.attach(1, &space);
    world.guest.ste(1, [0xB | cd, EATS]);
    let descriptor = world.guest.descriptor(&space, VA, 3);
    for page in 0..PAGES {
        fill(&world, DATA + page * 0x1000, POISON);
    }
    let (stop, used) = (AtomicU64::new(0), AtomicU64::new(0));
    let device = |_| AtsDevice::new(&world.core, requester(1), world.seams(), 8).unwrap();
    let devices: Vec<_> = (0..2).map(device).collect();
    std::thread::scope(|scope| {
        for (kind, mut device) in devices.into_iter().enumerate() {
            let (stop, used) = (&stop, &used);
            scope.spawn(move || use_mapping(&mut device, kind == 1, stop, used));
        }
        let guest = std::panic::AssertUnwindSafe(|| {
            (0..ROUNDS).for_each(|n| round(&mut world, descriptor, n, &used));
        });
        let result = std::panic::catch_unwind(guest);
        stop.store(1, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    world.engine.stop();
}
