//! A recording as it happened: every ring's events in one list, by time.

use super::listing::What;
use crate::report::shape::Shape;
use serde::Serialize;
use smmu_core::Capabilities;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use vcmdq_trace::{Body, Event, Integrity, Reader, Recording};
use vcmdq_wording::count;

/// Everything that can be read of a recording.
#[derive(Debug, Serialize)]
pub(super) struct Timeline {
    file: String,
    events: Vec<Row>,
    /// How many commands of each name were fetched.
    names: BTreeMap<&'static str, usize>,
    illegal: usize,
    damaged: u64,
    checksum: Checksum,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Checksum {
    Fits,
    Differs,
    None,
}

impl From<Integrity> for Checksum {
    fn from(integrity: Integrity) -> Self {
        match integrity {
            Integrity::Whole => Self::Fits,
            Integrity::Changed => Self::Differs,
            Integrity::Unknown => Self::None,
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fits => "fits",
            Self::Differs => "does not fit",
            Self::None => "none, so a flipped bit may go unnoticed",
        })
    }
}

/// One event, or one fetched command.
#[derive(Debug, Serialize)]
struct Row {
    /// Nanoseconds since the recording began.
    time: u64,
    ring: String,
    /// Where its record begins, in bytes.
    offset: usize,
    #[serde(flatten)]
    event: Told,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Told {
    /// PROD.
    Published {
        prod: u32,
    },
    Fetched {
        /// Where it lies, with wrap bit.
        pointer: u32,
        #[serde(flatten)]
        command: What,
    },
    /// A SYNC.
    Completed {
        pointer: u32,
    },
    /// CONS with ERR.
    Consumed {
        cons: u32,
    },
    Gap {
        events: u64,
        commands: u64,
    },
    Layout {
        base: u64,
        log2size: u8,
    },
}

impl Timeline {
    pub(super) fn of(name: &str, bytes: &[u8], recording: &Recording, caps: &Capabilities) -> Self {
        let mut timeline = Self {
            file: name.to_owned(),
            events: Vec::new(),
            names: BTreeMap::new(),
            illegal: 0,
            damaged: recording.damaged,
            checksum: recording.integrity.into(),
            shape: Shape::of_recording(name, recording),
        };
        // Of each ring: its geometry, and the latest time, so that its own order is kept.
        let mut rings = vec![(Geometry::capped(0, 0), 0); recording.rings.len()];
        let records = Reader::new(bytes).into_iter().flatten();
        for record in records.flatten() {
            let Body::Ring { ring, time, event } = record.body else {
                continue;
            };
            let Some((geometry, latest)) = rings.get_mut(usize::from(ring)) else {
                continue;
            };
            if let Event::Layout { log2size, .. } = event {
                *geometry = Geometry::capped(log2size, MAX_LOG2SIZE);
            }
            *latest = time.max(*latest);
            let place = Place {
                time: *latest,
                ring: recording.rings[usize::from(ring)].kind.to_string(),
                offset: record.offset,
            };
            timeline.tell(&place, *geometry, event, caps);
        }
        timeline.events.sort_by_key(|row| row.time);
        timeline
    }

    fn tell(&mut self, place: &Place, geometry: Geometry, event: Event<'_>, caps: &Capabilities) {
        let told = match event {
            Event::Published { prod } => Told::Published { prod },
            Event::Completed { index } => Told::Completed { pointer: index },
            Event::Consumed { cons } => Told::Consumed { cons },
            Event::Gap { events, commands } => Told::Gap { events, commands },
            Event::Layout { base, log2size } => Told::Layout { base, log2size },
            Event::Fetched { first, commands } => {
                let first = geometry.pointer(first);
                for (raw, at) in commands.iter().zip(0..) {
                    let command = What::of(raw, caps);
                    *self.names.entry(command.name).or_default() += 1;
                    self.illegal += usize::from(command.illegal.is_some());
                    let pointer = geometry.advance(first, at).raw();
                    let told = Told::Fetched { pointer, command };
                    self.events.push(place.row(told));
                }
                return;
            }
        };
        self.events.push(place.row(told));
    }

    /// A command is illegal, or a part of the file cannot be read. A file that was cut off between
    /// two records can.
    pub(super) fn is_damaged(&self) -> bool {
        self.illegal > 0 || self.damaged > 0
    }

    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(
            out,
            "{:>14}  {:<8}  {:>8}  event",
            "time, µs", "ring", "pointer"
        )?;
        for row in &self.events {
            writeln!(out, "{row}")?;
        }
        writeln!(out)?;
        self.shape.print(out)?;
        writeln!(out, "  checksum: {}", self.checksum)?;
        for (name, count) in &self.names {
            writeln!(out, "{count:>8}  {name}")?;
        }
        if self.illegal > 0 {
            writeln!(out, "{:>8}  illegal", self.illegal)?;
        }
        Ok(())
    }
}

struct Place {
    time: u64,
    ring: String,
    offset: usize,
}

impl Place {
    fn row(&self, event: Told) -> Row {
        Row {
            time: self.time,
            ring: self.ring.clone(),
            offset: self.offset,
            event,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = format!("{}.{:03}", self.time / 1000, self.time % 1000);
        write!(f, "{us:>14}  {:<8}  ", self.ring)?;
        match &self.event {
            Told::Published { prod } => write!(f, "{prod:>#8x}  PROD"),
            Told::Fetched { pointer, command } => write!(f, "{pointer:>#8x}    {command}"),
            Told::Completed { pointer } => write!(f, "{pointer:>#8x}  SYNC done"),
            Told::Consumed { cons } => match cons >> 24 {
                0 => write!(f, "{cons:>#8x}  CONS"),
                error => write!(f, "{:>#8x}  CONS with ERR={error}", cons & 0xF_FFFF),
            },
            Told::Gap { events, commands } => {
                write!(
                    f,
                    "{:>8}  GAP: {} dropped, with {}",
                    "",
                    count(*events, "event"),
                    count(*commands, "command")
                )
            }
            Told::Layout { base, log2size } => {
                write!(
                    f,
                    "{:>8}  ring of {} at {base:#x}",
                    "",
                    count(1u64 << log2size, "entry")
                )
            }
        }
    }
}
