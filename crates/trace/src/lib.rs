//! Recordings of live SMMUv3 command streams.
//!
//! | module | holds |
//! |---|---|
//! | [`header`], [`record`] | the format, which `docs/trace-format.md` describes |
//! | [`checksum`] | what tells a damaged file |
//! | [`reader`] | the records of a file, one after the other |
//! | [`stream`] | each ring's commands in order, with publications and completions |
//! | [`summary`] | what the streams look like, in figures |
//! | [`recorder`] | takes the streams of running [rings](vcmdq::Ring) |
//!
//! A recording is read from memory. No bytes make the reader panic, and it takes no more memory
//! than the file has bytes, times a small number.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod error;
pub mod header;
mod queue;
pub mod reader;
pub mod record;
pub mod recorder;
pub mod stream;
pub mod summary;
mod varint;
mod writer;

pub use checksum::Checksum;
pub use error::TraceError;
pub use header::{Header, RingKind};
pub use reader::Reader;
pub use record::{Body, Commands, Event, Record, Totals};
pub use recorder::{Recorder, RecorderSettings};
pub use stream::{Integrity, Recording, RingStream};
pub use summary::Summary;
