//! What is checked of transfers, however the device's addresses are translated.

use crate::host::{has_on_disk, kernel_log};
use crate::memory::{Memory, PAGE, random};
use crate::nvme::{self, BLOCK, DATA_TRANSFER_ERROR, LARGEST, Nvme, Way};
use crate::vfio::Device;
use anyhow::{Result, ensure};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes whose translation is changed.
pub(crate) const WINDOW: usize = 16 * PAGE;
/// Bytes of the contents that are moved.
const CONTENT: usize = 1 << 20;

/// Parts of memory: what is written, what is read back, and two places to which a window leads in turn.
const SOURCE: usize = 32 * PAGE;
const BACK: usize = SOURCE + CONTENT;
pub(crate) const PLACES: [usize; 2] = [BACK + CONTENT, BACK + CONTENT + WINDOW];
/// The first byte behind them.
pub(crate) const END: usize = PLACES[1] + WINDOW;
const _: () = assert!(nvme::PAGES * PAGE <= SOURCE);

/// Where on the disk the window is written, behind the contents.
const WINDOW_AT: usize = 4 << 20;
/// Transfers that are under way while a translation changes.
const BUSY: usize = 6;
/// How often it changes.
const ROUNDS: usize = 32;
/// How often dirty pages are asked for.
const LOOKS: usize = 16;
/// In which the kernel logs ten events at most, and a little more.
const LOG_INTERVAL: Duration = Duration::from_millis(5500);
/// How long the kernel may take to log an event.
const PATIENCE: Duration = Duration::from_secs(20);

/// A block's number.
fn block(byte: usize) -> u64 {
    (byte / BLOCK) as u64
}

/// A controller and its memory, which it sees at `at`.
#[derive(Debug)]
pub(crate) struct Transfers<'a> {
    pub(crate) nvme: Nvme<'a>,
    pub(crate) memory: &'a Memory,
    pub(crate) at: u64,
    /// Controller and SMMU are QEMU's own. That controller does not say of a transfer that it could not reach
    /// memory, but goes on to the end, an event for every word; that SMMU records a table that stage 2 does
    /// not lead to as a fault of stage 1.
    pub(crate) of_qemu: bool,
}

impl<'a> Transfers<'a> {
    /// A controller that runs and sees memory at `at`, and what it says of itself.
    pub(crate) fn begin(device: &'a Device, memory: &'a Memory, at: u64) -> Result<(Self, String)> {
        let mut nvme = Nvme::start(device, memory, at)?;
        let seen = format!("{:?} at {at:#x}", nvme.model()?);
        let transfers = Self {
            nvme,
            memory,
            at,
            of_qemu: seen.contains("QEMU"),
        };
        Ok((transfers, seen))
    }

    fn address(&self, part: usize) -> u64 {
        self.at + part as u64
    }

    /// Waits until the controller has noticed that it does not reach memory any more: even a command's entry is
    /// out of its reach.
    pub(crate) fn is_cut_off(&mut self) -> Result<()> {
        let to = self.address(BACK);
        self.nvme.begin(Way::Read, 0, to, PAGE)?;
        self.nvme.is_cut_off()
    }

    /// Random data, written and read back in transfers of many sizes, compared here and on the host.
    pub(crate) fn content(&mut self) -> Result<String> {
        let data = random(CONTENT)?;
        self.memory.write(SOURCE, &data)?;
        self.memory.write(BACK, &vec![0; CONTENT])?;
        let mut done = 0;
        let mut transfers = 0;
        for (way, part) in [(Way::Write, SOURCE), (Way::Read, BACK)] {
            done = 0;
            for pages in [1, 2, 3, 16, LARGEST / PAGE].into_iter().cycle() {
                let bytes = (pages * PAGE).min(CONTENT - done);
                if bytes == 0 {
                    break;
                }
                let address = self.address(part + done);
                self.nvme.transfer(way, block(done), address, bytes)?;
                done += bytes;
                transfers += 1;
            }
        }
        let same = self.memory.read(BACK, CONTENT)? == data;
        ensure!(same, "what was read is not what was written");
        has_on_disk(0, &data)?;
        Ok(format!("{transfers} transfers, {done} bytes each way"))
    }

