//! Memory attributes, for models of devices and interconnects that tell memory types apart.

use super::device::Device;
use super::error::DmaError;
use super::piece;
use crate::events::Answer;
use smmu_core::access::Operation;
use smmu_core::attributes::MemoryAttributes;

impl Device {
    /// What the device's accesses from here on come in with (IHI 0070, 13.1.3):
    /// [`MemoryAttributes::CACHED`] unless this has been called. Where stage 1 translates only its hints
    /// count. Changes no access of this handle's, which reaches all memory through this process's
    /// own mapping. The device's thread; control path.
    pub fn set_incoming(&mut self, incoming: MemoryAttributes) {
        self.port.set_incoming(incoming);
    }

    /// What an access to `iova` would reach memory with: incoming attributes, overrides and both
    /// stages combined (IHI 0070, 13.4). Faults, and updates descriptors, as that access would; an access
    /// that is to be ignored has none: `None`. The device's thread; never blocks.
    pub fn attributes(
        &mut self,
        iova: u64,
        operation: Operation,
    ) -> Result<Option<MemoryAttributes>, DmaError> {
        let access = self.who.access(iova, operation);
        let faults = &self.seams.faults;
        let mut answer: Option<Answer> = None;
        let translated = self
            .port
            .translate(self.who.substream, access, 1, |failed| {
                answer = Some(faults.fault(failed));
            });
        match translated {
            Ok(guard) => Ok(Some(guard.output().attributes())),
            Err(denied) => piece::refused(denied, answer).map_or(Ok(None), Err),
        }
    }
}
