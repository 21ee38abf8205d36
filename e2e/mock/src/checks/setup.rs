//! What several checks begin with.

use crate::host::{Device, Host, SELFTEST};
use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use std::fmt::Debug;
use std::io;

/// A virtual IOMMU with devices in it, none of them attached to a nested table.
#[derive(Debug)]
pub(super) struct Nest {
    pub(super) host: Host,
    pub(super) parent: u32,
    pub(super) viommu: u32,
    /// In the order of their numbers as they were given.
    pub(super) devices: Vec<Device>,
}

impl Nest {
    pub(super) fn new(vsids: &[u32]) -> Result<Self> {
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

/// What was called must have failed, with this.
pub(super) fn error_of<T: Debug>(result: io::Result<T>, expected: Errno) -> Result<()> {
    match result {
        Ok(done) => bail!("it worked, and {expected} was expected: {done:?}"),
        Err(error) => {
            let expected = io::Error::from(expected);
            ensure!(
                error.raw_os_error() == expected.raw_os_error(),
                "{error}, and {expected} was expected"
            );
            Ok(())
        }
    }
}
