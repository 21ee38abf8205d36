//! One device: gives it what it misses, takes back what is not true any more.

use crate::bell::{Bell, Stop};
use crate::link::{Link, LinkError, Miss};
use dispatch::backend::Software;
use dispatch::backend::software::{
    Loan, NotLent, Notice, Remote, RemoteHandle, RemoteSettings, Wanted,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use smmu_core::guard::NoSlot;
use smmu_core::translate::Failed;
use smmu_core::{StreamId, SubstreamId};
use std::fmt;
use std::sync::Arc;

/// Told of a fault of the device's, while its guard is open: `vcmdq::events::EventSink::fault` is what
/// it is for. The device gets no translation, whatever the verdict says of stalls.
pub type Faulted = Box<dyn FnMut(&Failed) + Send>;

/// Which device is served.
#[derive(Debug)]
pub struct Setup {
    /// Its stream.
    pub stream: StreamId,
    /// Its substream; devices of this kind use one address space.
    pub substream: Option<SubstreamId>,
    /// How much it may be lent.
    pub settings: RemoteSettings,
    /// How workers tell the thread that serves it.
    pub bell: Bell,
}

/// Serves one device. See the [crate](crate) for how.
pub struct Service<L> {
    remote: Remote,
    bell: Bell,
    link: L,
    faulted: Faulted,
}

impl<L: Link> Service<L> {
    /// Registers the device at the instance's software core. Fails if that has no more guards. Control
    /// path.
    pub fn new(
        core: &Arc<Software>,
        setup: Setup,
        link: L,
        faulted: Faulted,
    ) -> Result<Self, NoSlot> {
        let Setup {
            stream,
            substream,
            settings,
            bell,
        } = setup;
        let tell = Box::new(bell.clone());
        let remote = core.remote(stream, substream, settings, tell)?;
        Ok(Self {
            remote,
            bell,
            link,
            faulted,
        })
    }

    /// For the VMM: figures, and the word that the peer is gone.
    #[must_use]
    pub fn handle(&self) -> RemoteHandle {
        self.remote.handle()
    }

    /// Ends [`run`](Self::run).
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.bell.stop()
    }

    /// Serves the device until it is stopped or its connection fails. Blocks: it is the body of a
    /// thread of the VMM's, not one that doorbells, SYNCs or the device itself wait for otherwise.
    ///
    /// When it is stopped, everything is taken back, and nobody waits for the device any more. With an
    /// error, SYNCs go on waiting for what it was lent, until
    /// [`RemoteHandle::gone`].
    pub fn run(mut self) -> Result<(), LinkError> {
        loop {
            self.bell.silence();
            if self.bell.must_stop() {
                return self.end();
            }
            if !self.turn()? {
                self.wait()?;
            }
        }
    }

    /// Does what there is to do, in portions: first what workers have removed, then one miss. Whether
    /// there was something. For a VMM with a loop of its own; blocks as the device does.
    pub fn turn(&mut self) -> Result<bool, LinkError> {
        let mut any = false;
        if let Some(notice) = self.remote.take() {
            self.take_back(&notice)?;
            any = true;
        }
        if let Some(miss) = self.link.next_miss()? {
            self.answer(miss)?;
            any = true;
        }
        Ok(any)
    }

    /// Gives the device a translation that it has not asked for: a window of a vfio-user device, or
    /// rings that it is going to use. `Ok(None)`: the access would fault (the guest has been told) or
    /// the address is not memory.
    pub fn lend(&mut self, iova: u64, wanted: Wanted) -> Result<Option<Loan>, LinkError> {
        loop {
            match self.remote.lend(iova, wanted, &mut self.faulted) {
                Ok(loan) => {
                    self.link.lend(&loan)?;
                    return Ok(Some(loan));
                }
                Err(NotLent::Full) => self.make_room()?,
                Err(NotLent::Gone) => return Err(LinkError::Gone),
                Err(NotLent::Denied(_) | NotLent::NotMemory(_)) => return Ok(None),
            }
        }
    }

    /// Linux's vhost asks once for a page, for what it does first, and fails on what it may not do
    /// later: so it gets both rights if both are there. As for an ATS request without "no write", the
    /// page counts as dirty then.
    fn answer(&mut self, miss: Miss) -> Result<(), LinkError> {
        loop {
            match self.remote.lend(miss.iova, Wanted::ReadWrite, |_| ()) {
                Ok(loan) => return self.link.lend(&loan),
                Err(NotLent::Full) => self.make_room()?,
                Err(_) => return self.lend(miss.iova, miss.wanted).map(drop),
            }
        }
    }

    fn make_room(&mut self) -> Result<(), LinkError> {
        match self.remote.recall() {
            Some(notice) => self.take_back(&notice),
            None => Ok(()),
        }
    }

    fn take_back(&mut self, notice: &Notice) -> Result<(), LinkError> {
        self.link.revoke(&notice.ranges)?;
        self.remote.answered(notice.number);
        Ok(())
    }

    fn end(mut self) -> Result<(), LinkError> {
        while let Some(notice) = self.remote.take().or_else(|| self.remote.recall()) {
            self.take_back(&notice)?;
        }
        self.remote.close();
        Ok(())
    }

    fn wait(&self) -> Result<(), LinkError> {
        let bell = PollFd::new(&self.bell, PollFlags::IN);
        let waited = match self.link.misses() {
            Some(misses) => poll(
                &mut [bell, PollFd::from_borrowed_fd(misses, PollFlags::IN)],
                None,
            ),
            None => poll(&mut [bell], None),
        };
        match waited {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(LinkError::Io(error.into())),
        }
    }
}

impl<L> fmt::Debug for Service<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
