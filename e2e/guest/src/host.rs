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

/// Commands of one kind that have come to the host's SMMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// What Linux calls it, without its class.
    pub(crate) name: String,
    /// The VMID or StreamID in them, if that is known.
    pub(crate) whose: Option<u64>,
    /// How many.
    pub(crate) count: u64,
}

/// The commands that have come to the host's SMMU since this was asked last.
///
/// # Errors
///
/// The host does not answer.
pub(crate) fn heard() -> Result<Vec<Heard>> {
    let answer = ask("heard")?;
    let parse = |word| parse(word).with_context(|| format!("the host says {answer:?}"));
    answer.split_whitespace().skip(1).map(parse).collect()
}

/// `NAME@ID=COUNT`; the ID is hexadecimal, or `?`.
fn parse(word: &str) -> Option<Heard> {
    let (name, rest) = word.split_once('@')?;
    let (whose, count) = rest.split_once('=')?;
    let whose = match whose {
        "?" => None,
        number => Some(u64::from_str_radix(number, 16).ok()?),
    };
    Some(Heard {
        name: name.to_owned(),
        whose,
        count: count.parse().ok()?,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_kind_and_whose_and_how_many() {
        let heard = |whose| Heard {
            name: "NH_VA".into(),
            whose,
            count: 20,
        };
        assert_eq!(parse("NH_VA@1a=20"), Some(heard(Some(0x1A))));
        assert_eq!(parse("NH_VA@?=20"), Some(heard(None)));
        assert_eq!(parse("NH_VA=20"), None);
        assert_eq!(parse("NH_VA@1a=x"), None);
    }
}
