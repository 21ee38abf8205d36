//! A running QEMU.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What came from it.
#[derive(Debug)]
pub enum Said {
    /// A line of the console.
    Console(String),
    /// A line of its standard error.
    Error(String),
    /// It has closed both.
    End,
    /// Nothing within the time.
    Silence,
}

/// A QEMU, which is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<Said>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it. All three streams of `command` must be pipes.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.spawn().context("cannot start QEMU")?;
        let (tell, lines) = channel();
        let input = child.stdin.take().context("no pipe to QEMU")?;
        let output = child.stdout.take().context("no pipe from QEMU")?;
        let errors = child.stderr.take().context("no pipe from QEMU")?;
        let readers = vec![
            reader("console", output, tell.clone(), Said::Console)?,
            reader("errors", errors, tell, Said::Error)?,
        ];
        Ok(Self {
            child,
            input,
            lines,
            readers,
        })
    }

    /// The next line; waits for it until `deadline`.
    pub fn next(&mut self, deadline: Instant) -> Said {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => Said::Silence,
            Err(RecvTimeoutError::Disconnected) => Said::End,
        }
    }

    /// Types a line on the console.
    ///
    /// # Errors
    ///
    /// QEMU is gone.
    pub fn answer(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("QEMU takes no input")?;
        self.input.flush().context("QEMU takes no input")
    }

    /// Waits for its end, at most for `patience`; then ends it. `None` if it had to be ended.
    pub fn finish(mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
        for reader in self.readers.drain(..) {
            let _nothing_to_tell = reader.join();
        }
    }
}

/// Longer lines are cut into several.
const LONGEST: u64 = 4096;

fn reader(
    name: &str,
    from: impl Read + Send + 'static,
    tell: Sender<Said>,
    kind: fn(String) -> Said,
) -> Result<JoinHandle<()>> {
    let body = move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match from.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line);
                    let text = text.trim_end_matches(['\r', '\n']).to_owned();
                    if tell.send(kind(text)).is_err() {
                        return;
                    }
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name(format!("qemu-{name}"));
    thread.spawn(body).context("cannot start a thread")
}
