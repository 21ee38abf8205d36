//! Child processes: every one is shown as a line that can be pasted into a shell.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The cargo that runs this program, started in the root of the workspace.
pub(crate) fn cargo<I, S>(workspace: &Workspace, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(&workspace.root);
    command
}

/// Shows and runs `command`; its output goes where ours goes.
///
/// # Errors
///
/// It cannot be started, or it does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", words(command).join(" "));
    }
    Ok(())
}

/// Runs `command` quietly and returns its standard output.
///
/// # Errors
///
/// It cannot be started, or it does not exit with 0 (its standard error is in the error).
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            line(command),
            output.status,
            stderr.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `command` can be started and exits with 0; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Prints `command` as [`line()`] gives it.
pub(crate) fn show(command: &Command) {
    println!("$ {}", line(command));
}

/// `command` as a line for a shell, with the variables that it sets in front. Where programs
/// are found is left out: `PATH` is long, and we only make it longer.
pub(crate) fn line(command: &Command) -> String {
    let set = command.get_envs().filter(|(name, _)| *name != "PATH");
    let variables = set.filter_map(|(name, value)| {
        let value = quote(&value?.to_string_lossy());
        Some(format!("{}={value}", name.to_string_lossy()))
    });
    variables
        .chain(words(command))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The program, without its directory, and its arguments.
fn words(command: &Command) -> Vec<String> {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let arguments = command
        .get_args()
        .map(|argument| quote(&argument.to_string_lossy()));
    [program.to_string_lossy().into_owned()]
        .into_iter()
        .chain(arguments)
        .collect()
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_variables_first_and_quotes_what_a_shell_would_split() {
        let mut command = Command::new("/usr/bin/cargo");
        command
            .args(["test", "it's"])
            .env("RUSTFLAGS", "--cfg loom")
            .env("PATH", "/bin");
        assert_eq!(
            line(&command),
            r"RUSTFLAGS='--cfg loom' cargo test 'it'\''s'"
        );
    }

    #[test]
    fn a_failing_command_is_an_error_that_shows_it() {
        let error = run(Command::new("sh").args(["-c", "exit 3"]))
            .expect_err("exit 3")
            .to_string();
        assert!(error.contains("sh -c 'exit 3'"), "{error}");
    }

    #[test]
    fn captured_output_is_returned_and_a_failure_carries_stderr() {
        let output = capture(Command::new("sh").args(["-c", "echo out"])).expect("exit 0");
        assert_eq!(output, "out\n");
        let error = capture(Command::new("sh").args(["-c", "echo bad >&2; exit 1"]));
        assert!(error.expect_err("exit 1").to_string().ends_with("bad"));
    }
}
