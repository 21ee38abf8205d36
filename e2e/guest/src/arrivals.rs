//! What the engine has sent, and what of it has come to the host's SMMU: the same commands, with the host's VMID and
//! StreamID in them.

use crate::driver::PRETENDED;
use crate::engine::Bench;
use crate::host::heard;
use crate::iommu::Iommu;
use crate::transfers::{PLACES, WINDOW};
use crate::watched::Counts;
use anyhow::{Context, Result, bail, ensure};

/// A window of the guest's memory that nobody uses: what changes there is the kernel's doing.
const WINDOW_BELOW: u64 = 0x4A_BCD0_0000;

impl Bench<'_> {
    /// The VMID that the kernel has for the address space below: that of a change of it. What was counted before
    /// is forgotten.
    pub(crate) fn host_vmid(&self, iommu: &Iommu) -> Result<u64> {
        iommu.map(self.memory, &(PLACES[0]..PLACES[0] + WINDOW), WINDOW_BELOW)?;
        iommu.unmap(WINDOW_BELOW, WINDOW)?;
        let heard = heard()?;
        let below = heard.iter().rfind(|one| one.name == "S2_IPA");
        let vmid = below.and_then(|one| one.whose).context("no TLBI_S2_IPA")?;
        ensure!(vmid != 0 && vmid != u64::from(PRETENDED), "VMID {vmid}");
        self.vmm.watched.take();
        self.entries.set(self.vmm.backend.metrics().entries);
        Ok(vmid)
    }

    /// Every kind of command has come to the host's SMMU.
    pub(crate) fn traffic(&self, vmid: u64, address: &str) -> Result<String> {
        let sent = self.arrived(vmid, address)?;
        let mut least = vec!["NH_ALL", "NH_ASID", "NH_VA", "NH_VAA", "CFGI_CD"];
        if self.vmm.caps.idr0.ats() {
            least.push("ATC_INV");
        }
        ensure!(
            least.iter().all(|name| sent.contains_key(name)),
            "sent {sent:?}"
        );
        Ok(format!(
            "VMID {vmid}, pSID {:#x}: {sent:?}",
            stream_of(address)?
        ))
    }

    /// What was sent has come to the host's SMMU, command for command, and names the host's VMID and StreamID.
    pub(crate) fn arrived(&self, vmid: u64, address: &str) -> Result<Counts> {
        let (sent, heard) = (self.vmm.watched.take(), heard()?);
        let stream = stream_of(address)?;
        let by_backend = self.vmm.backend.metrics().entries - self.entries.get();
        // One more for each STE that is written as it was.
        let by_streams = sent.get("CFGI_CD_ALL").unwrap_or(&0);
        let all: u64 = sent.values().sum();
        ensure!(
            all == by_backend + by_streams,
            "{by_backend} entries, sent {sent:?}"
        );
        let mut come = Counts::new();
        for one in heard {
            let Some((name, _)) = sent.get_key_value(&*one.name) else {
                continue;
            };
            let of_stream = matches!(*name, "CFGI_CD" | "CFGI_CD_ALL" | "ATC_INV");
            let want = if of_stream { stream } else { vmid };
            // QEMU does not say of each.
            ensure!(
                one.whose.is_none_or(|is| is == want),
                "{one:?} is not of {want:#x}"
            );
            *come.entry(name).or_default() += one.count;
        }
        ensure!(come == sent, "sent {sent:?}, come {come:?}");
        Ok(sent)
    }
}

/// The device's stream as the host has it: its place on the bus, `DDDD:BB:DD.F`.
fn stream_of(address: &str) -> Result<u64> {
    let parts: Vec<&str> = address.split([':', '.']).collect();
    let [_, bus, device, function] = parts[..] else {
        bail!("{address} is no address on the bus");
    };
    let number = |part| u64::from_str_radix(part, 16);
    Ok(number(bus)? << 8 | number(device)? << 3 | number(function)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_on_the_bus_is_a_stream() {
        assert_eq!(stream_of("0000:00:02.0").ok(), Some(0x10));
        assert_eq!(stream_of("0000:01:1f.7").ok(), Some(0x1FF));
        assert!(stream_of("00:02").is_err());
    }
}
