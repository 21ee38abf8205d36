//! The host has no memory for some of the calls of a change: nothing is left half made, nothing untrue is said,
//! and whoever cannot be attached as the guest wants it aborts and is counted.

use crate::attach::translating;
use crate::host::world::*;
use crate::host::*;
use rustix::io::Errno;
use smmu_core::StreamId;
use vcmdq_iommufd::Attachment;

/// How many calls in a row fail. What needs memory is tried four times.
const SPANS: [usize; 5] = [1, 3, 4, 8, usize::MAX];
const STREAMS: [(u32, u32); 3] = [(1, 101), (2, 102), (3, 103)];

/// Three streams: one aborts, one translates and will by other tables, one translates and goes on to.
fn world() -> World {
    let world = World::new();
    for (stream, device) in STREAMS {
        world.plug(stream, device).unwrap();
        world.traffic(&[stream], &world.enabled());
    }
    world.configure(2, &stage1(0x4000));
    world.configure(3, &stage1(0x8000));
    world.write_ste(1, &stage1(0xC000));
    world.write_ste(2, &stage1(0x1_0000));
    world
}

/// What the guest's stream table says now.
fn wanted(device: u32) -> Seen {
    translating(match device {
        101 => 0xC000,
        102 => 0x1_0000,
        _ => 0x8000,
    })
}

fn is_on(seen: Seen, space: u32, like: Seen) -> bool {
    match (seen, like) {
        (Seen::Vste { ioas, vste }, Seen::Vste { vste: of, .. }) => ioas == space && vste == of,
        _ => false,
    }
}

/// CFGI_ALL, as the engine tells it.
fn all(world: &World) {
    STREAMS.iter().for_each(|(stream, _)| world.cfgi(*stream));
}

/// What is said of a stream is so.
fn is_told_truly(world: &World, (stream, device): (u32, u32)) -> Attachment {
    let said = world.streams.stream(StreamId(stream)).unwrap().attached;
    let seen = world.host.seen(device);
    let is_so = match said {
        Attachment::Nothing => seen == Seen::Nothing,
        Attachment::Abort => matches!(seen, Seen::Vste { vste, .. } if vste == ABORT),
        Attachment::Bypass => matches!(seen, Seen::Vste { vste, .. } if vste == BYPASS),
        Attachment::Stage1(own) => matches!(seen, Seen::Vste { vste, .. } if vste == own.0),
    };
    assert!(is_so, "stream {stream}: {said:?}, {seen:?}");
    said
}

fn ends_empty(world: &World, objects: usize) {
    for (stream, device) in STREAMS {
        world
            .streams
            .unplug(&world.frame, StreamId(stream))
            .unwrap();
        assert_eq!(world.host.seen(device), Seen::Nothing);
    }
    assert_eq!(world.host.objects(), objects, "nothing is left behind");
}

/// Runs with calls failing from each one on; how many calls there are without a failure.
fn at_each_call(mut run: impl FnMut(&World, Starved) -> bool) {
    for calls in SPANS {
        for behind in 0.. {
            let world = world();
            println!("{calls} calls fail behind {behind}");
            if run(&world, Starved { behind, calls }) {
                assert!(behind > 2, "{behind} calls are no test");
                break;
            }
        }
    }
}

#[test]
fn law4_a_cfgi_all_without_memory_leaves_streams_as_wanted_or_aborting() {
    at_each_call(|world, starved| {
        let objects = World::new().host.objects();
        world.host.state().starved = starved;
        for own in STREAMS {
            let before = world.streams.metrics();
            world.cfgi(own.0);
            let metrics = world.streams.metrics();
            let (failed, stuck) = (metrics.failed - before.failed, metrics.stuck - before.stuck);
            match (is_told_truly(world, own), failed, stuck) {
                (_, 0, 0) => assert_eq!(world.host.seen(own.1), wanted(own.1)),
                (Attachment::Abort | Attachment::Nothing, 1, 0) => assert!(starved.calls > 3),
                (Attachment::Stage1(_), 1, 1) => assert_eq!(starved.calls, usize::MAX),
                other => panic!("{own:?}: {other:?}"),
            }
        }
        let left = std::mem::take(&mut world.host.state().starved);
        all(world);
        for (_, device) in STREAMS {
            assert_eq!(world.host.seen(device), wanted(device), "told anew");
        }
        ends_empty(world, objects);
        left.behind != 0
    });
}

#[test]
fn law9_a_stage_2_that_is_replaced_without_memory_is_so_for_all_or_for_nobody() {
    at_each_call(|world, starved| {
        all(world);
        let (objects, before) = (World::new().host.objects(), world.host.objects());
        let target = world.instance.target().id();
        world.host.state().starved = starved;
        let replaced = world
            .streams
            .replace_stage2(&world.instance, 101, OTHER_IOAS);
        let left = std::mem::take(&mut world.host.state().starved);
        let metrics = world.streams.metrics();
        let Ok(replaced) = replaced else {
            assert_eq!((world.host.objects(), metrics.failed), (before, 0));
            assert_eq!(world.instance.target().id(), target);
            assert!(world.host.ioas_is_free(OTHER_IOAS));
            for (_, device) in STREAMS {
                assert_eq!(world.host.seen(device), wanted(device));
            }
            ends_empty(world, objects);
            return left.behind != 0;
        };
        for own in STREAMS {
            let said = is_told_truly(world, own);
            let names = replaced.left_closed.iter().chain(&replaced.left_aborting);
            let named = names.filter(|name| **name == StreamId(own.0)).count();
            let follows = is_on(world.host.seen(own.1), OTHER_IOAS, wanted(own.1));
            let is_blocked = matches!(said, Attachment::Abort | Attachment::Nothing);
            assert_eq!(
                named,
                usize::from(!follows),
                "{own:?}: {said:?}, {replaced:?}"
            );
            assert!(
                follows || is_blocked || metrics.stuck != 0,
                "{own:?}: {said:?}"
            );
        }
        if starved.calls <= 3 {
            assert_eq!((replaced.left_closed.len(), metrics.failed), (0, 0));
        }
        assert_eq!(metrics.failed, replaced.left_aborting.len() as u64);
        assert!(metrics.stuck != 0 || world.host.ioas_is_free(IOAS));
        if metrics.stuck == 0 {
            assert_eq!(world.streams.reopened(&world.instance), []);
            for (stream, device) in STREAMS {
                let follows = is_on(world.host.seen(device), OTHER_IOAS, wanted(device));
                let closed = replaced.left_closed.contains(&StreamId(stream));
                assert_eq!(follows, !closed, "tried again");
            }
        }
        ends_empty(world, objects);
        left.behind != 0
    });
}

