//! QEMU's qtest socket: stores to guest-physical addresses that are devices, beside a running
//! guest. With it a message of an interrupt reaches the interrupt controller.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// A store of 32 bits.
type Store = (u64, u32);

/// The writing end. A store is made by a thread of its own: nobody waits for QEMU.
#[derive(Clone, Debug)]
pub struct Qtest {
    stores: Sender<Store>,
}

impl Qtest {
    /// Connects as soon as QEMU has made the socket.
    ///
    /// # Errors
    ///
    /// It does not do so within `patience`.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self> {
        let end = Instant::now() + patience;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => bail!("QEMU makes no qtest socket: {error}"),
            }
        };
        let (stores, todo) = channel::<Store>();
        let body = move || {
            let mut answers = BufReader::new(&stream);
            let mut line = String::new();
            for (at, value) in todo {
                line.clear();
                // When QEMU is gone, so is the guest that could miss it.
                if writeln!(&stream, "writel {at:#x} {value:#x}").is_err()
                    || answers.read_line(&mut line).is_err()
                {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("qtest".into());
        thread.spawn(body).context("cannot start a thread")?;
        Ok(Self { stores })
    }

    /// Stores 32 bits. From any thread, returns at once. Lost when QEMU is gone.
    pub fn store(&self, at: u64, value: u32) {
        let _nobody_is_interrupted = self.stores.send((at, value));
    }
}
