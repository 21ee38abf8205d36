//! A vhost-user back end: VHOST_USER_IOTLB_MSG, and misses on the channel of the back end.
//!
//! The `vhost` crate knows the message's number on both channels, but neither its front end nor its
//! handler of back-end requests has it. So it is put together here, on a duplicate of the front end's
//! socket; the front end and this take turns by a mutex around each request and its reply.
//!
//! Every message demands a reply, as QEMU's do. While one is due, the back end may miss, and may want
//! *that* confirmed first: so both sockets are listened to.

use crate::iotlb::{self, BYTES};
use crate::link::{Link, LinkError, Miss};
use dispatch::backend::software::{IovaRange, Loan};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use vhost::vhost_user::VhostUserProtocolFeatures;
use vhost::vhost_user::message::{BackendReq, FrontendReq, MAX_MSG_SIZE};

const HEADER: usize = 12;
const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;
/// VIRTIO_F_ACCESS_PLATFORM: the device's addresses are IOVAs.
const ACCESS_PLATFORM: u64 = 1 << 33;
/// Misses that are kept while a reply is due. What comes beyond stays in the socket.
const MOST_WAITING: usize = 256;
/// What a request that is not served is replied.
const FAILURE: u64 = 1;

/// What front end and back end have agreed upon.
#[derive(Clone, Copy, Debug)]
pub struct Negotiated {
    /// Features of the virtio device.
    pub virtio: u64,
    /// Features of the vhost-user protocol.
    pub protocol: VhostUserProtocolFeatures,
}

/// Why a back end cannot be behind an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUsable {
    /// The device would use guest-physical addresses.
    #[error("VIRTIO_F_ACCESS_PLATFORM was not negotiated: the device bypasses the SMMU")]
    NoAccessPlatform,
    /// Nothing would say that an invalidation is done.
    #[error("VHOST_USER_PROTOCOL_F_REPLY_ACK was not negotiated: invalidations are not answered")]
    NoReplyAck,
    /// The device could not miss.
    #[error("VHOST_USER_PROTOCOL_F_BACKEND_REQ was not negotiated: misses have no channel")]
    NoBackendChannel,
}

/// A connection to a vhost-user back end.
#[derive(Debug)]
pub struct VhostUser {
    socket: UnixStream,
    turn: Arc<Mutex<()>>,
    channel: UnixStream,
    waiting: VecDeque<Miss>,
    refused: u64,
}

#[derive(Clone, Copy)]
struct Header {
    request: u32,
    flags: u32,
    size: u32,
}

impl Header {
    fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let words = [self.request, self.flags, self.size];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn read(from: &mut UnixStream) -> Result<Self, LinkError> {
        let mut bytes = [0; HEADER];
        exactly(from, &mut bytes)?;
        let [r0, r1, r2, r3, f0, f1, f2, f3, s0, s1, s2, s3] = bytes;
        Ok(Self {
            request: u32::from_ne_bytes([r0, r1, r2, r3]),
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
            size: u32::from_ne_bytes([s0, s1, s2, s3]),
        })
    }
}

fn exactly(from: &mut UnixStream, bytes: &mut [u8]) -> Result<(), LinkError> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => LinkError::Closed,
        _ => LinkError::Io(error),
    })
}

