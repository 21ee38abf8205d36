//! Which cached configuration is still true: generations, as in the translation cache.
//!
//! Whoever keeps what it read of an STE or a CD keeps the stamp with it that it took *before*
//! reading. The stamp is a sum of counters that only grow; it is the same exactly if no CFGI
//! command has concerned that STE or CD since. So a cache is as many copies as there are users,
//! each private, and invalidating is one addition, whoever holds one.

use crate::command::Cfgi;
use crate::ids::{StreamId, SubstreamId};
use alloc::boxed::Box;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Counters of each kind; streams that fall together are invalidated together.
#[cfg(not(loom))]
const SLOTS: usize = 1024;
#[cfg(loom)]
const SLOTS: usize = 2;

/// The counters of one instance.
#[derive(Debug)]
pub struct ConfigGenerations {
    all: AtomicU64,
    stes: Box<[AtomicU64; SLOTS]>,
    tables: Box<[AtomicU64; SLOTS]>,
    contexts: Box<[AtomicU64; SLOTS]>,
}

impl Default for ConfigGenerations {
    fn default() -> Self {
        let zeros = || Box::new(core::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            all: AtomicU64::new(0),
            stes: zeros(),
            tables: zeros(),
            contexts: zeros(),
        }
    }
}

#[inline(always)]
fn slot(stream: StreamId, substream: SubstreamId) -> usize {
    let mixed = stream.0 ^ substream.0.rotate_left(16);
    mixed.wrapping_mul(0x9E37_79B9) as usize >> 16 & (SLOTS - 1)
}

impl ConfigGenerations {
    /// The stamp of a stream's STE. Acquire pairs with [`invalidate`](Self::invalidate): who takes
    /// the new stamp reads what the guest wrote before its CFGI.
    #[must_use]
    #[inline]
    pub fn ste(&self, stream: StreamId) -> u64 {
        self.all.load(Ordering::Acquire)
            + self.stes[slot(stream, SubstreamId(0))].load(Ordering::Acquire)
    }

    /// The stamp of a CD of a stream, and of the STE that leads to it.
    #[must_use]
    #[inline]
    pub fn context(&self, stream: StreamId, substream: SubstreamId) -> u64 {
        self.ste(stream)
            + self.tables[slot(stream, SubstreamId(0))].load(Ordering::Acquire)
            + self.contexts[slot(stream, substream)].load(Ordering::Acquire)
    }

    /// A CFGI command: what it names is not true any more (IHI 0070, 4.3).
    pub fn invalidate(&self, change: &Cfgi) {
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Release);
        };
        match *change {
            Cfgi::Ste { stream, .. } => add(&self.stes[slot(stream, SubstreamId(0))]),
            Cfgi::Cd {
                stream, substream, ..
            } => add(&self.contexts[slot(stream, substream)]),
            Cfgi::CdAll { stream } => add(&self.tables[slot(stream, SubstreamId(0))]),
            // Streams of a short range have a counter each; a long one is everything.
            Cfgi::SteRange { stream, range } if range < 5 => {
                let count = 2u32 << range;
                let first = stream.0 & !(count - 1);
                for n in 0..count {
                    add(&self.stes[slot(StreamId(first + n), SubstreamId(0))]);
                }
            }
            Cfgi::SteRange { .. } | Cfgi::All => add(&self.all),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const A: StreamId = StreamId(8);
    const B: StreamId = StreamId(9);
    const ONE: SubstreamId = SubstreamId(1);
    const TWO: SubstreamId = SubstreamId(2);

    /// Which of (STE A, CD A.1, CD A.2, STE B, CD B.1) a command invalidates.
    fn gone(change: Cfgi) -> [bool; 5] {
        let counters = ConfigGenerations::default();
        let look = || {
            let of = |stream, substream| counters.context(stream, substream);
            [
                counters.ste(A),
                of(A, ONE),
                of(A, TWO),
                counters.ste(B),
                of(B, ONE),
            ]
        };
        let before = look();
        counters.invalidate(&change);
        let after = look();
        core::array::from_fn(|n| before[n] != after[n])
    }

    #[test]
    fn each_command_invalidates_exactly_what_it_names() {
        let ste = Cfgi::Ste {
            stream: A,
            leaf: true,
        };
        assert_eq!(
            gone(ste),
            [true, true, true, false, false],
            "an STE takes its CDs along"
        );
        let cd = Cfgi::Cd {
            stream: A,
            substream: ONE,
            leaf: true,
        };
        assert_eq!(gone(cd), [false, true, false, false, false]);
        assert_eq!(
            gone(Cfgi::CdAll { stream: A }),
            [false, true, true, false, false]
        );
        assert_eq!(gone(Cfgi::All), [true; 5]);
        assert_eq!(
            gone(Cfgi::SteRange {
                stream: A,
                range: 0
            }),
            [true; 5],
            "8 and 9"
        );
        assert_eq!(
            gone(Cfgi::SteRange {
                stream: StreamId(6),
                range: 0
            }),
            [false; 5]
        );
        assert_eq!(
            gone(Cfgi::SteRange {
                stream: StreamId(6),
                range: 30
            }),
            [true; 5]
        );
    }
}
