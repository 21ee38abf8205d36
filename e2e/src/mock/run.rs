//! One run from its start to its end.

use super::args::MockArgs;
use super::machine;
use super::verdict::MockVerdict;
use crate::boot::{Check, begin, teller};
use crate::guest::sole_program;
use crate::parts::MockParts;
use crate::qemu::{Line, Process, Said, parse};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Lines of the console that are shown when the machine hangs.
const LAST_LINES: usize = 25;
/// How long QEMU may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Boots the kernel with the program as its first process, and says what came out of it.
///
/// Blocks for as long as that takes, at most [`MockArgs::timeout`] seconds.
///
/// # Errors
///
/// [`Missing`](crate::parts::Missing) if a part is not to be had; anything else if the machine cannot be
/// started. What fails in it is no error: it is in the verdict.
pub fn run(args: &MockArgs) -> Result<MockVerdict> {
    let (bar, directory) = begin(args.console, &args.directory)?;
    let parts = MockParts::obtain(&directory, &teller(&bar))?;
    let scratch = tempfile::tempdir().context("no place for the initramfs")?;
    let initramfs = scratch.path().join("initramfs");
    sole_program(&parts.program, &initramfs)?;
    let mut process = Process::start(&mut machine::command(&parts, args, &initramfs))?;
    let mut talk = Talk {
        args,
        bar: &bar,
        verdict: MockVerdict::default(),
        last: VecDeque::new(),
    };
    bar.set_message("booting");
    talk.listen(&mut process);
    let mut verdict = talk.verdict;
    if verdict.stuck.is_none() && process.finish(PATIENCE).is_none() {
        verdict.stuck = Some("it did not switch off".into());
    }
    bar.finish_and_clear();
    Ok(verdict)
}

struct Talk<'a> {
    args: &'a MockArgs,
    bar: &'a ProgressBar,
    verdict: MockVerdict,
    last: VecDeque<String>,
}

impl Talk<'_> {
    /// Listens until the machine is switched off, or nothing more is to be expected of it.
    fn listen(&mut self, process: &mut Process) {
        let limit = Duration::from_secs(self.args.timeout);
        let deadline = Instant::now() + limit;
        loop {
            let line = match process.next(deadline) {
                Said::Console(line) => line,
                Said::Error(line) => format!("qemu: {line}"),
                Said::End if self.verdict.done.is_some() => return,
                Said::End => return self.give_up("it ended before all checks were made"),
                Said::Silence => return self.give_up(&format!("not done after {limit:?}")),
            };
            self.show(&line);
            match parse(&line) {
                Line::Check { name, ok, detail } => {
                    let verdict = if ok { "ok" } else { "FAILED" };
                    self.tell(&format!("{name:<22} {verdict:<6} {detail}"));
                    self.bar.set_message(format!("after {name}"));
                    self.verdict.checks.push(Check { name, ok, detail });
                }
                Line::Note(note) => self.tell(&format!("  {note}")),
                Line::Done(clock) => self.verdict.done = Some(clock),
                Line::Host(_) | Line::Other => {}
            }
        }
    }

    fn give_up(&mut self, why: &str) {
        let lines: Vec<_> = self.last.iter().map(|line| format!("    {line}")).collect();
        let lines = lines.join("\n");
        let why = format!("{why}; the last lines of its console:\n{lines}");
        self.verdict.stuck = Some(why);
    }

    fn show(&mut self, line: &str) {
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
        if self.args.console {
            println!("{line}");
        }
    }

    fn tell(&self, line: &str) {
        if !self.args.console {
            self.bar.suspend(|| println!("{line}"));
        }
    }
}
