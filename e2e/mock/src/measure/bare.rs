//! The plain ioctl, by the number of its entries.

use crate::host::{DeviceEntry, Host, SELFTEST};
use crate::report::note;
use anyhow::{Result, ensure};
use std::time::Instant;

/// Entries of a call.
pub(crate) const SIZES: [usize; 6] = [1, 8, 63, 64, 128, 1008];
/// Calls that are timed together, and how often: the shortest counts, in which nobody else ran.
const TOGETHER: u32 = 8;
const TIMES: u32 = 60;

pub(super) fn run() -> Result<()> {
    let host = Host::new()?;
    let device = host.device()?;
    let parent = host.parent(device)?;
    let viommu = host.viommu(device, parent, SELFTEST)?;
    host.vdevice(viommu, device, 7)?;
    note("one ioctl                entries       us    us/entry");
    for entries in SIZES {
        let all = vec![DeviceEntry::slot(7, 1); entries];
        let took = call_takes(|| {
            let (result, count) = host.invalidate(viommu, SELFTEST, &all);
            result?;
            ensure!(count as usize == entries, "{count} done");
            Ok(())
        })?;
        note(&format!(
            "bare                     {entries:>7} {took:>8.2} {:>11.3}",
            took / entries as f64
        ));
    }
    Ok(())
}

/// Microseconds of one.
fn call_takes(mut one: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        let start = Instant::now();
        for _ in 0..TOGETHER {
            one()?;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best * 1e6 / f64::from(TOGETHER))
}
