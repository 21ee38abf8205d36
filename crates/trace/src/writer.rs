//! The thread that takes events from the rings' queues and writes records.

use crate::checksum::Checksum;
use crate::queue::{RingTap, Slot};
use crate::record::{Commands, Encoder, Event, Totals, kind};
use smmu_core::spec::command::RawCommand;
use std::io::{self, Write};
use std::sync::Arc;

/// As much is collected before it is written.
const CHUNK: usize = 1 << 16;

/// No last record is longer.
const END_BYTES: u64 = 64;

/// Fetched commands of one window, of which more may come.
#[derive(Debug)]
struct Open {
    ring: u16,
    time: u64,
    first: u32,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    taps: Vec<Arc<RingTap>>,
    encoder: Encoder,
    /// Encoded, not yet written.
    ready: Vec<u8>,
    /// Bytes written before `ready`.
    written: u64,
    /// Of those bytes.
    checksum: Checksum,
    limit: u64,
    open: Option<Open>,
    totals: Totals,
    failed: Option<io::Error>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W, header: Vec<u8>, taps: Vec<Arc<RingTap>>, limit: u64) -> Self {
        Self {
            out,
            taps,
            encoder: Encoder::default(),
            ready: header,
            written: 0,
            checksum: Checksum::default(),
            limit: limit.saturating_sub(END_BYTES),
            open: None,
            totals: Totals::default(),
            failed: None,
        }
    }

    /// Empties every queue once. Whether anything was there.
    pub(crate) fn drain(&mut self) -> bool {
        let mut any = false;
        for number in 0..self.taps.len() {
            let tap = self.taps[number].clone();
            // Other rings come in between, and an end, however fast this one is.
            for _ in 0..tap.capacity() {
                let Some(slot) = tap.pop() else { break };
                any = true;
                self.take(number as u16, &slot);
                if self.ready.len() >= CHUNK {
                    self.write();
                }
            }
            self.close();
        }
        self.write();
        any
    }

    fn take(&mut self, ring: u16, slot: &Slot) {
        let commands = &slot.commands[..usize::from(slot.count)];
        if slot.kind == kind::FETCHED {
            let bytes = commands.iter().flat_map(|raw| raw.to_le_bytes());
            match &mut self.open {
                Some(open) if slot.follows && open.ring == ring => open.bytes.extend(bytes),
                _ => {
                    self.close();
                    self.open = Some(Open {
                        ring,
                        time: slot.time,
                        first: slot.value,
                        bytes: bytes.collect(),
                    });
                }
            }
            return;
        }
        self.close();
        let RawCommand { dw0, dw1 } = slot.commands[0];
        let event = match slot.kind {
            kind::PUBLISHED => Event::Published { prod: slot.value },
            kind::COMPLETED => Event::Completed { index: slot.value },
            kind::CONSUMED => Event::Consumed { cons: slot.value },
            kind::LAYOUT => Event::Layout {
                base: dw0,
                log2size: slot.value as u8,
            },
            _ => self.gap(dw0, dw1),
        };
        self.record(ring, slot.time, &event);
    }

    fn gap(&mut self, events: u64, commands: u64) -> Event<'static> {
        self.totals.dropped_events += events;
        self.totals.dropped_commands += commands;
        Event::Gap { events, commands }
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if let Some(commands) = Commands::new(&open.bytes) {
            let first = open.first;
            let event = Event::Fetched { first, commands };
            if self.record(open.ring, open.time, &event) {
                self.totals.commands += commands.len() as u64;
            }
        }
    }

    /// Whether the file has room for it.
    fn record(&mut self, ring: u16, time: u64, event: &Event<'_>) -> bool {
        let (before, last) = (self.ready.len(), self.encoder.time);
        self.encoder.event(&mut self.ready, ring, time, event);
        // A record that is left out leaves none behind it: a stream with holes is none.
        let full = self.totals.left_out > 0;
        if full || self.written + self.ready.len() as u64 > self.limit {
            self.ready.truncate(before);
            self.encoder.time = last;
            self.totals.left_out += 1;
            return false;
        }
        self.totals.records += 1;
        true
    }

    /// After the first failure nothing is written any more; the queues are emptied all the same.
    fn write(&mut self) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(&self.ready).err();
        }
        self.checksum.add(&self.ready);
        self.written += self.ready.len() as u64;
        self.ready.clear();
    }

    /// What is still to be told, and the last record.
    pub(crate) fn finish(mut self) -> io::Result<Totals> {
        while self.drain() {}
        for number in 0..self.taps.len() {
            let tap = self.taps[number].clone();
            let (events, commands) = tap.take_dropped();
            if events > 0 {
                let gap = self.gap(events, commands);
                self.record(number as u16, tap.now(), &gap);
            }
        }
        self.write();
        let before = std::mem::take(&mut self.checksum);
        self.encoder.end(&mut self.ready, &self.totals, before);
        self.write();
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush().map(|()| self.totals),
        }
    }
}
