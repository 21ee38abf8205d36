//! The way back from a typed command to 128 bits: for producers (tests, replay) and for
//! backends that speak Arm commands to a host.

use crate::command::{AtcInv, Cfgi, Command, PriResponse, ResumeAction, Signal, Tlbi};
use crate::ids::{Asid, SubstreamId, Vmid};
use crate::range::{Granule, TlbiRange};
use crate::spec::command::{
    CfgiWord1, PriRespWord1, RawCommand, ResumeWord0, SpanWord1, StreamWord0, SyncWord0, SyncWord1,
    TlbiWord0, TlbiWord1, opcode,
};

/// Encodes a command. A TLBI whose range needs several commands must have been cut by
/// [`pieces`] first; one that has not is widened to the next range that one command can name,
/// or to everything of its VMID (of EL2) if none can. Fields wider than the command's own are
/// cut, spans widened: nothing here panics.
#[must_use]
pub fn encode(command: &Command) -> RawCommand {
    match *command {
        Command::PrefetchConfig { stream, substream } => RawCommand {
            dw0: stream_word(opcode::PREFETCH_CONFIG, stream.0, substream),
            dw1: 0,
        },
        Command::PrefetchAddr {
            stream,
            substream,
            addr,
            size,
        } => RawCommand {
            dw0: stream_word(opcode::PREFETCH_ADDR, stream.0, substream),
            dw1: span_word(addr, size.min(31)),
        },
        Command::Cfgi(cfgi) => encode_cfgi(cfgi),
        Command::Tlbi(tlbi) => encode_tlbi(tlbi),
        Command::AtcInv(inv) => encode_atc_inv(&inv),
        Command::PriResp {
            stream,
            substream,
            group,
            response,
        } => RawCommand {
            dw0: stream_word(opcode::PRI_RESP, stream.0, substream),
            dw1: PriRespWord1::new()
                .with_group(group & 0x1FF)
                .with_response(match response {
                    PriResponse::Failure => 0,
                    PriResponse::Invalid => 1,
                    PriResponse::Success => 2,
                })
                .into_bits(),
        },
        Command::Resume {
            stream,
            stag,
            action,
        } => RawCommand {
            dw0: ResumeWord0::new()
                .with_opcode(opcode::RESUME)
                .with_retry(action == ResumeAction::Retry)
                .with_abort(action == ResumeAction::Abort)
                .with_stream(stream.0)
                .into_bits(),
            dw1: u64::from(stag.0),
        },
        Command::StallTerm { stream } => RawCommand {
            dw0: stream_word(opcode::STALL_TERM, stream.0, None),
            dw1: 0,
        },
        Command::Sync(signal) => encode_sync(signal),
    }
}

fn stream_word(op: u8, stream: u32, substream: Option<SubstreamId>) -> u64 {
    StreamWord0::new()
        .with_opcode(op)
        .with_ssv(substream.is_some())
        .with_substream(substream.map_or(0, |s| s.0 & 0xF_FFFF))
        .with_stream(stream)
        .into_bits()
}

fn span_word(addr: u64, size: u8) -> u64 {
    SpanWord1::new()
        .with_page(addr >> 12)
        .with_size(size)
        .into_bits()
}

fn encode_cfgi(cfgi: Cfgi) -> RawCommand {
    let (op, stream, substream, range) = match cfgi {
        Cfgi::Ste { stream, leaf } => (opcode::CFGI_STE, stream.0, 0, u8::from(leaf)),
        Cfgi::SteRange { stream, range } => (opcode::CFGI_STE_RANGE, stream.0, 0, range),
        Cfgi::All => (opcode::CFGI_STE_RANGE, 0, 0, 31),
        Cfgi::Cd {
            stream,
            substream,
            leaf,
        } => (opcode::CFGI_CD, stream.0, substream.0, u8::from(leaf)),
        Cfgi::CdAll { stream } => (opcode::CFGI_CD_ALL, stream.0, 0, 0),
    };
    let low = StreamWord0::new().with_opcode(op).with_stream(stream);
    RawCommand {
        dw0: low.with_substream(substream & 0xF_FFFF).into_bits(),
        dw1: CfgiWord1::new().with_range(range.min(31)).into_bits(),
    }
}

