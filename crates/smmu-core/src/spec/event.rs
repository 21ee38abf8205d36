//! Records of the event queue, 32 bytes, and of the PRI queue, 16 bytes (IHI 0070, 7.3
//! and 8.2).

use bitfield_struct::bitfield;

macro_rules! event_ids {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $spec:literal;)*) => {
        /// What an event record reports (7.3). Codes that are not named are reserved.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum EventId {
            $($(#[$doc])* $name = $code,)*
        }

        impl EventId {
            /// The event with a code.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The architecture's own name, such as `F_TRANSLATION`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $spec,)*
                }
            }
        }
    };
}

event_ids! {
    /// F_UUT: unsupported transaction.
    UnsupportedTransaction = 0x01, "F_UUT";
    /// C_BAD_STREAMID.
    BadStreamId = 0x02, "C_BAD_STREAMID";
    /// F_STE_FETCH.
    SteFetch = 0x03, "F_STE_FETCH";
    /// C_BAD_STE.
    BadSte = 0x04, "C_BAD_STE";
    /// F_BAD_ATS_TREQ.
    BadAtsRequest = 0x05, "F_BAD_ATS_TREQ";
    /// F_STREAM_DISABLED.
    StreamDisabled = 0x06, "F_STREAM_DISABLED";
    /// F_TRANSL_FORBIDDEN.
    TranslationForbidden = 0x07, "F_TRANSL_FORBIDDEN";
    /// C_BAD_SUBSTREAMID.
    BadSubstreamId = 0x08, "C_BAD_SUBSTREAMID";
    /// F_CD_FETCH.
    CdFetch = 0x09, "F_CD_FETCH";
    /// C_BAD_CD.
    BadCd = 0x0A, "C_BAD_CD";
    /// F_WALK_EABT.
    WalkAbort = 0x0B, "F_WALK_EABT";
    /// F_TRANSLATION.
    Translation = 0x10, "F_TRANSLATION";
    /// F_ADDR_SIZE.
    AddressSize = 0x11, "F_ADDR_SIZE";
    /// F_ACCESS.
    AccessFlag = 0x12, "F_ACCESS";
    /// F_PERMISSION.
    Permission = 0x13, "F_PERMISSION";
    /// F_TLB_CONFLICT.
    TlbConflict = 0x20, "F_TLB_CONFLICT";
    /// F_CFG_CONFLICT.
    ConfigConflict = 0x21, "F_CFG_CONFLICT";
    /// E_PAGE_REQUEST.
    PageRequest = 0x24, "E_PAGE_REQUEST";
    /// F_VMS_FETCH.
    VmsFetch = 0x25, "F_VMS_FETCH";
}

/// What was being accessed when a walk failed (CLASS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// A context descriptor.
    Cd = 0,
    /// A translation table descriptor.
    TranslationTable = 1,
    /// The transaction's own address.
    Input = 2,
}

impl Class {
    /// The class with a code; 3 is reserved.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Cd),
            1 => Some(Self::TranslationTable),
            2 => Some(Self::Input),
            _ => None,
        }
    }
}

/// An event record as four words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventRecord(pub [u64; 4]);

const _: () = assert!(size_of::<EventRecord>() == EventRecord::BYTES as usize);

impl EventRecord {
    /// Size in guest memory.
    pub const BYTES: u64 = 32;

    /// Word 0: what, and which stream.
    #[must_use]
    pub fn dw0(&self) -> EventWord0 {
        self.0[0].into()
    }

    /// Word 1: how.
    #[must_use]
    pub fn dw1(&self) -> EventWord1 {
        self.0[1].into()
    }

    /// Word 1 of E_PAGE_REQUEST.
    #[must_use]
    pub fn page_request(&self) -> PageRequestWord1 {
        self.0[1].into()
    }

    /// Word 2: InputAddr.
    #[must_use]
    pub fn input_addr(&self) -> u64 {
        self.0[2]
    }

    /// Word 3, \[55:12\]: the IPA, where S2 is set.
    #[must_use]
    pub fn ipa(&self) -> u64 {
        self.0[3] & 0x00FF_FFFF_FFFF_F000
    }

