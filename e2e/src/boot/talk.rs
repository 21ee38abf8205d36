//! The conversation with one machine over its console.

use super::answers::Answers;
use super::args::BootArgs;
use super::plan::Plan;
use super::run::PATIENCE;
use super::verdict::{Booted, Check};
use crate::qemu::{Line, Process, Said, parse};
use indicatif::ProgressBar;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Lines of the console that are shown when a guest hangs.
const LAST_LINES: usize = 25;

/// What each boot gave, and why the machine was not run to its end, if so.
pub(super) type Told = (Vec<Booted>, Option<String>);

/// Listens, answers, and writes down.
pub(super) struct Talk<'a> {
    plan: &'a Plan,
    args: &'a BootArgs,
    bar: &'a ProgressBar,
    answers: Answers<'a>,
    boots: Vec<Booted>,
    current: Booted,
    last: VecDeque<String>,
}

impl<'a> Talk<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        args: &'a BootArgs,
        bar: &'a ProgressBar,
        answers: Answers<'a>,
    ) -> Self {
        Self {
            plan,
            args,
            bar,
            answers,
            boots: Vec::new(),
            current: Booted::default(),
            last: VecDeque::new(),
        }
    }

    /// Listens to a machine to its end, and sees to it that it ends.
    pub(super) fn through(self, mut process: Process) -> Told {
        let (boots, stuck) = self.until_the_end(&mut process);
        let patience = match stuck {
            Some(_) => Duration::ZERO,
            None => PATIENCE,
        };
        let ended = process.finish(patience);
        let stuck = stuck.or_else(|| ended.is_none().then(|| "QEMU did not end".into()));
        (boots, stuck)
    }

    /// Listens until the machine is switched off, or nothing more is to be expected of it.
    fn until_the_end(mut self, process: &mut Process) -> Told {
        let limit = Duration::from_secs(self.args.timeout);
        let mut deadline = Instant::now() + limit;
        self.tell_begin();
        loop {
            let line = match process.next(deadline) {
                Said::Console(line) => line,
                Said::Error(line) => format!("qemu: {line}"),
                Said::End => return self.ended(),
                Said::Silence => {
                    let why = format!("the guest was not done after {limit:?}");
                    return self.given_up(&why);
                }
            };
            self.show(&line);
            match parse(&line) {
                Line::Check { name, ok, detail } => {
                    self.tell_check(&name, ok, &detail);
                    if name == "probe" {
                        self.answers.disk_is_there();
                    }
                    self.current.checks.push(Check { name, ok, detail });
                    if !ok && self.args.stop_at_failure {
                        return self.given_up("stopped at a failure");
                    }
                }
                Line::Note(note) => self.current.notes.push(note),
                Line::Host(question) => {
                    let answer = self.answer(&question);
                    // If it is gone, its end comes next.
                    let _gone = process.answer(&answer);
                }
                Line::Done(clock) => {
                    self.current.done = Some(clock);
                    self.boots.push(std::mem::take(&mut self.current));
                    self.tell_begin();
                    deadline = Instant::now() + limit;
                }
                Line::Other => {}
            }
        }
    }

    fn ended(mut self) -> Told {
        if self.current != Booted::default() {
            self.boots.push(std::mem::take(&mut self.current));
        }
        let early = self.boots.len() < self.plan.boots.len();
        let why = early.then(|| self.with_last_lines("QEMU ended early"));
        (self.boots, why)
    }

    fn given_up(mut self, why: &str) -> Told {
        let why = self.with_last_lines(why);
        self.boots.push(self.current);
        (self.boots, Some(why))
    }

    fn answer(&mut self, question: &[String]) -> String {
        if question == ["checks"] {
            // Beyond the plan there is nothing to do but to end.
            let checks = self.plan.boots.get(self.boots.len());
            return checks.map_or(String::new(), |checks| checks.join(","));
        }
        let answer = self.answers.answer(question);
        answer.unwrap_or_else(|| "not understood".into())
    }

    fn with_last_lines(&self, what: &str) -> String {
        let lines: Vec<_> = self.last.iter().map(|line| format!("    {line}")).collect();
        let lines = lines.join("\n");
        format!("{what}; the last lines of its console:\n{lines}")
    }

    fn tell_begin(&self) {
        let (boot, all) = (self.boots.len() + 1, self.plan.boots.len());
        if boot <= all {
            let mode = self.plan.mode.name();
            self.bar
                .set_message(format!("{mode}: boot {boot} of {all}"));
        }
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

    fn tell_check(&self, name: &str, ok: bool, detail: &str) {
        if self.args.console {
            return;
        }
        let (mode, boot) = (self.plan.mode.name(), self.boots.len() + 1);
        let verdict = if ok { "ok" } else { "FAILED" };
        let line = format!("{mode:<11} {boot:>3}  {name:<15} {verdict:<6} {detail}");
        self.bar.suspend(|| println!("{line}"));
    }
}
