//! Both SMMUs over one memory, step by step.

use crate::commands::{command, command_of, intermediate_near, intermediate_of};
use crate::memory::Memory;
use crate::naive::attributes::of_raw;
use crate::naive::model::Request;
use crate::obvious::{Flight, Obvious, Outcome};
use crate::world::{Change, Dice, World, incoming_of};
use dispatch::backend::software::{Denied, Port};
use dispatch::backend::{Software, SoftwareSettings};
use dispatch::coalesce::Coalescer;
use dispatch::{Backend, Barrier, Batch, Invalidation, WaiterId};
use smmu_core::access::{Access, Operation};
use smmu_core::attributes::{MemoryAttributes, MemoryType, Shareability};
use smmu_core::caps::Capabilities;
use smmu_core::command::Command;
use smmu_core::config::StreamTable;
use smmu_core::decode::decode;
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::TlbSettings;
use smmu_core::translate::Setup;
use smmu_core::{Gpa, StreamId, SubstreamId, Vmid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How many accesses are made again and again.
const FAVOURITES: usize = 24;

/// What makes an address one of a page near by.
const NEAR: [u64; 7] = [0, 0x1000, 0x2000, 0x3000, 0x7000, 0xf000, 0x1_0000];

/// Whose SYNC would come next.
pub(crate) const WAITER: WaiterId = WaiterId(1);

/// What has been done; shown when something is wrong.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "read by Debug when a run fails")]
enum Step {
    Access(Request, Outcome),
    Change(Change),
    Commands(Vec<[u64; 2]>),
    InterruptedBy(Change, Vec<[u64; 2]>),
}

/// How often something has been seen.
#[derive(Debug, Default)]
pub(crate) struct Seen(pub(crate) BTreeMap<String, u64>);

impl Seen {
    fn note(&mut self, what: &str) {
        if let Some(count) = self.0.get_mut(what) {
            *count += 1;
        } else {
            self.0.insert(what.to_owned(), 1);
        }
    }
}

pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) memory: Arc<Memory>,
    pub(crate) core: Arc<Software>,
    obvious: Obvious,
    ports: BTreeMap<(u32, Option<u32>, bool), Port>,
    recent: VecDeque<Step>,
    /// Accesses that are made again and again.
    favourites: Vec<Request>,
}

/// The operation of the core that a raw request is.
pub(crate) fn access(request: &Request) -> Access {
    Access {
        address: request.address,
        operation: match (request.write, request.execute) {
            (true, _) => Operation::Write,
            (false, true) => Operation::Execute,
            (false, false) => Operation::Read,
        },
        privileged: request.privileged,
    }
}

/// A linear table of 64 streams at address zero.
pub(crate) fn setup(caps: Capabilities) -> Setup {
    Setup {
        streams: StreamTable {
            base: Gpa(0),
            log2size: 6,
            split: 6,
            two_level: false,
        },
        caps,
        e2h: false,
        record_bad_stream_id: true,
    }
}

/// Executes commands as a window of a ring does: coalesced, or one after the other.
pub(crate) fn execute(core: &Software, caps: &Capabilities, commands: &[[u64; 2]], coalesce: bool) {
    let mut coalescer = Coalescer::new(&core.capabilities());
    let mut batch = Batch::new();
    batch.set_waiter(WAITER);
    for &[dw0, dw1] in commands {
        match decode(RawCommand { dw0, dw1 }, caps).expect("legal") {
            Command::Tlbi(tlbi) if coalesce => coalescer.push(Invalidation::from_tlbi(tlbi), 0),
            Command::Tlbi(tlbi) => {
                let request = Invalidation::from_tlbi(tlbi);
                batch.restart(request.vmid);
                batch.push(request, 0);
                core.submit(&batch).expect("software takes everything");
            }
            Command::Cfgi(change) => {
                flush(core, &mut coalescer, &mut batch);
                core.configuration_changed(&change, WAITER);
            }
            other => panic!("{other:?} is none of the commands"),
        }
    }
    flush(core, &mut coalescer, &mut batch);
    batch.restart(Vmid(0));
}

