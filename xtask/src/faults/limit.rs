//! Runs a process for a limited time.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
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
    /// It was killed because what it had printed was enough.
    Enough,
}

/// Runs `command` with its output in the file `log` and kills it, with all that it started,
/// after `limit`. A file, because a pipe would be held open by what outlives the process.
///
/// # Errors
///
/// It cannot be started or killed, or the file cannot be written.
pub(crate) fn run(command: &mut Command, log: &Path, limit: Duration) -> Result<End> {
    run_until(command, log, limit, |_| false)
}

/// The same, and ends it as soon as `enough` says so of what it has printed so far.
///
/// # Errors
///
/// As for [`run`]; or the file cannot be read.
pub(crate) fn run_until(
    command: &mut Command,
    log: &Path,
    limit: Duration,
    enough: impl Fn(&str) -> bool,
) -> Result<End> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stderr(output.try_clone()?)
        .stdout(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", crate::command::line(command)))?;
    let start = Instant::now();
    let mut seen = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exit(status));
        }
        if start.elapsed() > limit {
            kill(&mut child)?;
            return Ok(End::OutOfTime);
        }
        let printed = fs::metadata(log)?.len();
        if printed > seen {
            seen = printed;
            if enough(&String::from_utf8_lossy(&fs::read(log)?)) {
                kill(&mut child)?;
                return Ok(End::Enough);
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Ends a process and all that it started.
fn kill(child: &mut Child) -> Result<()> {
    let group = format!("-{}", child.id());
    Command::new("kill")
        .args(["-KILL", "--", &group])
        .status()?;
    child.wait()?;
    Ok(())
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
        // A machine that is busy may have had no time for the first word.
        assert!("begun\n".starts_with(&output), "{output}");
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    #[test]
    fn what_has_printed_enough_is_not_waited_for() {
        let log = std::env::temp_dir().join(format!("xtask-enough-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; sleep 600"]);
        let limit = Duration::from_secs(60);
        let end = run_until(&mut command, &log, limit, |text| text.contains("two"));
        fs::remove_file(&log).expect("log");
        assert_eq!(end.expect("sh"), End::Enough);
    }
}
