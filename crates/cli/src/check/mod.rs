//! What is invalidated is there before, and gone after; its neighbours stay.
//!
//! Before a submission is checked, entries that it must remove (*victims*) and entries that
//! lie beside them (*neighbours*) are put into the translation cache and into the caches of
//! the devices, each with a number of its own. When the submission's SYNC is done, no victim
//! may be found. A neighbour may be missing once, because caches evict and other producers
//! invalidate too; if it is missing again when nobody else submits, something removes too much.

mod devices;
mod model;

pub(crate) use devices::DeviceModel;

use crate::machine::Machine;
use dispatch::backend::Software;
use dispatch::{Backend, Batch, MAX_BATCH};
use model::{Page, Place, Submission};
use serde::Serialize;
use smmu_core::Vmid;
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::{Entry, Space};
use vcmdq::testing::QueueError;

/// How often a missing neighbour is given another chance.
const CHANCES: u32 = 3;

/// How many failures are told in words.
const EXAMPLES: usize = 4;

/// What the checks of one producer, or of a run, have found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Submissions that were checked.
    pub(crate) submissions: u64,
    /// Entries that had to go: as many were to be there before.
    pub(crate) wanted: u64,
    /// Entries that had to go and were there before.
    pub(crate) victims: u64,
    /// Entries that had to stay.
    pub(crate) neighbours: u64,
    /// Victims that were still there: lost invalidations.
    pub(crate) stale: u64,
    /// Neighbours that were removed every time.
    pub(crate) removed_too_much: u64,
    /// Some of the failures, in words.
    pub(crate) examples: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.submissions += other.submissions;
        self.wanted += other.wanted;
        self.victims += other.victims;
        self.neighbours += other.neighbours;
        self.stale += other.stale;
        self.removed_too_much += other.removed_too_much;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }

    /// Most of what had to go could be put there before: caches may refuse now and then.
    pub(crate) fn looked(&self) -> bool {
        self.victims >= self.wanted.div_ceil(2)
    }

    /// Nothing failed, and it was looked.
    pub(crate) fn holds(&self) -> bool {
        self.stale == 0 && self.removed_too_much == 0 && self.looked()
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(what());
        }
    }
}

/// An entry that has been put into a cache.
struct Planted {
    place: Place,
    token: u64,
    must_go: bool,
}

/// What a look for a planted entry finds.
#[derive(PartialEq, Eq)]
enum Found {
    /// The entry itself.
    Itself,
    /// Another one in its place: nothing can be said.
    Another,
    Nothing,
}

