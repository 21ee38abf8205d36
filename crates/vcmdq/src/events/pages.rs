//! Page requests of devices (PRI): into the guest's PRI queue, and its answers back to the device
//! (IHI 0070, 4.5.2 and 8).
//!
//! ```text
//! device ─▶ PageRequests::request ─▶ PRI queue ─▶ guest ─▶ CMD_PRI_RESP ─▶ worker ─▶ PageResponder
//!              └─ no room ─▶ the SMMU answers by itself
//! ```
//!
//! | the queue | the last request of a group | any other, and Stop markers |
//! |---|---|---|
//! | takes it | recorded | recorded |
//! | is full, or has an overflow that is not acknowledged | Success; OVFLG | dropped; OVFLG |
//! | PRIQEN=0, SMMUEN=0, PRIQ_ABT_ERR | Response Failure | dropped |
//!
//! With a PASID, Success carries it if IDR3.PPS, else as STE.PPAR says; an STE that cannot be read or
//! is invalid makes it a Response Failure. Everything that is not recorded is counted
//! ([`PageRequests::metrics`]).

use super::metrics::EventMetrics;
use super::queue::{Kind, RecordQueue, Unwritable};
use crate::frame::Frame;
use crate::seams::{Interrupts, Line};
use dispatch::Traffic;
use smmu_core::command::PriResponse;
use smmu_core::spec::event::{PriWord0, PriWord1};
use smmu_core::{Capabilities, GuestMemory, StreamId, SubstreamId};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use vcmdq_sync::snapshot::Snapshot;

/// A PCIe Page Request, or with [`is_stop_marker`](Self::is_stop_marker) a Stop marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageRequest {
    /// The device.
    pub stream: StreamId,
    /// PASID, if the request carries one.
    pub substream: Option<SubstreamId>,
    /// Address; its low twelve bits do not count.
    pub address: u64,
    /// Page request group index, nine bits.
    pub group: u16,
    /// It wants to read.
    pub read: bool,
    /// It wants to write.
    pub write: bool,
    /// It wants to execute. Means nothing without a PASID.
    pub execute: bool,
    /// With privilege. Means nothing without a PASID.
    pub privileged: bool,
    /// The last one of its group: the guest answers the group.
    pub last: bool,
}

/// The code of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageResult {
    /// Asks for the translations again.
    Success,
    /// At least one page of the group is not there for the device.
    Invalid,
    /// The device stops using PRI.
    Failure,
}

/// A PRG response, as the device gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageResponse {
    /// PASID, if the response carries one.
    pub substream: Option<SubstreamId>,
    /// Page request group index.
    pub group: u16,
    /// What it says.
    pub result: PageResult,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOutcome {
    /// It lies in the guest's queue; the guest answers its group with [`PageResponder::respond`].
    Queued,
    /// The SMMU has answered the group by itself.
    Responded(PageResponse),
    /// Dropped without an answer: it was not the last of its group, or a Stop marker.
    Dropped,
}

/// A device that has asked for pages.
pub trait PageResponder: Send + Sync {
    /// The guest has answered a group (CMD_PRI_RESP). Called from a worker, in ring order: must not block,
    /// nor call the engine but for [`Ring::doorbell`](crate::Ring::doorbell). A device that does not know the
    /// group ignores it.
    fn respond(&self, response: &PageResponse);
}

type Responders = BTreeMap<StreamId, Arc<dyn PageResponder>>;

/// The PRI queue of a frame. From any thread, never waits, but for [`attach`](Self::attach) and
/// [`detach`](Self::detach), which are control calls.
pub struct PageRequests {
    queue: RecordQueue<2>,
    responders: Snapshot<Responders>,
    interrupts: Arc<dyn Interrupts>,
    caps: Capabilities,
}

impl fmt::Debug for PageRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRequests")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// Page requests.
impl Frame {
    /// The PRI queue; none unless the frame advertises IDR0.PRI.
    #[must_use]
    pub fn pages(&self) -> Option<&PageRequests> {
        self.shared().pages.as_ref()
    }

    /// A device asks the guest for a page (PRI): into the guest's queue, or answered at once. `None` if the
    /// frame does not advertise IDR0.PRI. From any thread, never waits for a worker or a guest.
    pub fn request_page(&self, request: &PageRequest) -> Option<PageOutcome> {
        let pages = self.shared().pages.as_ref()?;
        Some(pages.request(request, self.traffic()))
    }
}

impl PageRequest {
    /// Last=1, R=W=0, with a PASID: the device stops using it.
    #[must_use]
    pub fn is_stop_marker(&self) -> bool {
        self.last && !self.read && !self.write && self.substream.is_some()
    }

