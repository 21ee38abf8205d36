//! Arm commands for a vIOMMU of an SMMUv3 (`IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3`).
//!
//! The kernel takes TLBI_NSNH_ALL, NH_ALL, NH_ASID, NH_VA, NH_VAA, ATC_INV, CFGI_CD and CFGI_CD_ALL,
//! and nothing else. It puts the host's VMID and StreamID in, and passes the rest on unseen: what the
//! architecture reserves would be an error on the host's own queue. So fields are shaped here.

use super::{BLOCK, Encoder, Entries, NotEncodable};
use crate::uapi::kind;
use dispatch::{BackendCapabilities, Batch, Invalidation, Scope, Stage};
use smmu_core::command::{AtcInv, Cfgi, Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::{RawCommand, TlbiWord0, TlbiWord1, opcode};
use smmu_core::{Asid, Vmid};
use std::ops::Range;

/// The VMID of a command to the kernel, which puts its own there.
const NO_VMID: Vmid = Vmid(0);

/// Commands of an SMMUv3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmSmmuv3 {
    ranges: bool,
}

impl ArmSmmuv3 {
    /// For a host whose SMMU has range invalidation (IDR3.RIL), or not: then a range becomes a command
    /// for each page, or, if they are more than a block of the kernel's has room for, NH_ALL.
    #[must_use]
    pub fn new(ranges: bool) -> Self {
        Self { ranges }
    }

    #[inline]
    fn addresses(self, asid: Option<Asid>, range: &TlbiRange, entries: &mut Entries) {
        match range.granule {
            Some(granule) if self.ranges => push_raw(entries, one(asid, range, granule)),
            _ => self.page_by_page(asid, range, entries),
        }
    }

    fn page_by_page(self, asid: Option<Asid>, range: &TlbiRange, entries: &mut Entries) {
        // TG=0 names the page that contains the address, whatever its size.
        let step = range.granule.map_or(4096, Granule::bytes);
        let first = range.addr & !(step - 1);
        // An empty range is the page that it begins in.
        let last = range.addr.saturating_add(range.bytes.saturating_sub(1));
        let pages = (last - first) / step + 1;
        if pages > BLOCK as u64 {
            return push(entries, Tlbi::NhAll { vmid: NO_VMID });
        }
        for page in 0..pages {
            let range = TlbiRange {
                addr: first + page * step,
                bytes: 4096,
                granule: None,
                ttl: 0,
                leaf: range.leaf,
            };
            push(entries, by_address(asid, range));
        }
    }
}

impl Encoder for ArmSmmuv3 {
    fn data_type(&self) -> u32 {
        kind::INVALIDATE_ARM_SMMUV3
    }

    fn entry_len(&self) -> usize {
        16
    }

    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            ranges_of_any_granule: false,
            caches_contexts: true,
            may_block: true,
            // One command names any range, or one for each page as many as fill a block.
            widen_above: match self.ranges {
                true => u64::MAX,
                false => BLOCK as u64 * Granule::K4.bytes(),
            },
        }
    }

    fn joins(&self) -> bool {
        self.ranges
    }

    fn encode_run(&self, batch: &Batch, part: Range<usize>, entries: &mut Entries) -> usize {
        if !self.ranges {
            return 0;
        }
        let first = part.start;
        let of_known_granule = batch.stage_one_addresses(part).map_while(|addresses| {
            let (asid, range) = addresses?;
            let granule = range.granule?;
            Some(bytes(one(asid, &range, granule)))
        });
        entries.push_run(first, of_known_granule)
    }

    fn encode(&self, request: &Invalidation, entries: &mut Entries) -> Result<(), NotEncodable> {
        let stage_one = request.stage == Stage::One;
        let tlbi = match request.scope {
            Scope::All => Tlbi::NsnhAll,
            Scope::Context(asid) if stage_one => Tlbi::NhAsid {
                vmid: NO_VMID,
                asid,
            },
            Scope::Addresses { asid, ref range } if stage_one => {
                self.addresses(asid, range, entries);
                return Ok(());
            }
            Scope::DeviceTlb {
                stream,
                pasid,
                global,
                addr,
                size,
            } => {
                let size = size.min(52);
                let span = 1u64.checked_shl(12 + u32::from(size)).unwrap_or(0);
                push_command(
                    entries,
                    &Command::AtcInv(AtcInv {
                        stream,
                        substream: pasid,
                        // Means nothing without a PASID.
                        global: global && pasid.is_some(),
                        addr: addr & !span.wrapping_sub(1),
                        size,
                    }),
                );
                return Ok(());
            }
            Scope::ContextTable {
                stream,
                pasid,
                leaf,
            } => {
                let cfgi = match pasid {
                    Some(substream) => Cfgi::Cd {
                        stream,
                        substream,
                        leaf,
                    },
                    None => Cfgi::CdAll { stream },
                };
                push_command(entries, &Command::Cfgi(cfgi));
                return Ok(());
            }
            // No command spares other ASIDs and takes globals. And a stream behind a vIOMMU has neither
            // a stage 2 of the guest's own nor EL2: all that the host can have of it is the VMID's.
            Scope::Vmid
            | Scope::ContextAndGlobals(_)
            | Scope::Context(_)
            | Scope::Addresses { .. } => Tlbi::NhAll { vmid: NO_VMID },
        };
        push(entries, tlbi);
        Ok(())
    }
}

