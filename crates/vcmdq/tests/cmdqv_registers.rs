//! The Tegra241 CMDQV frame as its driver finds it, with page 0 trapped and as memory.

mod cmdqv_world;
mod common;

use cmdqv_world::*;
use common::{Told, illegal, tlbi};
use smmu_core::command::{Cfgi, Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::offset;
use smmu_core::{StreamId, Vmid};
use vcmdq::cmdqv::{CmdqvError, CmdqvSettings};
use vcmdq::testing::commands::sync;
use vcmdq::{Line, gerror_bits};

const BOTH: [bool; 2] = [false, true];

#[test]
fn linux_probes_resets_and_uses_every_queue() {
    for mapped in BOTH {
        let mut world = World::new(3, mapped);
        assert_eq!(world.read(offset::PARAM), 1 | 3 << 4 | 4 << 12);
        world.reset();
        assert_eq!(world.read(offset::VINTF + 4), 1 | 8 << 16);
        for queue in 0..8 {
            world.round_trip(queue, queue as u64);
            assert_eq!(world.ring(queue).metrics().syncs, 1);
        }
        assert_eq!(world.cmdqv.ignored_accesses(), 0);
        assert!(world.outside.take().is_empty(), "and no error");
    }
}

/// Row 32: a driver that comes up again finds PROD and CONS where it has put them, zero.
#[test]
fn row32_a_second_reset_resumes_with_prod_and_cons_zeroed() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        for page in 0..5 {
            world.round_trip(0, page);
        }
        assert_eq!(world.cons(0), 10);
        world.reset();
        assert_eq!((world.cons(0), world.cons(1)), (0, 0));
        world.round_trip(0, 77);
        assert_eq!(world.cons(0), 2);
    }
}

#[test]
fn the_global_view_is_another_way_to_the_same_registers() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        let global = offset::VCMDQ_PAGE0;
        world.put(0, 0, &[tlbi(1), sync()]);
        world.write(global + offset::VCMDQ_PROD, 2);
        world.poll("CONS", |w| w.read(global) == 2);
        assert_eq!(world.cons(0), 2);
        let page1 = offset::VCMDQ_PAGE1 + offset::VCMDQ_BASE;
        assert_eq!(world.cmdqv.read(page1, 8), base(0).0 | u64::from(LOG2SIZE));
        // The allocation map says what a global number means.
        world.write(offset::CMDQ_ALLOC, 1 | 1 << 1);
        assert_eq!(world.cmdqv.read(page1, 8), base(1).0 | u64::from(LOG2SIZE));
        world.write(global + offset::VCMDQ_CONFIG, 0);
        world.poll("EN_OK", |w| !w.ring(1).is_enabled());
        assert!(!world.ring(0).is_enabled(), "nobody owns queue 0 any more");
    }
}

#[test]
fn wrong_widths_and_offsets_read_as_zero_and_are_counted() {
    let world = World::new(1, false);
    assert_eq!(world.cmdqv.read(1, 4), 0);
    assert_eq!(world.cmdqv.read(offset::PARAM, 8), 0);
    assert_eq!(world.cmdqv.read(offset::PARAM, 2), 0);
    world.cmdqv.write(offset::CONFIG, 8, 1);
    assert_eq!(world.cmdqv.ignored_accesses(), 4);
    assert_eq!(world.read(offset::CONFIG), 0);
    for at in [
        0x5_0000,
        u64::MAX - 3,
        LOGICAL0 + 2 * 0x80,
        LOGICAL1 + 0x100,
    ] {
        world.write(at, u32::MAX);
        assert_eq!(world.read(at), 0);
    }
    // BASE by halves.
    world.write(LOGICAL1 + 4, 0x12);
    world.write(LOGICAL1, 0x3456_0008);
    assert_eq!(world.cmdqv.read(LOGICAL1, 8), 0x12_3456_0008);
    assert_eq!(world.read(LOGICAL1 + 4), 0x12);
}

