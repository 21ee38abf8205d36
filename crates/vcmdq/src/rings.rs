//! Where the rings of an engine are: their numbers, their slots, and who looks for their PROD.
//!
//! | name | what | of how many |
//! |---|---|---|
//! | number | what a ring is rung for by, and what its waiters have | `Settings::max_rings`, reused |
//! | slot | its bit among what is ready: share × 64 + bit; a share belongs to one frame | as many shares |
//! | round | whose worker looks for what nobody announces | `Settings::workers` |
//!
//! Control calls change the table by copy; workers follow when they see another version.

use crate::error::RingError;
use crate::metrics::Lateness;
use crate::ready::FAN;
use crate::ring::Ring;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::snapshot::Snapshot;
use vcmdq_sync::sync as snapshot;

type Share = Vec<Option<Arc<Ring>>>;

/// The rings, as workers find them.
#[derive(Clone, Default)]
pub(crate) struct Table {
    shares: Vec<Option<Arc<Share>>>,
    /// Of each round, the rings whose PROD nobody announces.
    rounds: Vec<Arc<Vec<Arc<Ring>>>>,
}

impl Table {
    /// The ring in a slot.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Arc<Ring>> {
        let share = self.shares.get((slot / FAN) as usize)?.as_ref()?;
        share.get((slot % FAN) as usize)?.as_ref()
    }

    pub(crate) fn polled(&self, round: usize) -> Arc<Vec<Arc<Ring>>> {
        self.rounds.get(round).cloned().unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Ring>> {
        let shares = self.shares.iter().flatten();
        shares.flat_map(|share| share.iter().flatten())
    }

    /// The same with another content of one slot.
    fn with(&self, slot: u32, ring: Option<&Arc<Ring>>) -> Self {
        let mut next = self.clone();
        let (share, bit) = ((slot / FAN) as usize, (slot % FAN) as usize);
        if next.shares.len() <= share {
            next.shares.resize(share + 1, None);
        }
        let mut rings = next.shares[share].as_deref().cloned().unwrap_or_default();
        if rings.len() <= bit {
            rings.resize(bit + 1, None);
        }
        rings[bit] = ring.cloned();
        let empty = rings.iter().all(Option::is_none);
        next.shares[share] = (!empty).then(|| Arc::new(rings));
        next
    }

    fn change_polled(&mut self, round: usize, change: impl FnOnce(&mut Vec<Arc<Ring>>)) {
        if self.rounds.len() <= round {
            self.rounds.resize(round + 1, Arc::default());
        }
        let mut rings = Vec::clone(&self.rounds[round]);
        change(&mut rings);
        self.rounds[round] = Arc::new(rings);
    }
}

/// What of that a frame has.
#[derive(Debug, Default)]
pub(crate) struct Home {
    shares: Vec<u32>,
    /// The round of its polled rings, and how many they are.
    polled: Option<(usize, usize)>,
}

/// A place for one more ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) number: u32,
    pub(crate) slot: u32,
    /// If its PROD is to be looked for.
    pub(crate) round: Option<usize>,
}

struct Control {
    numbers: Vec<bool>,
    rings: usize,
    /// The slots in use of each share; one without any is anybody's.
    shares: Vec<u64>,
    /// Rings that are looked at in each round.
    polled: Vec<usize>,
    /// What was measured of rings that have gone.
    gone: Lateness,
}

impl Control {
    /// What a frame's next ring gets; nothing is taken yet.
    fn find(&self, home: &Home, polled: bool) -> Option<Place> {
        let number = self.numbers.iter().position(|used| !used)?;
        let has_room = |share: &u32| self.shares[*share as usize] != u64::MAX;
        let fresh = || self.shares.iter().position(|used| *used == 0);
        let share = match home.shares.iter().copied().find(has_room) {
            Some(share) => share,
            None => fresh()? as u32,
        };
        let bit = self.shares[share as usize].trailing_ones();
        let quietest = || (0..self.polled.len()).min_by_key(|round| self.polled[*round]);
        let round = match home.polled {
            Some((round, _)) => Some(round),
            None => quietest(),
        };
        Some(Place {
            number: number as u32,
            slot: share * FAN + bit,
            round: round.filter(|_| polled),
        })
    }

    fn take(&mut self, home: &mut Home, place: Place) {
        let share = place.slot / FAN;
        self.shares[share as usize] |= 1 << (place.slot % FAN);
        if !home.shares.contains(&share) {
            home.shares.push(share);
        }
        self.numbers[place.number as usize] = true;
        self.rings += 1;
        if let Some(round) = place.round {
            self.polled[round] += 1;
            let before = home.polled.map_or(0, |(_, count)| count);
            home.polled = Some((round, before + 1));
        }
    }

    fn give_back(&mut self, home: &mut Home, place: Place) {
        let share = place.slot / FAN;
        let used = &mut self.shares[share as usize];
        *used &= !(1 << (place.slot % FAN));
        if *used == 0 {
            home.shares.retain(|other| *other != share);
        }
        self.numbers[place.number as usize] = false;
        self.rings -= 1;
        if let Some(round) = place.round {
            self.polled[round] -= 1;
            let left = home.polled.map_or(0, |(_, count)| count - 1);
            home.polled = (left != 0).then_some((round, left));
        }
    }
}