fn flush(core: &Software, coalescer: &mut Coalescer, batch: &mut Batch) {
    coalescer.finish();
    while coalescer.next_batch(batch) {
        core.submit(batch).expect("software takes everything");
    }
    coalescer.restart(&core.capabilities());
}

/// Whether it takes a command to outdate an outcome that was right. What has faulted because of
/// the tables is never kept, so only a command that names everything is sure to concern it. Who
/// aborts without an event leaves nothing behind that a SYNC could wait for.
fn could_be_removed(outcome: &Outcome, commands: &[[u64; 2]]) -> bool {
    match outcome {
        Outcome::Abort => false,
        Outcome::At { .. } => true,
        Outcome::Event([first, second, ..]) => match first & 0xff {
            // Of stage 2, on the way to a CD, which is not kept either.
            0x13 if second >> 39 & 7 == 1 => commands.contains(&[0x30, 0]),
            0x03 | 0x09 | 0x0b | 0x10..=0x12 => commands.contains(&[0x30, 0]),
            _ => true,
        },
    }
}

impl Rig {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let (world, memory) = World::new(dice);
        let memory = Arc::new(memory);
        let core = Arc::new(Software::with_settings(SoftwareSettings {
            tlb: TlbSettings {
                log2_entries: dice.pick(&[7, 8, 10, 12]),
                log2_asids: dice.pick(&[4, 10]),
            },
            guards: 64,
            ..SoftwareSettings::default()
        }));
        core.memory_changed(memory.clone());
        core.set_up(Some(world.setup));
        let obvious = Obvious::new(memory.clone(), world.registers, world.configuration());
        Self {
            world,
            memory,
            core,
            obvious,
            ports: BTreeMap::new(),
            recent: VecDeque::new(),
            favourites: Vec::new(),
        }
    }

    /// Something random.
    pub(crate) fn step(&mut self, dice: &mut Dice, seen: &mut Seen) {
        match dice.below(1000) {
            0..100 => self.neighbours(dice, seen),
            100..520 => {
                let request = self.request(dice);
                self.access(&request, dice.below(2) == 0, seen);
            }
            520..720 => {
                let request = self.request(dice);
                self.interrupted_access(&request, dice, seen);
            }
            720..900 => {
                let request = self.request(dice);
                let (change, _) = self.changes(dice, &request, false);
                self.change(&change);
                seen.note("change");
            }
            900..997 => {
                let request = self.request(dice);
                let commands = self.commands(dice, &request);
                self.execute(&commands, dice.percent(50));
                seen.note("window of commands");
            }
            _ => self.exchange(dice, seen),
        }
    }

    /// An access; one to a page near by, when the guest has changed a descriptor on its way; and one to
    /// another such page, behind a command.
    fn neighbours(&mut self, dice: &mut Dice, seen: &mut Seen) {
        let (mut request, port) = (self.request(dice), dice.below(2) == 0);
        self.access(&request, port, seen);
        let mine = self.obvious.on_the_way(&request);
        if mine.is_empty() {
            return;
        }
        let at = dice.pick(&mine);
        if let Some((change, _)) = self.world.change_at(dice, at) {
            self.change(&change);
        }
        for _ in 0..2 {
            request.address ^= dice.pick(&NEAR);
            self.access(&request, port, seen);
            let leaf = dice.below(2);
            let [low, high] = command_of(dice, &request);
            let is_by_address = [0x12, 0x13].contains(&(low & 0xff));
            self.execute(&[[low, high | if is_by_address { leaf } else { 0 }]], false);
        }
    }

    /// An access: mostly one that has been made before, or almost.
    fn request(&mut self, dice: &mut Dice) -> Request {
        let new = self.world.request(dice);
        if self.favourites.len() < FAVOURITES {
            self.favourites.push(new);
        }
        let known = dice.below(self.favourites.len() as u64) as usize;
        if dice.percent(3) {
            self.favourites[known] = new;
        }
        let old = self.favourites[known];
        match dice.below(20) {
            0 => new,
            1..12 => old,
            12..16 => Request {
                write: new.write,
                execute: new.execute,
                privileged: new.privileged,
                ..old
            },
            _ => Request {
                stream: new.stream,
                substream: new.substream,
                incoming: incoming_of(new.stream),
                ..old
            },
        }
    }

    /// What the guest writes; and which intermediate address it could name because of that.
    fn changes(&self, dice: &mut Dice, request: &Request, torn: bool) -> (Change, Option<u64>) {
        let mine = self.obvious.on_the_way(request);
        if !mine.is_empty() && dice.percent(if torn { 75 } else { 50 }) {
            let at = dice.pick(&mine);
            if let Some(change) = self.world.change_at(dice, at) {
                return change;
            }
        }
        (self.world.change(dice, torn), None)
    }

    fn commands(&self, dice: &mut Dice, request: &Request) -> Vec<[u64; 2]> {
        let count = 1 + dice.below(3);
        let mut all: Vec<[u64; 2]> = (0..count).map(|_| command(dice, &self.world)).collect();
        let mine = self.obvious.on_the_way(request);
        let ipas = mine.iter().filter_map(|&at| self.world.ipa_at(at));
        let ipas: Vec<u64> = ipas.collect();
        if !ipas.is_empty() && dice.percent(40) {
            let ipa = dice.pick(&ipas);
            all[0] = intermediate_near(dice, ipa);
        } else if dice.percent(50) {
            all[0] = command_of(dice, request);
        }
        all
    }

    pub(crate) fn change(&mut self, change: &Change) {
        for &(at, value) in change {
            self.memory.set(at, value);
        }
        self.note(|| Step::Change(change.clone()));
    }

    pub(crate) fn execute(&mut self, commands: &[[u64; 2]], coalesce: bool) {
        execute(&self.core, &self.world.setup.caps, commands, coalesce);
        commands.iter().for_each(|&raw| self.obvious.command(raw));
        self.note(|| Step::Commands(commands.to_vec()));
    }

    /// The map of memory or the registers are written anew with what they hold: nothing that is
    /// cached has to go, nothing may go wrong.
    fn exchange(&mut self, dice: &mut Dice, seen: &mut Seen) {
        if dice.percent(50) {
            self.core.memory_changed(self.memory.clone());
        } else {
            self.core.set_up(None);
            let request = self.world.request(dice);
            let (outcome, _) = self.translate(&request, true);
            assert_eq!(outcome, Outcome::Abort, "the SMMU is off");
            self.core.set_up(Some(self.world.setup));
        }
        seen.note("exchange");
    }

    /// An access, and what both SMMUs say.
    pub(crate) fn access(&mut self, request: &Request, port: bool, seen: &mut Seen) {
        let (outcome, _) = self.translate(request, port);
        let mut flight = Flight::new(request);
        self.obvious.moment(&mut flight);
        self.note(|| Step::Access(*request, outcome));
        self.judge(&flight, &outcome, seen);
    }

    /// An access during which the guest changes something and sends commands. Whatever was true
    /// at some moment of it is right; but what the commands have removed holds back a SYNC as
    /// long as the access lasts (law 3), and is not there any more for the next one.
    fn interrupted_access(&mut self, request: &Request, dice: &mut Dice, seen: &mut Seen) {
        let mut flight = Flight::new(request);
        self.obvious.moment(&mut flight);
        let (change, ipa) = self.changes(dice, request, true);
        let twice = |&(at, _): &(u64, u64)| self.obvious.meets_twice(&flight, at);
        if change.iter().any(twice) {
            return self.access(request, true, seen);
        }
        let mut commands = self.commands(dice, request);
        commands.extend(ipa.map(|ipa| intermediate_of(dice, ipa)));
        if dice.percent(50) {
            // Whatever it is that the access uses.
            commands.extend([[0x03 | u64::from(request.stream) << 32, 0], [0x30, 0]]);
        }
        let coalesce = dice.percent(50);
        let (memory, core) = (self.memory.clone(), self.core.clone());
        let (values, raw, caps) = (change.clone(), commands.clone(), self.world.setup.caps);
        let reads = dice.pick(&[1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 10, 12, 15, 18, 24]);
        self.memory.interrupt(
            reads,
            Box::new(move || {
                values.iter().for_each(|&(at, value)| memory.set(at, value));
                execute(&core, &caps, &raw, coalesce);
            }),
        );
        let (outcome, held_back) = self.translate(request, dice.percent(50));
        self.note(|| Step::Access(*request, outcome));
        if !self.memory.has_happened() {
            self.judge(&flight, &outcome, seen);
            return;
        }
        self.note(|| Step::InterruptedBy(change, commands.clone()));
        self.obvious.moment(&mut flight);
        commands.iter().for_each(|&raw| self.obvious.command(raw));
        let mut later = Flight::new(request);
        self.obvious.moment(&mut later);
        self.obvious.moment(&mut flight);
        self.judge(&flight, &outcome, seen);
        if !later.allows(&outcome) && could_be_removed(&outcome, &commands) {
            seen.note("outdated while under way");
            if !held_back {
                self.complain(&format!(
                    "no SYNC waits for {outcome:x?}, outdated by {later:x?}"
                ));
            }
        }
    }

    /// What the core says, and whether a SYNC had to wait as long as the guard was open.
    fn translate(&mut self, request: &Request, port: bool) -> (Outcome, bool) {
        let core = &self.core;
        let stream = StreamId(request.stream);
        let new = || {
            let mut port = core.port(stream).expect("a guard for each port");
            let (mair, shared) = request.incoming.raw();
            let shareability = [Shareability::Non, Shareability::Inner, Shareability::Outer];
            let memory = MemoryType::from_mair(mair);
            port.set_incoming(MemoryAttributes::new(memory, shareability[shared as usize]));
            port
        };
        let port =
            (self.ports.entry((request.stream, request.substream, port))).or_insert_with(new);
        let substream = request.substream.map(SubstreamId);
        let mut pending = false;
        let look = || core.barrier(WAITER) == Barrier::Pending;
        let result = port.translate(substream, access(request), u64::MAX, |_| pending = look());
        let outcome = match result {
            Ok(guard) => {
                pending = look();
                let output = guard.output();
                let attributes = output.attributes();
                Outcome::At {
                    address: output.address,
                    bytes: output.bytes,
                    memory: of_raw((attributes.mair(), attributes.shareability() as u64)),
                }
            }
            Err(Denied::Aborted) => Outcome::Abort,
            Err(Denied::Fault(failed)) => Outcome::Event(failed.record(None).0),
        };
        assert_eq!(core.barrier(WAITER), Barrier::Done, "no guard is open");
        (outcome, pending)
    }

    fn judge(&self, flight: &Flight, outcome: &Outcome, seen: &mut Seen) {
        if !flight.allows(outcome) {
            self.complain(&format!("{outcome:x?} is none of {flight:x?}"));
        }
        let kind = match outcome {
            Outcome::Abort => "abort".to_owned(),
            Outcome::At { .. } => "through".to_owned(),
            Outcome::Event([first, how, ..]) if how >> 39 & 1 != 0 => format!(
                "event {:#04x} of stage 2, CLASS={}",
                first & 0xff,
                how >> 40 & 3
            ),
            Outcome::Event([first, ..]) => format!("event {:#04x}", first & 0xff),
        };
        let why = if flight.fresh.contains(outcome) {
            ""
        } else if flight.kept.contains(outcome) {
            "kept: "
        } else {
            "from a known table: "
        };
        seen.note(&format!("{why}{kind}"));
    }

    fn note(&mut self, step: impl FnOnce() -> Step) {
        if self.recent.len() == 60 {
            self.recent.pop_front();
        }
        self.recent.push_back(step());
    }

    fn complain(&self, what: &str) -> ! {
        let mut log = String::new();
        for step in &self.recent {
            log += &format!("  {step:x?}\n");
        }
        panic!("{what}\nafter\n{log}in {:x?}", self.world.registers);
    }
}
