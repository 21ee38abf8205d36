//! A vhost-user back end in this process, behind the SMMU.

mod device_world;

use device_world::dma_world::*;
use device_world::*;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, Settings, StdThreads};
use vcmdq_remote::{LinkError, Negotiated, NotUsable, VhostUser};
use vhost::vhost_user::VhostUserProtocolFeatures as Features;

const IOTLB_MSG: u32 = 22;
const BACKEND_IOTLB_MSG: u32 = 1;
const MISS: u8 = 1;
const UPDATE: u8 = 2;
const INVALIDATE: u8 = 3;
const ACCESS_PLATFORM: u64 = 1 << 33;

/// How the back end behaves when it is told to drop something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Obedient,
    /// Misses once more before it answers, and wants that confirmed first.
    Busy,
    /// Keeps what it has, and says so.
    Refuses,
    /// Replies to another request.
    Confused,
    /// Keeps what it has, and says nothing until it is told to go on.
    Deaf,
}

/// What the back end has: address → user address, bytes, rights.
type Iotlb = Arc<Mutex<BTreeMap<u64, (u64, u64, u8)>>>;

struct Backend {
    iotlb: Iotlb,
    /// Our end of its channel.
    channel: UnixStream,
    go_on: Sender<()>,
    thread: JoinHandle<()>,
}

