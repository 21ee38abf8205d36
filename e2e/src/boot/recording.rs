//! Takes the streams of the guest's queues into a file, from when the guest says until it says so.

use crate::vehicle::Smmu;
use anyhow::Result;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use vcmdq::StdThreads;
use vcmdq_trace::Header;
use vcmdq_trace::recorder::{Recorder, RecorderSettings, rings_of};
use vcmdq_wording::count;

/// Bytes of a recording: small enough to be kept beside the code.
const MOST_BYTES: u64 = 300 << 10;

/// The file that was named for a recording cannot be written.
#[derive(Debug)]
pub struct CannotRecord {
    /// As it was named.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl std::fmt::Display for CannotRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        write!(f, "the recording cannot be written to {path}")
    }
}

impl std::error::Error for CannotRecord {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The file of a recording. Opened before anything is fetched or booted; what was in it is there until
/// the guest says that the recording begins. Where none was before and none is made, none is left.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    file: File,
    /// It was not there before.
    is_new: bool,
}

impl Output {
    /// # Errors
    ///
    /// [`CannotRecord`].
    pub(super) fn open(path: &Path) -> Result<Self, CannotRecord> {
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.open(path).map_err(|source| CannotRecord {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_new,
        })
    }

    /// The file, empty.
    fn begin(&self) -> io::Result<File> {
        // A pipe or a device has no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.try_clone()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let is_empty = |file: &File| {
            file.metadata()
                .is_ok_and(|of| of.is_file() && of.len() == 0)
        };
        if self.is_new && is_empty(&self.file) {
            // What cannot be removed is an empty file: no harm.
            let _stays = std::fs::remove_file(&self.path);
        }
    }
}

/// A recording that is to be made, or is being made.
pub(super) struct Recording<'a> {
    output: &'a Output,
    machine: String,
    comment: String,
    recorder: Option<Recorder>,
}

impl<'a> Recording<'a> {
    /// `machine` and `comment` go into the file.
    pub(super) fn new(output: &'a Output, machine: String, comment: String) -> Self {
        Self {
            output,
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
        let (file, rings) = (self.output.begin()?, rings_of(smmu.frame()));
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
                "{} with {}; {} dropped, {} left out",
                count(totals.records, "record"),
                count(totals.commands, "command"),
                count(totals.dropped_commands, "command"),
                count(totals.left_out, "record")
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
        std::fs::write(&file, [b'x'; 4096]).expect("an older one, and longer");
        let output = Output::open(&file).expect("a directory");
        let mut recording = Recording::new(&output, "a machine".into(), "a load".into());
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
    fn a_file_that_cannot_be_made_is_told_before_anything_else() {
        let path = Path::new("/no/such/file");
        let error = Output::open(path).expect_err("no such directory");
        assert_eq!(error.path, path);
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
        let told = format!("{:#}", anyhow::Error::from(error));
        let first = "the recording cannot be written to /no/such/file: ";
        assert!(told.starts_with(first), "{told}");
    }

    #[test]
    fn without_a_recording_the_place_is_left_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let (new, old) = (directory.path().join("new"), directory.path().join("old"));
        std::fs::write(&old, "kept").expect("room");
        for path in [&new, &old] {
            drop(Output::open(path).expect("a directory"));
        }
        assert!(!new.exists());
        assert_eq!(std::fs::read(&old).expect("still there"), b"kept");
    }
}
