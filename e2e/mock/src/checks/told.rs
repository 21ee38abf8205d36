//! What the host tells of the streams, as the guest sees it.

use crate::world::{World, until};
use anyhow::{Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smmu_core::StreamId;
use smmu_core::command::{Command, ResumeAction};
use smmu_core::encode::encode;
use smmu_core::spec::event::EventId;
use vcmdq_iommufd::Vste;

const VSID: u32 = 7;
const CONTEXTS: [u64; 2] = [1 | 5 << 1 | 0x1000, 0];
/// Events that the kernel keeps.
const DEPTH: u64 = 4096;
/// Events that the guest has room for.
const ROOM: usize = 128;

fn is_readable(world: &World) -> Result<bool> {
    let mut file = [PollFd::new(&*world.instance, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(poll(&mut file, Some(&now))? != 0)
}

fn drain(world: &World) -> Result<()> {
    while world.streams.drain(&world.instance)? {}
    Ok(())
}

/// Events come with the stream's number; those that the kernel has lost are an overflow.
pub(super) fn events() -> Result<String> {
    let world = World::new(&[VSID], 0)?;
    let port = world.port()?;
    world.guest.start()?;
    world.plug(VSID, &port)?;
    world.guest.configure(VSID, CONTEXTS)?;
    ensure!(!is_readable(&world)?, "an event before the first");
    for _ in 0..3 {
        world.host.raise_event(port.device)?;
    }
    ensure!(is_readable(&world)?, "nothing to read");
    drain(&world)?;
    let (events, lost) = world.guest.events()?;
    let ours = events
        .iter()
        .filter(|event| event.id() == Some(EventId::Translation) && event.dw0().stream() == VSID);
    ensure!(
        (ours.count(), lost) == (3, false),
        "{events:x?}, lost: {lost}"
    );
    for _ in 0..DEPTH + 5 {
        world.host.raise_event(port.device)?;
    }
    drain(&world)?;
    let ((events, lost), metrics) = (world.guest.events()?, world.streams.metrics());
    ensure!(
        metrics.events + metrics.lost == 3 + DEPTH + 5,
        "{metrics:?}"
    );
    ensure!(metrics.lost >= 5 && lost, "{metrics:?}, lost: {lost}");
    ensure!(events.len() == ROOM, "{} events", events.len());
    Ok(format!(
        "{} told, {} lost in the kernel",
        metrics.events, metrics.lost
    ))
}

/// A page fault is a stalled access until the guest resumes it, or the stream aborts.
pub(super) fn faults() -> Result<String> {
    let world = World::new(&[VSID], 8)?;
    let port = world.port()?;
    world.guest.start()?;
    world.plug(VSID, &port)?;
    world.guest.configure(VSID, CONTEXTS)?;
    for (group, address) in [(1, 0x5000), (2, 0x6000), (3, 0x7000)] {
        world.host.raise_fault(port.device, group, address)?;
    }
    drain(&world)?;
    let (events, _) = world.guest.events()?;
    let stalled: Vec<_> = events.iter().filter(|event| event.dw1().stall()).collect();
    let addresses: Vec<_> = stalled.iter().map(|event| event.input_addr()).collect();
    ensure!(addresses == [0x5000, 0x6000, 0x7000], "{events:x?}");
    let pending = || world.streams.pending_faults(&world.instance);
    ensure!(pending() == 3, "{} pending", pending());
    for (event, action) in stalled
        .iter()
        .zip([ResumeAction::Retry, ResumeAction::Abort])
    {
        let (stream, stag) = (StreamId(VSID), event.dw1().stag().into());
        let resume = encode(&Command::Resume {
            stream,
            stag,
            action,
        });
        world.guest.submit(&[resume])?;
    }
    ensure!(pending() == 1, "{} pending", pending());
    world.guest.configure(VSID, Vste::ABORT.0)?;
    world.guest.submit(&[encode(&Command::StallTerm {
        stream: StreamId(VSID),
    })])?;
    until("the last answer", || pending() == 0)?;
    let metrics = world.streams.metrics();
    ensure!(metrics.stalled == 3, "{metrics:?}");
    Ok(format!(
        "3 stalled, {} answers came too late",
        metrics.unanswered
    ))
}