fn words(words: [u32; 3]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn miss(iova: u64, rights: u8, flags: u32) -> Vec<u8> {
    let mut bytes = words([BACKEND_IOTLB_MSG, 1 | flags, 32]);
    bytes.extend(iova.to_ne_bytes());
    bytes.extend([0; 16]);
    bytes.extend([rights, MISS, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// A miss whose receipt is confirmed.
fn miss_and_wait(channel: &mut UnixStream, iova: u64) {
    channel.write_all(&miss(iova, 1, 8)).unwrap();
    let mut reply = [0; 20];
    channel.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..12], words([BACKEND_IOTLB_MSG, 1 | 4, 8]));
    assert_eq!(word(&reply, 12), 0);
}

struct Half {
    socket: UnixStream,
    channel: UnixStream,
    iotlb: Iotlb,
    manner: Manner,
    go_on: Receiver<()>,
}

impl Half {
    fn run(mut self) {
        let mut message = [0; 44];
        while self.socket.read_exact(&mut message).is_ok() {
            assert_eq!(
                message[..12],
                words([IOTLB_MSG, 1 | 8, 32]),
                "wants a reply"
            );
            let (iova, bytes) = (word(&message, 12), word(&message, 20));
            let (rights, kind) = (message[36], message[37]);
            let mut request = IOTLB_MSG;
            let mut result = 0u64;
            match kind {
                UPDATE => {
                    let entry = (word(&message, 28), bytes, rights);
                    self.iotlb.lock().unwrap().insert(iova, entry);
                }
                INVALIDATE => match self.manner {
                    Manner::Obedient => self.drop_all(iova, bytes),
                    Manner::Busy => {
                        miss_and_wait(&mut self.channel, iova);
                        self.drop_all(iova, bytes);
                    }
                    Manner::Refuses => result = 22,
                    Manner::Confused => request += 1,
                    Manner::Deaf => {
                        if self.go_on.recv().is_err() {
                            return;
                        }
                        self.drop_all(iova, bytes);
                    }
                },
                other => panic!("message of type {other}"),
            }
            let mut reply = words([request, 1 | 4, 8]);
            reply.extend(result.to_ne_bytes());
            self.socket.write_all(&reply).unwrap();
        }
    }

    fn drop_all(&self, iova: u64, bytes: u64) {
        let gone = iova..iova + bytes;
        self.iotlb
            .lock()
            .unwrap()
            .retain(|first, (_, bytes, _)| *first >= gone.end || *first + *bytes <= gone.start);
    }
}

fn negotiated() -> Negotiated {
    Negotiated {
        virtio: ACCESS_PLATFORM,
        protocol: Features::REPLY_ACK | Features::BACKEND_REQ,
    }
}

fn backend(manner: Manner) -> (VhostUser, Backend) {
    let (socket, theirs) = UnixStream::pair().unwrap();
    let (channel_of_vmm, channel_of_backend) = UnixStream::pair().unwrap();
    let iotlb = Iotlb::default();
    let (go_on, wait) = channel();
    let half = Half {
        socket: theirs,
        channel: channel_of_backend.try_clone().unwrap(),
        iotlb: iotlb.clone(),
        manner,
        go_on: wait,
    };
    let thread = std::thread::spawn(move || half.run());
    let backend = Backend {
        iotlb,
        channel: channel_of_backend,
        go_on,
        thread,
    };
    let turn = Arc::default();
    let link = VhostUser::new(negotiated(), socket, turn, channel_of_vmm);
    (link.unwrap(), backend)
}

impl Backend {
    fn miss(&mut self, iova: u64, rights: u8) {
        self.channel.write_all(&miss(iova, rights, 0)).unwrap();
    }

    fn has(&self, iova: u64) -> Option<(u64, u64, u8)> {
        self.iotlb.lock().unwrap().get(&iova).copied()
    }

    fn misses_until_it_has(&mut self, iova: u64) {
        self.miss(iova + 0x10, 1);
        eventually("the miss is answered", || self.has(iova).is_some());
    }
}

#[test]
fn law3_a_back_end_gets_what_it_misses_and_gives_it_back_before_the_sync() {
    let (mut world, space) = guest();
    let (link, mut backend) = backend(Manner::Obedient);
    let served = Served::new(service(&world, link));
    backend.misses_until_it_has(VA + 0x1000);
    let entry = (host(&world, DATA + 0x2000), 0x1000, 3);
    assert_eq!(backend.has(VA + 0x1000), Some(entry), "both rights");
    for round in 0..20 {
        world
            .guest
            .map(&space, VA + 0x1000, DATA + round * 0x1000, PAGE);
        world.send(&[tlbi(1, VA + 0x1000), sync()]);
        until_done(&mut world);
        assert_eq!(backend.has(VA + 0x1000), None, "the SYNC is done");
        backend.misses_until_it_has(VA + 0x1000);
        let (now, ..) = backend.has(VA + 0x1000).unwrap();
        assert_eq!(now, host(&world, DATA + round * 0x1000));
    }
    served.stop().unwrap();
    assert!(backend.iotlb.lock().unwrap().is_empty(), "all taken back");
    world.send(&[tlbi(1, VA), sync()]);
    assert!(world.done(), "nobody is waited for any more");
    drop((backend.channel, backend.go_on));
    backend.thread.join().unwrap();
}

#[test]
fn a_page_that_only_reads_is_lent_so_and_a_denied_miss_is_the_guests_event() {
    let (world, _) = guest();
    let (link, mut backend) = backend(Manner::Obedient);
    let served = Served::new(service(&world, link));
    backend.misses_until_it_has(VA + 0x4000);
    assert_eq!(backend.has(VA + 0x4000).unwrap().2, 1);
    assert!(world.faults.take().is_empty(), "nobody has tried to write");
    backend.miss(VA + 0x4000, 2);
    eventually("the guest is told", || !world.faults.take().is_empty());
    backend.miss(VA + 0x9000, 1);
    eventually("the guest is told", || !world.faults.take().is_empty());
    assert_eq!(backend.has(VA + 0x9000), None);
    served.stop().unwrap();
}

#[test]
fn law3_a_back_end_that_misses_before_it_answers_is_heard() {
    let (mut world, _) = guest();
    let (link, mut backend) = backend(Manner::Busy);
    let served = Served::new(service(&world, link));
    backend.misses_until_it_has(VA);
    world.send(&[tlbi(1, VA), sync()]);
    until_done(&mut world);
    // Behind the answer it gets what it has missed meanwhile.
    eventually("the miss is answered", || backend.has(VA).is_some());
    assert_eq!(served.handle.metrics().loans, 2);
}

#[test]
fn law3_a_stale_iotlb_is_caught_the_sync_waits_until_the_peer_is_gone() {
    for manner in [Manner::Deaf, Manner::Refuses, Manner::Confused] {
        let (mut world, _) = guest();
        let (link, mut backend) = backend(manner);
        let served = Served::new(service(&world, link));
        backend.misses_until_it_has(VA);
        world.send(&[tlbi(1, VA), sync()]);
        let handle = served.handle.clone();
        if manner == Manner::Deaf {
            eventually("it is asked", || handle.metrics().notices == 1);
            // The device dies: its sockets are closed, but nobody has seen its mapping go.
            drop((backend.go_on, backend.channel));
            backend.thread.join().unwrap();
        }
        let ended = served.end().expect_err("it is no answer");
        match manner {
            Manner::Refuses => assert!(matches!(ended, LinkError::Refused(22))),
            Manner::Confused => assert!(matches!(ended, LinkError::Protocol(_))),
            _ => assert!(matches!(ended, LinkError::Closed | LinkError::Io(_))),
        }
        world.serve();
        assert!(!world.done(), "{manner:?}: the device has it");
        handle.gone();
        until_done(&mut world);
    }
}

#[test]
fn law3_a_slow_answer_holds_the_sync_and_no_worker() {
    let (mut world, _) = guest();
    let (link, mut backend) = backend(Manner::Deaf);
    let served = Served::new(service(&world, link));
    backend.misses_until_it_has(VA);
    world.send(&[tlbi(1, VA), sync()]);
    eventually("it is asked", || served.handle.metrics().notices == 1);
    assert!(!world.serve() && !world.done());
    backend.go_on.send(()).unwrap();
    until_done(&mut world);
    assert_eq!(backend.has(VA), None);
}

#[test]
fn law8_what_comes_on_the_channel_is_not_trusted() {
    let long = words([BACKEND_IOTLB_MSG, 1, 0x10_0000]);
    let short = [words([BACKEND_IOTLB_MSG, 1, 8]), vec![0; 8]].concat();
    let mut update = miss(VA, 1, 0);
    update[12 + 25] = UPDATE;
    let no_rights = miss(VA, 0, 0);
    let reply = miss(VA, 1, 4);
    for message in [long, short, update, no_rights, reply] {
        let (world, _) = guest();
        let (link, mut backend) = backend(Manner::Obedient);
        let served = Served::new(service(&world, link));
        backend.channel.write_all(&message).unwrap();
        let ended = served.end().expect_err("it is no miss");
        assert!(matches!(ended, LinkError::Protocol(_)), "{ended}");
    }
}

#[test]
fn other_requests_of_the_back_end_are_refused_and_misses_go_on() {
    let (world, _) = guest();
    let (link, mut backend) = backend(Manner::Obedient);
    let served = Served::new(service(&world, link));
    let request = [words([2, 1 | 8, 4]), vec![0; 4]].concat();
    backend.channel.write_all(&request).unwrap();
    let mut reply = [0; 20];
    backend.channel.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..12], words([2, 1 | 4, 8]));
    assert_ne!(word(&reply, 12), 0);
    backend.misses_until_it_has(VA);
    served.stop().unwrap();
}