#[test]
fn more_queues_than_there_are_or_a_short_page_are_refused() {
    let world = World::new(0, false);
    let again = world.frame.add_cmdqv(CmdqvSettings::default());
    assert_eq!(again.unwrap_err(), CmdqvError::Present);
    let frame = world.engine.add_frame(
        vcmdq::FrameSettings::default(),
        vcmdq::Seams::new(world.memory.clone()),
    );
    let settings = |log2_queues, page| CmdqvSettings { log2_queues, page };
    let many = frame.add_cmdqv(settings(5, None));
    assert_eq!(many.unwrap_err(), CmdqvError::Queues(5));
    let page = std::sync::Arc::new(vcmdq::HeapPage::default());
    let short = frame.add_cmdqv(settings(1, Some(page)));
    let (words, queues) = (32, 2);
    assert_eq!(
        short.unwrap_err(),
        CmdqvError::PageTooSmall { words, queues }
    );
    assert!(frame.rings().is_empty());
    frame.add_cmdqv(settings(4, None)).unwrap();
    assert_eq!(frame.rings().len(), 16);
    let small = vcmdq::Settings {
        max_rings: 3,
        ..vcmdq::Settings::default()
    };
    let engine = vcmdq::Engine::without_workers(small).unwrap();
    let seams = vcmdq::Seams::new(world.memory.clone());
    let frame = engine.add_frame(vcmdq::FrameSettings::default(), seams);
    let full = frame.add_cmdqv(settings(2, None)).unwrap_err();
    assert_eq!(full, CmdqvError::Ring(vcmdq::RingError::Full(3)));
    assert!(frame.rings().is_empty());
}

fn forbidden() -> Vec<RawCommand> {
    let stream = StreamId(0x10);
    vec![
        encode(&Command::Cfgi(Cfgi::Ste { stream, leaf: true })),
        encode(&Command::Cfgi(Cfgi::All)),
        encode(&Command::Tlbi(Tlbi::NsnhAll)),
        encode(&Command::Tlbi(Tlbi::S12VmAll { vmid: Vmid(0) })),
        encode(&Command::Sync(Signal::Irq { msi: None })),
        encode(&Command::Sync(Signal::Sev)),
        encode(&Command::PrefetchConfig {
            stream,
            substream: None,
        }),
        illegal(),
    ]
}

/// What may not come through a VCMDQ stops it exactly there, and what lies before it is done.
#[test]
fn law4_a_command_that_may_not_come_through_a_vcmdq_stops_it_there() {
    for mapped in BOTH {
        for bad in forbidden() {
            let mut world = World::new(1, mapped);
            world.reset();
            world.cache(1);
            world.cache(2);
            world.put(1, 0, &[tlbi(1), sync(), bad, tlbi(2), sync()]);
            world.publish(1, 5);
            world.poll("the error", |w| {
                w.queue_read(1, offset::VCMDQ_GERROR) == gerror_bits::CMDQ_ERR
            });
            assert_eq!(world.cons(1), 2 | 1 << 24, "{bad:?}");
            assert!(!world.cached(1) && world.cached(2));
            assert_eq!(world.outside.take(), [Told::Pulse(Line::Cmdqv)]);
            // The maps, by every view.
            assert_eq!(world.read(offset::VINTF_ERR_MAP), 1);
            assert_eq!(world.read(offset::CMDQ_ERR_MAP), 0b10);
            let map = offset::VINTF + offset::VINTF_LVCMDQ_ERR_MAP;
            assert_eq!(world.cmdqv.read(map, 8), 0b10);
            assert_eq!(world.cmdqv.read(map + 8, 8), 0);
            assert_eq!(world.read(offset::VINTF + 4) & 0xE, 2);
            // Linux: a SYNC in place of the command, then the acknowledgement.
            world.put(1, 2, &[sync()]);
            world.queue_write(1, offset::VCMDQ_GERRORN, 1);
            assert_eq!(world.cmdqv.read(map, 8), 0, "the bit goes at once");
            assert_eq!(world.read(LOGICAL0 + 0x80) >> 24, 0, "and so does ERR");
            world.poll("CONS", |w| w.cons(1) == 5);
            assert!(!world.cached(2));
        }
    }
}

