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
