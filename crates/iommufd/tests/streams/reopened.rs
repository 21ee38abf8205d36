//! Out of fail-closed: a host's queue that was dead for a while, as the guest and the VMM see it.

use crate::guest::{Machine, asid};
use crate::host::Call;
use crate::host::world::stage1;
use rustix::io::Errno;

/// The guest's SYNCs complete all the time and its devices abort, until the VMM opens the instance again.
#[test]
fn law4_an_instance_that_failed_closed_is_opened_again_by_the_vmm() {
    let machine = Machine::new();
    machine.plug(1, 101);
    machine.boot();
    machine.configure(1, stage1(0x4000));
    machine.executed();

    machine.host.state().fail_all = Some((Call::Invalidate, Errno::TIMEDOUT));
    machine.send(&[asid()]);
    assert!(machine.backend.is_closed());
    assert_eq!(machine.config(101), Some(0));
    assert!(machine.backend.reopen().is_err(), "it is dead still");
    machine.send(&[asid()]);
    assert_eq!(machine.config(101), Some(0));

    machine.host.state().fail_all = None;
    machine.configure(1, stage1(0x8000));
    assert_eq!(machine.config(101), Some(0), "nothing opens it by itself");
    assert_eq!(machine.executed(), []);
    machine.backend.reopen().unwrap();
    assert_eq!(
        machine.executed(),
        [(0x30, 0)],
        "everything, before any stream"
    );
    assert_eq!(machine.streams.reopened(&machine.instance), []);
    assert_eq!(machine.config(101), Some(5), "as its STE says now");
    machine.send(&[asid()]);
    assert_eq!(
        machine.executed().len(),
        1,
        "what comes from here on is sent"
    );
}
