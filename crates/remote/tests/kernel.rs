//! The kernel's vhost: what is written to its file and read from it, and what a write that has not
//! returned means. The kernel itself needs a privileged device; its file is a socket here.

mod device_world;

use device_world::dma_world::*;
use device_world::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use vcmdq::testing::commands::sync;
use vcmdq_remote::{KernelVhost, LinkError};
use vhost::vhost_kern::{VhostKernBackend, VhostKernFeatures};
use vhost::{VhostIotlbBackend, VhostIotlbMsg, VhostIotlbType};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

const MISS: u8 = 1;
const UPDATE: u8 = 2;
const INVALIDATE: u8 = 3;

fn file(socket: UnixStream) -> File {
    File::from(OwnedFd::from(socket))
}

/// A message as `linux/vhost_types.h` has it: type, ASID, and the union at 8.
fn message(version: u32, iova: u64, rights: u8, kind: u8) -> [u8; 72] {
    let mut bytes = [0; 72];
    bytes[..4].copy_from_slice(&version.to_ne_bytes());
    bytes[8..16].copy_from_slice(&iova.to_ne_bytes());
    (bytes[32], bytes[33]) = (rights, kind);
    bytes
}

fn word(bytes: &[u8; 72], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// What a VMM's device is to the `vhost` crate, over our file.
struct Device {
    file: File,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    features: u64,
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl VhostKernBackend for Device {
    type AS = GuestMemoryAtomic<GuestMemoryMmap>;

    fn mem(&self) -> &Self::AS {
        &self.memory
    }
}

impl VhostKernFeatures for Device {
    fn get_backend_features_acked(&self) -> u64 {
        self.features
    }

    fn set_backend_features_acked(&mut self, features: u64) {
        self.features = features;
    }
}

fn device(features: u64) -> (KernelVhost<Device>, UnixStream) {
    let (ours, kernels) = UnixStream::pair().unwrap();
    let misses = file(ours.try_clone().unwrap());
    let device = Device {
        file: file(ours),
        memory: GuestMemoryAtomic::new(GuestMemoryMmap::new()),
        features,
    };
    (KernelVhost::new(device, misses), kernels)
}

fn read(kernel: &mut UnixStream) -> [u8; 72] {
    let mut bytes = [0; 72];
    kernel.read_exact(&mut bytes).unwrap();
    bytes
}

/// Bit 1 of the back end's features is VHOST_BACKEND_F_IOTLB_MSG_V2.
#[test]
fn misses_updates_and_invalidations_are_messages_of_both_versions() {
    for (features, version) in [(0, 1), (2, 2)] {
        let (mut world, _) = guest();
        let (link, mut kernel) = device(features);
        let served = Served::new(service(&world, link));
        kernel
            .write_all(&message(version, VA + 0x1010, 1, MISS))
            .unwrap();
        let update = read(&mut kernel);
        assert_eq!(update[..4], version.to_ne_bytes());
        assert_eq!((word(&update, 8), word(&update, 16)), (VA + 0x1000, 0x1000));
        assert_eq!(word(&update, 24), host(&world, DATA + 0x2000));
        assert_eq!((update[32], update[33]), (3, UPDATE));
        world.send(&[tlbi(1, VA + 0x1000), sync()]);
        let invalidate = read(&mut kernel);
        let range = (word(&invalidate, 8), word(&invalidate, 16));
        assert_eq!((range, invalidate[33]), ((VA + 0x1000, 0x1000), INVALIDATE));
        until_done(&mut world);
        served.stop().unwrap();
    }
}

#[test]
fn law3_a_write_that_fails_is_no_answer() {
    let (mut world, _) = guest();
    let (link, mut kernel) = device(2);
    let mut service = service(&world, link);
    kernel.write_all(&message(2, VA, 1, MISS)).unwrap();
    assert!(service.turn().unwrap());
    let handle = service.handle();
    // As EBADF after the device's file was closed, or ENOMEM.
    drop(kernel);
    world.send(&[tlbi(1, VA), sync()]);
    assert!(matches!(service.turn(), Err(LinkError::Io(_))));
    drop(service);
    assert!(!world.serve() && !world.done());
    handle.gone();
    until_done(&mut world);
}

#[test]
fn law8_what_is_read_is_looked_at() {
    let [version, rights] = [message(3, VA, 1, MISS), message(2, VA, 4, MISS)];
    for bytes in [version, rights, message(2, VA, 1, UPDATE)] {
        let (world, _) = guest();
        let (link, mut kernel) = device(2);
        let served = Served::new(service(&world, link));
        kernel.write_all(&bytes).unwrap();
        assert!(matches!(served.end(), Err(LinkError::Protocol(_))));
    }
}

/// A device whose `write` of an invalidation returns when it is let go, as the kernel's waits for its
/// queues.
struct Slow {
    let_go: Receiver<()>,
}

impl VhostIotlbBackend for Slow {
    fn send_iotlb_msg(&self, message: &VhostIotlbMsg) -> vhost::Result<()> {
        if message.msg_type == VhostIotlbType::Invalidate {
            self.let_go
                .recv()
                .map_err(|_| vhost::Error::InvalidIotlbMsg)?;
        }
        Ok(())
    }
}

#[test]
fn law3_a_sync_waits_until_the_write_of_its_invalidation_returns() {
    let (mut world, _) = guest();
    let (ours, mut kernel) = UnixStream::pair().unwrap();
    let (let_go, wait) = channel();
    let slow = Slow { let_go: wait };
    let served = Served::new(service(&world, KernelVhost::new(slow, file(ours))));
    kernel.write_all(&message(2, VA, 1, MISS)).unwrap();
    eventually("it is lent", || served.handle.metrics().loans == 1);
    world.send(&[tlbi(1, VA), sync()]);
    eventually("it is asked", || served.handle.metrics().notices == 1);
    assert!(!world.serve() && !world.done());
    let_go.send(()).unwrap();
    until_done(&mut world);
    served.stop().unwrap();
}

#[test]
fn law3_a_full_record_makes_room_by_taking_back() {
    let (world, _) = guest();
    let (link, mut kernel) = device(2);
    let settings = dispatch::backend::software::RemoteSettings {
        loans: 1,
        ..Default::default()
    };
    let served = Served::new(service_of(&world, link, settings));
    let mut kinds = Vec::new();
    for page in 0..3 {
        kernel
            .write_all(&message(2, VA + page * 0x1000, 1, MISS))
            .unwrap();
        while kinds.last() != Some(&(UPDATE, VA + page * 0x1000)) {
            let bytes = read(&mut kernel);
            kinds.push((bytes[33], word(&bytes, 8)));
        }
    }
    let [first, second, third] = [0, 1, 2].map(|page| VA + page * 0x1000);
    let expected = [
        (UPDATE, first),
        (INVALIDATE, first),
        (UPDATE, second),
        (INVALIDATE, second),
        (UPDATE, third),
    ];
    assert_eq!(kinds, expected);
    served.stop().unwrap();
}
