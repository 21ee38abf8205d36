//! `struct vhost_iotlb_msg` of Linux's uapi, which vhost-user carries as it is: IOVA, size and user
//! address as 64-bit numbers, permission and type as bytes, padding; native byte order.
//!
//! The message itself is the `vhost` crate's `VhostIotlbMsg`. Its own parser turns bytes of the peer
//! into enums unchecked, which is for a kernel only; here unknown values are errors.

use crate::link::{LinkError, Miss};
use dispatch::backend::software::{IovaRange, Loan, Wanted};
use vhost::{VhostAccess, VhostIotlbMsg, VhostIotlbType};

/// Bytes of the message.
pub(crate) const BYTES: usize = 32;

/// What gives a device a translation.
pub(crate) fn update(loan: &Loan) -> VhostIotlbMsg {
    VhostIotlbMsg {
        iova: loan.iova,
        size: loan.bytes,
        userspace_addr: loan.host as u64,
        perm: match loan.wanted {
            Wanted::Read => VhostAccess::ReadOnly,
            Wanted::Write => VhostAccess::WriteOnly,
            Wanted::ReadWrite => VhostAccess::ReadWrite,
        },
        msg_type: VhostIotlbType::Update,
    }
}

/// What takes translations back.
pub(crate) fn invalidate(range: &IovaRange) -> VhostIotlbMsg {
    VhostIotlbMsg {
        iova: range.iova,
        size: range.bytes,
        msg_type: VhostIotlbType::Invalidate,
        ..VhostIotlbMsg::default()
    }
}

/// As bytes.
#[cfg(feature = "vhost-user")]
pub(crate) fn encode(message: &VhostIotlbMsg) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&message.iova.to_ne_bytes());
    bytes[8..16].copy_from_slice(&message.size.to_ne_bytes());
    bytes[16..24].copy_from_slice(&message.userspace_addr.to_ne_bytes());
    bytes[24] = message.perm as u8;
    bytes[25] = message.msg_type as u8;
    bytes
}

/// A device's message, which can only be a miss: what else it says (a failed access) needs no answer.
pub(crate) fn miss(bytes: &[u8; BYTES]) -> Result<Option<Miss>, LinkError> {
    let [i0, i1, i2, i3, i4, i5, i6, i7, ..] = *bytes;
    let iova = u64::from_ne_bytes([i0, i1, i2, i3, i4, i5, i6, i7]);
    let (perm, kind) = (bytes[24], bytes[25]);
    if kind == VhostIotlbType::AccessFail as u8 {
        return Ok(None);
    }
    if kind != VhostIotlbType::Miss as u8 {
        return Err(LinkError::Protocol("an IOTLB message that is no miss"));
    }
    let wanted = match perm {
        1 => Wanted::Read,
        2 => Wanted::Write,
        3 => Wanted::ReadWrite,
        _ => return Err(LinkError::Protocol("a miss of no access")),
    };
    Ok(Some(Miss { iova, wanted }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(iova: u64, perm: u8, kind: u8) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&iova.to_ne_bytes());
        (bytes[24], bytes[25]) = (perm, kind);
        bytes
    }

    #[test]
    fn a_miss_says_where_and_what_for() {
        let wanted = [Wanted::Read, Wanted::Write, Wanted::ReadWrite];
        for (perm, wanted) in (1..).zip(wanted) {
            let iova = 0x1234_5678_9ABC_D000;
            let found = miss(&bytes(iova, perm, 1)).expect("a miss");
            assert_eq!(found, Some(Miss { iova, wanted }));
        }
    }

    #[test]
    fn law8_what_is_no_miss_is_refused() {
        for kind in (0..=255).filter(|kind| ![1, 4].contains(kind)) {
            assert!(miss(&bytes(0x1000, 1, kind)).is_err());
        }
        for perm in (0..=255).filter(|perm| !(1..=3).contains(perm)) {
            assert!(miss(&bytes(0x1000, perm, 1)).is_err());
        }
        assert_eq!(miss(&bytes(0x1000, 1, 4)).expect("to be passed by"), None);
    }
}