/// See the [module](self).
pub(crate) struct Rings {
    most: usize,
    control: Mutex<Control>,
    table: Snapshot<Table>,
    /// Counts changes of the table.
    version: AtomicU64,
}

impl Rings {
    /// Room for `most` rings, in `rounds` rounds.
    pub(crate) fn new(most: usize, rounds: usize) -> Self {
        Self {
            most,
            control: Mutex::new(Control {
                numbers: vec![false; most],
                rings: 0,
                shares: vec![0; most],
                polled: vec![0; rounds],
                gone: Lateness::default(),
            }),
            table: Snapshot::new(Table::default()),
            version: AtomicU64::new(1),
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which table `table` would return. Acquire pairs with `publish`: who takes a ring from what is
    /// ready and then looks here finds the table that has it.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn table(&self) -> snapshot::Arc<Table> {
        self.table.read()
    }

    /// Nobody waits for readers of the old table: what they find there works, and says that it is
    /// gone.
    fn publish(&self, derive: impl FnOnce(&Table) -> Table) {
        let published = self
            .table
            .publish(|table| Ok::<_, Infallible>(derive(table)));
        match published {
            Ok(_leaving) => self.version.fetch_add(1, Ordering::Release),
            Err(never) => match never {},
        };
    }

    /// Whether so many more can be added, as far as nobody else adds some meanwhile.
    pub(crate) fn room_for(&self, more: usize) -> Result<(), RingError> {
        if self.control().rings + more > self.most {
            return Err(RingError::Full(self.most));
        }
        Ok(())
    }

    /// Adds what `make` makes for its place. When this returns, workers find it.
    pub(crate) fn add(
        &self,
        home: &mut Home,
        polled: bool,
        make: impl FnOnce(Place) -> Result<Arc<Ring>, RingError>,
    ) -> Result<Arc<Ring>, RingError> {
        let mut control = self.control();
        let full = RingError::Full(self.most);
        let place = control.find(home, polled).ok_or(full)?;
        let ring = make(place)?;
        control.take(home, place);
        self.publish(|table| {
            let mut next = table.with(place.slot, Some(&ring));
            if let Some(round) = place.round {
                next.change_polled(round, |rings| rings.push(ring.clone()));
            }
            next
        });
        Ok(ring)
    }

    /// Workers do not find the ring any more, and its place is free. The ring has retired.
    pub(crate) fn remove(&self, home: &mut Home, ring: &Arc<Ring>) {
        let mut control = self.control();
        let place = ring.place;
        self.publish(|table| {
            let mut next = table.with(place.slot, None);
            if let Some(round) = place.round {
                next.change_polled(round, |rings| rings.retain(|r| !Arc::ptr_eq(r, ring)));
            }
            next
        });
        control.give_back(home, place);
        control.gone.add(&ring.metrics().lateness());
    }

    /// How late the SYNCs of all rings were, also of those that have gone.
    pub(crate) fn lateness(&self) -> Lateness {
        let control = self.control();
        let mut lateness = control.gone;
        for ring in self.table().iter() {
            lateness.add(&ring.metrics().lateness());
        }
        lateness
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn control(rings: usize) -> Control {
        let Rings { control, .. } = Rings::new(rings, 2);
        control.into_inner().unwrap()
    }

    fn add(control: &mut Control, home: &mut Home, polled: bool) -> Option<Place> {
        let place = control.find(home, polled)?;
        control.take(home, place);
        Some(place)
    }

    #[test]
    fn each_frame_has_shares_of_its_own_and_reuses_its_slots() {
        let mut control = control(128);
        let (mut one, mut other) = (Home::default(), Home::default());
        let places: Vec<_> = (0..65)
            .map(|_| add(&mut control, &mut one, false).unwrap())
            .collect();
        assert_eq!((places[63].slot, places[64].slot), (63, 64));
        assert_eq!(add(&mut control, &mut other, false).unwrap().slot, 128);
        control.give_back(&mut one, places[5]);
        let again = add(&mut control, &mut one, false).unwrap();
        assert_eq!((again.slot, again.number), (5, 5));
    }

    #[test]
    fn as_many_rings_as_settings_say_and_not_one_more() {
        let mut control = control(3);
        let mut homes: Vec<Home> = (0..4).map(|_| Home::default()).collect();
        for home in &mut homes[..3] {
            assert!(add(&mut control, home, true).is_some());
        }
        assert!(add(&mut control, &mut homes[3], true).is_none());
        let place = Place {
            number: 1,
            slot: 64,
            round: Some(1),
        };
        control.give_back(&mut homes[1], place);
        assert!(add(&mut control, &mut homes[3], true).is_some());
    }

    #[test]
    fn a_frames_polled_rings_are_looked_at_in_one_round_and_frames_spread() {
        let mut control = control(8);
        let (mut one, mut other) = (Home::default(), Home::default());
        let first = add(&mut control, &mut one, true).unwrap();
        let second = add(&mut control, &mut one, true).unwrap();
        assert_eq!((first.round, second.round), (Some(0), Some(0)));
        assert_eq!(add(&mut control, &mut one, false).unwrap().round, None);
        let third = add(&mut control, &mut other, true).unwrap();
        assert_eq!(third.round, Some(1));
        control.give_back(&mut other, third);
        assert_eq!(control.polled, [2, 0]);
        assert_eq!(add(&mut control, &mut one, true).unwrap().round, Some(0));
    }
}