    /// The record (8.2). X and Priv are 0 without a PASID.
    #[must_use]
    pub fn record(&self) -> [u64; 2] {
        let pasid = self.substream.is_some();
        let first = PriWord0::new()
            .with_stream(self.stream.0)
            .with_substream(self.substream.map_or(0, |own| own.0) & 0xF_FFFF)
            .with_privileged(pasid && self.privileged)
            .with_execute(pasid && self.execute)
            .with_read(self.read)
            .with_write(self.write)
            .with_last(self.last)
            .with_ssv(pasid);
        let second = PriWord1::new()
            .with_group(self.group & 0x1FF)
            .with_page(self.address >> 12);
        [first.into_bits(), second.into_bits()]
    }
}

impl PageRequests {
    /// For a frame with these identification registers.
    #[must_use]
    pub(crate) fn new(
        caps: &Capabilities,
        memory: Arc<dyn GuestMemory>,
        interrupts: Arc<dyn Interrupts>,
    ) -> Self {
        let cap = caps.idr1.priqs();
        Self {
            queue: RecordQueue::of(Kind::PAGES, cap, memory, interrupts.clone()),
            responders: Snapshot::new(Responders::new()),
            interrupts,
            caps: *caps,
        }
    }

    /// The queue, for its registers.
    #[must_use]
    pub fn queue(&self) -> &RecordQueue<2> {
        &self.queue
    }

    /// What became of the requests. None merge.
    #[must_use]
    pub fn metrics(&self) -> EventMetrics {
        self.queue.metrics()
    }

    /// PRIQ_IRQ_CFG2.LO: interrupt when the last request of a group comes. Then everything that becomes visible
    /// interrupts, as the last request of a group may be among it.
    pub(crate) fn interrupt_on_last(&self, on_last: bool) {
        self.queue.interrupt_on_each(on_last);
    }

    /// Registers who hears the guest's answers for a stream, in the place of who did before.
    pub fn attach(&self, stream: StreamId, device: Arc<dyn PageResponder>) {
        self.change(|all| {
            all.insert(stream, device);
        });
    }

    /// When it returns, the stream's device is not called any more.
    pub fn detach(&self, stream: StreamId) {
        self.change(|all| {
            all.remove(&stream);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Responders)) {
        let Ok(()) = self.responders.replace(|old| {
            let mut new = old.clone();
            change(&mut new);
            Ok::<_, Infallible>(new)
        });
    }

    /// CMD_PRI_RESP. Without a device that has registered, nothing.
    pub(crate) fn respond(
        &self,
        stream: StreamId,
        substream: Option<SubstreamId>,
        group: u16,
        response: PriResponse,
    ) {
        if let Some(device) = self.responders.read().get(&stream) {
            device.respond(&PageResponse {
                substream,
                group,
                result: match response {
                    PriResponse::Success => PageResult::Success,
                    PriResponse::Invalid => PageResult::Invalid,
                    PriResponse::Failure => PageResult::Failure,
                },
            });
        }
    }

    /// A device asks for a page. `traffic` is what the frame's registers say.
    pub(crate) fn request(&self, request: &PageRequest, traffic: Option<Traffic>) -> PageOutcome {
        let pushed = self.queue.push_words(&request.record());
        let Err(why) = pushed else {
            return PageOutcome::Queued;
        };
        let overflowed = matches!(why, Unwritable::Full | Unwritable::Paused);
        if request.last && overflowed && self.queue.interrupts_on_each() {
            self.interrupts.pulse(Line::PriQueue);
        }
        if !request.last || request.is_stop_marker() {
            return PageOutcome::Dropped;
        }
        let success = overflowed
            .then(|| self.own_success(request, traffic))
            .flatten();
        PageOutcome::Responded(success.unwrap_or(PageResponse {
            substream: request.substream.filter(|_| self.caps.idr3.pps()),
            group: request.group & 0x1FF,
            result: PageResult::Failure,
        }))
    }

    /// The SMMU's own answer to a group that found no room.
    fn own_success(&self, request: &PageRequest, traffic: Option<Traffic>) -> Option<PageResponse> {
        let with_pasid = match (request.substream, traffic) {
            (None, _) => false,
            _ if self.caps.idr3.pps() => true,
            (_, Some(Traffic::Enabled(setup))) => self.queue.with_memory(|memory| {
                let config = setup.streams.ste(memory, request.stream, &setup.caps);
                Some(config.ok()?.attributes()?.pasid_in_responses)
            })?,
            _ => return None,
        };
        Some(PageResponse {
            substream: request.substream.filter(|_| with_pasid),
            group: request.group & 0x1FF,
            result: PageResult::Success,
        })
    }
}
