//! What a host can do wrong, by who has to hear of it: every cell a test (law 4).
//!
//! In each, the guest invalidates pages far from each other, so that a call has three of the kernel's blocks,
//! and a device's cache. Whatever the host does: no ring sees an error, every SYNC completes, and when it
//! does every page is gone from every host, or that host's streams abort and the VMM has been told.

use crate::world::*;
use dispatch::Cause;
use dispatch::backend::faulty::Verdict;
use vcmdq::testing::commands::sync;
use vcmdq_iommufd::Errno;
use vcmdq_iommufd::testing::{Counting, Fault};

/// Who shares the call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Column {
    OneRing,
    ManyRings,
    /// Two hosts behind the frame, of which the first one fails.
    Group,
}

/// What the host does.
#[derive(Clone, Copy, Debug)]
enum Row {
    /// The driver refuses one command, in this block.
    Conversion(usize),
    /// A block is not done in time.
    TimeOut(usize),
    /// No block is, ever again.
    Dead,
    NoMemory,
    NoMemoryEver,
    Interrupted,
    InterruptedBehind(usize),
    /// The vdevice has gone when its cache is to be invalidated.
    Unplugged,
    /// The whole vIOMMU has.
    Gone,
    /// A device does not answer; a host up to Linux 7.2 says nothing of it.
    AtcHidden,
    /// The same of a backend that sees it.
    AtcSeen,
}

/// Distance of pages that nobody makes one request of.
const FAR: u64 = 0x1000;
/// More than two blocks.
const PAGES: u64 = 132;

/// Serves the guest's commands with the fault in the way, and looks at everything.
fn cell(column: Column, row: Row) {
    for counting in [Counting::Converted, Counting::Exact] {
        let (rings, hosts) = match column {
            Column::OneRing => (1, 1),
            Column::ManyRings => (4, 1),
            Column::Group => (2, 2),
        };
        let mut world = World::new(rings, hosts, counting);
        prepare(&world, row);
        let each = PAGES / rings as u64;
        let pages = |ring: usize| (0..each).map(move |n| (ring as u64 * each + n) * FAR);
        for ring in 0..rings {
            let mut commands: Vec<_> = pages(ring).map(tlbi).collect();
            // One ring's device.
            if ring == 0 {
                commands.push(atc_inv(stream(0)));
            }
            commands.push(sync());
            world.send(ring, &commands);
        }
        world.serve();
        for ring in 0..rings {
            let seen = u32::from(matches!(row, Row::AtcSeen) && ring == 0);
            assert_eq!(
                world.error(ring),
                3 * seen,
                "{column:?} {row:?}, ring {ring}"
            );
            assert_eq!(world.is_through(ring), seen == 0, "{column:?} {row:?}");
            for (page, host) in
                pages(ring).flat_map(|page| world.hosts.iter().map(move |host| (page, host)))
            {
                assert!(host.is_safe(page), "{column:?} {row:?}, page {page:#x}");
            }
        }
        assert!(column != Column::ManyRings || world.metrics().shared_calls > 0);
        consequences(&world, row);
        if let Some(other) = world.hosts.get(1) {
            assert!(
                other.streams.closed().is_empty(),
                "the other host is not concerned"
            );
            assert_eq!(other.backend.inner().metrics().refusals, 0);
        }
    }
}

