//! Recorded streams, in either form: a recording with times, rings and publications
//! (`docs/trace-format.md`; its magic bytes tell), or a raw dump of 16-byte commands, two
//! little-endian 64-bit words each, in the order in which a driver wrote them.

use crate::error::ToolError;
use crate::report::shape::Shape;
use smmu_core::command::{Command, Signal};
use smmu_core::encode::encode;
use smmu_core::spec::command::{RawCommand, opcode};
use std::path::Path;
use vcmdq_trace::{Recording, RingStream, TraceError};

const RECORD: usize = RawCommand::BYTES as usize;

/// The streams of the workspace, each with its name.
const BUNDLED: [(&str, &[u8]); 4] = [
    (
        "linux-7.2-nvme-strict-4cpu-cmdq",
        include_bytes!("../../../traces/linux-7.2-nvme-strict-4cpu-cmdq.vcq"),
    ),
    (
        "linux-7.2-nvme-strict-8cpu-cmdq-noril",
        include_bytes!("../../../traces/linux-7.2-nvme-strict-8cpu-cmdq-noril.vcq"),
    ),
    (
        "linux-7.2-nvme-strict-4cpu-vcmdq-noril",
        include_bytes!("../../../traces/linux-7.2-nvme-strict-4cpu-vcmdq-noril.vcq"),
    ),
    (
        "linux-7.2-nvme-strict-8cpu-vcmdq",
        include_bytes!("../../../traces/linux-7.2-nvme-strict-8cpu-vcmdq.vcq"),
    ),
];

/// A stream and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    /// Of all rings; submissions of different rings in the order in which they were fetched.
    pub(crate) commands: Vec<RawCommand>,
    /// Each ring's submissions as they were published: none of a raw dump.
    pub(crate) published: Vec<Vec<Vec<RawCommand>>>,
    /// What it looks like.
    pub(crate) shape: Shape,
}

/// A record that is cut off at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutOff {
    /// Where it begins, in bytes.
    pub(crate) offset: usize,
    /// How many bytes there are.
    pub(crate) bytes: usize,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Contents {
    Recording(Box<Recording>),
    Raw(Vec<RawCommand>, Option<CutOff>),
}

impl Contents {
    /// Of a file with these bytes.
    pub(crate) fn of(name: &str, bytes: &[u8]) -> Result<Self, ToolError> {
        match Recording::read(bytes) {
            Ok(recording) => Ok(Self::Recording(Box::new(recording))),
            Err(TraceError::NotARecording) => {
                let (commands, cut) = split(bytes);
                Ok(Self::Raw(commands, cut))
            }
            Err(source) => Err(ToolError::Recording {
                name: name.to_owned(),
                source,
            }),
        }
    }
}

/// All whole records of a raw dump, and what is left behind them.
fn split(bytes: &[u8]) -> (Vec<RawCommand>, Option<CutOff>) {
    let records = bytes.chunks_exact(RECORD);
    let rest = records.remainder().len();
    let cut = (rest > 0).then_some(CutOff {
        offset: bytes.len() - rest,
        bytes: rest,
    });
    let commands = records
        .filter_map(|record| Some(RawCommand::from_le_bytes(record.try_into().ok()?)))
        .collect();
    (commands, cut)
}

/// The bundled streams.
pub(crate) fn bundled() -> Result<Vec<Trace>, ToolError> {
    BUNDLED
        .iter()
        .map(|(name, bytes)| whole(name, bytes))
        .collect()
}

/// A file's stream. A raw dump must be whole: replaying half a command shows nothing. Of a
/// recording everything that can be read is taken, and its shape says what is missing.
pub(crate) fn read(path: &Path) -> Result<Trace, ToolError> {
    whole(&path.display().to_string(), &bytes(path)?)
}

/// A file's bytes.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, ToolError> {
    std::fs::read(path).map_err(|source| ToolError::Read {
        path: path.to_owned(),
        source,
    })
}

fn whole(name: &str, bytes: &[u8]) -> Result<Trace, ToolError> {
    let trace = match Contents::of(name, bytes)? {
        Contents::Recording(recording) => Trace {
            name: name.to_owned(),
            commands: merged(&recording.rings),
            published: recording.rings.iter().map(published).collect(),
            shape: Shape::of_recording(name, &recording),
        },
        Contents::Raw(_, Some(CutOff { offset, bytes })) => {
            return Err(ToolError::Partial {
                name: name.to_owned(),
                offset,
                bytes,
            });
        }
        Contents::Raw(commands, None) => Trace {
            name: name.to_owned(),
            shape: Shape::of_raw(name, &commands),
            published: Vec::new(),
            commands,
        },
    };
    if trace.commands.is_empty() {
        let name = trace.name;
        return Err(ToolError::Empty { name });
    }
    Ok(trace)
}

impl Trace {
    /// What was submitted together: the commands before each SYNC, without it. What follows the
    /// last SYNC is a submission too.
    pub(crate) fn submissions(&self) -> impl Iterator<Item = &[RawCommand]> {
        self.commands
            .split_inclusive(is_sync)
            .map(|piece| match piece {
                [commands @ .., last] if is_sync(last) => commands,
                commands => commands,
            })
    }
}

fn is_sync(command: &RawCommand) -> bool {
    command.opcode() == opcode::SYNC
}

/// The submissions of all rings, by the time at which each was fetched.
fn merged(rings: &[RingStream]) -> Vec<RawCommand> {
    let mut submissions = Vec::new();
    for ring in rings {
        let mut at = 0;
        for piece in ring.commands.split_inclusive(is_sync) {
            submissions.push((ring.times.get(at).copied().unwrap_or(0), piece));
            at += piece.len();
        }
    }
    submissions.sort_by_key(|(time, _)| *time);
    submissions
        .iter()
        .flat_map(|(_, piece)| *piece)
        .copied()
        .collect()
}

