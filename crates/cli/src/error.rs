//! Why the tool gives up, and with which exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use vcmdq::testing::QueueError;
use vcmdq_wording::count;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[cfg(feature = "bench")]
    #[error("{} cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[cfg(feature = "bench")]
    #[error(
        "{} is not what this version's `bench --json` writes: {source}; measure anew",
        path.display()
    )]
    Results {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[cfg(feature = "bench")]
    #[error("the page cannot be drawn: {0}")]
    Draw(String),
    #[error("{name} holds no commands: a stream has at least one 16-byte command")]
    Empty { name: String },
    #[error(
        "{name} is no recording, and as a raw dump it is damaged: at offset {offset:#x} a record of {} \
         where 16 are needed; `vcmdq decode` lists what is readable",
        count(*bytes, "byte")
    )]
    Partial {
        name: String,
        offset: usize,
        bytes: usize,
    },
    #[error("{name}: {source}")]
    Recording {
        name: String,
        source: vcmdq_trace::TraceError,
    },
    #[error(
        "{name} is a raw dump, which does not say what was published when: replay it without \
         --as-published, or give a recording"
    )]
    NoPublications { name: String },
    #[error(
        "'{0}' is not a list of six registers: give IDR0 to IDR5, decimal or 0x…, with commas \
         between them"
    )]
    Caps(String),
    #[error("the guest memory cannot be mapped: {0}; a smaller --log2size needs less of it")]
    Map(String),
    #[error("the engine does not start: {0}")]
    Start(#[from] vcmdq::StartError),
    #[error("the ring cannot be added: {0}")]
    Ring(#[from] vcmdq::RingError),
    #[error("the ring cannot be placed: {0}")]
    Configure(#[from] vcmdq::ConfigureError),
    #[error("a stream cannot be bound: {0}")]
    Bind(#[from] vcmdq::BindError),
    #[error("the guest's queue cannot be set up: {0}")]
    Queue(QueueError),
    #[error("{consumer}: producer {vcpu} gave up: {source}")]
    Producer {
        consumer: &'static str,
        vcpu: usize,
        source: QueueError,
    },
    #[error("{consumer}: a producer thread died; its message is above")]
    Died { consumer: &'static str },
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl ToolError {
    /// 1 where the engine failed at its job, 2 where it could not be given one.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Producer { .. } | Self::Died { .. } => 1,
            _ => 2,
        })
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Json(error) => error.io_error_kind() == Some(io::ErrorKind::BrokenPipe),
            _ => false,
        }
    }
}
