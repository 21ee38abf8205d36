//! Runs a process for a limited time.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exit(ExitStatus),
    /// It was killed when its time was over.
    OutOfTime,
}

/// Runs `command` with its output in the file `log` and kills it, with all that it started,
/// after `limit`. A file, because a pipe would be held open by what outlives the process.
///
/// # Errors
///
/// It cannot be started or killed, or the file cannot be written.
pub(crate) fn run(command: &mut Command, log: &Path, limit: Duration) -> Result<End> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stderr(output.try_clone()?)
        .stdout(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", crate::command::line(command)))?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exit(status));
        }
        if start.elapsed() > limit {
            let group = format!("-{}", child.id());
            Command::new("kill")
                .args(["-KILL", "--", &group])
                .status()?;
            child.wait()?;
            return Ok(End::OutOfTime);
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> (End, String) {
        let name = format!("xtask-limit-{}-{}", std::process::id(), script.len());
        let log = std::env::temp_dir().join(name);
        let end = run(Command::new("sh").args(["-c", script]), &log, limit).expect("sh");
        let output = std::fs::read_to_string(&log).expect("log");
        std::fs::remove_file(&log).expect("log");
        (end, output)
    }

    #[test]
    fn an_exit_in_time_is_returned_with_both_outputs() {
        let (end, output) = sh("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        assert!(
            matches!(end, End::Exit(status) if status.code() == Some(3)),
            "{end:?}"
        );
        assert_eq!(output, "out\nerr\n");
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let (end, output) = sh(
            "echo begun; sleep 600 & sleep 600; echo done",
            Duration::from_millis(300),
        );
        assert_eq!(end, End::OutOfTime);
        assert_eq!(output, "begun\n");
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
