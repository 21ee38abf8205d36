//! Commands in the middle of an access.

use super::*;
use crate::rig::execute;
use smmu_core::access::{Access, Operation};
use smmu_core::{StreamId, SubstreamId};

/// The guest has stage 2 lead to another place in the middle of an access, and asks for what that takes:
/// at whatever moment, nothing of before is found afterwards.
fn moved_under_way(who: Who, address: u64, change: (u64, u64), commands: &[[u64; 2]]) {
    let second = SECOND + 0x1000;
    let mut moments = 0;
    loop {
        moments += 1;
        let stages = Stages::new();
        // The same levels, from the first one on; pages that are no tables at place 2.
        for (from, to) in [
            (SECOND, 0x3_8000),
            (second, 0x3_9000),
            (SECOND + 0x2000, 0x3_a000),
        ] {
            for at in (0..0x1000).step_by(8) {
                let entry = stages.memory.get(from + at).expect("in memory");
                let moved = match entry & !0xfff {
                    0 => 0,
                    _ if from + at == SECOND => 0x3_9003,
                    _ if from + at == second => 0x3_a003,
                    _ if entry >> 32 == 1 => entry + (1 << 32),
                    _ => entry,
                };
                stages.memory.set(to + at, moved);
            }
        }
        let mut port = stages.core.port(StreamId(who.0)).expect("a guard");
        let mut ask = || {
            let access = Access {
                address,
                operation: Operation::Read,
                privileged: true,
            };
            let result = port.translate(who.1.map(SubstreamId), access, 1, |_| ());
            result.map(|guard| guard.output().address >> 32)
        };
        // A port that knows its ASID keeps its guard while it reads its configuration again.
        assert_eq!(ask(), Ok(1));
        stages.execute(&[[0x04, 31], [0x30, 0]]);
        let (memory, core, caps) = (stages.memory.clone(), stages.core.clone(), stages.caps);
        let commands = commands.to_vec();
        let moved = move || {
            memory.set(change.0, change.1);
            execute(&core, &caps, &commands, false);
        };
        stages.memory.interrupt(moments, Box::new(moved));
        let during = ask();
        if !stages.memory.has_happened() {
            break;
        }
        assert!(matches!(during, Ok(1 | 2)), "{during:x?}");
        assert_eq!(
            ask(),
            Ok(2),
            "outdated at the look at memory number {moments}"
        );
    }
    assert!(moments > 7, "an STE and three levels at least");
}

#[test]
fn law3_a_walk_of_stage_2_under_way_is_not_cached() {
    let leads_elsewhere = (SECOND + 0x1000, 0x3_a003);
    let s2_ipa = [of_vmid(S2_IPA), PAGE];
    moved_under_way(ALONE, PAGE, leads_elsewhere, &[s2_ipa]);
    let nh_all = [of_vmid(0x10), 0];
    moved_under_way(ONE, VA, leads_elsewhere, &[s2_ipa, nh_all]);
}

#[test]
fn law3_a_walk_of_stage_2_by_an_outdated_ste_is_not_cached() {
    let s12_vmall = [of_vmid(0x28), 0];
    for (who, address) in [(ALONE, PAGE), (ONE, VA)] {
        let stream = u64::from(who.0);
        let other_table = (64 * stream + 24, 0x3_8000);
        let cfgi_ste = [0x03 | stream << 32, 1];
        moved_under_way(who, address, other_table, &[cfgi_ste, s12_vmall]);
    }
}
