//! A guard that owns its port: for asynchronous I/O, and for whoever hands it to another thread.

use super::output::Output;
use super::port::{Denied, Port};
use smmu_core::access::Access;
use smmu_core::translate::Failed;
use smmu_core::{GuestMemory, SubstreamId};

/// A translation in use that can be kept and sent to another thread. Dropping it ends the use and
/// gives the guard slot back; [`close`](Self::close) keeps the port.
#[derive(Debug)]
pub struct OwnedGuard {
    port: Port,
    output: Output,
}

impl Port {
    /// [`translate`](Self::translate) with a guard that owns the port, which comes back if there is
    /// none.
    #[expect(
        clippy::result_large_err,
        reason = "a port is handed back by value; boxing it would allocate on every fault"
    )]
    pub fn translate_owned(
        mut self,
        substream: Option<SubstreamId>,
        access: Access,
        bytes: u64,
        faulted: impl FnOnce(&Failed),
    ) -> Result<OwnedGuard, (Self, Denied)> {
        let entered = self
            .translate(substream, access, bytes, faulted)
            .map(|guard| {
                let output = guard.output();
                // The guard stays open; it is the owned one's now.
                std::mem::forget(guard);
                output
            });
        match entered {
            Ok(output) => Ok(OwnedGuard { port: self, output }),
            Err(denied) => Err((self, denied)),
        }
    }
}

impl OwnedGuard {
    /// Where the access goes.
    #[must_use]
    pub fn output(&self) -> Output {
        self.output
    }

    /// The map of guest memory that belongs to the translation. Nothing of it may be used when the
    /// guard is closed (law 9).
    #[must_use]
    pub fn memory(&self) -> &dyn GuestMemory {
        self.port.memory()
    }

    /// Ends the use and gives the port back.
    #[must_use]
    pub fn close(self) -> Port {
        self.port.close();
        self.port
    }
}

/// An asynchronous device model holds a guard across its waits, and looks at it from there.
const _: () = {
    const fn can_be_shared<T: Send + Sync>() {}
    can_be_shared::<OwnedGuard>();
    can_be_shared::<Port>();
};
