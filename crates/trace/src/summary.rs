//! What streams look like, in figures.

use crate::stream::{Recording, RingStream};
use smmu_core::spec::command::opcode;

/// What one ring's stream, or all of them together, holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands, SYNCs too.
    pub commands: u64,
    /// Among them: SYNCs.
    pub syncs: u64,
    /// TLBI of all kinds.
    pub tlbis: u64,
    /// TLBI by address that cover a range (RIL).
    pub ranges: u64,
    /// ATC_INV.
    pub atc_invs: u64,
    /// CFGI of all kinds.
    pub cfgis: u64,
    /// PRODs.
    pub publications: u64,
    /// Commands that the recorder dropped.
    pub dropped: u64,
}

/// See the [module](self). Times are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Each ring by itself, in the header's order.
    pub rings: Vec<Counts>,
    /// All rings.
    pub all: Counts,
    /// From the first publication or fetch to the last completion or fetch.
    pub span: u64,
    /// SYNCs whose publication and completion are both known, from the one to the other, sorted.
    pub waits: Vec<u64>,
    /// For how long so many of those SYNCs were outstanding at the same time, on all rings
    /// together; the first is "none".
    pub outstanding: Vec<u64>,
    /// For how long so many rings had a SYNC outstanding at the same time.
    pub rings_waiting: Vec<u64>,
}

impl Counts {
    /// Of commands, in order.
    pub fn of(commands: impl IntoIterator<Item = smmu_core::spec::command::RawCommand>) -> Self {
        let mut counts = Self::default();
        for raw in commands {
            counts.commands += 1;
            match raw.opcode() {
                opcode::SYNC => counts.syncs += 1,
                opcode::ATC_INV => counts.atc_invs += 1,
                opcode::CFGI_STE..=opcode::CFGI_CD_ALL => counts.cfgis += 1,
                op @ FIRST_TLBI..=LAST_TLBI => {
                    counts.tlbis += 1;
                    let by_address = ADDRESSED.contains(&op);
                    // TG in DW1[11:10]: only a command for a range has one (4.4.1).
                    counts.ranges += u64::from(by_address && raw.dw1 >> 10 & 3 != 0);
                }
                _ => {}
            }
        }
        counts
    }

    fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.syncs += other.syncs;
        self.tlbis += other.tlbis;
        self.ranges += other.ranges;
        self.atc_invs += other.atc_invs;
        self.cfgis += other.cfgis;
        self.publications += other.publications;
        self.dropped += other.dropped;
    }

    /// Commands, SYNCs too, for each SYNC.
    #[must_use]
    pub fn per_sync(&self) -> Option<f64> {
        (self.syncs > 0).then(|| self.commands as f64 / self.syncs as f64)
    }

    /// Commands for each publication.
    #[must_use]
    pub fn per_publication(&self) -> Option<f64> {
        (self.publications > 0).then(|| self.commands as f64 / self.publications as f64)
    }
}

/// Opcodes of TLBI commands (4.4).
const FIRST_TLBI: u8 = 0x10;
const LAST_TLBI: u8 = 0x3F;
const ADDRESSED: [u8; 5] = [
    opcode::TLBI_NH_VA,
    opcode::TLBI_NH_VAA,
    opcode::TLBI_EL2_VA,
    opcode::TLBI_EL2_VAA,
    opcode::TLBI_S2_IPA,
];

impl Summary {
    /// Of a recording.
    #[must_use]
    pub fn of(recording: &Recording) -> Self {
        let mut summary = Self::default();
        // Beginnings and ends of waits: time, ring, whether it begins.
        let mut edges = Vec::new();
        let (mut first, mut last) = (u64::MAX, 0);
        for (number, ring) in recording.rings.iter().enumerate() {
            let mut counts = Counts::of(ring.commands.iter().copied());
            counts.publications = ring.publications.len() as u64;
            counts.dropped = ring.dropped.1;
            summary.all.add(&counts);
            summary.rings.push(counts);
            for (from, to) in waits(ring) {
                summary.waits.push(to - from);
                edges.push((from, number, true));
                edges.push((to, number, false));
            }
            let begins = ring
                .publications
                .first()
                .map(|publication| publication.time);
            let ends = ring.completions.last().map(|completion| completion.time);
            first = first.min(begins.or(ring.times.first().copied()).unwrap_or(first));
            last = last
                .max(ends.unwrap_or(0))
                .max(ring.times.last().copied().unwrap_or(0));
        }
        summary.span = last.saturating_sub(first);
        summary.waits.sort_unstable();
        // Ends first: of one SYNC behind the other at most one is outstanding.
        edges.sort_unstable_by_key(|(time, _, begins)| (*time, *begins));
        summary.sweep(&edges, recording.rings.len());
        summary
    }

    fn sweep(&mut self, edges: &[(u64, usize, bool)], rings: usize) {
        let mut of_ring = vec![0u64; rings];
        let (mut now, mut waiting, mut before) = (0usize, 0usize, None);
        for (time, ring, begins) in edges {
            let passed = time - before.unwrap_or(*time);
            add(&mut self.outstanding, now, passed);
            add(&mut self.rings_waiting, waiting, passed);
            before = Some(*time);
            let own = &mut of_ring[*ring];
            if *begins {
                waiting += usize::from(*own == 0);
                (now, *own) = (now + 1, *own + 1);
            } else {
                // A wait of no length ends before it begins, and counts for no time.
                now = now.saturating_sub(1);
                *own = own.saturating_sub(1);
                waiting = waiting.saturating_sub(usize::from(*own == 0));
            }
        }
    }

    /// A quantile of the waits, 0.0 to 1.0.
    #[must_use]
    pub fn wait(&self, quantile: f64) -> Option<u64> {
        let last = self.waits.len().checked_sub(1)?;
        let at = (last as f64 * quantile.clamp(0.0, 1.0)).round() as usize;
        self.waits.get(at).copied()
    }

    /// TLBI in each second of the recording.
    #[must_use]
    pub fn tlbis_per_second(&self) -> Option<f64> {
        (self.span > 0).then(|| self.all.tlbis as f64 * 1e9 / self.span as f64)
    }

    /// How many SYNCs were outstanding while at least one was, on average.
    #[must_use]
    pub fn mean_outstanding(&self) -> Option<f64> {
        let busy: u64 = self.outstanding.iter().skip(1).sum();
        let sum = (0u32..)
            .zip(&self.outstanding)
            .map(|(count, time)| f64::from(count) * *time as f64);
        (busy > 0).then(|| sum.sum::<f64>() / busy as f64)
    }
}

fn add(times: &mut Vec<u64>, at: usize, passed: u64) {
    if passed > 0 {
        times.resize(times.len().max(at + 1), 0);
        times[at] += passed;
    }
}

/// From when to when each SYNC was outstanding, where both is known and longer than nothing.
fn waits(ring: &RingStream) -> impl Iterator<Item = (u64, u64)> {
    let mut publications = ring
        .publications
        .iter()
        .filter_map(|publication| Some((publication.end?, publication.time)))
        .peekable();
    let from_to = move |completion: &crate::stream::Completion| {
        // The first publication that reaches behind the SYNC is the one that published it.
        while publications
            .next_if(|(end, _)| *end <= completion.at)
            .is_some()
        {}
        let (_, published) = publications.peek()?;
        (*published < completion.time).then_some((*published, completion.time))
    };
    ring.completions.iter().filter_map(from_to)
}
