//! The control path on a host that runs out of memory.

use super::setup::error_of;
use crate::nth::set_up;
use crate::world::{Mock, World, capabilities, host};
use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use std::sync::Arc;
use vcmdq_iommufd::{HostInstance, Iommufd, Vste};

const VSID: u32 = 7;
const STAGE1: [u64; 2] = [1 | 5 << 1 | 0x1000, 0];
const NEXT: [u64; 2] = [1 | 5 << 1 | 0x2000, 0];
/// More than can fail in one of these.
const MOST: u32 = 1000;

/// Whatever fails once: an instance is there or nothing of it is; a device is plugged in or can be;
/// a stream is on its new table or aborts.
pub(super) fn fail_nth() -> Result<String> {
    set_up()?;
    let instances = each("instance", instance)?;
    let (plugs, changes) = (each("plug", plug)?, each("change", change)?);
    Ok(format!(
        "{instances} failures of an instance, {plugs} of a plug, {changes} of another STE"
    ))
}

/// How many things can fail.
fn each(name: &str, one: fn(u32) -> Result<bool>) -> Result<u32> {
    let mut nth = 1;
    while one(nth).with_context(|| format!("{name}, failure {nth}"))? {
        nth += 1;
        ensure!(nth < MOST, "{name}: no end of failures");
    }
    ensure!(nth > 1, "{name}: nothing can fail");
    Ok(nth - 1)
}

/// Whether so many things could fail.
fn instance(nth: u32) -> Result<bool> {
    let (host, kernel) = host()?;
    let device = host.device()?;
    let caps = capabilities(&*kernel, device.id, 8)?;
    let space = host.another_space()?;
    let own: Arc<dyn Iommufd> = kernel.clone();
    let make = || HostInstance::new(own.clone(), Arc::new(Mock), device.id, space, &caps);
    kernel.arm(nth);
    let made = make();
    let fired = kernel.has_fired();
    let failed = made.is_err();
    if failed {
        make().context("again")?;
    } else {
        error_of(host.destroy(space), Errno::BUSY)?;
    }
    drop(made);
    host.destroy(space).context("something is left behind")?;
    Ok(fired)
}

/// Whether so many things could fail.
fn plug(nth: u32) -> Result<bool> {
    let world = World::new(&[VSID], 0)?;
    let port = world.port()?;
    world.guest.start()?;
    world.kernel.arm(nth);
    let plugged = world.plug(VSID, &port);
    let fired = world.kernel.has_fired();
    if plugged.is_err() {
        world.plug(VSID, &port).context("again")?;
    }
    world.guest.configure(VSID, STAGE1)?;
    world.is_on(&port, STAGE1[0])?;
    Ok(fired)
}

/// Whether so many things could fail. A stream is never on the table of an STE before.
fn change(nth: u32) -> Result<bool> {
    let world = World::new(&[VSID], 0)?;
    let port = world.port()?;
    world.guest.start()?;
    world.plug(VSID, &port)?;
    world.guest.configure(VSID, STAGE1)?;
    world.kernel.arm(nth);
    world.guest.configure(VSID, NEXT)?;
    let fired = world.kernel.has_fired();
    let aborts = world.is_on(&port, Vste::ABORT.0[0]);
    world.is_on(&port, NEXT[0]).or(aborts)?;
    world.guest.configure(VSID, NEXT)?;
    world.is_on(&port, NEXT[0]).context("again")?;
    Ok(fired)
}