/// Checks the submissions of one producer.
pub(crate) struct Checker<'a> {
    machine: &'a Machine,
    /// Makes places and numbers that no other producer uses.
    producer: u16,
    tokens: u64,
    planted: Vec<Planted>,
    batch: Batch,
    pub(crate) tally: Tally,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(machine: &'a Machine, producer: u16) -> Self {
        Self {
            machine,
            producer,
            tokens: 0,
            planted: Vec::new(),
            batch: Batch::new(),
            tally: Tally::default(),
        }
    }

    /// Puts there what `commands` must remove, and its neighbours.
    pub(crate) fn plant(&mut self, commands: &[RawCommand]) {
        let submission = Submission::of(commands, &self.machine.caps);
        self.tally.submissions += 1;
        self.planted.clear();
        for place in submission.places(self.producer) {
            let must_go = submission.removes(&place);
            self.tally.wanted += u64::from(must_go);
            if must_go || !submission.may_be_widened_to(&place) {
                self.plant_one(place, must_go);
            }
        }
        let victims = self
            .planted
            .iter()
            .filter(|planted| planted.must_go)
            .count() as u64;
        self.tally.victims += victims;
        self.tally.neighbours += self.planted.len() as u64 - victims;
    }

    fn plant_one(&mut self, place: Place, must_go: bool) {
        self.tokens += 1;
        let token = u64::from(self.producer) << 48 | self.tokens;
        let there = match place {
            Place::Page(page) => fill(&self.machine.software, &page, token),
            Place::Device {
                stream,
                pasid,
                addr,
            } => self.machine.devices.get(&stream).is_some_and(|device| {
                device.put(pasid, addr, token);
                true
            }),
        };
        if there {
            self.planted.push(Planted {
                place,
                token,
                must_go,
            });
        }
    }

    /// After the SYNC: looks for all that was planted, and takes away what is left of it, past the
    /// queue, so that it crowds out nothing later. False if a neighbour is missing; then
    /// [`verify_alone`](Self::verify_alone) says whether that means anything.
    pub(crate) fn verify(&mut self) -> bool {
        self.look_for_victims();
        let missing = self.missing_neighbour();
        self.clear();
        missing.is_none()
    }

    /// Plants the same again and submits the same again, while nobody else does.
    ///
    /// # Errors
    ///
    /// As of any submission.
    pub(crate) fn verify_alone(&mut self, commands: &[RawCommand]) -> Result<(), QueueError> {
        let _alone = self.machine.turn.write();
        let mut missing = None;
        for _ in 0..CHANCES {
            for planted in std::mem::take(&mut self.planted) {
                self.plant_one(planted.place, planted.must_go);
            }
            self.machine
                .queue(usize::from(self.producer))
                .submit(commands)?;
            self.look_for_victims();
            missing = self.missing_neighbour();
            self.clear();
            if missing.is_none() {
                return Ok(());
            }
        }
        if let Some(place) = missing {
            self.tally.removed_too_much += 1;
            self.tally
                .tell(|| format!("{place:x?} is always removed, though nothing names it"));
        }
        Ok(())
    }

    fn look_for_victims(&mut self) {
        for planted in self.planted.iter().filter(|planted| planted.must_go) {
            if self.find(planted) == Found::Itself {
                self.tally.stale += 1;
                let place = planted.place;
                self.tally
                    .tell(|| format!("{place:x?} is still there after the SYNC"));
            }
        }
    }

    fn missing_neighbour(&self) -> Option<Place> {
        let missing = |planted: &&Planted| !planted.must_go && self.find(planted) == Found::Nothing;
        self.planted
            .iter()
            .find(missing)
            .map(|planted| planted.place)
    }

    fn find(&self, planted: &Planted) -> Found {
        let token = match planted.place {
            Place::Page(page) => look(&self.machine.software, &page),
            Place::Device {
                stream,
                pasid,
                addr,
            } => self
                .machine
                .devices
                .get(&stream)
                .and_then(|device| device.get(pasid, addr)),
        };
        match token {
            Some(token) if token == planted.token => Found::Itself,
            Some(_) => Found::Another,
            None => Found::Nothing,
        }
    }

    fn clear(&mut self) {
        self.batch.restart(Vmid(0));
        for planted in &self.planted {
            match planted.place {
                Place::Page(page) if self.batch.len() < MAX_BATCH => {
                    self.batch.push(page.removal(), 0);
                }
                Place::Page(_) => {}
                Place::Device {
                    stream,
                    pasid,
                    addr,
                } => {
                    if let Some(device) = self.machine.devices.get(&stream) {
                        device.remove(pasid, addr);
                    }
                }
            }
        }
        // The software core takes every batch.
        let _taken = self.machine.software.submit(&self.batch);
    }
}

/// Caches a page as a walk would. False if the cache does not take it.
fn fill(software: &Software, page: &Page, token: u64) -> bool {
    let vmid = Vmid(0);
    let ticket = software.ticket(vmid, page.reader());
    let entry = Entry {
        vmid,
        space: page.space,
        va: page.va,
        class: page.class,
        payload: [token, !token],
    };
    software.fill(&entry, &ticket)
}

/// The number of what is cached for a page, if anything is.
fn look(software: &Software, page: &Page) -> Option<u64> {
    let hit = software.lookup(model::ANY_STREAM, Vmid(0), page.reader(), page.va)?;
    let own = hit.class == page.class && hit.global == (page.space == Space::Global);
    // What lies in front of it is not the entry, and says nothing about it.
    Some(if own { hit.payload[0] } else { 0 })
}
