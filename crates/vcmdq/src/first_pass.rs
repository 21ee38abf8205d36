//! STAGE first pass: entries become typed commands, and those that need no backend are set aside.
//!
//! Each entry is read once, as two 64-bit atomic loads (law 6); everything after works on that
//! copy. Invalidations go to the coalescer, SYNCs are noted with their place, hints are done. The
//! first command of any other kind ends the window: its effect must come after everything
//! before it, and before everything behind it.

use crate::budget;
use crate::window::{Effect, Stop, Stride, SyncPoint, Window};
use dispatch::{Invalidation, Stage};
use smmu_core::Capabilities;
use smmu_core::command::{Command, Signal};
use smmu_core::decode::{Illegal, PageForm, decode, nh_va, signal};
use smmu_core::guest_memory::load_le;
use smmu_core::range::Granule;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::accepts;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Takes entries into the window, until its budget is spent; those of a `vcmdq` may be fewer kinds of
/// commands. Returns the command that it stopped at, if there is one.
#[inline]
pub(crate) fn first_pass(
    window: &mut Window,
    entries: &[AtomicU64],
    caps: &Capabilities,
    vcmdq: bool,
) -> Option<Stop> {
    let mut own_cost = window.own_cost;
    let stop = take_entries(window, entries, caps, vcmdq, &mut own_cost);
    window.own_cost = own_cost;
    stop
}

/// `own_cost` is the window's, where it costs nothing to count.
#[inline(always)]
fn take_entries(
    window: &mut Window,
    entries: &[AtomicU64],
    caps: &Capabilities,
    vcmdq: bool,
    own_cost: &mut u64,
) -> Option<Stop> {
    let form = PageForm::of(caps);
    let mut unread = entries.chunks_exact(2).map(read);
    while let Some(raw) = follow(window, &mut unread) {
        if vcmdq && !accepts(raw) {
            return Some(Stop::Illegal(Illegal::NotThroughVcmdq(raw.opcode())));
        }
        if !page(window, raw, &form) && !hot(window, raw, caps) {
            let command = match decode(raw, caps) {
                Ok(command) => command,
                Err(reason) => return Some(Stop::Illegal(reason)),
            };
            if matches!(command, Command::AtcInv(_)) && window.has_sync() {
                return Some(Stop::AfterSync);
            }
            // law6a: what was judged is read again to be executed, and may be nothing by then.
            let command = match vcmdq_sync::broken!(break_law6a) {
                false => Ok(command),
                true => decode(again(entries, unread.len()), caps),
            };
            let Ok(command) = command else {
                window.len += 1;
                continue;
            };
            if let Some(effect) = take(window, &command, raw) {
                return Some(Stop::Effect(effect));
            }
        }
        window.len += 1;
        *own_cost += budget::COMMAND;
        if window.exceeds(*own_cost) {
            break;
        }
    }
    None
}

/// Relaxed: PROD's acquire, before the first of them, makes them the published ones.
#[inline(always)]
fn read(entry: &[AtomicU64]) -> RawCommand {
    RawCommand {
        dw0: load_le(&entry[0], Ordering::Relaxed),
        dw1: load_le(&entry[1], Ordering::Relaxed),
    }
}

fn again(entries: &[AtomicU64], unread: usize) -> RawCommand {
    let at = entries.len() / 2 - unread - 1;
    read(&entries[2 * at..])
}

/// Takes the last invalidation once more, and once more, each time one range further on: the usual
/// case by far when memory is unmapped, and legal because the last one was (legality does not
/// depend on the address). Returns the first command that is something else.
#[inline(always)]
fn follow(
    window: &mut Window,
    unread: &mut impl Iterator<Item = RawCommand>,
) -> Option<RawCommand> {
    let Stride { dw0, mut dw1, step } = window.stride;
    let mut times = 0;
    let other = loop {
        match unread.next() {
            // A step of zero is "nothing follows"; an address below the step has wrapped round the
            // top of the address space, where a range ends.
            Some(raw) if raw.dw1 == dw1 && raw.dw0 == dw0 && step != 0 && dw1 >= step => {
                times += 1;
                dw1 = dw1.wrapping_add(step);
            }
            other => break other,
        }
    };
    if times > 0 {
        window.coalescer.extend(u64::from(times) * step);
        window.stride.dw1 = dw1;
        window.invalidations += times;
        window.len += times;
    }
    other
}

/// One page, as most commands have it.
#[inline(always)]
fn page(window: &mut Window, raw: RawCommand, form: &PageForm) -> bool {
    if vcmdq_sync::broken!(break_law6a) {
        return false;
    }
    let Some(page) = form.page(raw) else {
        return false;
    };
    let step = if window.coalescer.push_page(&page, window.len) {
        Granule::K4.bytes()
    } else {
        0
    };
    window.invalidations += 1;
    window.stride = Stride {
        dw0: raw.dw0,
        dw1: raw.dw1.wrapping_add(step),
        step,
    };
    true
}

/// The two commands that hot paths consist of, without the detour through a [`Command`] in memory.
#[inline(always)]
fn hot(window: &mut Window, raw: RawCommand, caps: &Capabilities) -> bool {
    if vcmdq_sync::broken!(break_law6a) {
        return false;
    }
    if let Some((vmid, asid, range)) = nh_va(raw, caps) {
        let coalescer = &mut window.coalescer;
        coalescer.push_addresses(vmid, Stage::One, Some(asid), &range, window.len);
        window.invalidations += 1;
        window.stride = Stride::default();
        if range.granule.is_some() && coalescer.ends_at(range.addr.checked_add(range.bytes)) {
            let dw1 = raw.dw1.wrapping_add(range.bytes);
            window.stride = Stride {
                dw0: raw.dw0,
                dw1,
                step: range.bytes,
            };
        }
        return true;
    }
    if let Some(signal) = signal(raw, caps) {
        note_sync(window, raw, signal);
        return true;
    }
    false
}

#[inline(always)]
fn note_sync(window: &mut Window, raw: RawCommand, signal: Signal) {
    let at = window.len;
    window.syncs.push(SyncPoint { at, raw });
    // Runs do not go on behind a SYNC often enough to be guessed; the coalescer compares all at once.
    window.stride.step = 0;
    match signal {
        Signal::None | Signal::Sev => {}
        Signal::Irq { msi: Some(msi) } if window.has_word(msi.addr) => {}
        // A wire, or a word that lies wherever the guest says.
        Signal::Irq { .. } => window.coalescer.charge(budget::CALLBACK),
    }
}

#[inline]
fn take(window: &mut Window, command: &Command, raw: RawCommand) -> Option<Effect> {
    match *command {
        Command::Tlbi(tlbi) => invalidate(window, Invalidation::from_tlbi(tlbi)),
        Command::AtcInv(ref inv) => invalidate(window, Invalidation::from_atc_inv(inv)),
        Command::Sync(signal) => note_sync(window, raw, signal),
        Command::PrefetchConfig { .. } | Command::PrefetchAddr { .. } => {}
        Command::Cfgi(_)
        | Command::Resume { .. }
        | Command::StallTerm { .. }
        | Command::PriResp { .. } => return Effect::of(command),
    }
    None
}

/// The request that the last stride would lengthen is not the newest one any more.
fn invalidate(window: &mut Window, request: Invalidation) {
    window.stride = Stride::default();
    window.coalescer.push(request, window.len);
    window.invalidations += 1;
}
