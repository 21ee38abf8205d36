//! Each ring's commands in the order in which they took effect.
//!
//! Every fetch begins at CONS. What a fetch brings replaces what earlier fetches brought from
//! there on and nobody consumed: the entries behind a SYNC that waited, or a command that stopped
//! the ring and was rewritten by the guest (law 6: it is read again).

use crate::error::TraceError;
use crate::header::{Header, RingKind};
use crate::reader::Reader;
use crate::record::{Body, Commands, Event, Totals};
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE, QueueIndex};
use smmu_core::spec::command::RawCommand;

/// PROD, as the guest published it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Nanoseconds since the recording began.
    pub time: u64,
    /// As written.
    pub prod: u32,
    /// How many commands of the stream are published by it. `None` if PROD lay beyond the ring, or
    /// nothing was fetched after it.
    pub end: Option<usize>,
}

/// A SYNC that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Nanoseconds since the recording began.
    pub time: u64,
    /// Its place in the stream.
    pub at: usize,
}

/// The stream of one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingStream {
    /// Which queue it is.
    pub kind: RingKind,
    /// log2 of its number of entries, as last seen.
    pub log2size: u8,
    /// Its commands, each once.
    pub commands: Vec<RawCommand>,
    /// When each was fetched, in nanoseconds since the recording began.
    pub times: Vec<u64>,
    /// PRODs, in order.
    pub publications: Vec<Publication>,
    /// SYNCs, in order.
    pub completions: Vec<Completion>,
    /// Commands that were fetched more than once.
    pub refetched: u64,
    /// Events and commands that the recorder dropped.
    pub dropped: (u64, u64),
}

/// Whether a file holds what its recorder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Its checksum fits.
    Whole,
    /// Its checksum does not fit.
    Changed,
    /// It has none: an older recorder wrote it, or it was cut off.
    Unknown,
}

/// A whole recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Whose rings they are.
    pub header: Header,
    /// In the header's order.
    pub rings: Vec<RingStream>,
    /// `None` if the recording was cut off.
    pub totals: Option<Totals>,
    /// What its checksum says.
    pub integrity: Integrity,
    /// Records of kinds that this reader does not know.
    pub unknown: u64,
    /// What is damaged; the first few of it.
    pub errors: Vec<TraceError>,
    /// How much is damaged.
    pub damaged: u64,
}

/// Errors that are kept.
const MOST_ERRORS: usize = 16;

impl Recording {
    /// Reads everything that can be read. Fails only where the header is unusable; what else is
    /// damaged stands in [`errors`](Self::errors).
    pub fn read(bytes: &[u8]) -> Result<Self, TraceError> {
        let reader = Reader::new(bytes)?;
        let header = reader.header().clone();
        let mut builders: Vec<_> = header
            .rings
            .iter()
            .map(|kind| Builder::new(*kind))
            .collect();
        let (mut totals, mut integrity, mut unknown) = (None, Integrity::Unknown, 0);
        let (mut errors, mut damaged) = (Vec::new(), 0);
        for record in reader {
            match record.map(|record| record.body) {
                Ok(Body::Ring { ring, time, event }) => {
                    if let Some(builder) = builders.get_mut(usize::from(ring)) {
                        builder.take(time, event);
                    }
                }
                Ok(Body::End {
                    totals: end,
                    has_checksum,
                }) => {
                    totals = Some(end);
                    if has_checksum {
                        integrity = Integrity::Whole;
                    }
                }
                Ok(Body::Unknown { .. }) => unknown += 1,
                Err(error) => {
                    damaged += 1;
                    if matches!(error, TraceError::Checksum { .. }) {
                        integrity = Integrity::Changed;
                    }
                    if errors.len() < MOST_ERRORS {
                        errors.push(error);
                    }
                }
            }
        }
        Ok(Self {
            header,
            rings: builders.into_iter().map(|builder| builder.ring).collect(),
            totals,
            integrity,
            unknown,
            errors,
            damaged,
        })
    }
}

/// A ring's stream as it grows.
struct Builder {
    ring: RingStream,
    geometry: Geometry,
    /// Where the next command lies, if that is known.
    next: Option<QueueIndex>,
    /// Where CONS stood at the end of the last window, and how many commands lie before it.
    cons: Option<(QueueIndex, usize)>,
    /// Publications before this one have their end.
    resolved: usize,
}

impl Builder {
    fn new(kind: RingKind) -> Self {
        let ring = RingStream {
            kind,
            log2size: 0,
            commands: Vec::new(),
            times: Vec::new(),
            publications: Vec::new(),
            completions: Vec::new(),
            refetched: 0,
            dropped: (0, 0),
        };
        Self {
            ring,
            geometry: Geometry::capped(0, 0),
            next: None,
            cons: None,
            resolved: 0,
        }
    }

    fn take(&mut self, time: u64, event: Event<'_>) {
        match event {
            Event::Published { prod } => self.ring.publications.push(Publication {
                time,
                prod,
                end: None,
            }),
            Event::Fetched { first, commands } => self.fetched(time, first, commands),
            Event::Completed { index } => {
                if let Some(at) = self.place(index) {
                    self.ring.completions.push(Completion { time, at });
                }
            }
            Event::Consumed { cons } => {
                let place = self.place(cons);
                self.cons = place.map(|place| (self.geometry.pointer(cons), place));
            }
            Event::Gap { events, commands } => {
                self.ring.dropped.0 = self.ring.dropped.0.saturating_add(events);
                self.ring.dropped.1 = self.ring.dropped.1.saturating_add(commands);
                // What follows may lie anywhere.
                (self.next, self.cons) = (None, None);
            }
            Event::Layout { log2size, .. } => {
                self.ring.log2size = log2size;
                self.geometry = Geometry::capped(log2size, MAX_LOG2SIZE);
                (self.next, self.cons) = (None, None);
            }
        }
    }

    fn fetched(&mut self, time: u64, first: u32, commands: Commands<'_>) {
        let first = self.geometry.pointer(first);
        match self.cons {
            Some((cons, place)) if cons == first => {
                self.ring.refetched += (self.ring.commands.len() - place) as u64;
                self.ring.commands.truncate(place);
                self.ring.times.truncate(place);
            }
            // The rest of a window that stands in two records, or a ring that was set up anew:
            // nothing is read again.
            _ => {}
        }
        self.cons = None;
        self.resolve(first);
        self.ring.commands.extend(commands.iter());
        self.ring.times.resize(self.ring.commands.len(), time);
        self.next = Some(self.geometry.advance(first, commands.len() as u32));
    }

    /// A publication comes before the first fetch that it allows, which begins at CONS: so PROD
    /// lies no more than a ring behind `first`.
    fn resolve(&mut self, first: QueueIndex) {
        let place = self.ring.commands.len();
        for publication in &mut self.ring.publications[self.resolved..] {
            let prod = self.geometry.pointer(publication.prod);
            let ahead = self.geometry.published(first, prod).ok();
            publication.end = ahead.map(|ahead| place + ahead as usize);
        }
        self.resolved = self.ring.publications.len();
    }

    /// The place in the stream of a pointer into what was fetched last.
    fn place(&self, raw: u32) -> Option<usize> {
        let back = self
            .geometry
            .published(self.geometry.pointer(raw), self.next?)
            .ok()?;
        self.ring.commands.len().checked_sub(back as usize)
    }
}
