//! Objects of the kernel's, and calls that are worth another try.

use crate::uapi::{Errno, Iommufd};
use std::sync::Arc;

/// How often a call is made that the kernel has no memory for, or that a signal interrupts.
const TRIES: u32 = 4;

/// Makes a call again that only failed for the moment.
pub(crate) fn patiently<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut tries = 1;
    loop {
        match call() {
            Err(Errno::NOMEM | Errno::INTR | Errno::AGAIN) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

/// Destroys an object. Whatever the kernel says against it may be over at once: a call that still uses it, or an
/// interruption. One that it has taken away by itself is as good as destroyed.
pub(crate) fn destroy(iommufd: &dyn Iommufd, id: u32) -> Result<(), Errno> {
    let mut tries = 1;
    loop {
        match iommufd.destroy(id) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(_) if tries < TRIES => tries += 1,
            failed => return failed,
        }
    }
}

/// An object of the kernel's that is destroyed with this.
pub(crate) struct Object {
    iommufd: Arc<dyn Iommufd>,
    pub(crate) id: u32,
}

impl Object {
    pub(crate) fn new(iommufd: &Arc<dyn Iommufd>, id: u32) -> Self {
        let iommufd = iommufd.clone();
        Self { iommufd, id }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Err(error) = destroy(&*self.iommufd, self.id) {
            tracing::warn!(id = self.id, %error, "an iommufd object could not be destroyed");
        }
    }
}