    /// The window at `window` leads to one part of memory and to another in turn; `change` changes
    /// it while transfers elsewhere are under way. What is written and read through it is that of the part
    /// it leads to now.
    pub(crate) fn window(
        &mut self,
        window: u64,
        mut change: impl FnMut(usize, Range<usize>) -> Result<()>,
    ) -> Result<String> {
        for round in 0..ROUNDS {
            let place = PLACES[round % 2];
            for index in 0..BUSY {
                let (from, bytes) = (index * LARGEST, LARGEST);
                let to = self.address(BACK + from);
                self.nvme.begin(Way::Read, block(from), to, bytes)?;
            }
            let changed = change(round, place..place + WINDOW);
            for _ in 0..BUSY {
                let status = self.nvme.end()?;
                ensure!(status == 0, "a transfer elsewhere has failed: {status:#x}");
            }
            changed?;
            let data = random(WINDOW)?;
            self.memory.write(place, &data)?;
            let at = block(WINDOW_AT);
            self.nvme.transfer(Way::Write, at, window, WINDOW)?;
            let back = self.address(BACK);
            self.nvme.transfer(Way::Read, at, back, WINDOW)?;
            let same = self.memory.read(BACK, WINDOW)? == data;
            ensure!(same, "change {round}: the device read memory of before");
            self.memory.write(place, &vec![0; WINDOW])?;
            self.nvme.transfer(Way::Read, at, window, WINDOW)?;
            let same = self.memory.read(place, WINDOW)? == data;
            ensure!(same, "change {round}: the device wrote memory of before");
            if round + 1 == ROUNDS {
                has_on_disk(WINDOW_AT as u64, &data)?;
            }
        }
        Ok(format!(
            "{ROUNDS} changes, {BUSY} transfers under way at each"
        ))
    }

    /// The device writes pages of the window at `window`, and only reads others; `written` must say which,
    /// once. `afresh` maps the window and has nothing of it be dirty.
    ///
    /// Mapped anew each time, because Linux (7.2) clears dirty state without an invalidation: what stays
    /// cached as dirty is not told again.
    pub(crate) fn dirty(
        &mut self,
        window: u64,
        afresh: impl Fn(Range<usize>) -> Result<()>,
        written: impl Fn() -> Result<u64>,
    ) -> Result<String> {
        let (at, mut pages) = (block(WINDOW_AT), 0);
        for look in 0..LOOKS {
            let mask = u64::from(u16::from_le_bytes([random(1)?[0], random(1)?[0]]));
            afresh(PLACES[look % 2]..PLACES[look % 2] + WINDOW)?;
            self.nvme.transfer(Way::Write, at, window, WINDOW)?;
            for page in (0..WINDOW / PAGE).filter(|page| mask >> page & 1 != 0) {
                let to = window + (page * PAGE) as u64;
                self.nvme.transfer(Way::Read, at, to, PAGE)?;
            }
            let have = written()?;
            ensure!(
                have == mask,
                "look {look}: written {mask:#06x}, told {have:#06x}"
            );
            let again = written()?;
            ensure!(again == 0, "look {look}: {again:#06x} is told again");
            pages += mask.count_ones();
        }
        Ok(format!("{pages} pages in {LOOKS} looks"))
    }

    /// A transfer that must fail at its first byte.
    pub(crate) fn misses(&mut self, address: u64) -> Result<()> {
        self.nvme.begin(Way::Write, 0, address, PAGE)?;
        let status = self.nvme.end()?;
        let told = if self.of_qemu { 0 } else { DATA_TRANSFER_ERROR };
        ensure!(
            status == told,
            "status {status:#x}: the device reached {address:#x}"
        );
        Ok(())
    }