    /// Word 3, \[55:3\]: FetchAddr, in the records of failed fetches.
    #[must_use]
    pub fn fetch_addr(&self) -> u64 {
        self.0[3] & 0x00FF_FFFF_FFFF_FFF8
    }

    /// The event, if the code is known.
    #[must_use]
    pub fn id(&self) -> Option<EventId> {
        EventId::from_code(self.dw0().id())
    }

    /// The bytes as they lie in the queue.
    #[must_use]
    pub fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (at, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The record in some bytes.
    #[must_use]
    pub fn from_le_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, at) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut le = [0; 8];
            le.copy_from_slice(at);
            *word = u64::from_le_bytes(le);
        }
        Self(words)
    }
}

/// Event word 0.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EventWord0 {
    /// \[7:0\] event.
    #[bits(8)]
    pub id: u8,
    #[bits(3)]
    __: u8,
    /// \[11\] SubstreamID valid.
    pub ssv: bool,
    /// \[31:12\] SubstreamID.
    #[bits(20)]
    pub substream: u32,
    /// \[63:32\] StreamID.
    #[bits(32)]
    pub stream: u32,
}

/// Event word 1 (record bits \[127:64\]).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EventWord1 {
    /// \[79:64\] stall tag, or an implementation defined reason.
    #[bits(16)]
    pub stag: u16,
    /// \[80\] granule protection check fault.
    pub gpcf: bool,
    #[bits(14)]
    __: u16,
    /// \[95\] the transaction is stalled.
    pub stall: bool,
    #[bits(1)]
    __: u8,
    /// \[97\] privileged.
    pub pnu: bool,
    /// \[98\] instruction.
    pub ind: bool,
    /// \[99\] read.
    pub rnw: bool,
    /// \[100\] IPA space.
    pub nsipa: bool,
    #[bits(2)]
    __: u8,
    /// \[103\] at stage 2.
    pub s2: bool,
    /// \[105:104\] [`Class`].
    #[bits(2)]
    pub class: u8,
    #[bits(2)]
    __: u8,
    /// \[108\] CLASS=TT: the descriptor was being read.
    pub ttrnw: bool,
    #[bits(19)]
    __: u32,
}

/// Word 1 of E_PAGE_REQUEST.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PageRequestWord1 {
    #[bits(33)]
    __: u64,
    /// \[97\] unprivileged execute.
    pub ux: bool,
    /// \[98\] unprivileged write.
    pub uw: bool,
    /// \[99\] unprivileged read.
    pub ur: bool,
    #[bits(1)]
    __: u8,
    /// \[101\] privileged execute.
    pub px: bool,
    /// \[102\] privileged write.
    pub pw: bool,
    /// \[103\] privileged read.
    pub pr: bool,
    #[bits(4)]
    __: u8,
    /// \[115:108\] 4 KiB pages.
    #[bits(8)]
    pub span: u8,
    #[bits(12)]
    __: u16,
}

/// Word 0 of a PRI record (8.2).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PriWord0 {
    /// \[31:0\] StreamID.
    #[bits(32)]
    pub stream: u32,
    /// \[51:32\] SubstreamID.
    #[bits(20)]
    pub substream: u32,
    #[bits(6)]
    __: u8,
    /// \[58\] privileged.
    pub privileged: bool,
    /// \[59\] execute.
    pub execute: bool,
    /// \[60\] read.
    pub read: bool,
    /// \[61\] write.
    pub write: bool,
    /// \[62\] last of its group.
    pub last: bool,
    /// \[63\] SubstreamID valid.
    pub ssv: bool,
}

/// Word 1 of a PRI record.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PriWord1 {
    /// \[8:0\] page request group.
    #[bits(9)]
    pub group: u16,
    #[bits(3)]
    __: u8,
    /// \[63:12\] address bits.
    #[bits(52)]
    pub page: u64,
}

/// Size of a PRI record.
pub const PRI_BYTES: u64 = 16;
