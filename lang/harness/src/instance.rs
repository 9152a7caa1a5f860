//! An instance as the gateway sees it: a channel, a log, and an end.

use crate::Slot;
use cfork::invocation::{self, Invocation, Served, Started};
use interconnect::channel::Channel;
use serde_json::Value;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an instance may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message from an instance.
#[derive(Debug)]
pub struct Answer {
    /// Of `cfork::invocation`.
    pub kind: u32,
    pub body: Vec<u8>,
    pub served: Served,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The answer of a handler that succeeded. Panics with the error of one that did not.
    pub fn value(&self) -> Value {
        assert_eq!(self.kind, invocation::REPLY, "the handler failed: {}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The error object of a handler that failed.
    pub fn error(&self) -> Value {
        assert_eq!(
            self.kind,
            invocation::FAILED,
            "the handler should have failed: {}",
            String::from_utf8_lossy(&self.body)
        );
        self.json()
    }
}

/// A child of a template, in its slot.
pub struct Instance {
    channel: Channel,
    log: PipeReader,
    pidfd: OwnedFd,
    pub pid: i32,
    /// When its start was decided: `CLOCK_MONOTONIC`, nanoseconds.
    pub decided: u64,
    /// Its stations, once it has told them.
    pub started: Option<Started>,
    invoked: u64,
    /// Dropped after the instance in it.
    _slot: Slot,
}

/// The head of an invocation, with this many milliseconds to its deadline.
pub fn invocation(request_id: &str, milliseconds: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    Invocation {
        deadline_unix_ms: now + milliseconds,
        request_id,
        function_arn: "arn:aws:lambda:us-east-1:000000000000:function:tested",
        ..Default::default()
    }
    .encode()
}

impl Instance {
    pub(crate) fn new(slot: Slot, channel: Channel, log: PipeReader, pid: i32, decided: u64) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&log, true)?;
        let pidfd = os::pidfd::open(pid)?;
        Ok(Self { channel, log, pidfd, pid, decided, started: None, invoked: 1, _slot: slot })
    }

    /// Sends an event.
    pub fn send(&mut self, event: &str) {
        self.invoked += 1;
        let head = invocation(&format!("request-{}", self.invoked), 3000);
        self.send_with(&head, event);
    }

    /// Sends an event with a head of its own.
    pub fn send_with(&mut self, head: &[u8], event: &str) {
        self.channel.sender.send(invocation::INVOKE, head, event.as_bytes()).expect("the instance takes one at a time");
    }

    /// Sends an event, and waits for the answer.
    pub fn invoke(&mut self, event: &str) -> Answer {
        self.send(event);
        self.answer()
    }

    /// The next answer; notes when the instance said that it is ready. Panics when it has ended, or takes too long.
    pub fn answer(&mut self) -> Answer {
        self.next_answer()
            .unwrap_or_else(|| panic!("the instance has ended without an answer; its log:\n{}", self.log()))
    }

    /// The next answer; nothing when the instance has ended. Panics when it takes too long.
    pub fn next_answer(&mut self) -> Option<Answer> {
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            let ended = self.has_ended();
            if let Some(message) = self.channel.receiver.receive().expect("the instance keeps its ring whole") {
                let (kind, body, head) = (message.kind(), message.body(), message.head().to_vec());
                if matches!(kind, invocation::READY | invocation::INIT_FAILED) {
                    self.started = Some(Started::decode(&head));
                }
                if kind != invocation::READY {
                    return Some(Answer { kind, body, served: Served::decode(&head) });
                }
            } else if ended {
                return None;
            } else {
                self.channel.receiver.wait(Duration::ZERO, Some(Duration::from_millis(20)));
            }
        }
        panic!("the instance takes too long; its log:\n{}", self.log())
    }

    /// Waits until the instance has said that it is ready, without an invocation.
    pub fn wait_until_ready(&mut self) {
        while self.started.is_none() {
            assert!(!self.has_ended(), "the instance has ended before it was ready; its log:\n{}", self.log());
            if let Some(message) = self.channel.receiver.receive().expect("the instance keeps its ring whole") {
                assert_eq!(message.kind(), invocation::READY, "{}", String::from_utf8_lossy(&message.body()));
                self.started = Some(Started::decode(message.head()));
            } else {
                self.channel.receiver.wait(Duration::ZERO, Some(Duration::from_millis(20)));
            }
        }
    }

    /// Whether its process has ended.
    pub fn has_ended(&self) -> bool {
        let mut poll = [rustix::event::PollFd::new(&self.pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut poll, Some(&rustix::time::Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// What it has written to its log since this was last asked.
    pub fn log(&mut self) -> String {
        let mut text = Vec::new();
        // Ends with WouldBlock where the instance lives.
        let _ = self.log.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = os::pidfd::kill(&self.pidfd);
        // It becomes ours to reap when its maker has ended, which may be after this; its slot ends only once it is reaped.
        while os::process::wait(self.pid).is_err() && exists(self.pid) {
            std::thread::yield_now();
        }
    }
}

fn exists(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}