fn encode_tlbi(tlbi: Tlbi) -> RawCommand {
    let (op, vmid, asid, range) = match tlbi {
        Tlbi::NhAll { vmid } => (opcode::TLBI_NH_ALL, vmid, Asid(0), None),
        Tlbi::NhAsid { vmid, asid } => (opcode::TLBI_NH_ASID, vmid, asid, None),
        Tlbi::NhVa { vmid, asid, range } => (opcode::TLBI_NH_VA, vmid, asid, Some(range)),
        Tlbi::NhVaa { vmid, range } => (opcode::TLBI_NH_VAA, vmid, Asid(0), Some(range)),
        Tlbi::El2All => (opcode::TLBI_EL2_ALL, Vmid(0), Asid(0), None),
        Tlbi::El2Asid { asid } => (opcode::TLBI_EL2_ASID, Vmid(0), asid, None),
        Tlbi::El2Va { asid, range } => (opcode::TLBI_EL2_VA, Vmid(0), asid, Some(range)),
        Tlbi::El2Vaa { range } => (opcode::TLBI_EL2_VAA, Vmid(0), Asid(0), Some(range)),
        Tlbi::S12VmAll { vmid } => (opcode::TLBI_S12_VMALL, vmid, Asid(0), None),
        Tlbi::S2Ipa { vmid, range } => (opcode::TLBI_S2_IPA, vmid, Asid(0), Some(range)),
        Tlbi::NsnhAll => (opcode::TLBI_NSNH_ALL, Vmid(0), Asid(0), None),
    };
    let low = TlbiWord0::new()
        .with_opcode(op)
        .with_vmid(vmid.0)
        .with_asid(asid.0);
    let whole = |op| RawCommand {
        dw0: low.with_opcode(op).into_bits(),
        dw1: 0,
    };
    match range {
        None => whole(op),
        Some(range) => encode_range(low, &range).unwrap_or_else(|| {
            whole(match op {
                opcode::TLBI_NH_VA | opcode::TLBI_NH_VAA => opcode::TLBI_NH_ALL,
                opcode::TLBI_S2_IPA => opcode::TLBI_S12_VMALL,
                _ => opcode::TLBI_EL2_ALL,
            })
        }),
    }
}

/// Both words of a TLBI by address, or `None` if no single command can name that much.
fn encode_range(low: TlbiWord0, range: &TlbiRange) -> Option<RawCommand> {
    let high = TlbiWord1::new()
        .with_leaf(range.leaf)
        .with_page(range.addr >> 12);
    let plain = RawCommand {
        dw0: low.into_bits(),
        dw1: high.into_bits(),
    };
    let Some(granule) = range.granule else {
        return Some(plain);
    };
    let (start, count) = granules(range, granule);
    let (num, scale) = num_scale(count)?;
    // 16 KiB with TTL=1 is TTL=0 to a receiver without 52-bit addresses.
    let any_level = range.ttl == 0 || (range.ttl == 1 && granule == Granule::K16);
    if num == 0 && scale == 0 && any_level {
        // The reserved triple. TG=0 removes the page that contains the address, whatever its
        // granule, so it removes at least as much.
        return Some(plain);
    }
    let ttl = if range.ttl > 3 { 0 } else { range.ttl };
    Some(RawCommand {
        dw0: low.with_num(num).with_scale(scale).into_bits(),
        dw1: high
            .with_page(start >> 12)
            .with_ttl(ttl)
            .with_tg(granule as u8)
            .into_bits(),
    })
}

