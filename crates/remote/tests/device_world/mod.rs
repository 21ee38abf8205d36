//! A guest whose pages a device in another process uses, and a thread of the VMM's that serves it.

#[path = "../../../vcmdq/tests/dma_world/mod.rs"]
pub(crate) mod dma_world;

use dispatch::backend::software::{RemoteHandle, RemoteSettings};
use dma_world::*;
use smmu_core::StreamId;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vcmdq_remote::{Bell, Link, LinkError, Service, Setup, Stop};

pub(crate) const VA: u64 = 0x40_0000;
pub(crate) const DATA: u64 = 0x40_0000;

/// Stream 1 has four pages and one that only reads.
pub(crate) fn guest() -> (World, Space) {
    World::with_pages(VA, DATA)
}

/// Where a page of the guest's lies in this process.
pub(crate) fn host(world: &World, gpa: u64) -> u64 {
    use smmu_core::GuestMemory;
    let words = world.guest.memory.words(smmu_core::Gpa(gpa), 1);
    words.unwrap().as_ptr().addr() as u64
}

pub(crate) fn service<L: Link>(world: &World, link: L) -> Service<L> {
    service_of(world, link, RemoteSettings::default())
}

pub(crate) fn service_of<L: Link>(world: &World, link: L, settings: RemoteSettings) -> Service<L> {
    let setup = Setup {
        stream: StreamId(1),
        substream: None,
        settings,
        bell: Bell::new(None).unwrap(),
    };
    let faults = world.faults.clone();
    let faulted = Box::new(move |failed: &_| {
        drop(vcmdq::dma::FaultSink::fault(&*faults, failed));
    });
    Service::new(&world.core, setup, link, faulted).unwrap()
}

/// A service on a thread of its own.
pub(crate) struct Served {
    pub(crate) handle: RemoteHandle,
    stop: Stop,
    thread: JoinHandle<()>,
    ended: Receiver<Result<(), LinkError>>,
}

impl Served {
    pub(crate) fn new<L: Link + 'static>(service: Service<L>) -> Self {
        let (handle, stop) = (service.handle(), service.stop());
        let (tell, ended) = channel();
        let thread = std::thread::spawn(move || tell.send(service.run()).unwrap());
        Self {
            handle,
            stop,
            thread,
            ended,
        }
    }

    /// Without being stopped.
    pub(crate) fn end(self) -> Result<(), LinkError> {
        let ended = self.ended.recv_timeout(SOON).expect("it ends");
        self.thread.join().unwrap();
        ended
    }

    pub(crate) fn stop(self) -> Result<(), LinkError> {
        self.stop.stop();
        self.end()
    }
}

/// Serves the ring until everything is done.
pub(crate) fn until_done(world: &mut World) {
    eventually("the SYNC completes", || {
        world.serve();
        world.done()
    });
}

pub(crate) fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happens() {
        assert!(begin.elapsed() < SOON, "{what}: not");
        std::thread::sleep(Duration::from_micros(100));
    }
}
