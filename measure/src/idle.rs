//! What an idle worker costs: processor time of the whole process in a second in which nothing
//! happens, after a burst of commands. The thread that measures sleeps meanwhile.

use crate::cores::Pair;
use crate::data::Placed;
use crate::options::{Options, Part, Progress};
use crate::vm::{Door, Vm, small_software};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use smmu_core::Asid;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use vcmdq::{Engine, Settings};
use vcmdq_benches::rounds::median;
use vcmdq_benches::streams::tlbi;

/// No engine: what the process uses by itself.
pub const NOTHING: &str = "no engine";
/// Trapped doorbells: the worker sleeps until one rings.
pub const TRAP: &str = "trap";
/// A shared page that stays mapped: the worker dozes.
pub const SHARED_PAGE: &str = "shared page";
/// A page that is taken away while the guest is idle: the worker sleeps.
pub const ADAPTIVE: &str = "adaptive";

/// A machine on which a guest cannot be busy for so long measures nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// Who ran where.
    pub placement: Vec<Placed>,
    /// How long nothing happened, in milliseconds.
    pub idle_ms: u64,
    /// Each doorbell mode.
    pub cases: Vec<IdleCase>,
}

/// One doorbell mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdleCase {
    /// One of the constants of the module.
    pub name: String,
    /// Of one core, 0 to 1; the median over the rounds.
    pub cpu_share: f64,
    /// Of each round.
    pub rounds: Vec<f64>,
    /// SYNCs of the bursts before.
    pub syncs: u64,
    /// How often the way around the exit was opened or closed, bursts included.
    pub flips: u64,
}

impl Idle {
    /// A case by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&IdleCase> {
        self.cases.iter().find(|case| case.name == name)
    }
}

struct Site {
    name: &'static str,
    engine: Option<(Vm, Engine)>,
    shares: Vec<f64>,
}

impl Site {
    fn new(name: &'static str, door: Option<Door>, pair: &Pair) -> Result<Self, String> {
        let engine = |door| {
            let engine = Engine::start(Settings::default(), Arc::new(pair.workers()));
            let engine = engine.map_err(|error| error.to_string())?;
            let vm = Vm::new(&engine, small_software(), (1, 8), door)?;
            Ok::<_, String>((vm, engine))
        };
        Ok(Self {
            name,
            engine: door.map(engine).transpose()?,
            shares: Vec::new(),
        })
    }

    /// A busy guest: as many SYNCs one after the other as fit into the time; and until its page is
    /// open, if it has one that is opened for the busy.
    fn burst(&mut self, time: Duration) {
        let Some((vm, engine)) = &mut self.engine else {
            return;
        };
        let is_closed = || self.name == ADAPTIVE && engine.metrics().flips == 0;
        let (begun, queue) = (Instant::now(), &mut vm.queues[0]);
        let mut number = 0;
        while begun.elapsed() < time || is_closed() && begun.elapsed() < PATIENCE {
            if queue.has_room(2) {
                let pending = queue.publish_with_sync(tlbi(Asid(1), number));
                while !queue.has_synced(pending) {
                    std::hint::spin_loop();
                }
                number += 1;
            }
        }
    }

    fn round(&mut self, burst: Duration, idle: Duration) {
        self.burst(burst);
        let (begun, before) = (Instant::now(), used());
        sleep(idle);
        let used = used().saturating_sub(before);
        self.shares
            .push(used.as_secs_f64() / begun.elapsed().as_secs_f64());
    }

    fn sum_up(&self) -> IdleCase {
        let engine = self.engine.as_ref();
        IdleCase {
            name: self.name.to_owned(),
            cpu_share: median(self.shares.clone()),
            rounds: self.shares.clone(),
            syncs: engine.map_or(0, |(vm, _)| vm.queues[0].metrics().syncs),
            flips: engine.map_or(0, |(_, engine)| engine.metrics().flips),
        }
    }
}

/// Processor time of all threads of the process.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

pub(crate) fn measure(
    options: &Options,
    pair: &Pair,
    progress: &dyn Progress,
) -> Result<Idle, String> {
    let rounds = options.rounds(3, 1);
    let time = |full, quick| Duration::from_millis(options.rounds(full, quick) as u64);
    let (burst, idle) = (time(200, 20), time(1000, 50));
    let doors = [
        (NOTHING, None),
        (TRAP, Some(Door::Call)),
        (ADAPTIVE, Some(Door::Adaptive)),
        (SHARED_PAGE, Some(Door::Page)),
    ];
    progress.part(Part::Idle, (rounds * doors.len()) as u64);
    let mut cases = Vec::new();
    // One engine at a time: the others would count.
    for (name, door) in doors {
        let mut site = Site::new(name, door, pair)?;
        for _ in 0..rounds {
            site.round(burst, idle);
            progress.step();
        }
        cases.push(site.sum_up());
    }
    let (first, second) = pair.numbers();
    Ok(Idle {
        placement: vec![
            Placed::on("the guest of the burst, asleep while it is measured", first),
            Placed::on("worker", second),
            Placed {
                thread: "the engine's thread for gates".to_owned(),
                cpu: None,
            },
        ],
        idle_ms: idle.as_millis() as u64,
        cases,
    })
}
