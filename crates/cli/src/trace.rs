//! Recorded streams: 16-byte commands, two little-endian 64-bit words each, one after the
//! other, in the order in which a driver wrote them.

use crate::error::ToolError;
use smmu_core::spec::command::{RawCommand, opcode};
use std::path::Path;

const RECORD: usize = RawCommand::BYTES as usize;

/// The streams of the workspace, each with its name.
const BUNDLED: [(&str, &[u8]); 2] = [
    (
        "linux-7.2-boot-nvme-strict",
        include_bytes!("../../../traces/linux-7.2-boot-nvme-strict.cmdq"),
    ),
    (
        "linux-7.2-boot-nvme-lazy",
        include_bytes!("../../../traces/linux-7.2-boot-nvme-lazy.cmdq"),
    ),
];

/// A stream and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) commands: Vec<RawCommand>,
}

/// A record that is cut off at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutOff {
    /// Where it begins, in bytes.
    pub(crate) offset: usize,
    /// How many bytes there are.
    pub(crate) bytes: usize,
}

/// All whole records, and what is left behind them.
pub(crate) fn split(bytes: &[u8]) -> (Vec<RawCommand>, Option<CutOff>) {
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

/// A file's stream. It must be whole: replaying half a command shows nothing.
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
    let name = name.to_owned();
    let (commands, cut) = split(bytes);
    match cut {
        Some(CutOff { offset, bytes }) => Err(ToolError::Partial {
            name,
            offset,
            bytes,
        }),
        None if commands.is_empty() => Err(ToolError::Empty { name }),
        None => Ok(Trace { name, commands }),
    }
}

impl Trace {
    /// What was submitted together: the commands before each SYNC, without it. What follows the
    /// last SYNC is a submission too.
    pub(crate) fn submissions(&self) -> impl Iterator<Item = &[RawCommand]> {
        self.commands
            .split_inclusive(|command| command.opcode() == opcode::SYNC)
            .map(|piece| match piece {
                [commands @ .., last] if last.opcode() == opcode::SYNC => commands,
                commands => commands,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_streams_are_the_recorded_ones() {
        let traces = bundled().expect("whole");
        let count = |trace: &Trace| (trace.commands.len(), trace.submissions().count());
        assert_eq!(count(&traces[0]), (26_985, 13_490));
        assert_eq!(count(&traces[1]), (323, 160));
    }

    #[test]
    fn submissions_are_what_lies_before_a_sync() {
        let command = |op: u8| RawCommand {
            dw0: u64::from(op),
            dw1: 0,
        };
        let ops = [0x11, 0x46, 0x46, 0x12, 0x12];
        let trace = Trace {
            name: String::new(),
            commands: ops.map(command).to_vec(),
        };
        let lengths: Vec<_> = trace.submissions().map(<[_]>::len).collect();
        assert_eq!(lengths, [1, 0, 2]);
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
}
