//! Equal events merge where the STE asks for it (MEV), and nowhere else.

mod dma_world;

use dma_world::*;
use vcmdq::dma::Device;

const VA: u64 = 0x40_0000;
const MEV: u64 = 1 << 19;

/// Stream 1 with MEV, stream 2 without; nothing is mapped.
fn world() -> World {
    let world = World::new();
    for stream in [1, 2] {
        let space = world.guest.space(stream as u16);
        let cd = world.guest.attach(stream, &space);
        world
            .guest
            .ste(stream, [0xB | cd, if stream == 1 { MEV } else { 0 }]);
    }
    world
}

fn fault(device: &mut Device, va: u64) {
    assert!(device.read(va, &mut [0; 4]).is_err());
}

/// Records, and how many merged.
fn recorded(world: &World) -> (u32, u64) {
    let queue = world.faults.sink.queue();
    (queue.prod(), queue.metrics().merged)
}

#[test]
fn law8_a_storm_of_equal_faults_is_one_record() {
    let world = world();
    let mut device = world.device(1);
    (0..1000).for_each(|n| fault(&mut device, VA + n % 0x400 * 4));
    assert_eq!(recorded(&world), (1, 999));
    assert_eq!(world.faults.sink.queue().metrics().overflowed, 0);
}

#[test]
fn events_of_a_stream_that_does_not_ask_do_not_merge() {
    let world = world();
    let mut device = world.device(2);
    (0..5).for_each(|_| fault(&mut device, VA));
    assert_eq!(recorded(&world), (5, 0));
}

#[test]
fn events_that_differ_do_not_merge() {
    let world = world();
    let (mut one, mut two) = (world.device(1), world.device(2));
    fault(&mut one, VA);
    fault(&mut one, VA + 0x1000);
    assert!(one.write(VA + 0x1000, &[0]).is_err());
    fault(&mut two, VA);
    // The newest is another stream's now.
    fault(&mut one, VA);
    assert_eq!(recorded(&world), (5, 0));
}

#[test]
fn an_event_that_was_consumed_is_recorded_again() {
    let world = world();
    let mut device = world.device(1);
    let queue = world.faults.sink.queue();
    for n in 1..=200u32 {
        fault(&mut device, VA);
        fault(&mut device, VA);
        assert_eq!(recorded(&world), (n % 128, n.into()));
        queue.write_cons(queue.prod());
    }
}

#[test]
fn a_full_queue_of_equal_events_does_not_overflow() {
    let world = world();
    let mut device = world.device(1);
    (0..64).for_each(|n| fault(&mut device, VA + (n << 12)));
    fault(&mut device, VA + (63 << 12));
    assert_eq!(recorded(&world), (64, 1));
    fault(&mut device, VA);
    assert_eq!(recorded(&world).0, 64 | 1 << 31, "another one does");
}
