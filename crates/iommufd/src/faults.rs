//! Page faults of the host's streams (IOMMU_FAULT_QUEUE): each is a stalled transaction of the guest's.
//!
//! ```text
//! fault queue ─▶ drain ─▶ EventSink::fault ─▶ F_TRANSLATION, Stall, STAG ─▶ guest
//!                  └─ STAG ↔ cookie                                          │
//! fault queue ◀─ response ◀─ StreamHost::resume ◀────────── RESUME ◀─────────┘
//! ```
//!
//! The tags are those of the frame's own table of stalled transactions (`vcmdq::events::Stalls`), which is
//! bounded; a fault that finds it full is answered at once, and its event has no Stall, as of a device model.
//! **Another page table** ends what is stalled at the one before: the kernel answers some of it by itself, and then
//! gives the cookies to other faults. So everything of the device is answered here first, and no fault is read
//! until the device is attached ([`FaultQueue::exchange`]); a RESUME that comes later answers nothing.

use crate::events::read_once;
use crate::object::Object;
use crate::uapi::{Errno, Iommufd, raw};
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::fault::{Fault, FaultPolicy, Place};
use smmu_core::translate::Failed;
use smmu_core::{Stag, StreamId, SubstreamId};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq::events::{Answer, EventSink, Resumption, StalledAccess};

/// `struct iommu_hwpt_pgfault`.
const FAULT: usize = 40;
/// Faults that one read can bring.
const AT_ONCE: usize = 64;
/// Reads of one [`FaultQueue::drain`].
const READS: usize = 16;

/// A fault as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HostFault {
    flags: u32,
    device: u32,
    pasid: u32,
    permission: u32,
    address: u64,
    cookie: u32,
}

/// What became of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FaultCounts {
    /// Stalled: the guest was told.
    pub(crate) stalled: u64,
    /// Answered with an abort: no room, or nobody's device.
    pub(crate) aborted: u64,
    /// Answers that the kernel did not take.
    pub(crate) unanswered: u64,
}

/// A stalled transaction of a host's stream; without a cookie if the host's access has ended.
struct Pending {
    cookie: Option<u32>,
    access: StalledAccess,
}

/// What has been read.
#[derive(Default)]
struct Known {
    pending: BTreeMap<(StreamId, Stag), Pending>,
    /// The cookies that are to be answered, with their devices.
    live: BTreeMap<u32, u32>,
    /// Answers that the kernel did not take, and that nobody has counted yet.
    unanswered: u64,
}

/// See the [module](self). From any thread. Streams may be locked by who calls this; none is locked here.
pub(crate) struct FaultQueue {
    file: File,
    object: Object,
    known: Mutex<Known>,
}

impl HostFault {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let short = |at: usize| {
            let field = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(field))
        };
        let address = bytes.get(24..32)?.try_into().ok()?;
        Some(Self {
            flags: short(0)?,
            device: short(4)?,
            pasid: short(8)?,
            permission: short(16)?,
            address: u64::from_ne_bytes(address),
            cookie: short(36)?,
        })
    }

    /// Only the last fault of a group is answered.
    fn is_last(&self) -> bool {
        self.flags & raw::iommu_hwpt_pgfault_flags_IOMMU_PGFAULT_FLAGS_LAST_PAGE != 0
    }

    /// The kernel does not say which fault it was: the one after which a guest looks at everything.
    fn failed(&self, stream: StreamId) -> Failed {
        let has = |bit| self.permission & bit != 0;
        let operation = if has(raw::iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_WRITE) {
            Operation::Write
        } else if has(raw::iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_EXEC) {
            Operation::Execute
        } else {
            Operation::Read
        };
        let valid = raw::iommu_hwpt_pgfault_flags_IOMMU_PGFAULT_FLAGS_PASID_VALID;
        let stalls = FaultPolicy {
            stall: true,
            ..FaultPolicy::ABORT
        };
        Failed {
            fault: Fault::Translation(Place::Stage1),
            transaction: Transaction {
                stream,
                substream: (self.flags & valid != 0).then_some(SubstreamId(self.pasid & 0xF_FFFF)),
                access: Access {
                    address: self.address,
                    operation,
                    privileged: has(raw::iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_PRIV),
                },
            },
            verdict: stalls.verdict(),
        }
    }
}

