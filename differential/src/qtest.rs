//! The qtest socket, used in bulk: many commands go out before the first answer is read, so that a
//! case costs QEMU's work and not a round trip for each register.

use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Commands that go out together, and which of them have a value for an answer.
#[derive(Clone, Debug, Default)]
pub struct Script {
    text: String,
    reads: Vec<bool>,
}

impl Script {
    /// Stores 32 bits.
    pub fn store(&mut self, at: u64, value: u32) {
        self.line(format_args!("writel {at:#x} {value:#x}"), false);
    }

    /// Stores 64 bits.
    pub fn store_wide(&mut self, at: u64, value: u64) {
        self.line(format_args!("writeq {at:#x} {value:#x}"), false);
    }

    /// Loads 32 bits; the value is the next of those that [`Qtest::perform`] returns.
    pub fn load(&mut self, at: u64) {
        self.line(format_args!("readl {at:#x}"), true);
    }

    /// Lets so much of the machine's time pass.
    pub fn pass(&mut self, time: Duration) {
        self.line(format_args!("clock_step {}", time.as_nanos()), false);
    }

    fn line(&mut self, command: std::fmt::Arguments<'_>, reads: bool) {
        // Writing to a string cannot fail.
        let _always = writeln!(self.text, "{command}");
        self.reads.push(reads);
    }
}

/// The connection.
#[derive(Debug)]
pub struct Qtest {
    commands: UnixStream,
    answers: BufReader<UnixStream>,
}

/// So many commands are under way at most: neither socket buffer fills while nobody reads.
const UNDER_WAY: usize = 256;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Qtest {
    /// Connects as soon as QEMU has made the socket.
    ///
    /// # Errors
    ///
    /// It does not do so within 30 s.
    pub fn connect(path: &Path) -> Result<Self> {
        let end = Instant::now() + PATIENCE;
        let commands = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => bail!("QEMU makes no qtest socket: {error}"),
            }
        };
        commands.set_read_timeout(Some(PATIENCE))?;
        let answers = BufReader::new(commands.try_clone()?);
        Ok(Self { commands, answers })
    }

    /// Performs all commands of a script in order; the values of its loads.
    ///
    /// # Errors
    ///
    /// QEMU is gone, or refuses a command.
    pub fn perform(&mut self, script: &Script) -> Result<Vec<u64>> {
        let mut values = Vec::new();
        let lines: Vec<&str> = script.text.split_inclusive('\n').collect();
        for (lines, reads) in lines.chunks(UNDER_WAY).zip(script.reads.chunks(UNDER_WAY)) {
            let text = lines.concat();
            let sent = self.commands.write_all(text.as_bytes());
            sent.context("QEMU takes no commands")?;
            for (line, &read) in lines.iter().zip(reads) {
                let value = self.answer().with_context(|| line.trim_end().to_owned())?;
                if read {
                    values.push(value.context("a load without a value")?);
                }
            }
        }
        Ok(values)
    }

    fn answer(&mut self) -> Result<Option<u64>> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        ensure!(read.context("no answer")? != 0, "QEMU has ended");
        let Some(rest) = line.strip_prefix("OK") else {
            bail!("QEMU says: {}", line.trim_end());
        };
        let rest = rest.trim();
        let number = rest
            .strip_prefix("0x")
            .map(|hex| u64::from_str_radix(hex, 16));
        Ok(number.transpose().ok().flatten())
    }
}
