//! The controller against a driver of a few lines, with memory that needs no translation.

use super::command::{COMPLETION, ENTRY, Status};
use super::{BLOCK, Controller, Disk, Dma, Fault, Hold};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Memory from address zero on.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; bytes])))
    }

    pub(super) fn put(&self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.0.lock().expect("alive")[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn get(&self, at: u64, len: usize) -> Vec<u8> {
        self.0.lock().expect("alive")[at as usize..at as usize + len].to_vec()
    }

    fn part(&self, at: u64, len: usize) -> Result<std::ops::Range<usize>, Fault> {
        let end = usize::try_from(at).ok().and_then(|at| at.checked_add(len));
        let inside = end.filter(|&end| end <= self.0.lock().expect("alive").len());
        let end = inside.ok_or(Fault("nothing there".into()))?;
        Ok(end - len..end)
    }
}

impl Dma for Memory {
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        let part = self.part(at, into.len())?;
        into.copy_from_slice(&self.0.lock().expect("alive")[part]);
        Ok(())
    }

    fn write(&mut self, at: u64, from: &[u8]) -> Result<(), Fault> {
        let part = self.part(at, from.len())?;
        self.0.lock().expect("alive")[part].copy_from_slice(from);
        Ok(())
    }

    fn hold(&mut self, at: u64, bytes: usize, _write: bool) -> Result<Box<dyn Hold>, Fault> {
        self.part(at, bytes)?;
        Ok(Box::new((self.clone(), at, bytes)))
    }
}

impl Hold for (Memory, u64, usize) {
    fn len(&self) -> usize {
        self.2
    }

    fn read(&self, into: &mut [u8]) -> Result<(), Fault> {
        self.0.clone().read(self.1, into)
    }

    fn write(&self, from: &[u8]) -> Result<(), Fault> {
        self.0.clone().write(self.1, from)
    }
}

const ADMIN: [u64; 2] = [0x1000, 0x2000];
const IO: [u64; 2] = [0x3000, 0x4000];
const ENTRIES: u32 = 8;

/// A queue pair as a driver keeps it.
struct Pair {
    queue: u64,
    places: [u64; 2],
    tail: u32,
    head: u32,
    phase: bool,
}

impl Pair {
    fn new(queue: u64, places: [u64; 2]) -> Self {
        Self {
            queue,
            places,
            tail: 0,
            head: 0,
            phase: true,
        }
    }
}

struct Driver {
    memory: Memory,
    controller: Arc<Controller>,
    _workers: super::controller::Workers,
    admin: Pair,
    io: Pair,
}

impl Driver {
    fn new() -> Self {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(64 * BLOCK).expect("a file");
        let controller = Controller::new(Disk::new(file).expect("a file"));
        let memory = Memory::new(0x4_0000);
        let way = || Box::new(memory.clone()) as Box<dyn Dma>;
        let workers = controller.start(vec![way(), way()]).expect("threads");
        let driver = Self {
            memory,
            controller,
            _workers: workers,
            admin: Pair::new(0, ADMIN),
            io: Pair::new(1, IO),
        };
        driver.enable();
        driver
    }

    fn enable(&self) {
        let sizes = (ENTRIES - 1) << 16 | (ENTRIES - 1);
        self.controller.write(0x24, &sizes.to_le_bytes());
        self.controller.write(0x28, &ADMIN[0].to_le_bytes());
        self.controller.write(0x30, &ADMIN[1].to_le_bytes());
        self.controller.write(0x14, &0x0046_0001u32.to_le_bytes());
        assert_eq!(self.register(0x1C), 1, "ready");
    }

