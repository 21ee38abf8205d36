//! A vfio-user server in this process (the `vfio_user` crate's), which is lent DMA windows.

#[expect(dead_code, reason = "these services are turned by hand")]
mod device_world;

use device_world::dma_world::*;
use device_world::*;
use dispatch::backend::software::{RemoteSettings, Wanted};
use smmu_core::Gpa;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use vcmdq::testing::commands::sync;
use vcmdq_remote::{FilePlace, Files, LinkError, Service, VfioUser};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, Server, ServerBackend};

/// First address, bytes, offset in the file, rights.
type Windows = Arc<Mutex<Vec<(u64, u64, u64, u32)>>>;

/// All of guest memory is one file.
struct OneFile(Arc<File>);

impl Files for OneFile {
    fn place(&self, at: Gpa, bytes: u64) -> Option<FilePlace> {
        let within = at.0 + bytes <= RAM;
        within.then(|| FilePlace {
            file: self.0.clone(),
            offset: at.0,
        })
    }
}

struct Device {
    windows: Windows,
    refuses: bool,
}

impl ServerBackend for Device {
    fn region_read(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        assert!(file.is_some(), "a window without memory");
        let mut windows = self.windows.lock().unwrap();
        let overlaps = |&(first, bytes, ..): &(u64, u64, u64, u32)| {
            first < address + size && address < first + bytes
        };
        if windows.iter().any(overlaps) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        windows.push((address, size, offset, flags.bits()));
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        if self.refuses {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let mut windows = self.windows.lock().unwrap();
        let exactly = |window: &(u64, u64, u64, u32)| (window.0, window.1) == (address, size);
        let at = windows.iter().position(exactly);
        windows.remove(at.ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}

struct Served {
    windows: Windows,
    thread: JoinHandle<()>,
}

impl Served {
    fn list(&self) -> Vec<(u64, u64, u64, u32)> {
        let mut windows = self.windows.lock().unwrap().clone();
        windows.sort_unstable();
        windows
    }
}

fn memory() -> OneFile {
    let file = tempfile::tempfile().unwrap();
    file.set_len(RAM).unwrap();
    OneFile(Arc::new(file))
}

fn server(refuses: bool) -> (VfioUser<OneFile>, Served) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let server = Server::new(&path, false, Vec::new(), Vec::new()).unwrap();
    let windows = Windows::default();
    let mut device = Device {
        windows: windows.clone(),
        refuses,
    };
    let thread = std::thread::spawn(move || {
        let _ = server.run(&mut device);
    });
    let socket = UnixStream::connect(&path).unwrap();
    let link = VfioUser::new(socket, Arc::default(), memory());
    (link, Served { windows, thread })
}

/// Turns until there is nothing to do.
fn turns<L: vcmdq_remote::Link>(service: &mut Service<L>) -> Result<(), LinkError> {
    while service.turn()? {}
    Ok(())
}

#[test]
fn law3_a_server_unmaps_its_windows_before_the_sync() {
    let (mut world, space) = guest();
    let (link, server) = server(false);
    let mut service = service(&world, link);
    for at in [0, 0x1000, 0x3000] {
        let lent = service.lend(VA + at, Wanted::ReadWrite).unwrap();
        assert_eq!(lent.unwrap().address, Gpa(DATA + 2 * at));
    }
    let lent = service.lend(VA + 0x4000, Wanted::Read).unwrap();
    assert!(lent.is_some());
    let window = |at, offset, rights| (VA + at, 0x1000, offset, rights);
    let all = [
        window(0, DATA, 3),
        window(0x1000, DATA + 0x2000, 3),
        window(0x3000, DATA + 0x6000, 3),
        window(0x4000, DATA, 1),
    ];
    assert_eq!(server.list(), all);
    world.guest.unmap(&space, VA + 0x1000, 3);
    world.send(&[tlbi(1, VA + 0x1000), sync()]);
    assert!(!world.done());
    turns(&mut service).unwrap();
    assert_eq!(server.list(), [all[0], all[2], all[3]]);
    assert!(world.serve() && world.done());
    // Neighbours that go together are windows of their own to the server.
    world.send(&[tlbi_asid(1), sync()]);
    turns(&mut service).unwrap();
    assert_eq!(server.list(), []);
    assert!(world.serve() && world.done());
    assert_eq!(service.lend(VA + 0x1000, Wanted::Read).unwrap(), None);
    assert_eq!(world.faults.take().len(), 1, "the guest is told");
    drop(service);
    server.thread.join().unwrap();
}

#[test]
fn a_window_that_is_lent_again_replaces_what_it_overlaps() {
    let (mut world, space) = guest();
    let (link, server) = server(false);
    let mut service = service(&world, link);
    for wanted in [Wanted::Read, Wanted::ReadWrite] {
        service.lend(VA, wanted).unwrap();
    }
    assert_eq!(server.list(), [(VA, 0x1000, DATA, 3)]);
    // A larger one: the guest had better said so before.
    let block = VA + (2 << 20);
    world.guest.map(&space, block + 0x5000, DATA, PAGE);
    service.lend(block + 0x5000, Wanted::Read).unwrap();
    world.guest.map_block(&space, block, 2 << 20, PAGE);
    // Of another address: the table in the block's place is not known any more, and what is lent stays.
    world.send(&[tlbi_with_tables(1, VA + 0x8000)]);
    service.lend(block, Wanted::Read).unwrap();
    assert_eq!(server.list()[1..], [(block, 2 << 20, 2 << 20, 1)]);
}

#[test]
fn law3_a_refusal_is_no_answer() {
    let (mut world, _) = guest();
    let (link, server) = server(true);
    let mut service = service_of(&world, link, RemoteSettings::default());
    service.lend(VA, Wanted::Read).unwrap();
    world.send(&[tlbi(1, VA), sync()]);
    assert!(matches!(turns(&mut service), Err(LinkError::Refused(_))));
    assert!(!world.serve() && !world.done());
    assert_eq!(server.list().len(), 1, "the window is still there");
    let handle = service.handle();
    drop(service);
    server.thread.join().unwrap();
    assert!(
        !world.serve() && !world.done(),
        "a closed connection is no proof"
    );
    handle.gone();
    until_done(&mut world);
}

/// Header: id, command, size, flags, error.
fn header(id: u16, command: u16, size: u32, flags: u32) -> Vec<u8> {
    let mut bytes = id.to_ne_bytes().to_vec();
    bytes.extend(command.to_ne_bytes());
    for word in [size, flags, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

#[test]
fn law8_what_is_no_reply_is_no_answer() {
    let of_another = header(7, 2, 16, 1);
    let command = header(1, 2, 16, 0);
    let (short, long) = (header(1, 2, 15, 1), header(1, 2, 0x10_0000, 1));
    let other = header(1, 3, 16, 1);
    for reply in [of_another, command, short, long, other] {
        let (world, _) = guest();
        let (socket, mut server) = UnixStream::pair().unwrap();
        let link = VfioUser::new(socket, Arc::default(), memory());
        let mut service = service(&world, link);
        server.write_all(&reply).unwrap();
        let lent = service.lend(VA, Wanted::Read);
        assert!(matches!(lent, Err(LinkError::Protocol(_))));
        let mut sent = [0; 48];
        server.read_exact(&mut sent).unwrap();
        assert_eq!(sent[..16], header(1, 2, 48, 0));
    }
}
