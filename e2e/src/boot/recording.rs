//! Takes the streams of the guest's queues into a file, from when the guest says until it says so.

use crate::vehicle::Smmu;
use anyhow::Result;
use std::fs::File;
use std::path::{Path, PathBuf};
use vcmdq::StdThreads;
use vcmdq_trace::Header;
use vcmdq_trace::recorder::{Recorder, RecorderSettings, rings_of};

/// Bytes of a recording: small enough to be kept beside the code.
const MOST_BYTES: u64 = 300 << 10;

/// A recording that is to be made, or is being made.
pub(super) struct Recording {
    file: PathBuf,
    machine: String,
    comment: String,
    recorder: Option<Recorder>,
}

impl Recording {
    /// `machine` and `comment` go into the file.
    pub(super) fn new(file: &Path, machine: String, comment: String) -> Self {
        Self {
            file: file.to_owned(),
            machine,
            comment,
            recorder: None,
        }
    }

    /// Begins. What the guest is told.
    pub(super) fn begin(&mut self, smmu: &Smmu, kernel: &str) -> String {
        match self.start(smmu, kernel) {
            Ok(recorder) => {
                self.recorder = Some(recorder);
                "begun".into()
            }
            Err(error) => format!("{error:#}"),
        }
    }

    fn start(&self, smmu: &Smmu, kernel: &str) -> Result<Recorder> {
        let header = Header {
            machine: self.machine.clone(),
            kernel: format!("Linux {kernel}"),
            comment: self.comment.clone(),
            ..Header::of(smmu.caps())
        };
        let settings = RecorderSettings {
            most_bytes: MOST_BYTES,
            ..RecorderSettings::default()
        };
        let (file, rings) = (File::create(&self.file)?, rings_of(smmu.frame()));
        Ok(Recorder::start(
            file,
            header,
            rings,
            &settings,
            &StdThreads,
        )?)
    }

    /// Ends. What the guest is told: how much was recorded.
    pub(super) fn end(&mut self) -> String {
        match self.recorder.take().map(Recorder::finish) {
            None => "nothing was recorded".into(),
            Some(Ok(totals)) => format!(
                "{} records with {} commands; {} commands dropped, {} records left out",
                totals.records, totals.commands, totals.dropped_commands, totals.left_out
            ),
            Some(Err(error)) => format!("cannot be written: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vehicle::{Bases, Polling, RAM_BASE, Ram, SmmuSettings};
    use smmu_core::{Capabilities, StreamId};
    use vcmdq::Settings;
    use vcmdq_trace::{Recording as Read, RingKind};

    fn smmu() -> Smmu {
        let bases = Bases {
            smmu: RAM_BASE,
            cmdqv: Some((RAM_BASE + 0x4_0000, 2)),
        };
        let settings = SmmuSettings {
            bases,
            cmdqv_spi: 0,
            stream: StreamId(8),
            drop: None,
            caps: Capabilities::default(),
            engine: Settings::default(),
            polling: Polling::default(),
        };
        Smmu::new(&Ram::new(2).expect("two MiB"), settings).expect("threads")
    }

    #[test]
    fn a_recording_names_the_rings_and_who_drove_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("recording");
        let mut recording = Recording::new(&file, "a machine".into(), "a load".into());
        assert_eq!(recording.end(), "nothing was recorded");
        let smmu = smmu();
        assert_eq!(recording.begin(&smmu, "7.2"), "begun");
        assert!(recording.end().starts_with("0 records"));
        let bytes = std::fs::read(&file).expect("written");
        let read = Read::read(&bytes).expect("a recording");
        assert_eq!(read.header.kernel, "Linux 7.2");
        assert_eq!(read.header.comment, "a load");
        let rings = [RingKind::Cmdq, RingKind::Vcmdq(0), RingKind::Vcmdq(1)];
        assert_eq!(read.header.rings, rings);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told() {
        let mut recording =
            Recording::new(Path::new("/no/such/file"), String::new(), String::new());
        assert_ne!(recording.begin(&smmu(), "7.2"), "begun");
    }
}