fn by_address(asid: Option<Asid>, range: TlbiRange) -> Tlbi {
    match asid {
        Some(asid) => Tlbi::NhVa {
            vmid: NO_VMID,
            asid,
            range,
        },
        None => Tlbi::NhVaa {
            vmid: NO_VMID,
            range,
        },
    }
}

/// A range of a known granule, for a host that has range invalidation.
#[inline(always)]
fn one(asid: Option<Asid>, range: &TlbiRange, granule: Granule) -> RawCommand {
    match single(asid, range, granule) {
        Some(raw) => raw,
        None => encode(&Command::Tlbi(by_address(asid, promised(range, granule)))),
    }
}

/// Nearly every request: one granule, at a level that its address is aligned for. What `encode` says of it,
/// without its arithmetic.
#[inline(always)]
fn single(asid: Option<Asid>, range: &TlbiRange, granule: Granule) -> Option<RawCommand> {
    let last_level = range.ttl == 3 || range.ttl == 2;
    let within = (1u64 << granule.leaf_shift(range.ttl)) - 1;
    if !(last_level && range.bytes == granule.bytes() && range.addr & within == 0) {
        return None;
    }
    let (op, asid) = match asid {
        Some(asid) => (opcode::TLBI_NH_VA, asid),
        None => (opcode::TLBI_NH_VAA, Asid(0)),
    };
    let low = TlbiWord0::new().with_opcode(op).with_asid(asid.0);
    let high = TlbiWord1::new()
        .with_leaf(range.leaf)
        .with_ttl(range.ttl)
        .with_tg(granule as u8)
        .with_page(range.addr >> 12);
    Some(RawCommand {
        dw0: low.into_bits(),
        dw1: high.into_bits(),
    })
}

/// Without a level hint whose promise the address does not keep: then what is removed would be
/// unpredictable (IHI 0070, 4.4.1.1).
fn promised(range: &TlbiRange, granule: Granule) -> TlbiRange {
    let within = (1u64 << granule.leaf_shift(range.ttl)) - 1;
    let keeps = (1..=3).contains(&range.ttl) && range.addr & within == 0;
    TlbiRange {
        ttl: if keeps { range.ttl } else { 0 },
        ..*range
    }
}

fn push(entries: &mut Entries, tlbi: Tlbi) {
    push_command(entries, &Command::Tlbi(tlbi));
}

fn push_command(entries: &mut Entries, command: &Command) {
    push_raw(entries, encode(command));
}

#[inline]
fn push_raw(entries: &mut Entries, raw: RawCommand) {
    entries.push(&bytes(raw));
}

#[inline(always)]
fn bytes(raw: RawCommand) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&raw.dw0.to_le_bytes());
    bytes[8..].copy_from_slice(&raw.dw1.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The short way says the same as the long one.
    #[test]
    fn a_single_granule_is_what_encode_makes_of_it() {
        let mut short = 0;
        for granule in Granule::ALL {
            for (ttl, leaf, bytes) in
                (0..4).flat_map(|ttl| [(ttl, true, 1), (ttl, false, 1), (ttl, true, 3)])
            {
                for addr in [
                    0,
                    granule.bytes(),
                    1 << 25,
                    0x7FFF_2000_0000,
                    !0xFFFF,
                    0x3000,
                ] {
                    for asid in [None, Some(Asid(0xABCD))] {
                        let bytes = bytes * granule.bytes();
                        let granule = Some(granule);
                        let range = TlbiRange {
                            addr,
                            bytes,
                            granule,
                            ttl,
                            leaf,
                        };
                        let Some(raw) = granule.and_then(|granule| single(asid, &range, granule))
                        else {
                            continue;
                        };
                        short += 1;
                        assert_eq!(raw, encode(&Command::Tlbi(by_address(asid, range))));
                    }
                }
            }
        }
        assert!(short > 40, "{short}");
    }
}
