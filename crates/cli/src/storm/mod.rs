//! The vSVA storm: processes that share their page tables with a device, on every CPU, all
//! changing their memory maps at once.

mod shapes;

use crate::drive::{Script, Workload};
use shapes::{Operation, Process};
use smmu_core::StreamId;
use std::collections::BTreeSet;
use vcmdq::testing::Numbers;

/// Processes on each CPU, each with an ASID of its own.
const PROCESSES: u16 = 32;

/// The first device; each CPU's processes share one.
const FIRST_STREAM: u32 = 0x100;

/// What each CPU of the storm does: `ops` operations, the same for the same seed. `ril` is
/// whether the SMMU has range invalidation.
pub(crate) fn workload(vcpus: u32, ops: u32, seed: u64, ril: bool) -> Workload {
    let script = |vcpu: u32| {
        let mut random = Numbers::new(seed ^ u64::from(vcpu) << 32);
        let mut script = Script::default();
        for _ in 0..ops {
            let process = Process::new(vcpu as u16, random.below(u64::from(PROCESSES)) as u16);
            let operation = Operation::choose(&mut random);
            let submissions = operation.submissions(&process, &mut random, ril);
            let last = submissions.len() - 1;
            for (at, commands) in submissions.iter().enumerate() {
                script.push(commands, operation as usize, at == last);
            }
        }
        script
    };
    Workload {
        name: format!("vSVA storm {} RIL", if ril { "with" } else { "without" }),
        operations: Operation::ALL
            .iter()
            .map(|operation| operation.name())
            .collect(),
        scripts: (0..vcpus).map(script).collect(),
        repeat: 1,
    }
}

/// The devices of the storm.
pub(crate) fn streams(vcpus: u32) -> BTreeSet<StreamId> {
    (0..vcpus)
        .map(|vcpu| StreamId(FIRST_STREAM + vcpu))
        .collect()
}