    /// The same, with an event as [`Event`] says.
    pub(crate) fn fault(&mut self, event: &Event) -> Result<String> {
        if self.of_qemu {
            // The kernel logs only so many events in five seconds, and others may have been before.
            std::thread::sleep(LOG_INTERVAL);
        }
        let before = event.found(&kernel_log()?, self.of_qemu).len();
        self.misses(event.address)?;
        let begin = Instant::now();
        loop {
            if let Some(line) = event.found(&kernel_log()?, self.of_qemu).get(before) {
                return Ok(line.clone());
            }
            let log = kernel_log()?;
            let last = log.rfind("event: ").map(|at| &log[at..]);
            let last = last.map(|last| last.lines().take(2).collect::<Vec<_>>());
            ensure!(begin.elapsed() < PATIENCE, "no {event:?}, but {last:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// F_TRANSLATION as the kernel logs it.
#[derive(Debug)]
pub(crate) struct Event {
    /// The address that the device used.
    pub(crate) address: u64,
    /// For a fault of stage 2, the page of its input (the record has no more of it).
    pub(crate) ipa: Option<u64>,
    /// The access was the walker's, to a table of stage 1.
    pub(crate) table: bool,
}

impl Event {
    /// The lines of the log that tell of such a one, without their times.
    fn found(&self, log: &str, of_qemu: bool) -> Vec<String> {
        let address = format!("iova: {:#x} ", self.address);
        let ipa = self
            .ipa
            .map_or(String::new(), |ipa| format!("ipa: {ipa:#x}"));
        let second = self.ipa.is_some() && !(of_qemu && self.table);
        let stage = if second { " s2 " } else { " s1 " };
        let class = match self.table {
            true => "Stage 1 translation table fetch",
            false => "Input address caused fault",
        };
        // The second line of an event says stage and class.
        let pairs = log.lines().zip(log.lines().skip(1));
        let is_it = |first: &str, second: &str| {
            first.contains("F_TRANSLATION")
                && first.contains(&address)
                && (ipa.is_empty() || first.ends_with(&ipa))
                && second.contains(stage)
                && second.contains(class)
        };
        pairs
            .filter(|(first, second)| is_it(first, second))
            .map(|(first, second)| {
                format!("{}{stage}{}", after(first, "client"), after(second, "\""))
            })
            .collect()
    }
}

/// What stands from `mark` on.
fn after<'a>(line: &'a str, mark: &str) -> &'a str {
    line.find(mark).map_or(line, |at| &line[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[ 1.0] arm-smmu-v3 5fe00000.iommu: event: F_TRANSLATION client: 0000:00:02.0 sid: 0x10 ssid: 0x0 iova: 0x7000 ipa: 0x40001000
[ 1.0] arm-smmu-v3 5fe00000.iommu: unpriv data read s2 \"Input address caused fault\" stag: 0x0
[ 1.1] arm-smmu-v3 5fe00000.iommu: event: F_TRANSLATION client: 0000:00:02.0 sid: 0x10 ssid: 0x0 iova: 0x7000 ipa: 0x0
[ 1.1] arm-smmu-v3 5fe00000.iommu: unpriv data read s1 \"Input address caused fault\" stag: 0x0
";

    #[test]
    fn an_event_is_found_by_address_stage_and_class() {
        let event = |address, ipa, table| Event {
            address,
            ipa,
            table,
        };
        let count = |event: Event| event.found(LOG, false).len();
        assert_eq!(count(event(0x7000, Some(0x4000_1000), false)), 1);
        assert_eq!(count(event(0x7000, None, false)), 1);
        assert_eq!(count(event(0x7000, Some(0x4000_1000), true)), 0);
        assert_eq!(count(event(0x7000, Some(0x4000_2000), false)), 0);
        assert_eq!(count(event(0x700, None, false)), 0);
    }
}
