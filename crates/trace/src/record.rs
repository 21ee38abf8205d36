//! Records, and how they are written.

use crate::checksum::Checksum;
use crate::varint;
use smmu_core::spec::command::RawCommand;
use std::fmt;

/// No record has a longer payload. A window of the engine takes some 4 KiB.
pub const MOST_PAYLOAD: usize = 1 << 16;

/// Of the checksum in the last record.
pub(crate) const CHECKSUM_BYTES: usize = size_of::<u32>();

/// Kinds of records; others are skipped.
pub(crate) mod kind {
    pub(crate) const PUBLISHED: u8 = 1;
    pub(crate) const FETCHED: u8 = 2;
    pub(crate) const COMPLETED: u8 = 3;
    pub(crate) const CONSUMED: u8 = 4;
    pub(crate) const GAP: u8 = 5;
    pub(crate) const LAYOUT: u8 = 6;
    pub(crate) const END: u8 = 7;
}

/// Commands, 16 bytes each, as they lay in the ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Commands<'a>(&'a [u8]);

impl<'a> Commands<'a> {
    /// Whole commands; `None` if the last one is not.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() % RawCommand::BYTES as usize == 0).then_some(Self(bytes))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / RawCommand::BYTES as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RawCommand> + 'a {
        self.0
            .chunks_exact(RawCommand::BYTES as usize)
            .map(|bytes| RawCommand::from_le_bytes(std::array::from_fn(|at| bytes[at])))
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Commands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What happened to a ring. Pointers have index and wrap bit, as the registers show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The guest has published PROD: the trapped write itself, or a worker's first sight of the
    /// shared page.
    Published {
        /// As the guest wrote it.
        prod: u32,
    },
    /// A worker has fetched commands, the first one from CONS.
    Fetched {
        /// Where the first one lies.
        first: u32,
        /// As they were when they were fetched.
        commands: Commands<'a>,
    },
    /// A SYNC is complete.
    Completed {
        /// Where it lies.
        index: u32,
    },
    /// The engine has published CONS at the end of a window.
    Consumed {
        /// RD in bits 19:0, ERR in bits 30:24.
        cons: u32,
    },
    /// The recorder could not keep up: so much is missing before the next record of this ring.
    Gap {
        /// Events that are missing. One that tells of many commands counts once for each three.
        events: u64,
        /// Fetched commands among them.
        commands: u64,
    },
    /// Where the ring lies and how large it is; before the first fetch, and when that changes.
    Layout {
        /// Guest-physical address of the first entry.
        base: u64,
        /// log2 of the number of entries.
        log2size: u8,
    },
}

/// What a whole recording holds; its last record, which a checksum follows. A file without it was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records before this one.
    pub records: u64,
    /// Fetched commands in them.
    pub commands: u64,
    /// Events that were dropped because a queue to the writer was full.
    pub dropped_events: u64,
    /// Fetched commands among those.
    pub dropped_commands: u64,
    /// Events that were left out because the file had reached its limit.
    pub left_out: u64,
}

/// One record, as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins, in bytes from the beginning of the file.
    pub offset: usize,
    /// What it says.
    pub body: Body<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Something about a ring.
    Ring {
        /// By its place in the header.
        ring: u16,
        /// Nanoseconds since the recording began.
        time: u64,
        /// What it is.
        event: Event<'a>,
    },
    /// The end. Nothing is behind it.
    End {
        /// What is before it.
        totals: Totals,
        /// Whether a checksum is there: older recordings have none. One that does not fit is an error of
        /// its own, behind this record.
        has_checksum: bool,
    },
    /// A kind that this reader does not know.
    Unknown {
        /// Its number.
        kind: u8,
        /// The length of its payload.
        bytes: usize,
    },
}

/// Writes records one behind the other: times are written as differences.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    /// Of the last record.
    pub(crate) time: u64,
    payload: Vec<u8>,
}

impl Encoder {
    /// Appends a record. Commands that would make it longer than [`MOST_PAYLOAD`] are the caller's
    /// to split; no window of the engine is that long.
    pub fn event(&mut self, out: &mut Vec<u8>, ring: u16, time: u64, event: &Event<'_>) {
        self.payload.clear();
        let payload = &mut self.payload;
        varint::put(payload, u64::from(ring));
        varint::put_signed(payload, time.wrapping_sub(self.time) as i64);
        self.time = time;
        let kind = match *event {
            Event::Published { prod } => {
                varint::put(payload, u64::from(prod));
                kind::PUBLISHED
            }
            Event::Fetched { first, commands } => {
                varint::put(payload, u64::from(first));
                payload.extend_from_slice(commands.bytes());
                kind::FETCHED
            }
            Event::Completed { index } => {
                varint::put(payload, u64::from(index));
                kind::COMPLETED
            }
            Event::Consumed { cons } => {
                varint::put(payload, u64::from(cons));
                kind::CONSUMED
            }
            Event::Gap { events, commands } => {
                varint::put(payload, events);
                varint::put(payload, commands);
                kind::GAP
            }
            Event::Layout { base, log2size } => {
                varint::put(payload, base);
                varint::put(payload, u64::from(log2size));
                kind::LAYOUT
            }
        };
        self.append(out, kind);
    }

    /// Appends the last record, with a checksum of the whole file: of `before`, which is everything in front of
    /// this record, and of this record itself.
    pub fn end(&mut self, out: &mut Vec<u8>, totals: &Totals, mut before: Checksum) {
        self.payload.clear();
        for total in [
            totals.records,
            totals.commands,
            totals.dropped_events,
            totals.dropped_commands,
            totals.left_out,
        ] {
            varint::put(&mut self.payload, total);
        }
        let begin = out.len();
        self.payload.extend([0; CHECKSUM_BYTES]);
        self.append(out, kind::END);
        let at = out.len() - CHECKSUM_BYTES;
        before.add(&out[begin..at]);
        out[at..].copy_from_slice(&before.value().to_le_bytes());
    }

    fn append(&self, out: &mut Vec<u8>, kind: u8) {
        out.push(kind);
        varint::put(out, self.payload.len() as u64);
        out.extend_from_slice(&self.payload);
    }
}
