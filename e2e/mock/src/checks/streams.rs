//! What the guest's stream table says becomes page tables of the host.

use crate::rig::{atc, page};
use crate::world::{REFUSED, World, until};
use anyhow::{Context, Result, ensure};
use smmu_core::StreamId;
use smmu_core::spec::event::EventId;
use vcmdq_iommufd::{Attachment, PlugError, Vste};

const VSID: u32 = 7;
const OTHER: u32 = 9;

/// An STE with a stage 1, and its first word as the host is asked for it.
fn stage1(contexts: u64) -> [u64; 2] {
    [1 | 5 << 1 | contexts, 0]
}

/// A stream follows its STE from table to table, and always has one; old ones are gone.
pub(super) fn attach() -> Result<String> {
    let world = World::new(&[VSID], 0)?;
    let port = world.port()?;
    world.plug(VSID, &port)?;
    world.guest.start()?;
    let abort = Vste::ABORT.0;
    until("an abort", || world.is_on(&port, abort[0]).is_ok())?;
    let steps = [
        stage1(0x1000),
        stage1(0x2000),
        Vste::BYPASS.0,
        stage1(0x1000),
        abort,
        stage1(0x3000),
    ];
    for (nth, ste) in steps.into_iter().enumerate() {
        let before = (world.state(VSID)?.attached, port.attached());
        world.guest.configure(VSID, ste)?;
        world
            .is_on(&port, ste[0])
            .with_context(|| format!("step {nth}"))?;
        if matches!(before.0, Attachment::Stage1(_)) {
            let old = world.host.table_holds(before.1, 0);
            ensure!(old.is_err(), "step {nth}: the old table is still there");
        }
    }
    world.guest.configure(VSID, stage1(REFUSED))?;
    world.is_on(&port, abort[0]).context("refused")?;
    let (events, _) = world.guest.events()?;
    let last = events.last().and_then(|event| event.id());
    ensure!(last == Some(EventId::BadSte), "{events:x?}");
    let metrics = world.streams.metrics();
    ensure!((metrics.refused, metrics.failed) == (1, 0), "{metrics:?}");
    Ok(format!("{} tables, one refused", steps.len()))
}

/// Devices come and go, and what they had cached is named by their present number only.
pub(super) fn plug() -> Result<String> {
    let world = World::new(&[VSID], 0)?;
    let (first, second) = (world.port()?, world.port()?);
    world.guest.start()?;
    world.plug(VSID, &first)?;
    let twice = world.plug(OTHER, &first);
    ensure!(
        matches!(twice, Err(PlugError::DeviceTaken { .. })),
        "a device twice: {twice:?}"
    );
    world.guest.configure(VSID, stage1(0x1000))?;
    world.guest.submit(&[atc(VSID, 0, 1)])?;
    let slots = |port: &crate::world::Port| world.host.device_slots(port.device);
    ensure!(slots(&first)? == 0b1101, "{:b} left", slots(&first)?);
    world.streams.rebind(
        &world.frame,
        StreamId(VSID),
        StreamId(OTHER),
        world.binding(),
    )?;
    world.plug(VSID, &second)?;
    world
        .is_on(&second, stage1(0x1000)[0])
        .context("the new device")?;
    world.guest.submit(&[atc(VSID, 0, 2), atc(OTHER, 0, 3)])?;
    let left = (slots(&first)?, slots(&second)?);
    ensure!(left == (0b0101, 0b1011), "{:b}, {:b} left", left.0, left.1);
    world.streams.unplug(&world.frame, StreamId(OTHER))?;
    let before = world.kernel.made();
    world.guest.submit(&[atc(OTHER, 0, 0)])?;
    ensure!(
        world.kernel.made() == before,
        "a command of nobody's has been sent"
    );
    Ok("plugged in, renumbered, replaced, taken away".into())
}

/// A device that disappears while it is plugged in: what names it fails closed, everything else is done.
pub(super) fn law4_gone() -> Result<String> {
    let world = World::new(&[VSID], 0)?;
    let (stays, goes) = (world.port()?, world.port()?);
    world.guest.start()?;
    world.plug(VSID, &stays)?;
    world.plug(OTHER, &goes)?;
    for stream in [VSID, OTHER] {
        world.guest.configure(stream, stage1(0x1000))?;
    }
    world.host.take_away(goes.device)?;
    let commands = [
        atc(VSID, 0, 1),
        atc(OTHER, 0, 1),
        atc(VSID, 0, 2),
        page(0, 3),
    ];
    world.guest.submit(&commands)?;
    let left = world.host.device_slots(stays.device)?;
    ensure!(left == 0b0001, "{left:b} left");
    ensure!(
        world.state(OTHER)?.closed && !world.state(VSID)?.closed,
        "who is closed"
    );
    world.is_on(&stays, stage1(0x1000)[0])?;
    world.streams.unplug(&world.frame, StreamId(OTHER))?;
    Ok("it aborts, the others' commands are done".into())
}

/// Another stage 2: the streams are on it with their own tables, and nothing uses the old one.
pub(super) fn law9_stage2() -> Result<String> {
    let world = World::new(&[VSID], 0)?;
    let port = world.port()?;
    world.guest.start()?;
    world.plug(VSID, &port)?;
    world.guest.configure(VSID, stage1(0x1000))?;
    let busy = world.host.destroy(world.space);
    ensure!(busy.is_err(), "stage 2 was in use by nobody");
    let next = world.host.another_space()?;
    let replaced = world
        .streams
        .replace_stage2(&world.instance, port.device.id, next)?;
    world
        .host
        .destroy(world.space)
        .context("the old stage 2 is in use")?;
    world.is_on(&port, stage1(0x1000)[0])?;
    world.guest.submit(&[page(0, 1), atc(VSID, 0, 2)])?;
    let left = world.host.device_slots(port.device)?;
    ensure!(left == 0b1001, "{left:b} left");
    ensure!(replaced.left_closed.is_empty(), "{replaced:?}");
    Ok(format!("a gap of {:?}", replaced.gap))
}
