//! Events of a virtual IOMMU.

use crate::nest::Nest;
use anyhow::{Result, ensure};
use std::fs::File;
use std::io::Read;

/// Bytes of an event: flags, number, and whose it is.
const EVENT: usize = 12;
/// Bytes of the record of lost events, which is a header alone.
const LOST: usize = 8;
/// In the flags: what comes here was lost.
const LOST_EVENTS: u32 = 1;
const VSID: u32 = 7;
const DEPTH: u32 = 2;

/// Events come in order with their device's virtual number; what finds no room is told of.
pub(super) fn events() -> Result<String> {
    let nest = Nest::new(&[VSID])?;
    let (host, device) = (&nest.host, nest.devices[0]);
    let mut queue = host.events(nest.viommu, DEPTH)?;
    ensure!(
        host.raise_event(device).is_err(),
        "an event of a device that is not nested"
    );
    let table = host.nested(device, nest.viommu, None)?;
    host.attach(device, table)?;
    ensure!(read(&mut queue)?.is_empty(), "an event before the first");
    host.raise_event(device)?;
    let one = read(&mut queue)?;
    ensure!(one == [0, 0, VSID], "{one:x?}");
    for _ in 0..DEPTH + 2 {
        host.raise_event(device)?;
    }
    let rest = read(&mut queue)?;
    let kept: Vec<_> = rest.chunks_exact(EVENT / 4).take(DEPTH as usize).collect();
    ensure!(kept == [[0, 1, VSID], [0, 2, VSID]], "kept {rest:x?}");
    let lost = &rest[DEPTH as usize * EVENT / 4..];
    ensure!(
        lost.len() == LOST / 4 && lost[0] == LOST_EVENTS,
        "{lost:x?}"
    );
    ensure!(read(&mut queue)?.is_empty(), "more than there was");
    host.raise_event(device)?;
    let after = read(&mut queue)?;
    ensure!(after == [0, 5, VSID], "{after:x?}");
    Ok(format!(
        "{} kept of {}, the others told of",
        DEPTH + 2,
        DEPTH + 4
    ))
}

/// What is there, as words of 32 bits.
fn read(queue: &mut File) -> Result<Vec<u32>> {
    let mut bytes = [0; 256];
    let length = queue.read(&mut bytes)?;
    let words = bytes[..length].chunks_exact(4);
    Ok(words
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
        .collect())
}
