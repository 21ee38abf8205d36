//! What can be wrong with a file.

/// Why a recording, or a part of it, cannot be read. Offsets are in bytes from the beginning of
/// the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The file does not begin with the magic bytes.
    #[error(
        "no recording: offset 0 has not the magic bytes of one; a file of bare 16-byte commands \
         is read as a raw dump"
    )]
    NotARecording,
    /// A later format.
    #[error(
        "the recording has format version {found} (offset 0x8), this reader knows up to {known}; \
         read it with a newer vcmdq"
    )]
    Version {
        /// As the file says.
        found: u16,
        /// The newest that is known here.
        known: u16,
    },
    /// The header is damaged: without it nothing behind it has a meaning.
    #[error("the header is damaged at offset {offset:#x}: {what}; fetch or record the file again")]
    Header {
        /// Where the damaged field begins.
        offset: usize,
        /// Which one it is.
        what: &'static str,
    },
    /// The file ends within a record: what is before it is good.
    #[error(
        "the file ends within the record at offset {offset:#x}, {missing} bytes short; everything \
         before it can be used"
    )]
    CutOff {
        /// Where the record begins.
        offset: usize,
        /// How many bytes are missing at least.
        missing: usize,
    },
    /// A record's length is one that no writer gives: where the next one begins is not known.
    #[error(
        "the record at offset {offset:#x} has an impossible length; nothing behind it can be \
         found, everything before it can be used"
    )]
    Length {
        /// Where the record begins.
        offset: usize,
    },
    /// One record makes no sense; the next one may.
    #[error(
        "the record at offset {offset:#x} (kind {kind}) is damaged: {what}; reading goes on behind it"
    )]
    Record {
        /// Where the record begins.
        offset: usize,
        /// Its kind.
        kind: u8,
        /// Which field it is.
        what: &'static str,
    },
    /// Every record can be read, but some byte is not what the recorder wrote. Nobody knows which.
    #[error(
        "the checksum at offset {offset:#x} is {found:#010x}, and the bytes before it have {computed:#010x}: some of \
         them have changed, and any record may be wrong; fetch or record the file again"
    )]
    Checksum {
        /// Where it lies.
        offset: usize,
        /// As the file says.
        found: u32,
        /// Of the bytes before it.
        computed: u32,
    },
}

impl TraceError {
    /// Whether reading ends here.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Record { .. })
    }
}
