//! Messages of the attach socket, between a process and its shim.
//!
//! ```text
//!   process                                  shim
//!   Hello ─────────────────────────────────▶ credentials from the kernel, class, quotas
//!         ◀───────────────────────────────── Welcome + call region, notice page, doorbell     or Refused
//!   Call (base transport, or with a program) ▶
//!         ◀───────────────────────────────── Answer + descriptors
//!         ◀───────────────────────────────── Wake: an answer lies in the call region
//! ```
//!
//! One message per packet, in postcard, at most [`MESSAGE_MAX`] bytes. The shim decodes what a process sends as hostile: a
//! packet that is no message ends the attachment. Descriptors that a process sends are dropped by the kernel.

use crate::abi::{Reply, Request};
use crate::id::{FifoId, Rights, XpuPid};
use serde::{Deserialize, Serialize};

/// The longest packet, either way.
pub const MESSAGE_MAX: usize = 32 * 1024;

/// How calls travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// Request and answer over the socket.
    Base,
    /// Request in memory, which the shim polls; the answer is waited for asleep.
    Mpsc,
    /// Both sides poll.
    Polling,
    /// Both sides spin a short while, then sleep.
    #[default]
    Adaptive,
}

/// What a process says, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub magic: u64,
    pub version: u32,
    pub transport: Transport,
}

/// A call over the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub number: u32,
    pub call: u32,
    pub arguments: [u64; 4],
    pub program: Option<Program>,
}

/// What is to run on another PU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub path: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub capabilities: Vec<(FifoId, Rights)>,
}

/// What a shim says to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Comes with the call region, the notice page and the doorbell.
    Welcome {
        pid: XpuPid,
        slots: u32,
        transport: Transport,
    },
    /// The shim does not take this process, for this [`status`](crate::abi::status).
    Refused {
        status: u32,
        value: u64,
    },
    Answer {
        number: u32,
        status: u32,
        values: [u64; 4],
    },
    Wake,
}

/// What a shim says on the socket of one FIFO that a process reads: a lane more. Comes with its region and its bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    pub slot: u32,
    pub from: XpuPid,
}

impl Call {
    pub fn request(&self) -> Request {
        Request::of(self.call, self.arguments)
    }
}

impl Event {
    pub fn answer(number: u32, reply: &Reply) -> Self {
        Self::Answer { number, status: reply.status, values: reply.values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were_sent() {
        let program = Program {
            path: "/bin/true".into(),
            arguments: vec!["true".into()],
            environment: vec![("A".into(), "b".into())],
            capabilities: vec![(FifoId(7), Rights::WRITE)],
        };
        let call = Call { number: 1, call: 9, arguments: [1, 2, 3, u64::MAX], program: Some(program) };
        let bytes = postcard::to_stdvec(&call).unwrap();
        assert_eq!(postcard::from_bytes::<Call>(&bytes).unwrap(), call);
    }

    #[test]
    fn rights_that_do_not_exist_are_no_message() {
        assert!(postcard::from_bytes::<(FifoId, Rights)>(&[7, 9]).is_err());
    }
}
