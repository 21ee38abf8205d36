//! Translations that leave the process: IOTLBs of vhost and vhost-user devices, DMA windows of
//! vfio-user ones. What is lent is taken back before a SYNC behind its invalidation completes.
//!
//! | file | what |
//! |---|---|
//! | `lending.rs` | [`Remote`], the owner's half: what is lent, to whom |
//! | `notice.rs` | what has to be taken back, and the device's answer |
//! | `debts.rs` | which rings wait for how many answers |
//! | `shared.rs` | what workers see of a remote: whose translations it has, what they removed |
//! | `registry.rs` | the remotes of an instance: told by workers, asked by SYNCs |
//!
//! The protocol, which is that of a guard at its beginning:
//!
//! 1. The owner says *whose* translations it is going to lend (an [`Interest`](smmu_core::guard::Interest)),
//!    passes a full fence, and only then looks up. A worker invalidates, passes a full fence, and
//!    only then reads that word. So either the lookup saw the invalidation or the worker sees that
//!    the remote is concerned.
//! 2. A worker that finds a remote concerned notes a debt for its ring, then hands the request over in
//!    a bounded queue. If that is full, everything lent is to be taken back instead.
//! 3. The owner alone knows exactly what is lent. It takes requests from the queue, finds what they
//!    remove, has the device drop that, and settles the debts when the device has *answered*. What
//!    it lends in between cannot overtake: lending and taking back are calls of one owner, and
//!    messages to a device keep their order.
//! 4. A SYNC waits while its ring has debts anywhere, by the rules of guards: who settles wakes the
//!    ring; past the first limit the device is told, past the second the VMM. It never
//!    completes early.
//!
//! An instance without remotes pays one load for each batch, and one for each barrier. QEMU
//! (`smmu_inv_notifiers_*`) calls its notifiers under the SMMU's mutex from the thread that consumes the
//! queue, which waits in there for the answer of a vhost-user back end; a refusal is logged, and the
//! command completes.

mod debts;
mod lending;
mod notice;
mod registry;
mod shared;

pub use lending::{Loan, NotLent, Remote, RemoteSettings, Wanted};
pub use notice::{IovaRange, Notice};
pub use registry::RemoteHandle;
pub use shared::{Notifier, RemoteMetrics};

pub(super) use registry::Remotes;
