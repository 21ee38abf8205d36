//! A virtual IOMMU with devices in it.

use crate::host::{Device, Host, SELFTEST};
use anyhow::{Context, Result};
use std::io;

/// A virtual IOMMU with devices in it, none of them attached to a nested table.
#[derive(Debug)]
pub(crate) struct Nest {
    pub(crate) host: Host,
    pub(crate) parent: u32,
    pub(crate) viommu: u32,
    /// In the order of their numbers as they were given.
    pub(crate) devices: Vec<Device>,
}

impl Nest {
    pub(crate) fn new(vsids: &[u32]) -> Result<Self> {
        let host = Host::new().context("/dev/iommu")?;
        let devices = vsids.iter().map(|_| host.device());
        let devices: Vec<_> = devices.collect::<io::Result<_>>()?;
        let first = *devices.first().context("a virtual IOMMU needs a device")?;
        let parent = host.parent(first).context("a parent")?;
        let viommu = host.viommu(first, parent, SELFTEST);
        let viommu = viommu.context("a virtual IOMMU")?;
        for (&vsid, &device) in vsids.iter().zip(&devices) {
            host.vdevice(viommu, device, vsid.into())?;
        }
        Ok(Self {
            host,
            parent,
            viommu,
            devices,
        })
    }
}
