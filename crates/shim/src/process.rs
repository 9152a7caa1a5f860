//! One attached process, as the shim has it.

use crate::admission::{Identity, Usage};
use crate::slots::{SLOTS, Slots};
use os::seqpacket;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use xpucall::abi::Reply;
use xpucall::host::{CallRegion, NoticePage};
use xpucall::id::XpuPid;
use xpucall::wire::{Event, Transport};

/// How a call came, and so how its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Memory,
    Socket,
}

/// The call that a process waits for the answer of.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    pub number: u32,
    pub way: Way,
    pub about: About,
}

/// What the answer to a call will change here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Nothing,
    /// A FIFO that was taken from the quota.
    Create,
    Release,
    /// An end that was taken from the quota.
    Connect,
    /// The slot that is to be free then.
    Close(u32),
}

/// An attachment.
#[derive(Debug)]
pub struct Process {
    pub pid: XpuPid,
    pub identity: Identity,
    pub usage: Usage,
    pub transport: Transport,
    /// Its number in this shim's pid namespace; 0 where it has none.
    pub number: i32,
    pub socket: OwnedFd,
    pub death: Option<OwnedFd>,
    pub calls: CallRegion,
    pub notices: NoticePage,
    pub doorbell: OwnedFd,
    pub slots: Slots,
    pub flight: Option<Flight>,
    /// Whether its call region is looked at without its ringing.
    pub hot: bool,
}

/// A process that does not take what it is sent.
#[derive(Debug)]
pub struct Deaf;

impl Process {
    /// Makes what the shim and this process share, and tells the process of it.
    pub fn welcome(
        pid: XpuPid,
        identity: Identity,
        transport: Transport,
        socket: OwnedFd,
        death: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let (calls, calls_file) = CallRegion::create(SLOTS)?;
        let (notices, notices_file) = NoticePage::create(SLOTS)?;
        let doorbell = interconnect::doorbell::event()?;
        let event = Event::Welcome { pid, slots: SLOTS, transport };
        say(&socket, &event, &[calls_file.as_fd(), notices_file.as_fd(), doorbell.as_fd()])?;
        Ok(Self {
            pid,
            identity,
            usage: Usage::default(),
            transport,
            number: 0,
            socket,
            death,
            calls,
            notices,
            doorbell,
            slots: Slots::default(),
            flight: None,
            hot: false,
        })
    }

    /// Whether the shim looks for its calls without end.
    pub fn is_polled(&self) -> bool {
        matches!(self.transport, Transport::Mpsc | Transport::Polling)
    }

    /// Answers a call.
    pub fn answer(&self, number: u32, way: Way, mut reply: Reply, descriptors: &[BorrowedFd<'_>]) -> Result<(), Deaf> {
        reply.descriptors = descriptors.len() as u32;
        let by_packet = way == Way::Socket || !descriptors.is_empty();
        if by_packet {
            say(&self.socket, &Event::answer(number, &reply), descriptors).map_err(|_| Deaf)?;
        }
        if way == Way::Memory && self.calls.answer(number, &reply) && !by_packet {
            // One that has no room for it has others that wake it.
            let _ = say(&self.socket, &Event::Wake, &[]);
        }
        Ok(())
    }
}

/// Sends one packet; never blocks.
pub fn say(socket: &OwnedFd, event: &Event, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut buffer = [0; 128];
    let bytes = postcard::to_slice(event, &mut buffer).map_err(io::Error::other)?;
    seqpacket::send(socket, &[IoSlice::new(bytes)], descriptors)
}
