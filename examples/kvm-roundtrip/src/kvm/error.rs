//! Why there is no measurement.

use crate::data::Case;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM refused something.
    #[error("KVM: {0}")]
    Kvm(#[from] kvm_ioctls::Error),
    /// The guest's memory could not be had.
    #[error("guest memory: {0}")]
    Memory(#[from] vm_memory::mmap::FromRangesError),
    /// An access of the VMM to guest memory went wrong.
    #[error("guest memory: {0}")]
    Access(#[from] vm_memory::GuestMemoryError),
    /// A word of guest memory is not where it should be.
    #[error("guest memory: {0}")]
    Word(#[from] vm_memory::VolatileMemoryError),
    /// The host has no eventfd or thread left.
    #[error("the host: {0}")]
    Host(#[from] std::io::Error),
    /// The guest left in a way that the VMM does not know.
    #[error("the guest left unexpectedly: {0}")]
    Exit(String),
    /// The guest gave up.
    #[error("the guest did not see a SYNC in time ({0})")]
    TimedOut(String),
    /// The engine did not start.
    #[error("the engine: {0}")]
    Start(#[from] vcmdq::StartError),
    /// The engine did not take the ring.
    #[error("the engine: {0}")]
    Ring(#[from] vcmdq::RingError),
    /// The engine did not place the ring.
    #[error("the engine: {0}")]
    Configure(#[from] vcmdq::ConfigureError),
    /// The engine did not take the stream.
    #[error("the engine: {0}")]
    Bind(#[from] vcmdq::BindError),
    /// More vCPUs or rounds than there is room for.
    #[error("{0}")]
    TooMuch(String),
    /// One case went wrong, so nothing is reported: what does not complete is a defect, not a figure.
    #[error("{case}: {source}")]
    InCase {
        /// Which.
        case: Case,
        /// Why.
        #[source]
        source: Box<Error>,
    },
}

impl Error {
    /// The same, saying in which case.
    pub(super) fn in_case(self, case: Case) -> Self {
        let source = Box::new(self);
        Self::InCase { case, source }
    }
}