#[test]
fn law3_a_back_end_that_does_not_answer_is_not_taken() {
    let all = negotiated();
    let without = |virtio, protocol| {
        let [one, two] = [(); 2].map(|()| UnixStream::pair().unwrap().0);
        VhostUser::new(Negotiated { virtio, protocol }, one, Arc::default(), two).unwrap_err()
    };
    let no_ack = without(all.virtio, Features::BACKEND_REQ);
    assert_eq!(no_ack, NotUsable::NoReplyAck);
    let no_channel = without(all.virtio, Features::REPLY_ACK);
    assert_eq!(no_channel, NotUsable::NoBackendChannel);
    assert_eq!(without(0, all.protocol), NotUsable::NoAccessPlatform);
}

const POISON: u64 = 0xDEAD_DEAD_DEAD_DEAD;
const PAGES: u64 = 16;
const ROUNDS: u64 = 300;

/// Reads the page that the back end has, or misses it. It holds its IOTLB as long as it looks: it drops
/// nothing that it uses.
fn use_mapping(
    guest: &Guest<HeapMemory>,
    base: u64,
    iotlb: &Iotlb,
    channel: &mut UnixStream,
) -> bool {
    let iotlb = iotlb.lock().unwrap();
    let Some((user, ..)) = iotlb.get(&VA) else {
        drop(iotlb);
        channel.write_all(&miss(VA, 1, 0)).unwrap();
        return false;
    };
    assert_ne!(guest.get(user - base), POISON, "read after its SYNC");
    true
}

/// Break before make, on a real engine: each round removes the page, invalidates, waits for the SYNC, then
/// poisons the old page. The back end misses and reads without pause.
#[test]
fn law3_no_back_end_uses_a_translation_after_the_sync_that_follows_its_removal() {
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let mut world = World::with(engine, lenient(), small());
    let space = world.guest.space(1);
    world.guest.attach(1, &space);
    let descriptor = world.guest.descriptor(&space, VA, 3);
    let (link, backend) = backend(Manner::Obedient);
    let served = Served::new(service(&world, link));
    let page = |round: u64| DATA + round % PAGES * 0x1000;
    for round in 0..PAGES {
        world.guest.set(page(round), POISON);
    }
    let (stop, used) = (AtomicBool::new(false), AtomicU64::new(0));
    let (base, memory) = (host(&world, 0), world.guest.memory.clone());
    std::thread::scope(|scope| {
        let (stop, used, iotlb) = (&stop, &used, &backend.iotlb);
        let mut channel = backend.channel.try_clone().unwrap();
        scope.spawn(move || {
            let guest = Guest::new(memory);
            while !stop.load(Ordering::Relaxed) {
                if use_mapping(&guest, base, iotlb, &mut channel) {
                    used.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::yield_now();
            }
        });
        let rounds = std::panic::AssertUnwindSafe(|| {
            for round in 0..ROUNDS {
                world.guest.set(page(round), round);
                world.guest.set(descriptor, page(round) | PAGE);
                let before = used.load(Ordering::Relaxed);
                if round % 8 == 0 {
                    eventually("it is used", || used.load(Ordering::Relaxed) > before);
                }
                world.guest.set(descriptor, 0);
                let removal = [tlbi(1, VA), tlbi_asid(1)][(round % 2) as usize];
                world.publish(&[removal, sync()]);
                // The worker must not need to be told twice.
                eventually("the SYNC completes", || world.done());
                world.guest.set(page(round), POISON);
            }
        });
        let result = std::panic::catch_unwind(rounds);
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(used.load(Ordering::Relaxed) >= ROUNDS / 8);
    served.stop().unwrap();
    world.engine.stop();
}