impl FaultQueue {
    pub(crate) fn new(iommufd: &Arc<dyn Iommufd>) -> Result<Self, Errno> {
        let (id, file) = iommufd.alloc_fault_queue()?;
        Ok(Self {
            file,
            object: Object::new(iommufd, id),
            known: Mutex::default(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.object.id
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transactions that wait for the guest.
    pub(crate) fn pending_count(&self) -> usize {
        self.known().pending.len()
    }

    /// Reads what is there, up to a bound; true if there may be more. `stream_of` names the stream of a device.
    pub(crate) fn drain(
        &self,
        events: &EventSink,
        stream_of: impl Fn(u32) -> Option<StreamId>,
        counts: &mut FaultCounts,
    ) -> io::Result<bool> {
        let mut buffer = [0; AT_ONCE * FAULT];
        for _ in 0..READS {
            let mut known = self.known();
            let count = read_once(&mut &self.file, &mut buffer)?.min(buffer.len());
            let faults = buffer[..count].chunks(FAULT).filter_map(HostFault::parse);
            let faults = faults.filter(HostFault::is_last);
            faults.clone().for_each(|fault| known.begin(&fault));
            drop(known);
            if count == 0 {
                return Ok(false);
            }
            for fault in faults {
                self.take(&fault, &stream_of, events, counts);
            }
        }
        Ok(true)
    }

    fn take(
        &self,
        fault: &HostFault,
        stream_of: &impl Fn(u32) -> Option<StreamId>,
        events: &EventSink,
        counts: &mut FaultCounts,
    ) {
        let stream = stream_of(fault.device);
        let answer = stream.map(|stream| (stream, events.fault(&fault.failed(stream))));
        let mut known = self.known();
        let Some((stream, Answer::Stalled(access))) = answer else {
            counts.aborted += 1;
            self.respond(&mut known, Some(fault.cookie), false);
            return known.count(counts);
        };
        counts.stalled += 1;
        // Not, if the device has got another table since it was read.
        let cookie = Some(fault.cookie).filter(|cookie| known.live.contains_key(cookie));
        let key = (stream, access.stag());
        known.pending.insert(key, Pending { cookie, access });
        // The guest may have answered since its event was there, and nobody found the cookie then. Both
        // orders meet in the lock: the verdict is there before `resume` asks for it.
        self.answer_if_resumed(&mut known, key);
        known.count(counts);
        drop(known);
        // Likewise whoever took the stream away, or switched the SMMU off, before the cookie was there.
        if stream_of(fault.device) != Some(stream) {
            self.terminate(stream, counts);
        }
    }

    /// RESUME, behind the frame's own table.
    pub(crate) fn resume(&self, stream: StreamId, stag: Stag, counts: &mut FaultCounts) {
        let mut known = self.known();
        self.answer_if_resumed(&mut known, (stream, stag));
        known.count(counts);
    }

    fn answer_if_resumed(&self, known: &mut Known, key: (StreamId, Stag)) {
        let entry = known.pending.get(&key);
        let Some((cookie, verdict)) = entry.and_then(|e| Some((e.cookie, e.access.poll()?))) else {
            return;
        };
        known.pending.remove(&key);
        self.respond(known, cookie, verdict == Resumption::Retry);
    }

    /// Everything that is stalled for a stream ends in an abort: STALL_TERM, SMMUEN=0, or the stream is taken
    /// away.
    pub(crate) fn terminate(&self, stream: StreamId, counts: &mut FaultCounts) {
        let mut known = self.known();
        let first = (stream, Stag(0))..=(stream, Stag(u16::MAX));
        let keys: Vec<_> = known.pending.range(first).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(entry) = known.pending.remove(&key) {
                self.respond(&mut known, entry.cookie, false);
            }
        }
        known.count(counts);
    }

    /// Attaches a device to something else by `change`. What it has stalled ends before; the guest's tags stay
    /// taken until it resumes them, which has no effect then.
    pub(crate) fn exchange<R>(&self, device: u32, change: impl FnOnce() -> R) -> R {
        let mut known = self.known();
        let own = known.live.iter().filter(|(_, of)| **of == device);
        let cookies: Vec<u32> = own.map(|(cookie, _)| *cookie).collect();
        for cookie in &cookies {
            self.respond(&mut known, Some(*cookie), false);
        }
        for entry in known.pending.values_mut() {
            entry.cookie = entry.cookie.filter(|cookie| !cookies.contains(cookie));
        }
        // Under the lock: a fault of the table before that was read meanwhile could be answered by the kernel.
        change()
    }

    /// `struct iommu_hwpt_page_response`, once for each fault that has been read.
    fn respond(&self, known: &mut Known, cookie: Option<u32>, retry: bool) {
        let Some(cookie) = cookie.filter(|cookie| known.live.remove(cookie).is_some()) else {
            return;
        };
        let code = if retry {
            raw::iommufd_page_response_code_IOMMUFD_PAGE_RESP_SUCCESS
        } else {
            raw::iommufd_page_response_code_IOMMUFD_PAGE_RESP_INVALID
        };
        let mut response = [0; 8];
        response[..4].copy_from_slice(&cookie.to_ne_bytes());
        response[4..].copy_from_slice(&code.to_ne_bytes());
        match (&self.file).write_all(&response) {
            Ok(()) => {}
            // The kernel has answered by itself: it does not know the cookie any more.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            Err(error) => {
                known.unanswered += 1;
                tracing::warn!(cookie, %error, "the host did not take the answer to a page fault");
            }
        }
    }
}

impl Known {
    /// A cookie that is there already was the kernel's to give again: its device has gone, and the access with it.
    fn begin(&mut self, fault: &HostFault) {
        if self.live.insert(fault.cookie, fault.device).is_some() {
            let own = |entry: &&mut Pending| entry.cookie == Some(fault.cookie);
            for entry in self.pending.values_mut().filter(own) {
                entry.cookie = None;
            }
        }
    }

    fn count(&mut self, counts: &mut FaultCounts) {
        counts.unanswered += std::mem::take(&mut self.unanswered);
    }
}
