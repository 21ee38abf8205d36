//! A guest with two streams, and devices in other processes to which translations are lent.

#[path = "../dma_world/mod.rs"]
pub(crate) mod dma_world;

use dispatch::backend::software::{IovaRange, Notice, Notifier, Remote, RemoteSettings, Wanted};
use dma_world::*;
use smmu_core::StreamId;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const VA: u64 = 0x40_0000;
pub(crate) const BLOCK_VA: u64 = VA + (2 << 20);
pub(crate) const DATA: u64 = 0x40_0000;

#[derive(Clone, Default)]
pub(crate) struct Ears(pub(crate) Arc<Heard>);

#[derive(Default)]
pub(crate) struct Heard {
    told: AtomicU32,
    pub(crate) overdue: Mutex<Vec<Duration>>,
}

impl Notifier for Ears {
    fn told(&self) {
        self.0.told.fetch_add(1, Ordering::Relaxed);
    }

    fn overdue(&self, waited: Duration) {
        self.0.overdue.lock().unwrap().push(waited);
    }
}

impl Ears {
    pub(crate) fn told(&self) -> bool {
        self.0.told.swap(0, Ordering::Relaxed) != 0
    }
}

/// Stream 1 has four pages, a block, and a page that only reads; stream 2 has an ASID of its own.
pub(crate) fn world() -> (World, Space) {
    let (world, space) = World::with_pages(VA, DATA);
    world.guest.map_block(&space, BLOCK_VA, 2 << 20, PAGE);
    let other = world.guest.space(2);
    world.guest.map(&other, VA, DATA, PAGE);
    world.guest.attach(2, &other);
    (world, space)
}

pub(crate) fn remote_of(world: &World, settings: RemoteSettings) -> (Remote, Ears) {
    let ears = Ears::default();
    let tell = Box::new(ears.clone());
    let remote = world.core.remote(StreamId(1), None, settings, tell);
    (remote.unwrap(), ears)
}

pub(crate) fn remote(world: &World) -> (Remote, Ears) {
    remote_of(world, RemoteSettings::default())
}

pub(crate) fn lend(remote: &mut Remote, iova: u64) {
    let loan = remote.lend(iova, Wanted::ReadWrite, |_| ()).unwrap();
    assert!((loan.iova..loan.iova + loan.bytes).contains(&iova));
}

pub(crate) fn page(iova: u64) -> IovaRange {
    let bytes = 0x1000;
    IovaRange { iova, bytes }
}

pub(crate) fn take(remote: &mut Remote) -> Notice {
    remote.take().expect("something to take back")
}
