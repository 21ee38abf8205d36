//! Rings with random commands, served together and each alone: nobody can tell which.

mod common;
#[expect(dead_code, reason = "the other test file uses all of it")]
mod shared_world;

use common::*;
use dispatch::backend::{DeviceCache, DeviceTimeout};
use proptest::prelude::*;
use shared_world::*;
use smmu_core::command::{Cfgi, Command, ResumeAction, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa, Stag, StreamId, SubstreamId, Vmid};
use std::sync::Arc;
use std::time::Duration;
use vcmdq::testing::commands::{sync, sync_to};
use vcmdq::{Binding, Placement};

const RINGS: usize = 4;
const PAGES: u64 = 64;
const SILENT: u32 = 0x11;

/// A device that never answers.
struct Silent;

impl DeviceCache for Silent {
    fn invalidate(
        &self,
        _pasid: Option<SubstreamId>,
        _global: bool,
        _addr: u64,
        _size: u8,
    ) -> Result<(), DeviceTimeout> {
        Err(DeviceTimeout)
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Page(u64),
    Asid,
    Sync,
    Word,
    Message,
    Answering,
    Silent,
    Configure,
    Resume,
    Illegal,
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize, Vec<What>),
    Serve,
    Acknowledge,
}

fn any_what() -> impl Strategy<Value = What> {
    prop_oneof![
        20 => (0..PAGES).prop_map(What::Page),
        1 => Just(What::Asid),
        6 => Just(What::Sync),
        4 => Just(What::Word),
        2 => Just(What::Message),
        2 => Just(What::Answering),
        1 => Just(What::Silent),
        1 => Just(What::Configure),
        1 => Just(What::Resume),
        1 => Just(What::Illegal),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..RINGS, proptest::collection::vec(any_what(), 1..12))
            .prop_map(|(ring, what)| Step::Send(ring, what)),
        3 => Just(Step::Serve),
        1 => Just(Step::Acknowledge),
    ]
}

fn world() -> Shared {
    let mut shared = Shared::of(RINGS, 10);
    shared.slice(Duration::from_secs(1));
    (0..PAGES).for_each(|page| shared.cache(page));
    let placement = Placement::default();
    let instance = shared.rig.instance;
    let binding = Binding {
        instance,
        placement,
    };
    let silent = StreamId(SILENT);
    shared.rig.frame.bind(silent, binding).unwrap();
    let software = shared.rig.software();
    software.attach_device(silent, Arc::new(Silent));
    shared
}

/// `number` is unique, so that every message tells which SYNC it is of.
fn command(what: What, ring: usize, number: u32) -> RawCommand {
    match what {
        What::Page(page) => tlbi(page),
        What::Asid => encode(&Command::Tlbi(Tlbi::NhAsid {
            vmid: Vmid(0),
            asid: Asid(1),
        })),
        What::Sync => sync(),
        What::Word => sync_to(Gpa(0x100 + 4 * ring as u64), number),
        What::Message => sync_to(Gpa(0x800_0000), number),
        What::Answering => atc_inv(),
        What::Silent => atc_inv_of(SILENT),
        What::Configure => encode(&Command::Cfgi(Cfgi::All)),
        What::Resume => encode(&Command::Resume {
            stream: STREAM,
            stag: Stag(number as u16),
            action: ResumeAction::Retry,
        }),
        What::Illegal => illegal(),
    }
}

impl Shared {
    /// As Linux does: an illegal command is overwritten by a SYNC, and every error acknowledged.
    fn acknowledge(&mut self) {
        for ring in 0..RINGS {
            if self.error(ring) == 1 {
                self.overwrite(ring, self.cons(ring), sync());
            }
            let ring = &self.rings[ring];
            ring.acknowledge(ring.gerror());
        }
    }

    /// What a guest can tell: CONS and errors, words, and what was told, sorted, as rings have no
    /// order among each other.
    fn seen(&self, told: &[Told]) -> (Vec<u32>, Vec<u32>, Vec<String>) {
        let cons = self.rings.iter().map(|ring| ring.cons()).collect();
        let word = |ring| word(&*self.rig.memory, Gpa(0x100 + 4 * ring as u64));
        let mut told: Vec<String> = told.iter().map(|told| format!("{told:?}")).collect();
        told.sort();
        (cons, (0..RINGS).map(word).collect(), told)
    }
}

fn messages(told: &[Told], ring_of: &[usize], ring: usize) -> Vec<u32> {
    let message = |told: &Told| match told {
        Told::Message(msi) => Some(msi.data),
        _ => None,
    };
    let all = told.iter().filter_map(message);
    all.filter(|data| ring_of[*data as usize] == ring).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn law4_rings_that_share_calls_look_as_if_each_were_alone(
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        let (mut together, mut alone) = (world(), world());
        let (mut told, mut told_alone) = (Vec::new(), Vec::new());
        let mut ring_of = Vec::new();
        let ends = [Step::Serve, Step::Acknowledge, Step::Serve];
        for step in steps.iter().chain(&ends) {
            match step {
                Step::Send(ring, what) => {
                    let first = ring_of.len() as u32;
                    ring_of.extend(what.iter().map(|_| *ring));
                    let numbered = what.iter().zip(first..);
                    let commands: Vec<_> = numbered.map(|(w, n)| command(*w, *ring, n)).collect();
                    together.send(*ring, &commands);
                    alone.send(*ring, &commands);
                    continue;
                }
                Step::Serve => {}
                Step::Acknowledge => {
                    together.acknowledge();
                    alone.acknowledge();
                }
            }
            together.serve();
            prop_assert_eq!(together.rig.engine.take_ready(), None, "all is done");
            alone.serve_all();
            told.extend(together.rig.outside.take());
            told_alone.extend(alone.rig.outside.take());
            prop_assert_eq!(together.seen(&told), alone.seen(&told_alone));
            for ring in 0..RINGS {
                let [one, other] = [&told, &told_alone].map(|told| messages(told, &ring_of, ring));
                prop_assert_eq!(one, other, "in ring order");
            }
            for page in 0..PAGES {
                let left = together.cached(page);
                prop_assert!(alone.cached(page) || !left, "{} is left", page);
            }
        }
        let [one, other] = [together.metrics(), alone.metrics()];
        prop_assert!(one.calls <= other.calls);
        prop_assert_eq!(one.syncs, other.syncs);
        prop_assert_eq!(one.commands, other.commands);
    }
}
