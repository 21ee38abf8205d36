//! The engine with its backend on the mock: what the guest's commands remove, and what not.

use crate::host::SLOTS;
use crate::rig::{Rig, Work, atc, page};
use anyhow::{Context, Result, ensure};
use smmu_core::StreamId;
use smmu_core::command::{Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Vmid};

/// All slots of a cache.
const FULL: u32 = (1 << SLOTS) - 1;
const VSIDS: [u32; 2] = [7, 0x1F];
/// A stream that the frame has and the host has not: its device went away.
const GONE: u32 = 0x30;

/// When the SYNC is done, what the commands name is gone, and nothing else.
pub(super) fn exact() -> Result<String> {
    let mut rig = Rig::new(&VSIDS, Work::Stepped)?;
    let mut left = [FULL; 2];
    let asid = encode(&Command::Tlbi(Tlbi::NhAsid {
        vmid: Vmid(0),
        asid: Asid(1),
    }));
    let steps: [(&[RawCommand], [u32; 2]); 5] = [
        // A stream that nobody has bound, and one that is.
        (&[atc(0x77, 0, 0), atc(VSIDS[1], 1, 0)], [0, 1]),
        (&[page(0, 1)], [1 << 1, 1 << 1]),
        (&[atc(VSIDS[0], 0, 3)], [1 << 3, 0]),
        (&[page(9, 1), atc(VSIDS[1], 3, 2)], [0, 1 << 2]),
        (&[asid], [FULL, FULL]),
    ];
    for (number, (commands, gone)) in steps.into_iter().enumerate() {
        rig.run(commands)?;
        for (device, gone) in gone.into_iter().enumerate() {
            left[device] &= !gone;
            let slots = rig.slots(device)?;
            let expected = left[device];
            ensure!(
                slots == expected,
                "step {number}, device {device}: {slots:b}, not {expected:b}"
            );
        }
    }
    ensure!(rig.closed().is_empty(), "{:?} closed", rig.closed());
    let (calls, entries) = rig.kernel.made();
    Ok(format!("5 steps, {calls} calls, {entries} entries"))
}

/// A command for a device that has gone, anywhere in the window: all others are done when the SYNC is, that
/// stream aborts, and the guest is told of no error.
pub(super) fn law4_gone() -> Result<String> {
    let places = [
        (1, 0),
        (3, 1),
        (130, 0),
        (130, 62),
        (130, 63),
        (130, 64),
        (130, 129),
    ];
    let mut calls = 0;
    for (length, at) in places {
        let mut rig = Rig::new(&VSIDS[..1], Work::Stepped)?;
        rig.bind(GONE)?;
        // The first one and the last one remove what no other does.
        let slot = |nth: usize| match nth {
            0 => 1,
            last if last == length - 1 => 2,
            _ => 0,
        };
        let mut commands: Vec<_> = (0..length)
            .map(|nth| atc(VSIDS[0], nth as u64, slot(nth)))
            .collect();
        commands[at] = atc(GONE, 1, 0);
        let removed = (0..length).filter(|&nth| nth != at);
        let removed = removed.fold(0, |all, nth| all | 1 << slot(nth));
        run_in_pieces(&mut rig, &commands)?;
        let (slots, closed) = (rig.slots(0)?, rig.closed());
        ensure!(slots == FULL & !removed, "{at} of {length}: {slots:b} left");
        ensure!(
            closed == [Some(StreamId(GONE))],
            "{at} of {length}: {closed:?} closed"
        );
        calls += rig.kernel.made().0;
    }
    Ok(format!("at {} places, {calls} calls", places.len()))
}

/// As the driver does it: pieces of 64, the SYNC behind the last.
fn run_in_pieces(rig: &mut Rig, commands: &[RawCommand]) -> Result<()> {
    let mut pieces = commands.chunks(64).peekable();
    while let Some(piece) = pieces.next() {
        match pieces.peek() {
            Some(_) => rig.queue.insert(piece)?,
            None => rig.run(piece)?,
        }
    }
    Ok(())
}

/// A window is one call, however many SYNCs are in it.
pub(super) fn calls() -> Result<String> {
    let mut rig = Rig::new(&VSIDS[..1], Work::Stepped)?;
    let mut seen = Vec::new();
    for waiting in [1, 2, 4, 8, 64] {
        let before = rig.kernel.made();
        let mut last = None;
        for producer in 0..waiting {
            last = Some(rig.publish(&[page(producer, 0)])?.index());
        }
        rig.serve();
        let (calls, entries) = rig.kernel.made();
        let (calls, entries) = (calls - before.0, entries - before.1);
        rig.has_passed(last.context("nobody waits")?)?;
        ensure!(
            (calls, entries) == (1, waiting),
            "{waiting} waiting: {calls} calls, {entries} entries"
        );
        seen.push(format!("{waiting}: {:.3}", calls as f64 / waiting as f64));
    }
    Ok(format!(
        "calls for a SYNC by SYNCs that wait: {}",
        seen.join(", ")
    ))
}