/// What one ring's guest published at a time, without the SYNC at its end. What it published
/// without such a SYNC belongs to the next publication. SYNCs in between have no message: those
/// that were recorded name slots of another queue.
fn published(ring: &RingStream) -> Vec<Vec<RawCommand>> {
    let quiet = encode(&Command::Sync(Signal::Sev));
    let ends = ring.publications.iter().filter_map(|point| point.end);
    let mut submissions = Vec::new();
    let mut begin = 0;
    for end in ends.chain([ring.commands.len()]) {
        let piece = ring.commands.get(begin..end).unwrap_or_default();
        let (last, commands) = match piece.split_last() {
            Some((last, commands)) if is_sync(last) => (true, commands),
            _ => (end == ring.commands.len(), piece),
        };
        if last && !piece.is_empty() {
            let replaced = |raw: &RawCommand| if is_sync(raw) { quiet } else { *raw };
            submissions.push(commands.iter().map(replaced).collect());
            begin = end;
        }
    }
    submissions
}

#[cfg(test)]
mod tests {
    use super::*;
    use vcmdq_trace::record::Encoder;
    use vcmdq_trace::{Commands, Event, Header, RingKind};

    #[test]
    fn the_bundled_streams_are_the_recorded_ones() {
        let traces = bundled().expect("whole");
        let count = |trace: &Trace| (trace.commands.len(), trace.submissions().count());
        let recordings: Vec<_> = traces.iter().map(count).collect();
        let expected = [(3096, 1548), (12_312, 3096), (6156, 1548), (6192, 3096)];
        assert_eq!(recordings, expected);
    }

    #[test]
    fn the_bundled_recordings_are_whole_and_of_many_rings() {
        let rings = |name: &str, bytes| {
            let Ok(Contents::Recording(recording)) = Contents::of(name, bytes) else {
                panic!("{name} is no recording");
            };
            assert!(
                recording
                    .totals
                    .is_some_and(|totals| totals.dropped_events == 0),
                "{name}"
            );
            let busy = recording
                .rings
                .iter()
                .filter(|ring| !ring.commands.is_empty());
            busy.count()
        };
        let recordings = BUNDLED.iter().map(|(name, bytes)| rings(name, bytes));
        assert_eq!(recordings.collect::<Vec<_>>(), [1, 1, 4, 7]);
    }

    fn command(op: u8) -> RawCommand {
        RawCommand {
            dw0: u64::from(op),
            dw1: 0,
        }
    }

    fn dump(ops: &[u8]) -> Vec<u8> {
        ops.iter()
            .flat_map(|op| command(*op).to_le_bytes())
            .collect()
    }

    #[test]
    fn submissions_are_what_lies_before_a_sync() {
        let trace = whole("x", &dump(&[0x11, 0x46, 0x46, 0x12, 0x12])).expect("whole");
        let lengths: Vec<_> = trace.submissions().map(<[_]>::len).collect();
        assert_eq!(lengths, [1, 0, 2]);
        assert!(trace.published.is_empty());
    }

    #[test]
    fn a_cut_off_record_is_named_and_an_empty_file_refused() {
        let (commands, cut) = split(&[0x11; 37]);
        assert_eq!(commands.len(), 2);
        assert_eq!(
            cut,
            Some(CutOff {
                offset: 32,
                bytes: 5
            })
        );
        assert!(matches!(
            whole("x", &[0; 37]),
            Err(ToolError::Partial { offset: 32, .. })
        ));
        assert!(matches!(whole("x", &[]), Err(ToolError::Empty { .. })));
    }

    /// Two rings; the first publishes a piece without a SYNC, then two submissions at once.
    fn recording() -> Vec<u8> {
        let rings = vec![RingKind::Cmdq, RingKind::Vcmdq(0)];
        let mut bytes = Header {
            rings,
            ..Header::default()
        }
        .to_bytes();
        let mut encoder = Encoder::default();
        let log2size = 6;
        for ring in [0, 1] {
            let layout = Event::Layout { base: 0, log2size };
            encoder.event(&mut bytes, ring, 1, &layout);
        }
        let mut happened = |ring, time, first, ops: &[u8]| {
            let prod = first + ops.len() as u32;
            encoder.event(&mut bytes, ring, time, &Event::Published { prod });
            let dump = dump(ops);
            let commands = Commands::new(&dump).expect("whole");
            let fetched = Event::Fetched { first, commands };
            encoder.event(&mut bytes, ring, time, &fetched);
            encoder.event(&mut bytes, ring, time, &Event::Consumed { cons: prod });
        };
        happened(0, 10, 0, &[0x11, 0x12]);
        happened(0, 30, 2, &[0x13, 0x46, 0x11, 0x46]);
        happened(1, 20, 0, &[0x12, 0x46]);
        bytes
    }

    #[test]
    fn a_recording_is_merged_by_time_and_kept_as_published() {
        let trace = whole("x", &recording()).expect("readable");
        let opcodes = |commands: &[RawCommand]| -> Vec<u8> {
            commands.iter().map(|raw| raw.opcode()).collect()
        };
        let expected = [0x11, 0x12, 0x13, 0x46, 0x12, 0x46, 0x11, 0x46];
        assert_eq!(opcodes(&trace.commands), expected);
        let published: Vec<Vec<_>> = trace
            .published
            .iter()
            .map(|ring| ring.iter().map(|piece| opcodes(piece)).collect())
            .collect();
        let first = vec![vec![0x11, 0x12, 0x13, 0x46, 0x11]];
        assert_eq!(published, [first, vec![vec![0x12]]]);
    }
}
