//! What the kernel says, and has done, when it is out of memory.

use crate::host::{DeviceEntry, SELFTEST, SLOTS};
use crate::nest::Nest;
use crate::nth::{Switch, set_up};
use anyhow::{Result, ensure};

const VSID: u32 = 7;

/// Of each failure in a call the kernel says that the call failed; what it wrote back may be anything.
pub(super) fn fail_nth() -> Result<String> {
    set_up()?;
    let switch = Switch::new()?;
    let mut errors = Vec::new();
    let mut lies = 0;
    let mut nth = 1;
    loop {
        let nest = Nest::new(&[VSID])?;
        let entries: Vec<_> = (0..SLOTS)
            .map(|slot| DeviceEntry::slot(VSID, slot))
            .collect();
        let send = || nest.host.invalidate(nest.viommu, SELFTEST, &entries);
        let ((result, count), more) = switch.during(nth, send);
        let left = nest.host.device_slots(nest.devices[0])?;
        match (more == 0, result) {
            (false, result) => {
                result?;
                ensure!((count, left) == (SLOTS, 0), "{count} done, {left:b} left");
                break;
            }
            (true, Ok(())) => ensure!(left == 0, "nothing failed, and {left:b} is left"),
            (true, Err(error)) => {
                lies += u32::from(count != SLOTS - left.count_ones());
                errors.push(error.raw_os_error().unwrap_or_default());
            }
        }
        nth += 1;
    }
    ensure!(nth > 1, "nothing in a call can fail");
    Ok(format!("errors {errors:?}, {lies} counts wrong"))
}