/// It is the new stream, or the old one as before, or none, and then its DMA is blocked.
#[test]
fn a_stream_that_is_renumbered_without_memory_is_one_stream_or_none() {
    at_each_call(|world, starved| {
        all(world);
        let objects = World::new().host.objects();
        let (from, to) = (StreamId(3), StreamId(5));
        world.write_ste(5, &stage1(0x8000));
        world.host.state().starved = starved;
        let rebound = world.streams.rebind(&world.frame, from, to, world.binding);
        let left = std::mem::take(&mut world.host.state().starved);
        let metrics = world.streams.metrics();
        let is_there = [from, to].map(|id| world.streams.stream(id).is_some());
        match (rebound, is_there) {
            (Ok(()), [false, true]) | (Err(_), [true, false]) => {
                let id = if is_there[0] { 3 } else { 5 };
                is_told_truly(world, (id, 103));
                assert!(world.host.vdevices().contains(&(id.into(), 103)));
                // What a worker would tell, now that there is memory.
                world.traffic(&[id], &world.enabled());
                assert_eq!(world.host.seen(103), wanted(103));
                world.streams.unplug(&world.frame, StreamId(id)).unwrap();
            }
            (Err(_), [false, false]) => {
                assert!(world.host.seen(103) == Seen::Nothing || metrics.stuck != 0);
                world.host.take_away(103);
                // Whoever needs a table next sees to those that could not be destroyed before.
                world.configure(1, &stage1(0x2_0000));
            }
            other => panic!("{other:?}"),
        }
        for id in [1, 2] {
            world.streams.unplug(&world.frame, StreamId(id)).unwrap();
        }
        assert_eq!(world.host.objects(), objects, "nothing is left behind");
        left.behind != 0
    });
}

/// Its device is there, and what it lacked was memory: it has none of the old stage 2, and can have the new one.
#[test]
fn law9_a_stream_that_was_detached_for_want_of_memory_follows_to_another_stage_2() {
    let world = world();
    // As often as it is tried: the new table, and the abort table.
    for _ in 0..8 {
        world.host.fail_next(Call::Attach, Errno::NOMEM);
    }
    world.cfgi(2);
    assert_eq!(world.host.failures(Call::Attach), 0);
    assert_eq!(world.host.seen(102), Seen::Nothing);
    let replaced = world
        .streams
        .replace_stage2(&world.instance, 101, OTHER_IOAS)
        .unwrap();
    assert_eq!(
        (replaced.left_closed, replaced.left_aborting),
        (vec![], vec![])
    );
    assert!(is_on(world.host.seen(102), OTHER_IOAS, wanted(102)));
    assert!(!world.streams.stream(StreamId(2)).unwrap().closed);
}

/// Its table is the kernel's until nothing is attached to it: when the VMM has closed the device's file.
#[test]
fn a_device_that_keeps_its_table_when_it_is_unplugged_leaves_nothing_behind_when_it_has_gone() {
    let world = World::new();
    let objects = world.host.objects();
    world.plug(1, 101).unwrap();
    world.traffic(&[1], &world.enabled());
    world.configure(1, &stage1(0x4000));
    let (behind, calls) = (0, usize::MAX);
    world.host.state().starved = Starved { behind, calls };
    world.streams.unplug(&world.frame, StreamId(1)).unwrap();
    assert_ne!(world.streams.metrics().stuck, 0);
    world.host.state().starved = Starved::default();
    assert_eq!(world.host.seen(101), translating(0x4000));
    world.host.take_away(101);
    world.plug(2, 102).unwrap();
    world.traffic(&[2], &world.enabled());
    world.configure(2, &stage1(0x4000));
    world.streams.unplug(&world.frame, StreamId(2)).unwrap();
    assert_eq!(world.host.objects(), objects);
}

/// A guest can ask for what cannot be done as often as it likes.
#[test]
fn law8_a_device_that_is_stuck_or_has_gone_is_told_of_once() {
    let world = world();
    let stuck = |times: usize| {
        (0..times).for_each(|_| world.cfgi(2));
        world.streams.metrics().stuck
    };
    let (behind, calls) = (0, usize::MAX);
    for told in 1..3 {
        world.host.state().starved = Starved { behind, calls };
        assert_eq!(stuck(5), told);
        world.host.state().starved = Starved::default();
        assert_eq!(stuck(5), told);
        assert_eq!(world.host.seen(102), wanted(102));
        // Something else than before, or nothing has to be attached.
        world.configure(2, &BYPASS);
        world.configure(2, &stage1(0x4000));
        world.write_ste(2, &stage1(0x1_0000));
    }
    world.host.take_away(101);
    (0..5).for_each(|_| world.cfgi(1));
    assert_eq!(world.streams.metrics().gone, 1);
}
