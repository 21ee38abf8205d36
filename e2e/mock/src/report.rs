//! What the host hears, a line each on the console.

use anyhow::Result;
use std::io::Write;
use std::time::Duration;

/// The verdict of a check, with what was seen or what is wrong; `true` if it held.
pub(crate) fn verdict(name: &str, result: &Result<String>) -> bool {
    match result {
        Ok(seen) => say(&format!("vcmdq-check: {name} ok {seen}")),
        Err(error) => say(&format!("vcmdq-check: {name} FAIL {error:#}")),
    }
    result.is_ok()
}

/// A line of a table, or another thing worth showing.
pub(crate) fn note(text: &str) {
    say(&format!("vcmdq-note: {text}"));
}

/// All checks have been made.
pub(crate) fn done(took: Duration) {
    say(&format!("vcmdq-done: {:.1}", took.as_secs_f64()));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Without a console nobody would hear of it.
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}