    fn register(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.controller.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn pair(&mut self, io: bool) -> &mut Pair {
        match io {
            true => &mut self.io,
            false => &mut self.admin,
        }
    }

    /// Puts a command into the queue and rings.
    fn submit(&mut self, io: bool, words: [u32; 16]) {
        let pair = self.pair(io);
        let at = pair.places[0] + u64::from(pair.tail) * ENTRY as u64;
        pair.tail = (pair.tail + 1) % ENTRIES;
        let (tail, doorbell) = (pair.tail, 0x1000 + 8 * pair.queue);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.put(at, &bytes);
        self.controller.write(doorbell, &tail.to_le_bytes());
    }

    /// Waits for a completion: identifier, status, result.
    fn completion(&mut self, io: bool) -> (u16, u16, u32) {
        let memory = self.memory.clone();
        let pair = self.pair(io);
        let at = pair.places[1] + u64::from(pair.head) * COMPLETION as u64;
        let end = Instant::now() + Duration::from_secs(20);
        let entry = loop {
            let entry = memory.get(at, COMPLETION);
            if entry[14] & 1 == u8::from(pair.phase) {
                break entry;
            }
            assert!(Instant::now() < end, "no completion");
            std::thread::yield_now();
        };
        pair.head = (pair.head + 1) % ENTRIES;
        pair.phase ^= pair.head == 0;
        let (head, doorbell) = (pair.head, 0x1004 + 8 * pair.queue);
        self.controller.write(doorbell, &head.to_le_bytes());
        let half = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let result = u32::from(half(0)) | u32::from(half(2)) << 16;
        (half(12), half(14) >> 1, result)
    }

    fn run(&mut self, io: bool, words: [u32; 16]) -> (u16, u16, u32) {
        self.submit(io, words);
        self.completion(io)
    }

    fn create_queues(&mut self) {
        let size = (ENTRIES - 1) << 16 | 1;
        let made = self.run(false, words(0x05, 1, IO[1], [size, 3, 0]));
        assert_eq!((made.0, made.1), (1, 0));
        let made = self.run(false, words(0x01, 2, IO[0], [size, 1 << 16 | 1, 0]));
        assert_eq!((made.0, made.1), (2, 0));
    }
}

/// A command for namespace 1 with data at `prp1` and dwords 10 to 12.
fn words(opcode: u8, id: u16, prp1: u64, last: [u32; 3]) -> [u32; 16] {
    let mut words = [0; 16];
    words[0] = u32::from(opcode) | u32::from(id) << 16;
    words[1] = 1;
    words[6] = prp1 as u32;
    words[7] = (prp1 >> 32) as u32;
    words[10..13].copy_from_slice(&last);
    words
}

fn status(status: Status) -> u16 {
    status as u16
}

#[test]
fn what_is_written_is_read_and_lies_in_the_file() {
    let mut driver = Driver::new();
    driver.create_queues();
    let data: Vec<u8> = (0..8192).map(|n| (n * 7 % 251) as u8).collect();
    driver.memory.put(0x8000, &data);
    let mut write = words(0x01, 10, 0x8000, [3, 0, 15]);
    write[8] = 0x9000;
    assert_eq!(driver.run(true, write), (10, 0, 0));
    let kept = driver.controller.disk().contents(3 * BLOCK, 8192);
    assert_eq!(kept.expect("readable"), data);
    let mut read = words(0x02, 11, 0xC000, [3, 0, 15]);
    read[8] = 0xA000;
    assert_eq!(driver.run(true, read), (11, 0, 0));
    assert_eq!(driver.memory.get(0xC000, 4096), data[..4096]);
    assert_eq!(driver.memory.get(0xA000, 4096), data[4096..]);
    assert_eq!(
        driver.controller.disk().recent(),
        [0x8000, 0x9000, 0xC000, 0xA000]
    );
}

#[test]
fn commands_that_cannot_be_done_say_why() {
    let mut driver = Driver::new();
    driver.create_queues();
    let beyond = words(0x02, 1, 0x8000, [64, 0, 0]);
    assert_eq!(driver.run(true, beyond).1, status(Status::BeyondCapacity));
    let unmapped = words(0x01, 2, 0x4_0000, [0, 0, 0]);
    assert_eq!(
        driver.run(true, unmapped).1,
        status(Status::DataTransferError)
    );
    let unknown = words(0x7F, 3, 0, [0; 3]);
    assert_eq!(driver.run(true, unknown).1, status(Status::InvalidOpcode));
    let mut other = words(0x02, 4, 0x8000, [0; 3]);
    other[1] = 2;
    assert_eq!(driver.run(true, other).1, status(Status::InvalidNamespace));
    assert_eq!(driver.controller.metrics().faulted, 1);
}

#[test]
fn queues_go_round_many_times_and_lose_nothing() {
    let mut driver = Driver::new();
    driver.create_queues();
    for round in 0..5 * ENTRIES as u16 {
        let two = [2 * round, 2 * round + 1];
        for id in two {
            driver.submit(true, words(0x00, id, 0, [0; 3]));
        }
        let mut ids = two.map(|_| driver.completion(true).0);
        ids.sort_unstable();
        assert_eq!(ids, two);
    }
    assert_eq!(driver.controller.metrics().io, 10 * u64::from(ENTRIES));
}

#[test]
fn queues_are_created_in_order_and_deleted_in_reverse() {
    let mut driver = Driver::new();
    let orphan = words(0x01, 1, IO[0], [(ENTRIES - 1) << 16 | 1, 1 << 16 | 1, 0]);
    let answer = driver.run(false, orphan);
    assert_eq!(answer.1, status(Status::InvalidCompletionQueue));
    driver.create_queues();
    let in_use = driver.run(false, words(0x04, 2, 0, [1, 0, 0]));
    assert_eq!(in_use.1, status(Status::InvalidQueueDeletion));
    assert_eq!(driver.run(false, words(0x00, 3, 0, [1, 0, 0])).1, 0);
    assert_eq!(driver.run(false, words(0x04, 4, 0, [1, 0, 0])).1, 0);
}

#[test]
fn the_controller_identifies_itself_and_grants_queues() {
    let mut driver = Driver::new();
    assert_eq!(driver.run(false, words(0x06, 1, 0x8000, [1, 0, 0])).1, 0);
    assert_eq!(driver.memory.get(0x8000 + 24, 5), b"vcmdq");
    assert_eq!(driver.run(false, words(0x06, 2, 0x8000, [0, 0, 0])).1, 0);
    assert_eq!(driver.memory.get(0x8000, 8), 64u64.to_le_bytes());
    let granted = driver.run(false, words(0x09, 3, 0, [7, 0x00FF_0003, 0]));
    assert_eq!((granted.1, granted.2), (0, 0x0007_0003));
    // Requests for events stay open, so the next completion is that of the next command.
    driver.submit(false, words(0x0C, 4, 0, [0; 3]));
    assert_eq!(driver.run(false, words(0x08, 5, 0, [0; 3])).0, 5);
}

#[test]
fn a_reset_forgets_everything_and_the_controller_starts_again() {
    let mut driver = Driver::new();
    driver.create_queues();
    driver.controller.write(0x14, &0u32.to_le_bytes());
    assert_eq!(driver.register(0x1C), 0, "not ready");
    driver.admin = Pair::new(0, ADMIN);
    driver.io = Pair::new(1, IO);
    driver.memory.put(ADMIN[1], &[0; 64]);
    driver.memory.put(IO[1], &[0; 256]);
    driver.enable();
    driver.create_queues();
    assert_eq!(driver.run(true, words(0x00, 9, 0, [0; 3])), (9, 0, 0));
    driver.controller.write(0x14, &0x0046_4001u32.to_le_bytes());
    assert_eq!(driver.register(0x1C), 9, "shut down");
}
