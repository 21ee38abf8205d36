//! A recorded stream as work for several producers.

use crate::drive::{Script, Workload};
use crate::error::ToolError;
use crate::trace::Trace;
use smmu_core::command::{Cfgi, Command};
use smmu_core::decode::decode;
use smmu_core::{Capabilities, StreamId};
use std::collections::BTreeSet;

/// Deals the submissions of a stream to `vcpus` producers, in turn: each keeps the recorded
/// order, and between them anything can happen, as on the machine that was recorded.
pub(crate) fn workload(trace: &Trace, vcpus: u32, repeat: u32) -> Workload {
    let mut scripts = vec![Script::default(); vcpus as usize];
    for (number, commands) in trace.submissions().enumerate() {
        scripts[number % vcpus as usize].push(commands, 0, true);
    }
    // Of a stream with fewer submissions than producers, some get none.
    scripts.retain(|script| script.len() > 0);
    Workload {
        name: trace.name.clone(),
        operations: vec!["submission"],
        scripts,
        repeat,
    }
}

/// Gives each ring of a recording a producer, which submits what was published together. What
/// several CPUs had combined is one submission, with their SYNCs in it.
pub(crate) fn as_published(trace: &Trace, repeat: u32) -> Result<Workload, ToolError> {
    let mut scripts = Vec::new();
    for ring in trace.published.iter().filter(|ring| !ring.is_empty()) {
        let mut script = Script::default();
        for commands in ring {
            script.push(commands, 0, true);
        }
        scripts.push(script);
    }
    if scripts.is_empty() {
        let name = trace.name.clone();
        return Err(ToolError::NoPublications { name });
    }
    Ok(Workload {
        name: format!("{}, as published", trace.name),
        operations: vec!["publication"],
        scripts,
        repeat,
    })
}

/// The streams that a recorded guest has: those that its commands name and a frame can have.
pub(crate) fn streams(trace: &Trace, caps: &Capabilities) -> BTreeSet<StreamId> {
    let fits = |stream: &StreamId| u64::from(stream.0) < 1 << caps.idr1.sidsize();
    trace
        .commands
        .iter()
        .filter_map(|raw| named(&decode(*raw, caps).ok()?))
        .filter(fits)
        .take(MOST_STREAMS)
        .collect()
}

/// A stream file may name more devices than any machine has.
const MOST_STREAMS: usize = 1 << 12;

fn named(command: &Command) -> Option<StreamId> {
    match *command {
        Command::Cfgi(
            Cfgi::Ste { stream, .. } | Cfgi::Cd { stream, .. } | Cfgi::CdAll { stream },
        ) => Some(stream),
        Command::AtcInv(inv) => Some(inv.stream),
        Command::PrefetchConfig { stream, .. }
        | Command::PrefetchAddr { stream, .. }
        | Command::PriResp { stream, .. }
        | Command::Resume { stream, .. }
        | Command::StallTerm { stream } => Some(stream),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::bundled;
    use std::path::Path;

    #[test]
    fn every_submission_is_dealt_once() {
        let traces = bundled().expect("whole");
        for vcpus in [1, 2, 7, 64] {
            let workload = workload(&traces[0], vcpus, 1);
            assert_eq!(workload.scripts.len(), vcpus as usize);
            assert_eq!(
                workload.scripts.iter().map(Script::len).sum::<usize>(),
                1548
            );
        }
    }

    #[test]
    fn the_recorded_guest_has_its_three_devices() {
        let boot = "../smmu-core/tests/vectors/linux-7.2-boot-nvme-strict.cmdq";
        let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join(boot);
        let trace = crate::trace::read(&boot).expect("whole");
        let streams = streams(&trace, &Capabilities::default());
        assert!(
            streams
                .into_iter()
                .eq([StreamId(0), StreamId(8), StreamId(16)])
        );
    }
}