fn prepare(world: &World, row: Row) {
    let host = &world.hosts[0];
    let kernel = &host.kernel;
    let late = |block| Fault::TimeOut {
        block,
        executed: 17,
    };
    match row {
        Row::Conversion(block) => {
            let command = in_block(world, block);
            kernel.refuse(command);
        }
        Row::TimeOut(block) => kernel.script([late(block)]),
        Row::Dead => kernel.always(Some(late(1))),
        Row::NoMemory => kernel.script([Fault::Early(Errno::NOMEM)]),
        Row::NoMemoryEver => kernel.always(Some(Fault::Early(Errno::NOMEM))),
        Row::Interrupted => kernel.script([Fault::Early(Errno::INTR)]),
        Row::InterruptedBehind(blocks) => kernel.script([Fault::Interrupted { blocks }]),
        Row::Unplugged => kernel.unplug(stream(0).0),
        Row::Gone => kernel.always(Some(Fault::Core(Errno::NOENT))),
        Row::AtcHidden => {}
        Row::AtcSeen => {
            let (take, say, cause) = (0, 0, Cause::DeviceTimedOut);
            let silent = Verdict::Refuse { take, say, cause };
            host.backend.script([Verdict::Pass, silent]);
        }
    }
}

/// The command of a page in the middle of a block, as it leaves for the host.
fn in_block(world: &World, block: usize) -> smmu_core::spec::command::RawCommand {
    // Rings are interleaved or follow each other: either way so many requests stand before it.
    let rings = world.rings.len() as u64;
    let (at, each) = (block as u64 * 63 + 3, PAGES / rings);
    let (ring, n) = (at / each, at % each);
    tlbi((ring * each + n) * FAR)
}

/// What the VMM hears, and nothing else.
fn consequences(world: &World, row: Row) {
    let host = &world.hosts[0];
    let told = world.vmm.0.lock().unwrap().clone();
    let metrics = world.metrics();
    let expected = match row {
        Row::Dead => vec![(None, Cause::TimedOut)],
        Row::NoMemoryEver => vec![(None, Cause::Again)],
        Row::Gone => vec![(None, Cause::Gone)],
        Row::Unplugged => vec![(Some(stream(0)), Cause::Gone)],
        _ => vec![],
    };
    assert_eq!(told, expected, "{row:?}");
    let closed: Vec<_> = expected.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(host.streams.closed(), closed, "{row:?}");
    let climbed = (metrics.retries > 0, metrics.widened > 0);
    match row {
        // Refused in its own form, taken in a wider one.
        Row::Conversion(_) => assert_eq!(metrics.widened, 1),
        Row::TimeOut(_) => assert_eq!(climbed, (true, false)),
        Row::NoMemory | Row::Interrupted | Row::InterruptedBehind(_) | Row::AtcHidden => {
            assert_eq!(climbed, (false, false), "{row:?}: not the engine's matter");
        }
        Row::Dead | Row::NoMemoryEver | Row::Gone | Row::Unplugged => {
            assert_eq!(climbed, (true, true), "{row:?}");
        }
        Row::AtcSeen => assert_eq!(metrics.atc_timeouts, 1),
    }
}

macro_rules! cells {
    ($($name:ident: $row:expr,)*) => { $(
        mod $name {
            use super::{Column, Row, cell};

            #[test]
            fn law4_one_ring() {
                cell(Column::OneRing, $row);
            }

            #[test]
            fn law4_many_rings() {
                cell(Column::ManyRings, $row);
            }

            #[test]
            fn law4_group() {
                cell(Column::Group, $row);
            }
        }
    )* };
}

cells! {
    conversion_error_in_the_first_block: Row::Conversion(0),
    conversion_error_in_the_second_block: Row::Conversion(1),
    conversion_error_in_the_last_block: Row::Conversion(2),
    time_out_of_the_first_block: Row::TimeOut(0),
    time_out_of_the_second_block: Row::TimeOut(1),
    time_out_of_the_last_block: Row::TimeOut(2),
    time_out_for_ever: Row::Dead,
    no_memory: Row::NoMemory,
    no_memory_for_ever: Row::NoMemoryEver,
    interrupted_at_once: Row::Interrupted,
    interrupted_behind_a_block: Row::InterruptedBehind(1),
    vdevice_gone: Row::Unplugged,
    viommu_gone: Row::Gone,
    atc_time_out_that_the_host_hides: Row::AtcHidden,
    atc_time_out_that_the_backend_sees: Row::AtcSeen,
}
