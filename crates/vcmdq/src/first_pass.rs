//! STAGE first pass: entries become typed commands, and those that need no backend are set aside.
//!
//! Each entry is read once, as two 64-bit atomic loads (law 6); everything after works on that
//! copy. Invalidations go to the coalescer, SYNCs are noted with their place, hints are done. The
//! first command of any other kind ends the window: its effect must come after everything
//! before it, and before everything behind it.

use crate::window::{Effect, Stop, Stride, SyncPoint, Window};
use dispatch::Invalidation;
use smmu_core::Capabilities;
use smmu_core::command::{Command, Tlbi};
use smmu_core::decode::decode;
use smmu_core::guest_memory::load_le;
use smmu_core::spec::command::RawCommand;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Takes entries into the window. Returns why it stopped before their end, if it did.
#[inline]
pub(crate) fn first_pass(
    window: &mut Window,
    entries: &[AtomicU64],
    caps: &Capabilities,
) -> Option<Stop> {
    for entry in entries.chunks_exact(2) {
        // Relaxed: PROD's acquire, before the first of them, makes them the published ones.
        let raw = RawCommand {
            dw0: load_le(&entry[0], Ordering::Relaxed),
            dw1: load_le(&entry[1], Ordering::Relaxed),
        };
        if !continues(window, raw) {
            let command = match decode(raw, caps) {
                Ok(command) => command,
                Err(reason) => return Some(Stop::Illegal(reason)),
            };
            // law6a: what was judged is read again to be executed, and may be nothing by then.
            #[cfg(break_law6a)]
            let Ok(command) = decode(again(entry), caps) else {
                window.len += 1;
                continue;
            };
            if let Some(effect) = take(window, raw, &command) {
                return Some(Stop::Effect(effect));
            }
        }
        window.len += 1;
    }
    None
}

#[cfg(break_law6a)]
fn again(entry: &[AtomicU64]) -> RawCommand {
    let load = |word: &AtomicU64| load_le(word, Ordering::Relaxed);
    RawCommand {
        dw0: load(&entry[0]),
        dw1: load(&entry[1]),
    }
}

/// The last invalidation once more, one range further on: the usual case by far when memory is
/// unmapped, and legal because the last one was (legality does not depend on the address).
#[inline]
fn continues(window: &mut Window, raw: RawCommand) -> bool {
    let stride = &mut window.stride;
    if raw.dw0 != stride.dw0 || raw.dw1 != stride.dw1 || stride.step == 0 {
        return false;
    }
    if !window.coalescer.extend(raw.dw1 & !0xFFF, stride.step) {
        return false;
    }
    stride.dw1 = stride.dw1.wrapping_add(stride.step);
    window.invalidations += 1;
    true
}

#[inline]
fn take(window: &mut Window, raw: RawCommand, command: &Command) -> Option<Effect> {
    match *command {
        Command::Tlbi(tlbi) => {
            window
                .coalescer
                .push(Invalidation::from_tlbi(tlbi), window.len);
            window.invalidations += 1;
            window.stride = stride(raw, tlbi);
        }
        Command::Sync(signal) => window.syncs.push(SyncPoint {
            at: window.len,
            signal,
        }),
        Command::AtcInv(ref inv) => {
            window
                .coalescer
                .push(Invalidation::from_atc_inv(inv), window.len);
            window.invalidations += 1;
        }
        Command::PrefetchConfig { .. } | Command::PrefetchAddr { .. } => {}
        Command::Cfgi(_)
        | Command::Resume { .. }
        | Command::StallTerm { .. }
        | Command::PriResp { .. } => return Effect::of(command),
    }
    None
}

/// What the command would look like one range further on; nothing if its granule is unknown.
#[inline]
fn stride(raw: RawCommand, tlbi: Tlbi) -> Stride {
    let (Tlbi::NhVa { range, .. } | Tlbi::NhVaa { range, .. }) = tlbi else {
        return Stride::default();
    };
    let step = if range.granule.is_some() {
        range.bytes
    } else {
        0
    };
    Stride {
        dw0: raw.dw0,
        dw1: raw.dw1.wrapping_add(step),
        step,
    }
}