/// Row 32: each new error is one edge, also when another queue's bit is still set.
#[test]
fn row32_every_new_error_pulses_the_interrupt_once() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        for queue in [0, 1] {
            world.put(queue, 0, &[illegal()]);
            world.publish(queue, 1);
            world.serve_all();
            assert_eq!(world.outside.take(), [Told::Pulse(Line::Cmdqv)]);
        }
        assert_eq!(world.read(offset::CMDQ_ERR_MAP), 0b11);
        // The same command again: a new error, though nobody has looked at the map between.
        let gerror = world.queue_read(0, offset::VCMDQ_GERROR);
        world.queue_write(0, offset::VCMDQ_GERRORN, gerror);
        world.serve_all();
        assert_eq!(world.queue_read(0, offset::VCMDQ_GERROR), gerror ^ 1);
        assert_eq!(world.outside.take(), [Told::Pulse(Line::Cmdqv)]);
    }
}

#[test]
fn row32_an_error_behind_the_mask_pulses_when_the_mask_goes() {
    let mut world = World::new(0, false);
    world.reset();
    world.write(offset::VINTF_INT_MASK, 1);
    world.put(0, 0, &[illegal()]);
    world.publish(0, 1);
    world.serve_all();
    assert!(world.outside.take().is_empty());
    assert_eq!(world.read(offset::VINTF_ERR_MAP), 1, "but it shows");
    world.write(offset::VINTF_INT_MASK, 0);
    assert_eq!(world.outside.take(), [Told::Pulse(Line::Cmdqv)]);
}

/// Row 32: bit l of the map is queue l, by 64 bits, by halves and by bytes in memory's order.
#[test]
fn row32_the_error_map_is_little_endian() {
    let mut world = World::new(4, false);
    world.reset();
    world.put(9, 0, &[illegal()]);
    world.publish(9, 1);
    world.serve_all();
    let map = offset::VINTF + offset::VINTF_LVCMDQ_ERR_MAP;
    let word = world.cmdqv.read(map, 8);
    assert_eq!(word.to_le_bytes(), [0, 2, 0, 0, 0, 0, 0, 0]);
    assert_eq!((world.read(map), world.read(map + 4)), (0x200, 0));
    assert_eq!(world.read(offset::CMDQ_ERR_MAP), 0x200);
    assert_eq!(world.read(offset::CMDQ_ERR_MAP + 4), 0);
}

/// Row 32: the largest queue at an address that is aligned to less than its size.
#[test]
fn row32_a_base_must_be_aligned_to_the_largest_size() {
    for mapped in BOTH {
        let mut world = World::new(0, mapped);
        world.reset();
        let attempts = [
            (base(0).0 + 0x800, LOG2SIZE),
            (0x80_0000 - 0x1000, 19),
            (0x80_0000, 19),
            (0, 3),
            (base(0).0, 20),
        ];
        for (address, log2size) in attempts {
            world.deinit_queue(0);
            let value = address | u64::from(log2size);
            world.cmdqv.write(LOGICAL1, 8, value);
            world.queue_write(0, offset::VCMDQ_CONFIG, 1);
            world.serve_all();
            assert_eq!(world.queue_read(0, offset::VCMDQ_STATUS), 0, "{address:#x}");
            assert_eq!(
                world.queue_read(0, offset::VCMDQ_GERROR) & 4,
                world.init_error()
            );
            assert_eq!(world.outside.take(), [Told::Pulse(Line::Cmdqv)]);
            // Acknowledged, it does not come back by itself.
            let gerror = world.queue_read(0, offset::VCMDQ_GERROR);
            world.queue_write(0, offset::VCMDQ_GERRORN, gerror);
            world.serve_all();
            assert_eq!(world.read(offset::VINTF_ERR_MAP), 0);
        }
        world.init_queue(0);
        world.round_trip(0, 3);
    }
}

