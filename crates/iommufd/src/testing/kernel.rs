//! A kernel that executes Arm commands in memory, counts as real ones do, and fails on demand.
//!
//! What it takes and how it fails is that of Linux's SMMUv3 driver: entries are converted one by one,
//! blocks of 63 are executed as soon as they are complete, and what an error leaves in `entry_num` depends
//! on the version.

use crate::encode::BLOCK;
use crate::uapi::{Errno, Invalidate, InvalidateError, Iommufd, kind};
use smmu_core::spec::command::{RawCommand, opcode};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the kernel tells of a call that an entry ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Up to 7.2: how many were converted. Those behind the last whole block were not executed.
    Converted,
    /// Later: what was converted has been executed.
    Exact,
}

/// What one call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing special.
    None,
    /// It fails before it begins, and leaves the count as it was.
    Early(Errno),
    /// It fails in the checks of the core, which set the count to zero.
    Core(Errno),
    /// A block is not done in time: of its commands, the first so many are executed all the same.
    TimeOut {
        /// Which one of the call's blocks; beyond the last it is that.
        block: usize,
        /// How many of its commands.
        executed: usize,
    },
    /// It is interrupted behind so many blocks, of which it tells.
    Interrupted {
        /// How many blocks are executed.
        blocks: usize,
    },
}

/// How long calls last: the caller spins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Each call.
    pub call: Duration,
    /// Each block that is executed.
    pub block: Duration,
    /// Each command.
    pub command: Duration,
}

#[derive(Debug, Default)]
struct State {
    executed: Vec<RawCommand>,
    calls: Vec<usize>,
    script: VecDeque<Fault>,
    always: Option<Fault>,
    vsids: BTreeSet<u32>,
    refused: Vec<RawCommand>,
}

/// The kernel, with one vIOMMU.
#[derive(Debug)]
pub struct FakeKernel {
    viommu: u32,
    counting: Counting,
    cost: Cost,
    remembers: bool,
    state: Mutex<State>,
}

impl FakeKernel {
    /// With a vIOMMU of that ID and these vdevices.
    #[must_use]
    pub fn new(counting: Counting, viommu: u32, vsids: &[u32]) -> Self {
        let state = State {
            vsids: vsids.iter().copied().collect(),
            ..State::default()
        };
        Self {
            viommu,
            counting,
            cost: Cost::default(),
            remembers: true,
            state: Mutex::new(state),
        }
    }

    /// Calls last that long, and nothing is remembered of them but their number and that of commands.
    #[must_use]
    pub fn with_cost(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self.remembers = false;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next calls come to; behind them, nothing special.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().script.extend(faults);
    }

    /// What every call comes to that nothing is scripted for.
    pub fn always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    /// Refuses this very command from now on.
    pub fn refuse(&self, command: RawCommand) {
        self.state().refused.push(command);
    }

    /// The vdevice goes.
    pub fn unplug(&self, vsid: u32) {
        self.state().vsids.remove(&vsid);
    }

    /// What was executed since this was asked last, in order.
    pub fn take_executed(&self) -> Vec<RawCommand> {
        std::mem::take(&mut self.state().executed)
    }

    /// How many entries each call had since this was asked last.
    pub fn take_calls(&self) -> Vec<usize> {
        std::mem::take(&mut self.state().calls)
    }

    fn spin(length: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < length {
            vcmdq_sync::hint::spin_loop();
        }
    }
}

impl State {
    fn takes(&self, raw: RawCommand) -> bool {
        let known = match raw.dw0 as u8 {
            opcode::TLBI_NSNH_ALL
            | opcode::TLBI_NH_ALL
            | opcode::TLBI_NH_ASID
            | opcode::TLBI_NH_VA
            | opcode::TLBI_NH_VAA => true,
            opcode::ATC_INV | opcode::CFGI_CD | opcode::CFGI_CD_ALL => {
                self.vsids.contains(&((raw.dw0 >> 32) as u32))
            }
            _ => false,
        };
        known && !self.refused.contains(&raw)
    }

    /// Executes commands as far as the fault lets it, or says what the caller is told.
    fn run(
        &mut self,
        all: &[RawCommand],
        counting: Counting,
        fault: Fault,
    ) -> Result<(), (Errno, usize)> {
        let last_block = all.len().saturating_sub(1) / BLOCK;
        let mut issued = 0;
        for (at, raw) in all.iter().enumerate() {
            let block = at / BLOCK;
            if !self.takes(*raw) {
                if counting == Counting::Exact {
                    self.executed.extend(&all[issued..at]);
                }
                return Err((Errno::IO, at));
            }
            if at % BLOCK == 0 && matches!(fault, Fault::Interrupted { blocks } if blocks == block)
            {
                return Err((Errno::INTR, at));
            }
            if (at + 1) % BLOCK != 0 && at + 1 != all.len() {
                continue;
            }
            match fault {
                Fault::TimeOut {
                    block: slow,
                    executed,
                } if block == slow.min(last_block) => {
                    let end = at.min(issued + executed);
                    self.executed.extend(&all[issued..end]);
                    return Err((Errno::TIMEDOUT, at));
                }
                _ => {}
            }
            self.executed.extend(&all[issued..=at]);
            issued = at + 1;
        }
        Ok(())
    }
}

impl Iommufd for FakeKernel {
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        let count = call.entry_num();
        let fails = |errno, handled| Err(InvalidateError { errno, handled });
        if !self.remembers {
            let blocks = count.div_ceil(BLOCK as u32);
            Self::spin(self.cost.call + self.cost.block * blocks + self.cost.command * count);
            self.state().calls.push(count as usize);
            return Ok(());
        }
        let mut state = self.state();
        state.calls.push(count as usize);
        let fault = state.script.pop_front().or(state.always);
        let fault = fault.unwrap_or(Fault::None);
        match fault {
            Fault::Early(errno) => return fails(errno, count),
            Fault::Core(errno) => return fails(errno, 0),
            _ => {}
        }
        if call.target != self.viommu {
            return fails(Errno::NOENT, 0);
        }
        if call.data_type != kind::INVALIDATE_ARM_SMMUV3 || call.entry_len != 16 || count == 0 {
            return fails(Errno::INVAL, 0);
        }
        let word = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte))
        };
        let commands = call.entries.chunks_exact(16).map(|entry| RawCommand {
            dw0: word(&entry[..8]),
            dw1: word(&entry[8..]),
        });
        let commands: Vec<_> = commands.collect();
        let run = state.run(&commands, self.counting, fault);
        run.or_else(|(errno, handled)| fails(errno, handled as u32))
    }
}