impl VhostUser {
    /// `socket` is a duplicate of the front end's; whoever sends requests on another one holds
    /// `turn` until it has read the reply. `channel` is our end of what was given to the back end with
    /// SET_BACKEND_REQ_FD, of which this takes all: requests other than misses are refused. Blocking sockets.
    pub fn new(
        negotiated: Negotiated,
        socket: UnixStream,
        turn: Arc<Mutex<()>>,
        channel: UnixStream,
    ) -> Result<Self, NotUsable> {
        let Negotiated { virtio, protocol } = negotiated;
        if virtio & ACCESS_PLATFORM == 0 {
            return Err(NotUsable::NoAccessPlatform);
        }
        if !protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
            return Err(NotUsable::NoReplyAck);
        }
        if !protocol.contains(VhostUserProtocolFeatures::BACKEND_REQ) {
            return Err(NotUsable::NoBackendChannel);
        }
        Ok(Self {
            socket,
            turn,
            channel,
            waiting: VecDeque::new(),
            refused: 0,
        })
    }

    /// Requests of the back end that were refused because they were no misses.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn request(&mut self, payload: &[u8; BYTES]) -> Result<(), LinkError> {
        let turn = self.turn.clone();
        let _turn = turn.lock().unwrap_or_else(|dead| dead.into_inner());
        let header = Header {
            request: FrontendReq::IOTLB_MSG.into(),
            flags: VERSION | NEED_REPLY,
            size: BYTES as u32,
        };
        self.socket.write_all(&message(header, payload))?;
        while !self.reply_is_due()? {}
        self.read_reply()
    }

    /// Whether the reply can be read. Reads a miss otherwise.
    fn reply_is_due(&mut self) -> Result<bool, LinkError> {
        let mut sockets = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(&self.channel, PollFlags::IN),
        ];
        let listened = if self.waiting.len() < MOST_WAITING {
            2
        } else {
            1
        };
        match poll(&mut sockets[..listened], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(LinkError::Io(error.into())),
        }
        let [reply, miss] = sockets.map(|socket| !socket.revents().is_empty());
        if !reply && miss {
            let miss = self.read_channel()?;
            self.waiting.extend(miss);
        }
        Ok(reply)
    }

    fn read_reply(&mut self) -> Result<(), LinkError> {
        let header = Header::read(&mut self.socket)?;
        let request = header.request == u32::from(FrontendReq::IOTLB_MSG);
        let flags = header.flags & (VERSION_MASK | REPLY) == VERSION | REPLY;
        let mut payload = [0; 8];
        if !request || !flags || header.size as usize != payload.len() {
            return Err(LinkError::Protocol("what is no reply to an IOTLB message"));
        }
        exactly(&mut self.socket, &mut payload)?;
        match u64::from_ne_bytes(payload) {
            0 => Ok(()),
            error => Err(LinkError::Refused(error)),
        }
    }

    /// Reads one request of the back end, and replies if it wants that: a miss is received, not yet
    /// served.
    fn read_channel(&mut self) -> Result<Option<Miss>, LinkError> {
        let header = Header::read(&mut self.channel)?;
        let size = header.size as usize;
        if size > MAX_MSG_SIZE || header.flags & (VERSION_MASK | REPLY) != VERSION {
            return Err(LinkError::Protocol("what is no request"));
        }
        let mut payload = vec![0; size];
        exactly(&mut self.channel, &mut payload)?;
        let is_miss = header.request == u32::from(BackendReq::IOTLB_MSG);
        let miss = match <&[u8; BYTES]>::try_from(&payload[..]) {
            Ok(payload) if is_miss => iotlb::miss(payload)?,
            _ if is_miss => return Err(LinkError::Protocol("an IOTLB message of another size")),
            _ => None,
        };
        if !is_miss {
            self.refused += 1;
        }
        if header.flags & NEED_REPLY != 0 {
            let result: u64 = if is_miss { 0 } else { FAILURE };
            let reply = Header {
                flags: VERSION | REPLY,
                size: 8,
                ..header
            };
            self.channel
                .write_all(&message(reply, &result.to_ne_bytes()))?;
        }
        Ok(miss)
    }

    fn channel_is_readable(&self) -> Result<bool, LinkError> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut channel = [PollFd::new(&self.channel, PollFlags::IN)];
        let count = poll(&mut channel, Some(&now)).map_err(io::Error::from)?;
        Ok(count != 0)
    }
}

fn message(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header.bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

impl Link for VhostUser {
    fn lend(&mut self, loan: &Loan) -> Result<(), LinkError> {
        self.request(&iotlb::encode(&iotlb::update(loan)))
    }

    fn revoke(&mut self, ranges: &[IovaRange]) -> Result<(), LinkError> {
        ranges
            .iter()
            .try_for_each(|range| self.request(&iotlb::encode(&iotlb::invalidate(range))))
    }

    fn next_miss(&mut self) -> Result<Option<Miss>, LinkError> {
        if let Some(miss) = self.waiting.pop_front() {
            return Ok(Some(miss));
        }
        if self.channel_is_readable()? {
            return self.read_channel();
        }
        Ok(None)
    }

    fn misses(&self) -> Option<BorrowedFd<'_>> {
        Some(self.channel.as_fd())
    }
}
