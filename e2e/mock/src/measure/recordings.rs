//! What recordings of Linux guests come to: how many TLBIs become one request, and how many calls each SYNC
//! costs, with one submission at a time and with several that wait together.

use crate::report::note;
use crate::rig::{Rig, Work};
use anyhow::{Context, Result, ensure};
use smmu_core::spec::command::{RawCommand, opcode};
use vcmdq_trace::Recording;

/// Each with its name.
const RECORDINGS: [(&str, &[u8]); 4] = [
    (
        "4 CPUs, CMDQ, RIL",
        include_bytes!("../../../../traces/linux-7.2-nvme-strict-4cpu-cmdq.vcq"),
    ),
    (
        "8 CPUs, CMDQ",
        include_bytes!("../../../../traces/linux-7.2-nvme-strict-8cpu-cmdq-noril.vcq"),
    ),
    (
        "4 CPUs, VCMDQs",
        include_bytes!("../../../../traces/linux-7.2-nvme-strict-4cpu-vcmdq-noril.vcq"),
    ),
    (
        "8 CPUs, VCMDQs, RIL",
        include_bytes!("../../../../traces/linux-7.2-nvme-strict-8cpu-vcmdq.vcq"),
    ),
];
/// Submissions that wait when the engine looks.
const TOGETHER: [usize; 3] = [1, 8, 64];
const VSID: u32 = 7;

/// What was sent of a recording.
struct Sent {
    commands: u64,
    syncs: u64,
    requests: u64,
    calls: u64,
}

pub(super) fn run() -> Result<()> {
    note(
        "recordings: commands and SYNCs; with so many submissions waiting: commands/request, calls/SYNC",
    );
    let head = TOGETHER.map(|together| format!("{together:>14} waiting"));
    note(&format!(
        "{:<20} {:>8} {:>6} {}",
        "",
        "commands",
        "SYNCs",
        head.concat()
    ));
    for (name, bytes) in RECORDINGS {
        let submissions = submissions(bytes).with_context(|| format!("the recording of {name}"))?;
        let sent = TOGETHER.map(|together| send(&submissions, together));
        let mut row = String::new();
        for sent in sent {
            let sent = sent?;
            if row.is_empty() {
                row = format!("{name:<20} {:>8} {:>6} ", sent.commands, sent.syncs);
            }
            let per_request = sent.commands as f64 / sent.requests as f64;
            let per_sync = sent.calls as f64 / sent.syncs as f64;
            row += &format!("{per_request:>13.2} {per_sync:>8.3}");
        }
        note(&row);
    }
    Ok(())
}

/// What each SYNC of a recording waits for, ring by ring.
fn submissions(bytes: &[u8]) -> Result<Vec<Vec<RawCommand>>> {
    let is_sync = |raw: &RawCommand| raw.opcode() == opcode::SYNC;
    let recording = Recording::read(bytes)?;
    ensure!(recording.damaged == 0, "it is damaged");
    let pieces = recording.rings.iter().flat_map(|ring| {
        let pieces = ring.commands.split(is_sync);
        pieces.filter(|piece| !piece.is_empty()).map(<[_]>::to_vec)
    });
    Ok(pieces.collect())
}

/// Sends all of them, `together` at a time and with a SYNC behind each.
fn send(submissions: &[Vec<RawCommand>], together: usize) -> Result<Sent> {
    let mut rig = Rig::new(&[VSID], Work::Stepped)?;
    for some in submissions.chunks(together) {
        let mut last = None;
        for commands in some {
            last = Some(rig.publish(commands)?.index());
        }
        rig.serve();
        if let Some(last) = last {
            rig.has_passed(last)?;
        }
    }
    rig.no_error()?;
    let (metrics, (calls, _)) = (rig.metrics(), rig.kernel.made());
    ensure!(metrics.syncs == submissions.len() as u64, "every SYNC");
    Ok(Sent {
        commands: submissions.iter().map(|piece| piece.len() as u64).sum(),
        syncs: metrics.syncs,
        requests: metrics.requests,
        calls,
    })
}
