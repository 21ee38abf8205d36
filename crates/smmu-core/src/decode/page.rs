//! The form that nearly all commands of a busy guest have, taken apart with a few masks.

use crate::caps::Capabilities;
use crate::ids::{Asid, Vmid};
use crate::spec::command::{RawCommand, opcode};

/// Opcode, and the lowest five bits of SCALE; NUM lies between them.
const OPCODE: u64 = 0xFF;
const NUM: u64 = 0x1F << 12;
const SCALE: u64 = 0x1F << 20;
const SCALE_WITH_DS: u64 = 0x3F << 20;

/// TLBI_NH_VA of one 4 KiB page: TG=1, NUM=0, SCALE=0, TTL not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinglePage {
    /// Zero unless the guest has stage 2.
    pub vmid: Vmid,
    /// The address space.
    pub asid: Asid,
    /// The page's address.
    pub addr: u64,
    /// 1 to 3.
    pub ttl: u8,
    /// Only the last level.
    pub leaf: bool,
}

/// How to recognise a [`SinglePage`] under a frame's capabilities.
#[derive(Clone, Copy, Debug)]
pub struct PageForm {
    mask: u64,
    want: u64,
    vmid: u16,
    asid: u16,
}

impl PageForm {
    /// Under the advertised capabilities; without stage 1 or range invalidation nothing has the form.
    #[inline]
    #[must_use]
    pub fn of(caps: &Capabilities) -> Self {
        let legal = caps.idr0.s1p() && caps.idr3.ril();
        let scale = if caps.idr5.ds() { SCALE_WITH_DS } else { SCALE };
        Self {
            mask: OPCODE | NUM | scale,
            // No word has what the mask leaves out.
            want: if legal {
                u64::from(opcode::TLBI_NH_VA)
            } else {
                u64::MAX
            },
            vmid: super::vmid_mask(caps),
            asid: super::asid_mask(caps),
        }
    }

    /// Exactly what [`decode`](super::decode) says, or `None` where that is anything else or an error.
    #[inline(always)]
    #[must_use]
    pub fn page(&self, raw: RawCommand) -> Option<SinglePage> {
        // TG in bits 11:10, TTL in 9:8: TG=1 and TTL=1 to 3 are 5 to 7.
        let form = (raw.dw1 >> 8 & 0xF).wrapping_sub(5);
        if raw.dw0 & self.mask != self.want || form > 2 {
            return None;
        }
        Some(SinglePage {
            vmid: Vmid((raw.dw0 >> 32) as u16 & self.vmid),
            asid: Asid((raw.dw0 >> 48) as u16 & self.asid),
            addr: raw.dw1 & !0xFFF,
            ttl: (raw.dw1 >> 8 & 3) as u8,
            leaf: raw.dw1 & 1 != 0,
        })
    }
}