impl World {
    /// INIT_ERR as it toggles: the complement of what has been acknowledged.
    fn init_error(&self) -> u32 {
        !self.queue_read(0, offset::VCMDQ_GERRORN) & 4
    }
}

/// Row 32: VINTF and allocation map come and go in any order; a queue runs while all agree.
#[test]
fn row32_a_queue_runs_while_cmdqv_vintf_and_allocation_agree() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        let switches = [
            (offset::CONFIG, 0),
            (offset::VINTF, 0),
            (offset::CMDQ_ALLOC, 0),
            (offset::CMDQ_ALLOC, 1 | 1 << 15),
            (offset::CMDQ_ALLOC, 1 | 5 << 1),
        ];
        for (at, off) in switches {
            world.round_trip(0, 9);
            let (old, cons) = (world.read(at), world.cons(0));
            world.write(at, off);
            world.poll("EN_OK=0", |w| w.queue_read(0, offset::VCMDQ_STATUS) == 0);
            world.put(0, cons, &[sync()]);
            world.publish(0, (cons + 1) % 512);
            world.serve_all();
            assert_eq!(world.cons(0), cons, "off");
            world.write(at, old);
            world.poll("EN_OK=1", |w| w.queue_read(0, offset::VCMDQ_STATUS) == 1);
            world.poll("CONS", |w| w.cons(0) == cons + 1);
        }
        assert_eq!(world.queue_read(1, offset::VCMDQ_STATUS), 1);
    }
}

/// Row 32: a queue that is switched off while it has work ends its window, and STATUS follows.
#[test]
fn row32_status_follows_when_a_busy_queue_is_disabled() {
    for mapped in BOTH {
        let mut world = World::new(0, mapped);
        world.reset();
        world.put(0, 0, &[tlbi(0), sync()]);
        world.publish(0, 2);
        world.queue_write(0, offset::VCMDQ_CONFIG, 0);
        world.poll("EN_OK=0", |w| w.queue_read(0, offset::VCMDQ_STATUS) == 0);
        let cons = world.cons(0);
        world.serve_all();
        assert_eq!(world.cons(0), cons, "CONS is final");
        // And goes on from there, or from where the guest puts it.
        world.queue_write(0, offset::VCMDQ_CONS, 0);
        world.put(0, 0, &[sync(), sync(), sync()]);
        world.publish(0, 3);
        world.queue_write(0, offset::VCMDQ_CONFIG, 1);
        world.poll("CONS", |w| w.cons(0) == 3);
    }
}

/// Row 32, use after removal: the frame goes while its queues are busy; nothing runs behind it.
#[test]
fn row32_dropping_the_cmdqv_stops_its_queues() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        world.put(0, 0, &[sync()]);
        let rings = world.cmdqv.rings().to_vec();
        drop(world.cmdqv);
        assert!(!rings[0].is_enabled());
        rings[0].doorbell(1);
        world.stepper.serve(&rings[0]);
        assert_eq!(rings[0].cons(), 0);
    }
}

#[test]
fn law2_the_guests_sid_and_vmid_registers_are_storage() {
    let mut world = World::new(0, false);
    world.reset();
    let vintf = offset::VINTF;
    world.write(vintf + offset::VINTF_SID_MATCH + 60, u32::MAX);
    world.write(vintf + offset::VINTF_SID_REPLACE, u32::MAX);
    world.write(vintf, u32::MAX);
    assert_eq!(world.read(vintf + offset::VINTF_SID_MATCH + 60), 0x1F_FFFF);
    assert_eq!(world.read(vintf + offset::VINTF_SID_REPLACE), 0xF_FFFF);
    assert_eq!(world.read(vintf), 0x1_FFFF, "HYP_OWN reads as zero");
    world.write(offset::CONFIG, u32::MAX);
    assert_eq!(world.read(offset::CONFIG), 0xF_FFFF, "no CONS_DRAM_EN");
    world.round_trip(0, 1);
    let batch = world.backend.take().pop().unwrap();
    assert_eq!(batch.vmid(), Vmid(0));
}
