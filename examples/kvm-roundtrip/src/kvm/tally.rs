//! What the passes over one case have come to.

use super::vmm::Ran;
use crate::data::{Case, Host, Row, Seen, Waiter};
use crate::latency::Recorder;
use std::ops::RangeInclusive;

/// Looks before Linux's waiter delays for the first time.
const LOOKS: u64 = 10;

/// One case.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) case: Case,
    /// Rounds of each vCPU in one pass.
    pub(crate) rounds: u32,
    recorder: Recorder,
    exit_beside: Recorder,
    ran: Ran,
    seen: Vec<Seen>,
    pass: Seen,
    host: Option<Host>,
    count: u64,
    ticks: u64,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new(case: Case, rounds: u32) -> Self {
        Self {
            case,
            rounds,
            recorder: Recorder::default(),
            exit_beside: Recorder::default(),
            ran: Ran::default(),
            seen: Vec::new(),
            pass: Seen::default(),
            host: None,
            count: 0,
            ticks: 0,
        }
    }

    /// A round that counts: what it took, and which look saw its SYNC, the first being 1; zero if
    /// there was none to be seen.
    pub(crate) fn note(&mut self, ticks: u64, look: u64) {
        if look == 0 && self.case.has_exit_beside() {
            self.exit_beside.record(ticks);
            return;
        }
        self.recorder.record(ticks);
        self.count += 1;
        self.ticks += ticks;
        self.pass.syncs += 1;
        self.pass.within_ten += u64::from(look <= LOOKS);
        self.pass.within_first_delay += u64::from(look <= LOOKS + 1);
    }

    /// What the VMM has counted in a pass.
    pub(crate) fn ran(&mut self, ran: Ran) {
        self.ran.exits += ran.exits;
        self.ran.rounds += ran.rounds;
    }

    /// What the consumer has counted in a pass.
    pub(crate) fn counted(&mut self, host: &Host, ran: Ran) {
        let host = Host {
            rounds: ran.rounds,
            ..*host
        };
        self.host.get_or_insert_default().add(&host);
    }

    pub(crate) fn end_pass(&mut self) {
        self.recorder.end_pass();
        self.exit_beside.end_pass();
        self.seen.push(std::mem::take(&mut self.pass));
    }

    /// How many rounds fit into so many microseconds, judging by those that have been.
    pub(crate) fn rounds_in(&self, us: f64, ticks_per_us: f64, most: RangeInclusive<u32>) -> u32 {
        let mean = self.ticks as f64 / ticks_per_us / self.count.max(1) as f64;
        let round = mean + f64::from(self.case.pause_us);
        // A store alone is a part of its round.
        ((us / round.max(0.1)) as u32).clamp(*most.start(), *most.end())
    }

    /// The row.
    pub(crate) fn row(&self, ticks_per_us: f64) -> Row {
        let waits = self.case.waiter == Waiter::Linux;
        let beside = self.case.has_exit_beside();
        let seen_by_pass = if waits { self.seen.clone() } else { Vec::new() };
        Row {
            case: self.case,
            rounds: self.count,
            latency: self.recorder.latency(ticks_per_us),
            exit_beside: beside.then(|| self.exit_beside.latency(ticks_per_us)),
            exits_per_round: self.ran.exits as f64 / self.ran.rounds.max(1) as f64,
            seen: waits.then(|| self.seen.iter().fold(Seen::default(), Seen::and)),
            seen_by_pass,
            host: self.host,
        }
    }
}
