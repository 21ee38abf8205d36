//! Translating beside another thread: one that translates too, or one that invalidates what is
//! somebody else's.

use super::chain;
use super::goals::{Goals, ns};
use super::hits::Pages;
use super::partner::{Partner, Wanted};
use super::world::{VMID, World, address, entry, one_page, only, translate};
use crate::ping_pong::Pins;
use crate::rounds::{Contender, medians};
use crate::table::percent_more;
use dispatch::backend::Backend;
use dispatch::{Batch, Scope};
use smmu_core::Asid;
use smmu_core::tlb::{Signature, Tlb, TlbSettings};
use std::cell::RefCell;
use std::hint::spin_loop;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A round is short beside the slices of a scheduler: most of them have their core to themselves.
const LOOKUPS: usize = 10_000;
const MORE_ROUNDS: usize = 5;
const HOT: u64 = 64;
/// A million a second.
const EVERY: Duration = Duration::from_micros(1);
/// Nobody translates with it.
const OTHER: Asid = Asid(0xFFF0);

/// Two threads with a port each into the same address space, beside one.
pub fn scaling(pins: Pins, rounds: usize, goals: &mut Goals) {
    let world = World::default();
    let pages = Pages::new(HOT);
    let asid = pages.asid;
    let (mut mine, mut theirs) = (world.port(asid), world.port(asid));
    pages.cache(&world, &mut mine);
    let partner = Partner::new(pins, move |_, wanted| {
        let (start, mut pieces) = (Instant::now(), 0);
        while wanted.go_on() {
            chain::independent(100, HOT, |page| translate(&mut theirs, page));
            pieces += 100;
        }
        per_second(pieces, start)
    });
    let mine = RefCell::new(mine);
    let run = || {
        let mut port = mine.borrow_mut();
        chain::independent(LOOKUPS, HOT, |page| translate(&mut port, page))
    };
    let mut contenders = [
        Contender::new("one", run),
        Contender::new("two", || {
            let (took, theirs) = partner.beside(0, run);
            let both = LOOKUPS as f64 / took.as_secs_f64() + theirs as f64;
            Duration::from_secs_f64(LOOKUPS as f64 / both)
        }),
    ];
    let times = medians(&mut contenders, MORE_ROUNDS * rounds, LOOKUPS);
    let factor = times[0] / times[1];
    goals.row(
        "two threads translate, of one",
        format!("{factor:.2}x"),
        format!("one thread: {} each", ns(times[0])),
        "1.9x",
        Some(factor >= 1.9),
    );
}

fn per_second(count: u64, since: Instant) -> u64 {
    (count as f64 / since.elapsed().as_secs_f64()) as u64
}

/// Invalidates what nobody uses once a microsecond; returns how many it were a second.
fn invalidate(mut once: impl FnMut(u64), wanted: Wanted<'_>) -> u64 {
    let (start, mut count) = (Instant::now(), 0);
    let mut next = start;
    while wanted.go_on() {
        once(count);
        count += 1;
        next += EVERY;
        while Instant::now() < next && wanted.go_on() {
            spin_loop();
        }
    }
    per_second(count, start)
}

fn scope(work: u64, number: u64) -> Scope {
    match work {
        0 => Scope::Context(OTHER),
        _ => one_page(OTHER, number % HOT),
    }
}

/// A reader of one ASID while another one of the same VMID is invalidated.
pub fn beside_invalidations(pins: Pins, rounds: usize, goals: &mut Goals) {
    through_a_port(pins, rounds, goals);
    in_an_open_guard(pins, rounds, goals);
}

/// The whole way of both: the reader opens a guard for each translation, the other one submits
/// batches and looks at the guards.
fn through_a_port(pins: Pins, rounds: usize, goals: &mut Goals) {
    let world = World::default();
    let pages = Pages::new(HOT);
    let mut port = world.port(pages.asid);
    pages.cache(&world, &mut port);
    let (software, mut batch) = (world.software.clone(), Batch::new());
    let partner = Partner::new(pins, move |work, wanted| {
        let submit = |number| {
            only(&mut batch, scope(work, number));
            software.submit(&batch).expect("it takes everything");
        };
        invalidate(submit, wanted)
    });
    beside(&partner, "Port::translate", rounds, goals, || {
        chain::independent(LOOKUPS, HOT, |page| translate(&mut port, page))
    });
}

/// The cache alone: the reader's guard stays open, so it writes nothing.
fn in_an_open_guard(pins: Pins, rounds: usize, goals: &mut Goals) {
    let (tlb, asid) = (Arc::new(Tlb::new(TlbSettings::default())), Asid(1));
    for page in 0..HOT {
        let entry = entry(asid, page, [page, 0]);
        assert!(tlb.fill(&entry, &tlb.ticket(VMID, asid)), "it is cached");
    }
    let swept = tlb.clone();
    let partner = Partner::new(pins, move |work, wanted| {
        let sweep = |number| match scope(work, number) {
            Scope::Addresses { range, .. } => {
                let mut signature = Signature::default();
                signature.add(Some(OTHER));
                let sweep = swept.sweep(signature);
                sweep.addresses(VMID, Some(OTHER), &range);
            }
            _ => swept.sweep(Signature::default()).asid(VMID, OTHER),
        };
        invalidate(sweep, wanted)
    });
    beside(&partner, "cache hit", rounds, goals, || {
        chain::independent(LOOKUPS, HOT, |page| {
            let hit = tlb.lookup(VMID, asid, address(page));
            hit.expect("it is cached").payload[0]
        })
    });
}

fn beside(
    partner: &Partner,
    reader: &str,
    rounds: usize,
    goals: &mut Goals,
    run: impl FnMut() -> Duration,
) {
    let run = RefCell::new(run);
    let rates = [RefCell::new(Vec::new()), RefCell::new(Vec::new())];
    let with = |work: u64| {
        let (took, rate) = partner.beside(work, || (run.borrow_mut())());
        rates[work as usize].borrow_mut().push(rate);
        took
    };
    let mut contenders = [
        Contender::new("alone", || (run.borrow_mut())()),
        Contender::new("beside ASIDs", || with(0)),
        Contender::new("beside pages", || with(1)),
    ];
    let times = medians(&mut contenders, MORE_ROUNDS * rounds, LOOKUPS);
    drop(contenders);
    let rate = |mut rates: Vec<u64>| {
        rates.sort_unstable();
        rates[rates.len() / 2] as f64 / 1e6
    };
    for (work, what) in ["ASID", "page of an ASID"].into_iter().enumerate() {
        let slower = 100.0 * (times[work + 1] / times[0] - 1.0);
        goals.row(
            &format!("{reader} beside invalidations of another {what}"),
            percent_more(slower),
            format!(
                "alone {}; {:.2} M/s",
                ns(times[0]),
                rate(rates[work].take())
            ),
            "< 10 %",
            Some(slower < 10.0),
        );
    }
}
