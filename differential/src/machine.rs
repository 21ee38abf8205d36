//! QEMU with its SMMU and two devices that do DMA behind it, no processor running.

use crate::layout::{
    COMMANDS, COMMANDS_LOG2, CONFIG_BYTES, CONFIG_SPACE, EVENTS, EVENTS_LOG2, FUNCTIONS, RAM_MIB,
    READER, READER_SLOT, SMMU, STREAMS, WRITER, WRITER_SLOT,
};
use crate::qtest::{Qtest, Script};
use crate::words::words;
use anyhow::{Context, Result, ensure};
use smmu_core::Capabilities;
use smmu_core::spec::register::{Cr0, Cr2, StrtabBaseCfg, offset};
use std::process::{Child, Stdio};
use vcmdq_e2e::parts::Qemu;
use vcmdq_e2e::vehicle::Ram;

/// A machine; its QEMU ends when this is dropped.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    /// The way to its registers.
    pub qtest: Qtest,
    /// What its SMMU's identification registers say.
    pub caps: Capabilities,
    /// Holds the socket.
    _scratch: tempfile::TempDir,
}

/// What QEMU calls the device that writes and the one that reads.
pub const DEVICES: [&str; 2] = ["iommu-testdev", "edu"];

/// What identifies `iommu-testdev` and `edu`: device and vendor.
const WRITER_ID: u64 = 0x0005_1B36;
const READER_ID: u64 = 0x11E8_1234;

/// CR0 with SMMUEN, EVENTQEN and CMDQEN.
#[must_use]
pub fn enabled() -> u32 {
    let queues = Cr0::from_bits(disabled());
    queues.with_smmuen(true).into_bits()
}

/// CR0 with EVENTQEN and CMDQEN alone: every access passes.
#[must_use]
pub fn disabled() -> u32 {
    Cr0::new().with_eventqen(true).with_cmdqen(true).into_bits()
}

impl Machine {
    /// Starts it on this RAM. Its stream table has the form of `streams` and is empty.
    ///
    /// # Errors
    ///
    /// QEMU does not start, or one of the devices is not in it.
    pub fn start(qemu: &Qemu, ram: &Ram, streams: StrtabBaseCfg) -> Result<Self> {
        let scratch = tempfile::tempdir().context("no place for a socket")?;
        let socket = scratch.path().join("qtest");
        let memory = format!(
            "memory-backend-file,id=ram,size={RAM_MIB}M,mem-path={},share=on",
            ram.path().display()
        );
        let child = qemu
            .command()
            .args([
                "-machine",
                "virt,gic-version=2,iommu=smmuv3,memory-backend=ram",
            ])
            .args(["-object", &memory, "-m", &format!("{RAM_MIB}M")])
            .args(["-cpu", "cortex-a57", "-accel", "qtest"])
            .args(["-global", "arm-smmuv3.stage=nested"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-serial", "none", "-monitor", "none"])
            .args(["-device", &format!("iommu-testdev,addr={WRITER_SLOT}")])
            .args([
                "-device",
                &format!("edu,addr={READER_SLOT},dma_mask=0xffffffffffffffff"),
            ])
            .args([
                "-qtest",
                &format!("unix:{},server=on,wait=off", socket.display()),
            ])
            .args(["-qtest-log", "none"])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start QEMU")?;
        let mut child = Reaped(Some(child));
        let mut qtest = Qtest::connect(&socket)?;
        place_devices(&mut qtest)?;
        let caps = identify(&mut qtest)?;
        enable(&mut qtest, streams)?;
        let child = child.0.take().context("QEMU has ended")?;
        Ok(Self {
            child,
            qtest,
            caps,
            _scratch: scratch,
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A process that is ended unless somebody takes it.
struct Reaped(Option<Child>);

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ended_already = child.kill();
    let _ended_already = child.wait();
}

/// Gives both devices their addresses, and the right to do DMA.
fn place_devices(qtest: &mut Qtest) -> Result<()> {
    for (slot, bar, id) in [
        (WRITER_SLOT, WRITER, WRITER_ID),
        (READER_SLOT, READER, READER_ID),
    ] {
        let space = CONFIG_SPACE + slot * FUNCTIONS * CONFIG_BYTES;
        let mut script = Script::default();
        script.load(space);
        script.store(space + 0x10, bar as u32);
        // Memory space and bus master.
        script.store(space + 4, 6);
        let found = qtest.perform(&script)?;
        ensure!(
            found == [id],
            "slot {slot} holds {}, not {id:#x}",
            words(&found)
        );
    }
    Ok(())
}

fn identify(qtest: &mut Qtest) -> Result<Capabilities> {
    let mut script = Script::default();
    let registers = [
        offset::IDR0,
        offset::IDR1,
        offset::IDR3,
        offset::IDR5,
        offset::AIDR,
    ];
    for register in registers {
        script.load(SMMU + register);
    }
    let values = qtest.perform(&script)?;
    let at = |n: usize| values.get(n).map_or(0, |&value| value as u32);
    let caps = Capabilities {
        idr0: at(0).into(),
        idr1: at(1).into(),
        idr3: at(2).into(),
        idr5: at(3).into(),
        aidr: at(4).into(),
    };
    ensure!(
        caps.idr0.s1p() && caps.idr0.s2p(),
        "QEMU's SMMU has not both stages"
    );
    Ok(caps)
}

/// Queues, stream table, SMMUEN. Unknown StreamIDs are recorded.
fn enable(qtest: &mut Qtest, streams: StrtabBaseCfg) -> Result<()> {
    let mut script = Script::default();
    script.store_wide(SMMU + offset::STRTAB_BASE, STREAMS);
    script.store(SMMU + offset::STRTAB_BASE_CFG, streams.into_bits());
    script.store_wide(SMMU + offset::CMDQ_BASE, COMMANDS | COMMANDS_LOG2);
    script.store_wide(SMMU + offset::EVENTQ_BASE, EVENTS | EVENTS_LOG2);
    script.store(
        SMMU + offset::CR2,
        Cr2::new().with_recinvsid(true).into_bits(),
    );
    script.store(SMMU + offset::CR0, disabled());
    script.store(SMMU + offset::CR0, enabled());
    script.load(SMMU + offset::CR0ACK);
    let acknowledged = qtest.perform(&script)?;
    ensure!(
        acknowledged == [u64::from(enabled())],
        "CR0ACK is {}, not {:#x}",
        words(&acknowledged),
        enabled()
    );
    Ok(())
}
