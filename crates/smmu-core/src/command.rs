//! What a guest meant: a closed, typed command without raw words.

use crate::ids::{Asid, Gpa, Stag, StreamId, SubstreamId, Vmid};
use crate::range::TlbiRange;
use core::ops::RangeInclusive;

/// A legal command of the Non-secure command queue (IHI 0070, chapter 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// PREFETCH_CONFIG: a hint.
    PrefetchConfig {
        /// The stream.
        stream: StreamId,
        /// Its substream, if SSV.
        substream: Option<SubstreamId>,
    },
    /// PREFETCH_ADDR: a hint.
    PrefetchAddr {
        /// The stream.
        stream: StreamId,
        /// Its substream, if SSV.
        substream: Option<SubstreamId>,
        /// First address.
        addr: u64,
        /// log2 of the number of addresses.
        size: u8,
    },
    /// Configuration has changed.
    Cfgi(Cfgi),
    /// Translations have changed.
    Tlbi(Tlbi),
    /// Translations that a device caches have changed.
    AtcInv(AtcInv),
    /// PRI_RESP.
    PriResp {
        /// The stream.
        stream: StreamId,
        /// Its substream, if SSV.
        substream: Option<SubstreamId>,
        /// Page request group index.
        group: u16,
        /// The answer.
        response: PriResponse,
    },
    /// RESUME a stalled transaction.
    Resume {
        /// The stream.
        stream: StreamId,
        /// Which of its stalled transactions.
        stag: Stag,
        /// What becomes of it.
        action: ResumeAction,
    },
    /// STALL_TERM: terminate all stalled transactions of a stream.
    StallTerm {
        /// The stream.
        stream: StreamId,
    },
    /// SYNC: wait for everything before.
    Sync(Signal),
}

/// Which cached configuration goes (4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cfgi {
    /// CFGI_STE.
    Ste {
        /// The stream.
        stream: StreamId,
        /// Only the STE; otherwise the L1 descriptor too.
        leaf: bool,
    },
    /// CFGI_STE_RANGE: 2^(range+1) streams, aligned.
    SteRange {
        /// Any stream of the range.
        stream: StreamId,
        /// 0 to 30.
        range: u8,
    },
    /// CFGI_ALL.
    All,
    /// CFGI_CD.
    Cd {
        /// The stream.
        stream: StreamId,
        /// The substream (0 where there are none).
        substream: SubstreamId,
        /// Only the CD; otherwise the L1 descriptor too.
        leaf: bool,
    },
    /// CFGI_CD_ALL.
    CdAll {
        /// The stream.
        stream: StreamId,
    },
}

impl Cfgi {
    /// Whether the command is about `stream`. A range is computed in 64 bits: 2^31 streams
    /// overflow 32 (IHI 0070, 4.3.2).
    #[must_use]
    pub fn concerns(&self, stream: StreamId) -> bool {
        match *self {
            Self::Ste { stream: own, .. }
            | Self::Cd { stream: own, .. }
            | Self::CdAll { stream: own } => own == stream,
            Self::SteRange { stream: own, range } => {
                let shift = u32::from(range.min(31)) + 1;
                u64::from(own.0) >> shift == u64::from(stream.0) >> shift
            }
            Self::All => true,
        }
    }

    /// The streams that the command may be about: all that it [concerns](Self::concerns), and no others.
    #[must_use]
    pub fn streams(&self) -> RangeInclusive<StreamId> {
        match *self {
            Self::Ste { stream, .. } | Self::Cd { stream, .. } | Self::CdAll { stream } => {
                stream..=stream
            }
            Self::SteRange { stream, range } => {
                let below = u32::MAX >> (31 - range.min(31));
                StreamId(stream.0 & !below)..=StreamId(stream.0 | below)
            }
            Self::All => StreamId(0)..=StreamId(u32::MAX),
        }
    }

    /// Whether it is about STEs, and so about what a stream is attached to.
    #[must_use]
    pub fn reaches_ste(&self) -> bool {
        matches!(self, Self::Ste { .. } | Self::SteRange { .. } | Self::All)
    }
}

/// Which cached translations go (4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tlbi {
    /// TLBI_NH_ALL: stage 1 and combined entries of the VMID, global ones too.
    NhAll {
        /// VMID.
        vmid: Vmid,
    },
    /// TLBI_NH_ASID: the same, of one ASID, but no global entries.
    NhAsid {
        /// VMID.
        vmid: Vmid,
        /// ASID.
        asid: Asid,
    },
    /// TLBI_NH_VA: entries of the ASID and global ones, by address.
    NhVa {
        /// VMID.
        vmid: Vmid,
        /// ASID.
        asid: Asid,
        /// Addresses.
        range: TlbiRange,
    },
    /// TLBI_NH_VAA: entries of every ASID and global ones, by address.
    NhVaa {
        /// VMID.
        vmid: Vmid,
        /// Addresses.
        range: TlbiRange,
    },
    /// TLBI_EL2_ALL.
    El2All,
    /// TLBI_EL2_ASID.
    El2Asid {
        /// ASID.
        asid: Asid,
    },
    /// TLBI_EL2_VA.
    El2Va {
        /// ASID.
        asid: Asid,
        /// Addresses.
        range: TlbiRange,
    },
    /// TLBI_EL2_VAA.
    El2Vaa {
        /// Addresses.
        range: TlbiRange,
    },
    /// TLBI_S12_VMALL: everything of the VMID, both stages.
    S12VmAll {
        /// VMID.
        vmid: Vmid,
    },
    /// TLBI_S2_IPA: stage 2 entries, by intermediate address.
    S2Ipa {
        /// VMID.
        vmid: Vmid,
        /// Intermediate physical addresses.
        range: TlbiRange,
    },
    /// TLBI_NSNH_ALL: everything that is not EL2's.
    NsnhAll,
}

/// ATC_INV (4.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtcInv {
    /// The stream.
    pub stream: StreamId,
    /// Its substream; `None` means entries with and without PASID.
    pub substream: Option<SubstreamId>,
    /// Every PASID of the stream (meaningful with a substream only).
    pub global: bool,
    /// First address, aligned to the span.
    pub addr: u64,
    /// log2 of the number of 4 KiB pages; 52 is the whole address space.
    pub size: u8,
}

impl AtcInv {
    /// The last address covered.
    #[must_use]
    pub fn last(&self) -> u64 {
        if self.size >= 52 {
            u64::MAX
        } else {
            self.addr | ((4096u64 << self.size) - 1)
        }
    }
}

/// How the guest learns of a SYNC's completion (4.7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// CS=0: CONS only.
    None,
    /// CS=1: a message if there is an address and IDR0.MSI, and the wired interrupt.
    Irq {
        /// Where the message goes; `None` is "no message".
        msi: Option<Msi>,
    },
    /// CS=2: an event for WFE.
    Sev,
}

/// A 32-bit write that is an interrupt, or a word that a producer polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// Where.
    pub addr: Gpa,
    /// What.
    pub data: u32,
}

/// A RESUME's verdict (4.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeAction {
    /// Translate anew.
    Retry,
    /// Terminate with an abort.
    Abort,
    /// Terminate; reads as zero, writes ignored, unless TERM_MODEL makes it an abort.
    Terminate,
}

/// A PRI_RESP's answer (4.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriResponse {
    /// Response Failure.
    Failure,
    /// Invalid Request.
    Invalid,
    /// Success.
    Success,
}
