//! How one call gets to the shim and its answer back: over the socket, or through the call region.
//!
//! ```text
//!   number++ ─▶ request into the line ─▶ publish number ─▶ shim asleep? ring ─▶ spin for the answer ─▶ sleep on the socket
//! ```
//!
//! One call at a time per attachment: threads wait for each other. An answer that brings descriptors has them on the
//! socket before it is published. What a call means is not known here.

use crate::abi::{ASLEEP, ENDED, REPLY, REQUEST, RUNG_AT, Reply, Request, SHIM_SLEEPS, SLOTS, call};
use crate::error::Broken;
use crate::host::{double, word};
use crate::wire::{self, Event, Program, Transport};
use interconnect::lane::{Guard, Word};
use interconnect::waking;
use os::mapping::{ForkMark, Mapping};
use os::seqpacket;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};

/// How long a caller looks for its answer before it sleeps, once the shim is awake.
const SPIN_NS: u64 = 50_000;
/// The first part of that, in which it does not even offer its core to others.
const EAGER_NS: u64 = 1_500;
/// How often one that polls for ever looks whether the shim is still there.
const LIVENESS_NS: u64 = 10_000_000;
/// Looks between two looks at the clock.
const LOOKS: usize = 32;
/// The longest packet that a shim sends.
const EVENT_MAX: usize = 256;

/// An attached process's way to its shim.
#[derive(Debug)]
pub(crate) struct Calling {
    pub(crate) socket: OwnedFd,
    pub(crate) calls: Arc<Mapping>,
    pub(crate) notices: Arc<Mapping>,
    pub(crate) slots: u32,
    pub(crate) doorbell: OwnedFd,
    pub(crate) transport: Transport,
    pub(crate) mark: ForkMark,
    /// The number of the last call.
    pub(crate) last: Mutex<u32>,
}

