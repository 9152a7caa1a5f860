//! What happens to a node, and what it wants done.
//!
//! The daemon carries out actions in their order, before it feeds the next input. Descriptors are never seen here: an input
//! names those that came with a message by a number of the daemon's choice, and an action names them again, or else they
//! are to be closed when the step is over.

use super::call::{Answer, AttachError, Call, CallId, Cause, EndId, FifoLimits, Program, Quota, Side, StartError};
use super::message::Message;
use std::collections::BTreeSet;
use std::time::Duration;
use xpucall::id::{PuId, XpuPid};

/// Descriptors that the daemon has received and not yet placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Carried(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A process wants to attach. Answered at once by [`Action::Attached`].
    Attach { token: u64, quota: Quota },
    /// A process calls. Answered once by [`Action::Answer`], unless the process goes before.
    Call { id: CallId, by: XpuPid, call: Call },
    /// A process is gone: its attachment has ended, or the program that [`Action::Start`] started has.
    Gone { pid: XpuPid },
    /// A message came over the link to `from`.
    Message { from: PuId, message: Message, carried: Option<Carried> },
    /// A link stands. `shares`: it carries descriptors, for both sides have one kernel.
    LinkUp { pu: PuId, shares: bool },
    /// A link has ended. `dead`: the system says that the other side's shim, and with it its PU's processes, are no more.
    LinkDown { pu: PuId, dead: bool },
    /// [`Action::Make`] is done, or failed for want of memory.
    Made { lane: EndId, made: bool },
    /// [`Action::Cut`] is done: nothing passes this side of the lane any more, whatever its process stores. Also without
    /// having been told: the side could not be handed to its process, or that has given it up.
    Ended { lane: EndId, side: Side },
    /// [`Action::Start`] is done; what the child may hold.
    Started { pid: XpuPid, result: Result<Quota, StartError> },
    /// Out of a lane that [`Action::Relay`] named: the next bytes for its reader's shim, in order.
    Frame { lane: EndId, bytes: Vec<u8> },
    /// So much of what [`Action::Frame`] brought has been taken by the lane's reader.
    Taken { lane: EndId, bytes: u32 },
    /// [`Action::Fence`] is done: no process is attached, and nothing passes any of their lanes.
    Fenced,
    /// Time has passed; wanted by [`Action::Wake`].
    Tick,
}

/// Where a reader's side of a lane comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This shim has made the lane: both ends are on this PU.
    Own,
    /// The region came with the message.
    Carried(Carried),
    /// No memory is shared with the writer: what it writes comes by [`Action::Frame`]. The daemon makes a region for it.
    Relayed,
}

/// What goes with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The reader's descriptors of a lane that this shim has made.
    Lane(EndId),
    /// What came with the message that is passed on.
    Carried(Carried),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Attached {
        token: u64,
        result: Result<XpuPid, AttachError>,
    },
    Answer {
        id: CallId,
        by: XpuPid,
        answer: Answer,
    },
    /// Over the link to `to`, which stands.
    Send {
        to: PuId,
        message: Message,
        with: Option<Attachment>,
    },
    /// Make the lane of a writer on this PU. Answered by [`Input::Made`].
    Make {
        lane: EndId,
        by: XpuPid,
        limits: FifoLimits,
    },
    /// A reader on this PU has one lane more: that of `writer`.
    Open {
        lane: EndId,
        reader: EndId,
        by: XpuPid,
        writer: XpuPid,
        limits: FifoLimits,
        source: Source,
    },
    /// This shim shall read a lane that it has made, and bring what it reads by [`Input::Frame`]: at most `credit` bytes,
    /// and as many more as each [`Action::Credit`] says.
    Relay {
        lane: EndId,
        credit: u32,
    },
    /// For the reader of a lane whose source is [`Source::Relayed`].
    Frame {
        lane: EndId,
        bytes: Vec<u8>,
    },
    Credit {
        lane: EndId,
        bytes: u32,
    },
    /// End this side of a lane, tell its process why, and answer by [`Input::Ended`] when nothing passes it any more. If
    /// `drain`, first let the reader take what was written, or bring what was written to a relayed lane. Comes again
    /// without `drain` if it must not wait for that any more. A side that the daemon does not know has ended.
    Cut {
        lane: EndId,
        side: Side,
        cause: Cause,
        drain: bool,
    },
    /// A reader on this PU is not connected any more. Its lanes are cut by actions of their own; its process still closes it.
    Dismiss {
        reader: EndId,
        by: XpuPid,
        cause: Cause,
    },
    /// Start a program that is attached as `pid` from its birth. Answered by [`Input::Started`].
    Start {
        pid: XpuPid,
        by: XpuPid,
        program: Program,
    },
    /// End every attachment of this PU and all their lanes. Answered by [`Input::Fenced`].
    Fence,
    /// This PU serves from now on, as this incarnation.
    Serve {
        incarnation: u32,
    },
    /// Of the head: that life of that PU is over. Who can end it by force does so now.
    Expel {
        pu: PuId,
        incarnation: u32,
    },
    /// End the link. It is as good as ended for this node: no [`Input::LinkDown`] is needed.
    Drop {
        pu: PuId,
    },
    /// Of the head: write down, before anything that follows, the last incarnation given and who may serve under it.
    Persist {
        incarnation: u32,
        members: BTreeSet<PuId>,
    },
    /// [`Input::Tick`] is wanted at that time, and at no other that was named before. `None`: not at all.
    Wake {
        at: Option<Duration>,
    },
}
