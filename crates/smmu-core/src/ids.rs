//! One type for each kind of number, so that a StreamID is never taken for a SubstreamID.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $form:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $form, self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(raw: $inner) -> Self {
                Self(raw)
            }
        }
    };
}

id!(
    /// A StreamID: the device behind a transaction, as the guest numbers it (vSID) unless a
    /// name says otherwise.
    StreamId(u32), "{:#x}"
);
id!(
    /// A SubstreamID (20 bits; PCIe calls it PASID): one address space of a stream.
    SubstreamId(u32), "{:#x}"
);
id!(
    /// A VMID. With S2P=0 there is one, zero; with S2P=1 it is the *guest's* number.
    Vmid(u16), "{:#x}"
);
id!(
    /// An ASID: tags the stage-1 translations of one address space.
    Asid(u16), "{:#x}"
);
id!(
    /// A stall tag: names a stalled transaction until RESUME or STALL_TERM.
    Stag(u16), "{:#x}"
);
id!(
    /// A guest-physical address (the guest's own IPA space as the VMM maps it).
    Gpa(u64), "{:#x}"
);

impl Gpa {
    /// The address `bytes` further, or `None` past the end of the address space.
    #[must_use]
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}
