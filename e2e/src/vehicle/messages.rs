//! Interrupts on their way to QEMU: messages, of the SMMU and of the device behind it.
//!
//! A guest that is interrupted by its SMMU looks at the registers at once, and what it looks at is
//! the polled page. So the SMMU's messages wait here until the page shows why they were sent.

use crate::qemu::Qtest;
use smmu_core::command::Msi;
use smmu_core::{Gpa, StreamId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use vcmdq::dma::MmioSink;
use vcmdq::seams::NoTarget;
use vcmdq::{Interrupts, Line};

/// The frame of the interrupt controller that takes messages, on the machine `virt` with GICv2.
const V2M: u64 = 0x0802_0000;
const V2M_BYTES: u64 = 0x1000;
/// Where a store raises the interrupt whose number it is.
const V2M_SETSPI: u64 = V2M + 0x40;
/// The number of the first shared peripheral interrupt.
const FIRST_SPI: u32 = 32;

/// Passes messages on. Called from any thread, returns at once.
#[derive(Clone, Debug, Default)]
pub struct Messages(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    qtest: OnceLock<Qtest>,
    /// The interrupt of the CMDQV's errors.
    cmdqv: OnceLock<u32>,
    /// Address and data of messages that wait for the page.
    waiting: Mutex<Vec<(u64, u32)>>,
    of_smmu: AtomicU64,
    of_devices: AtomicU64,
    of_cmdqv: AtomicU64,
    /// Wired interrupts: nobody listens, as the devicetree tells the guest to use messages.
    wired: AtomicU64,
    lost: AtomicU64,
}

impl Messages {
    /// Where they go from now on.
    pub fn connect(&self, qtest: Qtest) {
        let _the_first_stays = self.0.qtest.set(qtest);
    }

    /// The CMDQV's errors pulse this shared peripheral interrupt.
    pub(super) fn wire_cmdqv(&self, spi: u32) {
        let _the_first_stays = self.0.cmdqv.set(FIRST_SPI + spi);
    }

    /// QEMU, if it takes messages at this address.
    fn target(&self, at: Gpa) -> Result<&Qtest, NoTarget> {
        let inside = at.0.wrapping_sub(V2M) < V2M_BYTES;
        let target = self.0.qtest.get().filter(|_| inside);
        target.ok_or_else(|| {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            NoTarget
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(u64, u32)>> {
        let waiting = self.0.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages that the page has to be ahead of.
    pub(super) fn take(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut *self.waiting())
    }

    /// The page shows what they are about.
    pub(super) fn deliver(&self, messages: Vec<(u64, u32)>) {
        if let Some(qtest) = self.0.qtest.get() {
            for (at, data) in messages {
                qtest.store(at, data);
            }
        }
    }

    /// What has been passed on, by name.
    #[must_use]
    pub fn counters(&self) -> [(&'static str, u64); 5] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("messages of the smmu", read(&self.0.of_smmu)),
            ("messages of devices", read(&self.0.of_devices)),
            ("interrupts of the cmdqv", read(&self.0.of_cmdqv)),
            ("messages without target", read(&self.0.lost)),
            ("wired interrupts, not wired", read(&self.0.wired)),
        ]
    }
}

impl Interrupts for Messages {
    fn pulse(&self, line: Line) {
        match self.0.cmdqv.get().filter(|_| line == Line::Cmdqv) {
            Some(&number) => {
                self.0.of_cmdqv.fetch_add(1, Ordering::Relaxed);
                self.waiting().push((V2M_SETSPI, number));
            }
            None => {
                self.0.wired.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn message(&self, _device_id: u32, msi: Msi) -> Result<(), NoTarget> {
        self.target(msi.addr)?;
        self.0.of_smmu.fetch_add(1, Ordering::Relaxed);
        self.waiting().push((msi.addr.0, msi.data));
        Ok(())
    }
}

impl MmioSink for Messages {
    fn write(&self, _: StreamId, _: u32, at: Gpa, data: &[u8]) -> Result<(), NoTarget> {
        let data = data.try_into().map(u32::from_le_bytes);
        let data = data.map_err(|_| NoTarget)?;
        self.target(at)?.store(at.0, data);
        self.0.of_devices.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn read(&self, _: StreamId, _: u32, _: Gpa, _: &mut [u8]) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}
