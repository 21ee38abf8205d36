//! Who is told of what the guest is not.

use crate::uapi::Errno;
use dispatch::Cause;
use smmu_core::StreamId;
use vcmdq::InstanceId;

/// What the VMM is told of the streams of a host. Called from workers and control threads, with a stream locked:
/// must not block, nor call the streams or the engine.
pub trait StreamObserver: Send + Sync {
    /// An invalidation could be carried out in no way: the stream, or with `None` every stream of the
    /// instance, aborts (law 4). Again for each that a guest asks for afterwards; the engine logs it.
    fn failed_closed(&self, instance: InstanceId, stream: Option<StreamId>, cause: Cause) {
        let _ = (instance, stream, cause);
    }

    /// A device has gone without having been unplugged. Once, however often its guest configures it.
    fn gone(&self, stream: StreamId) {
        tracing::warn!(%stream, "the device has gone");
    }

    /// A device could neither be made to abort nor be detached: it may use translations that the guest has
    /// removed. It must be reset, or its DMA stopped in another way. Once, until it could be attached or detached.
    fn stuck(&self, stream: StreamId, error: Errno) {
        tracing::error!(%stream, %error, "the device can neither be made to abort nor be detached");
    }
}

/// What happens is only logged.
pub(crate) struct NobodyWatches;

impl StreamObserver for NobodyWatches {}