/// A range in whole granules: the first address and their number.
fn granules(range: &TlbiRange, granule: Granule) -> (u64, u64) {
    let start = range.addr & !(granule.bytes() - 1);
    let span = (range.addr - start).saturating_add(range.bytes);
    (start, units(span, granule.shift()).max(1))
}

/// How many units of `2^shift` `count` needs; a division by a number that is not known is slow.
#[inline]
fn units(count: u64, shift: u32) -> u64 {
    (count >> shift) + u64::from(count & ((1 << shift) - 1) != 0)
}

/// The smallest (NUM, SCALE) whose (NUM+1)·2^SCALE is at least `granules`. SCALE keeps to the
/// five bits that every implementation reads: with the sixth, one without 52-bit
/// addresses would remove far too little.
fn num_scale(granules: u64) -> Option<(u8, u8)> {
    let scale = (64 - granules.leading_zeros()).saturating_sub(5);
    let scale = if units(granules, scale) > 32 {
        scale + 1
    } else {
        scale
    };
    // 32 whole units need no larger scale.
    let scale = if scale == MAX_SCALE + 1 && granules == 32 << MAX_SCALE {
        MAX_SCALE
    } else {
        scale
    };
    (scale <= MAX_SCALE).then(|| ((units(granules, scale) - 1) as u8, scale as u8))
}

/// The largest SCALE of five bits.
const MAX_SCALE: u32 = 31;

/// Cuts a range into pieces that one command each can name exactly, as Linux's driver does:
/// the lowest set bit of the page count is the scale, the next five bits are the number.
/// It ends at the top of the address space. A range has at most eight pieces until it is
/// longer than one command can name (2^36 granules); from there, one for each such length.
pub fn pieces(range: TlbiRange) -> impl Iterator<Item = TlbiRange> {
    let granule = range.granule.unwrap_or(Granule::K4);
    let shift = granule.shift();
    let (start, count) = granules(&range, granule);
    let mut addr = start;
    let mut left = if range.bytes == 0 { 0 } else { count };
    core::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let pages = if range.granule.is_some() {
            let scale = left.trailing_zeros().min(MAX_SCALE);
            match left >> scale {
                units @ 1..=32 => units << scale,
                // Five zero bits are 32 units; only at the largest scale can they be.
                units if units & 0x1F == 0 => 32 << scale,
                units => (units & 0x1F) << scale,
            }
        } else {
            1
        };
        let piece = TlbiRange {
            addr,
            bytes: pages << shift,
            ..range
        };
        left -= pages;
        match addr.checked_add(piece.bytes) {
            Some(next) => addr = next,
            None => left = 0,
        }
        Some(piece)
    })
}

fn encode_atc_inv(inv: &AtcInv) -> RawCommand {
    let low = StreamWord0::from_bits(stream_word(opcode::ATC_INV, inv.stream.0, inv.substream));
    RawCommand {
        dw0: low.with_global(inv.global).into_bits(),
        dw1: span_word(inv.addr, inv.size.min(52)),
    }
}

/// MSIAddress, \[55:2\].
const MSI_ADDR: u64 = 0x00FF_FFFF_FFFF_FFFC;

fn encode_sync(signal: Signal) -> RawCommand {
    let low = SyncWord0::new().with_opcode(opcode::SYNC);
    match signal {
        Signal::None => RawCommand {
            dw0: low.into_bits(),
            dw1: 0,
        },
        Signal::Sev => RawCommand {
            dw0: low.with_cs(2).into_bits(),
            dw1: 0,
        },
        Signal::Irq { msi } => RawCommand {
            // Shareability and attributes as Linux sets them: inner, write-back.
            dw0: low
                .with_cs(1)
                .with_msh(3)
                .with_msi_attr(0xF)
                .with_msi_data(msi.map_or(0, |m| m.data))
                .into_bits(),
            dw1: SyncWord1::new()
                .with_msi_word(msi.map_or(0, |m| (m.addr.0 & MSI_ADDR) >> 2))
                .into_bits(),
        },
    }
}
