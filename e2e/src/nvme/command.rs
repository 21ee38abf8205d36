//! Entries of the queues.

/// Bytes of a submission queue entry.
pub(super) const ENTRY: usize = 64;
/// Bytes of a completion queue entry.
pub(super) const COMPLETION: usize = 16;

/// A submission queue entry (Base Specification, figure 87).
#[derive(Clone, Copy, Debug)]
pub(super) struct Command([u8; ENTRY]);

impl Command {
    pub(super) fn new(bytes: [u8; ENTRY]) -> Self {
        Self(bytes)
    }

    /// One of its sixteen 32-bit words.
    pub(super) fn dword(&self, index: usize) -> u32 {
        let at = 4 * index;
        let mut word = [0; 4];
        word.copy_from_slice(&self.0[at..at + 4]);
        u32::from_le_bytes(word)
    }

    fn qword(&self, index: usize) -> u64 {
        u64::from(self.dword(index)) | u64::from(self.dword(index + 1)) << 32
    }

    pub(super) fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Whether the data is described by an SGL, which the controller does not know.
    pub(super) fn has_sgl(&self) -> bool {
        self.0[1] >> 6 != 0
    }

    /// Command identifier.
    pub(super) fn id(&self) -> u16 {
        u16::from_le_bytes([self.0[2], self.0[3]])
    }

    pub(super) fn namespace(&self) -> u32 {
        self.dword(1)
    }

    pub(super) fn prp1(&self) -> u64 {
        self.qword(6)
    }

    pub(super) fn prp2(&self) -> u64 {
        self.qword(8)
    }

    /// Starting LBA of a read or write.
    pub(super) fn lba(&self) -> u64 {
        self.qword(10)
    }

    /// Blocks of a read or write.
    pub(super) fn blocks(&self) -> u32 {
        (self.dword(12) & 0xFFFF) + 1
    }
}

/// Status of a completion: type and code, as they stand above the phase bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Status {
    Success = 0,
    InvalidOpcode = 0x01,
    InvalidField = 0x02,
    DataTransferError = 0x04,
    InternalError = 0x06,
    InvalidNamespace = 0x0B,
    InvalidPrpOffset = 0x13,
    BeyondCapacity = 0x80,
    InvalidQueue = 0x101,
    InvalidQueueSize = 0x102,
    TooManyAsyncEvents = 0x105,
    InvalidQueueDeletion = 0x10C,
    InvalidCompletionQueue = 0x100,
}

/// What a command leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is complete: status, and dword 0 of the completion.
    Complete(Status, u32),
    /// It stays open until the controller has something to say, or is reset.
    Open,
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self::Complete(status, 0)
    }
}

/// A completion queue entry.
pub(super) fn completion(
    (status, result): (Status, u32),
    (queue, head): (u16, u16),
    id: u16,
    phase: bool,
) -> [u8; COMPLETION] {
    let mut entry = [0; COMPLETION];
    entry[0..4].copy_from_slice(&result.to_le_bytes());
    entry[8..10].copy_from_slice(&head.to_le_bytes());
    entry[10..12].copy_from_slice(&queue.to_le_bytes());
    entry[12..14].copy_from_slice(&id.to_le_bytes());
    let word = (status as u16) << 1 | u16::from(phase);
    entry[14..16].copy_from_slice(&word.to_le_bytes());
    entry
}
