//! How long a thread was ready to run and did not: what shared processors cost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A thread of this process, and what its clocks showed last.
#[derive(Debug)]
pub(super) struct Waited {
    thread: Option<PathBuf>,
    since: Instant,
    before: Duration,
}

impl Waited {
    /// The thread of this name; the share is unknown if there is none, or no such clock.
    pub(super) fn of(name: &str) -> Self {
        let tasks = fs::read_dir("/proc/self/task").ok();
        let tasks = tasks.into_iter().flatten().flatten();
        let mut paths = tasks.map(|task| task.path());
        let named = |path: &PathBuf| {
            let comm = fs::read_to_string(path.join("comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        };
        let thread = paths.find(named);
        Self {
            before: thread.as_deref().and_then(waiting).unwrap_or_default(),
            thread,
            since: Instant::now(),
        }
    }

    /// Of the time since the last call, the share in which it waited for a processor.
    pub(super) fn share(&mut self) -> String {
        let (now, since) = (Instant::now(), self.since);
        let Some(waited) = self.thread.as_deref().and_then(waiting) else {
            return "?".into();
        };
        let share = waited.saturating_sub(self.before).as_secs_f64();
        let share = share / now.duration_since(since).as_secs_f64().max(1e-9);
        (self.since, self.before) = (now, waited);
        format!("{share:.3}")
    }
}

/// The second number of the thread's schedstat: nanoseconds on a run queue.
fn waiting(thread: &Path) -> Option<Duration> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    waiting_in(&text)
}

fn waiting_in(schedstat: &str) -> Option<Duration> {
    let nanos = schedstat.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_the_time_on_a_run_queue() {
        let waited = waiting_in("123 4500 6\n");
        assert_eq!(waited, Some(Duration::from_nanos(4500)));
        assert_eq!(waiting_in(""), None);
    }

    #[test]
    fn nothing_is_known_of_a_thread_that_is_not_there() {
        assert_eq!(Waited::of("no such thread").share(), "?");
    }
}
