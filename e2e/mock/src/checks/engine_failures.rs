//! The engine on a host that runs out of memory.

use crate::host::SLOTS;
use crate::nth::set_up;
use crate::rig::{Rig, Work, page};
use anyhow::{Context, Result, ensure};

const VSID: u32 = 7;
/// More calls than that can nothing fail in.
const MOST: u32 = 100;

/// Whatever fails once in the host: when the SYNC is done, what its commands name is gone, nothing else is, and
/// nobody has been told of anything.
pub(super) fn law4_fail_nth() -> Result<String> {
    set_up()?;
    let mut sizes = Vec::new();
    for length in [1, 64, 130] {
        let mut nth = 1;
        while one(length, nth).with_context(|| format!("{length} commands, failure {nth}"))? {
            nth += 1;
            ensure!(nth < MOST, "no end of failures");
        }
        ensure!(nth > 1, "nothing in a call can fail");
        sizes.push(format!("{length} commands: {} failures", nth - 1));
    }
    Ok(sizes.join(", "))
}

/// Whether so many things could fail.
fn one(length: u64, nth: u32) -> Result<bool> {
    let mut rig = Rig::new(&[VSID], Work::Stepped)?;
    let commands: Vec<_> = (0..length).map(|at| page(at, (at % 3) as u32)).collect();
    rig.kernel.arm(nth);
    rig.run(&commands)?;
    let fired = rig.kernel.has_fired();
    let removed = (1 << length.min(3)) - 1;
    let (left, closed) = (rig.slots(0)?, rig.closed());
    let all = (1 << SLOTS) - 1;
    ensure!(left == all & !removed, "{left:b} left");
    ensure!(closed.is_empty(), "{closed:?} closed");
    Ok(fired)
}
