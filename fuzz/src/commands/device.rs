//! A device with an ATC, which answers invalidations at once, later, or never.

use dispatch::backend::{AtcAnswer, AtcTarget};
use smmu_core::command::AtcInv;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a device does with an invalidation.
#[derive(Clone, Copy, Debug, Default)]
enum Habit {
    #[default]
    Answers,
    Keeps,
    Fails,
}

#[derive(Debug, Default)]
struct State {
    habit: Habit,
    kept: Vec<AtcAnswer>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Device(Mutex<State>);

impl Device {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an input says: another habit, or what becomes of the oldest answer that is due.
    pub(super) fn obey(&self, what: u8) {
        let mut state = self.state();
        match what & 7 {
            1 => state.habit = Habit::Answers,
            2 => state.habit = Habit::Keeps,
            3 => state.habit = Habit::Fails,
            4 | 5 if !state.kept.is_empty() => {
                let answer = state.kept.remove(0);
                drop(state);
                if what & 1 == 0 {
                    answer.complete();
                } else {
                    answer.fail();
                }
            }
            _ => {}
        }
    }

    /// Whether an answer is due.
    pub(super) fn owes(&self) -> bool {
        !self.state().kept.is_empty()
    }

    /// Gives all answers that are due, and from now on each at once.
    pub(super) fn answer_everything(&self) {
        let state = std::mem::take(&mut *self.state());
        state.kept.into_iter().for_each(AtcAnswer::complete);
    }
}

impl AtcTarget for Device {
    fn invalidate(&self, _what: &AtcInv, answer: AtcAnswer) {
        let mut state = self.state();
        match state.habit {
            Habit::Answers => {
                drop(state);
                answer.complete();
            }
            Habit::Keeps => state.kept.push(answer),
            Habit::Fails => {
                drop(state);
                answer.fail();
            }
        }
    }
}