/// What a shim has answered.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Calling {
    /// Calls the shim and waits for its answer.
    pub(crate) fn call(&self, request: Request) -> Result<Answer, Broken> {
        self.check()?;
        let mut last = self.turn();
        *last = last.wrapping_add(1);
        if self.transport == Transport::Base {
            self.by_socket(*last, request, None)
        } else {
            self.by_memory(*last, request)
        }
    }

    /// The same with a program to start, which no line has room for.
    pub(crate) fn call_with(&self, request: Request, program: Program) -> Result<Answer, Broken> {
        self.check()?;
        let mut last = self.turn();
        *last = last.wrapping_add(1);
        self.by_socket(*last, request, Some(program))
    }

    /// Whether the attachment can be used: one load, and none of the shim's.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        if self.mark.is_here() { Ok(()) } else { Err(Broken::Forked) }
    }

    fn turn(&self) -> MutexGuard<'_, u32> {
        self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Why the attachment has ended.
    pub(crate) fn why(&self) -> Broken {
        Broken::of(word(&self.notices, ENDED).load(Ordering::Acquire))
    }

    /// Whether the shim has hung up.
    pub(crate) fn is_over(&self) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok_and(|n| n > 0)
    }

    /// The words that end what is in a slot, where its news is counted in slot `news`.
    pub(crate) fn guard(&self, slot: u32, news: u32) -> Result<Guard, Broken> {
        if slot >= self.slots || news >= self.slots {
            return Err(Broken::Foreign);
        }
        let word = |index: u32| Word::new(&self.notices, SLOTS + 4 * index as usize);
        Ok(Guard { cut: word(slot), news: word(self.slots + news) })
    }

    /// The word that this process writes for a slot.
    pub(crate) fn hand(&self, slot: u32) -> Result<Word, Broken> {
        if slot >= self.slots {
            return Err(Broken::Foreign);
        }
        Ok(Word::new(&self.calls, SLOTS + 4 * slot as usize))
    }

    /// Tells the shim that a slot is used no more. There is nothing to be done where that fails: the attachment is over.
    pub(crate) fn close(&self, slot: u32) {
        let _ = self.call(Request::of(call::CLOSE, [slot.into(), 0, 0, 0]));
    }

    fn by_memory(&self, number: u32, request: Request) -> Result<Answer, Broken> {
        for (i, argument) in request.arguments.iter().enumerate() {
            double(&self.calls, REQUEST + 16 + 8 * i).store(*argument, Ordering::Relaxed);
        }
        word(&self.calls, REQUEST + 8).store(request.call, Ordering::Relaxed);
        word(&self.calls, REQUEST).store(number, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.shim_sleeps() {
            double(&self.calls, RUNG_AT).store(waking::ticks(), Ordering::Relaxed);
            interconnect::doorbell::ring(&self.doorbell);
        }
        if !self.spin(number)?
            && let Some(answer) = self.sleep(number)?
        {
            return Ok(answer);
        }
        let value = |i: usize| double(&self.calls, REPLY + 16 + 8 * i).load(Ordering::Relaxed);
        let reply = Reply {
            status: word(&self.calls, REPLY + 8).load(Ordering::Relaxed),
            descriptors: word(&self.calls, REPLY + 12).load(Ordering::Relaxed),
            values: [value(0), value(1), value(2), value(3)],
        };
        let descriptors = if reply.descriptors > 0 { self.answer(number)?.descriptors } else { Vec::new() };
        Ok(Answer { reply, descriptors })
    }

    fn shim_sleeps(&self) -> bool {
        word(&self.notices, SHIM_SLEEPS).load(Ordering::Relaxed) != 0
    }

    fn is_answered(&self, number: u32) -> bool {
        word(&self.calls, REPLY).load(Ordering::Acquire) == number
    }

    /// Looks for the answer for a while: whether it has come.
    fn spin(&self, number: u32) -> Result<bool, Broken> {
        if self.transport == Transport::Mpsc {
            return Ok(self.is_answered(number));
        }
        let begun = os::monotonic_ns();
        let (mut asked, mut awake) = (begun, begun);
        loop {
            for _ in 0..LOOKS {
                if self.is_answered(number) {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            let now = os::monotonic_ns();
            if self.transport == Transport::Polling {
                if now - asked > LIVENESS_NS {
                    asked = now;
                    if self.is_over() {
                        return Err(self.why());
                    }
                }
            } else if now - begun < waking::LIMIT_MAX && self.shim_sleeps() {
                awake = now;
            } else if now - awake > SPIN_NS {
                return Ok(false);
            }
            if now - begun > EAGER_NS {
                std::thread::yield_now();
            }
        }
    }

    /// Sleeps until the answer is in memory, or has come as a packet: the one with its descriptors.
    fn sleep(&self, number: u32) -> Result<Option<Answer>, Broken> {
        word(&self.calls, ASLEEP).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut answer = None;
        while answer.is_none() && !self.is_answered(number) {
            self.await_packet()?;
            answer = self.packet(number)?;
        }
        word(&self.calls, ASLEEP).store(0, Ordering::Relaxed);
        Ok(answer)
    }

    fn by_socket(&self, number: u32, request: Request, program: Option<Program>) -> Result<Answer, Broken> {
        let call = wire::Call { number, call: request.call, arguments: request.arguments, program };
        let bytes = postcard::to_stdvec(&call).map_err(|_| Broken::Foreign)?;
        loop {
            match seqpacket::send(&self.socket, &[IoSlice::new(&bytes)], &[]) {
                Ok(()) => return self.answer(number),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_socket(PollFlags::OUT)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.why()),
            }
        }
    }

    /// The packet that answers `number`.
    fn answer(&self, number: u32) -> Result<Answer, Broken> {
        loop {
            self.await_packet()?;
            if let Some(answer) = self.packet(number)? {
                return Ok(answer);
            }
        }
    }

    fn await_packet(&self) -> Result<(), Broken> {
        self.await_socket(PollFlags::IN)
    }

    fn await_socket(&self, events: PollFlags) -> Result<(), Broken> {
        loop {
            match poll(&mut [PollFd::new(&self.socket, events)], None) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(Broken::ShimGone),
            }
        }
    }

    /// Takes one packet, if there is one: whether it answers `number`. Others are wake-ups that came late.
    fn packet(&self, number: u32) -> Result<Option<Answer>, Broken> {
        let mut descriptors = Vec::new();
        let event = receive(&self.socket, &mut descriptors).map_err(|error| error.unwrap_or_else(|| self.why()))?;
        Ok(match event {
            Some(Event::Answer { number: of, status, values }) if of == number => {
                let reply = Reply { status, descriptors: descriptors.len() as u32, values };
                Some(Answer { reply, descriptors })
            }
            _ => None,
        })
    }
}

/// Takes one of the shim's packets, if there is one. An error of nothing: it has hung up.
pub(crate) fn receive(socket: impl AsFd, descriptors: &mut Vec<OwnedFd>) -> Result<Option<Event>, Option<Broken>> {
    let mut buffer = [0; EVENT_MAX];
    match seqpacket::receive(socket, &mut buffer, descriptors) {
        Ok(0) => Err(None),
        Ok(len) => postcard::from_bytes(&buffer[..len]).map(Some).map_err(|_| Some(Broken::Foreign)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(_) => Err(None),
    }
}
