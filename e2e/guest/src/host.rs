//! The conversation with the host over the guest's console, as `/init` has it.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, Write};

/// Prints the verdict of a check, with what was seen or what is wrong; `true` if it held.
pub(crate) fn verdict(name: &str, result: &Result<String>) -> bool {
    match result {
        Ok(seen) => say(&format!("vcmdq-check: {name} ok {seen}")),
        Err(error) => say(&format!("vcmdq-check: {name} FAIL {error:#}")),
    }
    result.is_ok()
}

/// Asks the host, and waits for its answer, which is one line.
///
/// # Errors
///
/// The console is gone.
pub(crate) fn ask(question: &str) -> Result<String> {
    say(&format!("vcmdq-host: {question}"));
    let mut answer = String::new();
    let bytes = std::io::stdin().lock().read_line(&mut answer)?;
    ensure!(bytes > 0, "the host did not answer");
    Ok(answer.trim().to_owned())
}

/// Whether the backing file of the disk holds these bytes at `offset`.
///
/// # Errors
///
/// It does not, or the host does not answer.
pub(crate) fn has_on_disk(offset: u64, bytes: &[u8]) -> Result<()> {
    use sha2::{Digest, Sha256};
    let sum: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let answer = ask(&format!("sum {offset} {} {sum}", bytes.len()))?;
    ensure!(answer == "same", "on the host: {answer}");
    Ok(())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Without a console nobody would hear of it.
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The kernel's log.
///
/// # Errors
///
/// `dmesg` cannot be run.
pub(crate) fn kernel_log() -> Result<String> {
    let output = std::process::Command::new("dmesg").output();
    let output = output.context("cannot run dmesg")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
