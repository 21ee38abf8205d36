//! The function as vfio-user serves it: QEMU is the client.

use super::config::{CONFIG_BYTES, Config, Vectors};
use super::controller::Controller;
use super::registers::BAR_BYTES;
use anyhow::{Context, Result};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

/// What vfio-user calls.
struct Function {
    config: Config,
    controller: Arc<Controller>,
}

impl ServerBackend for Function {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.config.read(offset, data),
            VFIO_PCI_BAR0_REGION_INDEX => self.controller.read(offset, data),
            _ => data.fill(0xFF),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => {
                self.config.write(offset, data);
                let messages = self.config.messages();
                self.controller.interrupt.set_messages(messages);
            }
            VFIO_PCI_BAR0_REGION_INDEX => self.controller.write(offset, data),
            _ => {}
        }
        Ok(())
    }

    /// The RAM that QEMU would have the device use. It is ours already, and addresses go through
    /// the SMMU.
    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        _offset: u64,
        _address: u64,
        _size: u64,
        _file: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _flags: DmaUnmapFlags, _address: u64, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.controller.interrupt.set_messages(None);
        self.controller.full_reset();
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        _start: u32,
        _count: u32,
        mut files: Vec<File>,
    ) -> io::Result<()> {
        // Messages are written by the controller itself: QEMU's eventfds for them stay unused.
        if index != VFIO_PCI_INTX_IRQ_INDEX {
            return Ok(());
        }
        let interrupt = &self.controller.interrupt;
        if flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0 {
            interrupt.set_event(files.pop());
        } else if flags & VFIO_IRQ_SET_ACTION_UNMASK != 0 {
            interrupt.unmask();
        } else if flags & VFIO_IRQ_SET_ACTION_MASK != 0 {
            interrupt.mask();
        }
        Ok(())
    }
}

fn regions() -> Vec<ServerRegion> {
    let bytes = |index| match index {
        VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_BYTES as u64,
        VFIO_PCI_BAR0_REGION_INDEX => BAR_BYTES,
        _ => 0,
    };
    let region = |index| ServerRegion {
        region_info: vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            index,
            size: bytes(index),
            flags: match bytes(index) {
                0 => 0,
                _ => VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
            },
            ..vfio_region_info::default()
        },
        sparse_areas: Vec::new(),
        mmap_fd: None,
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

fn interrupts(vectors: Vectors) -> Vec<IrqInfo> {
    let kind = |index| match index {
        VFIO_PCI_INTX_IRQ_INDEX => IrqInfo {
            index,
            flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE,
            count: 1,
        },
        VFIO_PCI_MSI_IRQ_INDEX => IrqInfo {
            index,
            flags: VFIO_IRQ_INFO_EVENTFD,
            count: vectors.count().into(),
        },
        _ => IrqInfo {
            index,
            flags: 0,
            count: 0,
        },
    };
    (0..VFIO_PCI_NUM_IRQS).map(kind).collect()
}

/// A thread that serves one client until that goes away.
#[derive(Debug)]
pub struct Served(Option<JoinHandle<Result<(), vfio_user::Error>>>);

impl Served {
    /// Waits for the client to go away.
    ///
    /// # Errors
    ///
    /// It broke the protocol, or the connection.
    pub fn finish(mut self) -> Result<()> {
        match self.0.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.context("vfio-user"),
            _ => anyhow::bail!("the thread that serves vfio-user has panicked"),
        }
    }
}

/// Serves the controller on a socket, which is made before this returns.
///
/// # Errors
///
/// The socket cannot be made, or no thread be started.
pub fn serve(path: &Path, controller: Arc<Controller>, vectors: Vectors) -> Result<Served> {
    let server = Server::new(path, true, interrupts(vectors), regions());
    let server = server.context("cannot make the device's socket")?;
    let mut function = Function {
        config: Config::new(vectors),
        controller,
    };
    let body = move || server.run(&mut function);
    let thread = std::thread::Builder::new().name("vfio-user".into());
    let thread = thread.spawn(body).context("cannot start a thread")?;
    Ok(Served(Some(thread)))
}
