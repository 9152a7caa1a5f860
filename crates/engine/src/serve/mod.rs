//! The loop of an engine process: requests from many channels, run one after the other on one thread.
//!
//! ```text
//!  channel ══╗  a look at each busy one                         ╔══ answer
//!  channel ══╬══▶ take ──▶ run, in a memory of its own ──▶ print ╝
//!  channel ══╝                     ▲
//!  other thread: Desk ─ orders ────┴─ "nobody wants this run any more"
//! ```
//!
//! Channels that speak often are looked at without being asked to ring; when none of them has had anything to say for a
//! moment, all are asked to ring, and the thread sleeps: an idle engine costs no processor time. Each channel has at most one request
//! under way, and they are served in turn, those whose runs are short before those whose runs are long.
//!
//! Not here: how the process is confined, and who gives the orders (`sandbox::pure`).

mod desk;
mod lane;
#[cfg(test)]
mod tests;
mod waking;

pub use desk::{Attachment, Crowded, Desk, Order};
pub use lane::Terms;
pub use waking::{LONG_SLICE, SLICE};

use crate::held::Shelf;
use crate::{Engine, LoadError, Program};
use cfork::invocation::{Processor, Served};
use lane::{Lane, Request};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use waking::Waking;

/// What the desk's bell is called; channels have their places.
const BELL: u64 = u64::MAX;
/// A channel's bell is emptied when it was heard so often.
const RINGS_MAX: u32 = 256;
/// A channel that spoke within so many rounds is looked at as soon as any of them rings.
const LATELY: u64 = 16;
/// How long a request may wait for an engine that is to be met, as that one may be in a long run.
const ACQUAINTED: Duration = Duration::from_secs(2);
/// A channel that was silent for so many rounds, in which others spoke, is asked to ring.
const SILENCE: u64 = 512;
/// Nanoseconds after which a thread that always has work hears who has rung meanwhile.
const DEAF: u64 = 50_000;
/// Nanoseconds from which on a run is a long one.
const LONG: u64 = 200_000;
/// How long it waits for bells: not at all, or until what others read still is looked at again.
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// What an engine says of its orders.
#[derive(Debug)]
pub enum Told {
    Loaded {
        program: u64,
        result: Result<(), LoadError>,
    },
    /// Nothing is given up any more that this engine may be reading.
    Watches {
        number: u32,
    },
    /// The instance is served no more; `broken` if the engine has given it up.
    Ended {
        instance: u64,
        broken: bool,
    },
}

/// An engine process's thread that computes.
pub struct Serving<T> {
    engines: Vec<Box<dyn Engine>>,
    desk: Arc<Desk>,
    shelf: Shelf,
    tell: T,
    /// How long busy channels are looked at before the thread sleeps.
    spin: Duration,
    /// Where it stays.
    processor: Processor,
    programs: HashMap<u64, Box<dyn Program>>,
    lanes: Vec<Option<Box<Lane>>>,
    places: HashMap<u64, usize>,
    /// Places of the channels that need not ring.
    busy: Vec<usize>,
    round: u64,
    /// Since when nobody has had anything to say; 0: somebody has.
    quiet_since: u64,
    /// Whether it comes in time when it is woken.
    waking: Waking,
    /// When the last run ended, and when the bells were heard.
    ended: u64,
    heard: u64,
    /// Of the busy channels whose runs are long, the next one.
    turn: usize,
    epoll: OwnedFd,
    scratch: Vec<u8>,
}

impl<T: Fn(Told)> Serving<T> {
    /// Of the calling thread, which stays on its processor.
    pub fn new(
        engines: Vec<Box<dyn Engine>>,
        desk: Arc<Desk>,
        shelf: Shelf,
        spin: Duration,
        for_long: bool,
        tell: T,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, desk.bell(), EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self {
            engines,
            desk,
            shelf,
            tell,
            spin,
            processor: (rustix::thread::sched_getcpu() as u32).to_le_bytes(),
            programs: HashMap::new(),
            lanes: Vec::new(),
            places: HashMap::new(),
            busy: Vec::new(),
            round: 0,
            quiet_since: 0,
            waking: Waking::new(for_long),
            ended: 0,
            heard: 0,
            turn: 0,
            epoll,
            scratch: Vec::new(),
        })
    }

    /// Serves until it is told to close.
    pub fn run(mut self) {
        while self.turn() {}
    }

    /// Does what there is to do once, or sleeps if there is nothing. False: it was told to close.
    fn turn(&mut self) -> bool {
        if self.desk.has_orders() && !self.follow() {
            return false;
        }
        if self.shelf.is_leaving() {
            self.shelf.sweep();
        }
        if self.serve_busy() {
            self.quiet_since = 0;
            if self.ended.saturating_sub(self.heard) > DEAF {
                self.hear(Some(&NOW));
            }
            return true;
        }
        let now = os::monotonic_ns();
        if self.quiet_since == 0 {
            self.quiet_since = now;
        }
        if now - self.quiet_since < self.spin.as_nanos() as u64 && !self.busy.is_empty() {
            std::hint::spin_loop();
        } else if self.settle() {
            self.wait();
            self.quiet_since = 0;
        }
        true
    }

    /// Looks once at every busy channel whose runs are short, and then serves one of those whose runs are long: who is done
    /// soon never waits for more than one who is not. Whether there was a request.
    fn serve_busy(&mut self) -> bool {
        let (mut served, mut at) = (false, 0);
        while at < self.busy.len() {
            if self.is_long(at) {
                at += 1;
                continue;
            }
            let (had, stays) = self.serve_at(at);
            served |= had;
            at += usize::from(stays);
            if had && self.desk.has_orders() {
                return true;
            }
        }
        served |= self.serve_a_long_one();
        self.round += u64::from(served);
        served
    }

    /// The next one, in turn, that has a request.
    fn serve_a_long_one(&mut self) -> bool {
        let mut left = self.busy.len();
        while left > 0 && !self.busy.is_empty() {
            left -= 1;
            let at = self.turn % self.busy.len();
            if !self.is_long(at) {
                self.turn = at + 1;
                continue;
            }
            let (had, stays) = self.serve_at(at);
            self.turn = at + usize::from(stays);
            if had {
                return true;
            }
        }
        false
    }

    fn is_long(&self, at: usize) -> bool {
        let lane = self.busy.get(at).and_then(|place| self.lanes.get(*place)?.as_ref());
        lane.is_some_and(|lane| lane.typical > LONG)
    }

    /// Serves the request that waits in the busy channel of this number: whether there was one, and whether the channel
    /// stays a busy one.
    fn serve_at(&mut self, at: usize) -> (bool, bool) {
        let Some(&place) = self.busy.get(at) else { return (false, false) };
        let (had, stays) = self.serve(place);
        // One that has ended is not there any more.
        if !stays && self.busy.get(at) == Some(&place) {
            self.busy.swap_remove(at);
        }
        (had, stays)
    }

    /// Serves the request that waits in this channel: whether there was one, and whether the channel stays a busy one.
    fn serve(&mut self, place: usize) -> (bool, bool) {
        let Some(lane) = self.lanes.get_mut(place).and_then(Option::as_mut) else { return (false, false) };
        let request = match lane.take(&mut self.shelf) {
            Ok(Some(request)) => request,
            Ok(None) => {
                let silent = !lane.is_waiting() && self.round.saturating_sub(lane.round) > SILENCE;
                if silent {
                    lane.channel.receiver.sleep_by_event();
                }
                // What came before it was asked to ring is seen now.
                return (false, !silent || lane.channel.receiver.has_message());
            }
            Err(lane::Broken) => {
                self.end(place, true);
                return (false, false);
            }
        };
        lane.round = self.round;
        if !self.desk.begin(lane.instance) {
            drop(request);
            self.shelf.done();
            return (true, true);
        }
        let begun = os::monotonic_ns();
        self.waking.begins(lane.sent, begun);
        let (finished, ask) = match (request, self.programs.get_mut(&lane.program)) {
            (Request::Inputs(inputs, ask), Some(program)) => {
                (lane.run(program.as_mut(), &inputs, &self.desk.stop), ask)
            }
            (Request::Malformed(error), _) => (crate::Finished::failed(error), None),
            (_, None) => (crate::Finished::failed(crate::RunError::Engine("the program was let go of".into())), None),
        };
        self.desk.end();
        let served = Served { begun, ended: os::monotonic_ns() };
        self.ended = served.ended;
        let took = served.ended - served.begun;
        lane.typical = if lane.typical == 0 { took } else { lane.typical - lane.typical / 8 + took / 8 };
        let answered = lane.answer(finished, served, (ask, &mut self.shelf), &mut self.scratch);
        if let Some(program) = self.programs.get_mut(&lane.program) {
            program.clear();
        }
        // It stays for the next answer; what is in it does not.
        self.scratch.fill(0);
        self.shelf.done();
        if answered.is_err() {
            self.end(place, true);
        }
        (true, answered.is_ok())
    }

    /// Asks all channels to ring. False: one has something to say already.
    fn settle(&mut self) -> bool {
        let lanes = self.busy.iter().filter_map(|place| self.lanes.get(*place)?.as_ref());
        lanes.clone().for_each(|lane| lane.channel.receiver.sleep_by_event());
        if lanes.clone().any(|lane| lane.channel.receiver.has_message()) || self.desk.has_orders() {
            lanes.for_each(|lane| lane.channel.receiver.stay_awake());
            return false;
        }
        true
    }

    /// Sleeps until somebody rings. Channels that had something to say lately are looked at from then on, whoever rings: requests
    /// come in batches, and one ring is enough for all of them.
    fn wait(&mut self) {
        let (lanes, round) = (&self.lanes, self.round);
        let lately = |lane: &Lane| round - lane.round.min(round) <= LATELY || lane.is_waiting();
        self.busy.retain(|place| lanes.get(*place).and_then(Option::as_ref).is_some_and(|lane| lately(lane)));
        let mut busy = self.busy.iter().filter_map(|place| lanes.get(*place)?.as_ref());
        let is_soon = self.shelf.is_leaving() || busy.any(|lane| lane.is_waiting());
        let since = os::monotonic_ns();
        self.hear(is_soon.then_some(&SOON));
        self.waking.slept(since, self.heard);
        let lanes = self.busy.iter().filter_map(|place| self.lanes.get(*place)?.as_ref());
        lanes.for_each(|lane| lane.channel.receiver.stay_awake());
    }

    /// Takes in the channels that ring, for which it waits so long.
    fn hear(&mut self, limit: Option<&Timespec>) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        let heard = epoll::wait(&self.epoll, spare_capacity(&mut events), limit);
        self.heard = os::monotonic_ns();
        if heard.is_err() {
            return;
        }
        for event in events {
            let data = event.data;
            let place = data.u64() as usize;
            let Some(lane) = self.lanes.get_mut(place).and_then(Option::as_mut) else { continue };
            lane.rings += 1;
            if lane.rings >= RINGS_MAX {
                interconnect::doorbell::hush(lane.channel.receiver.bell());
                lane.rings = 0;
            }
            lane.channel.receiver.stay_awake();
            lane.round = self.round;
            if !self.busy.contains(&place) {
                self.busy.push(place);
            }
        }
    }

    /// Follows all orders that wait. False: the last one.
    fn follow(&mut self) -> bool {
        while let Some(order) = self.desk.next() {
            match order {
                Order::Load { program, artefact } => self.load(program, &artefact),
                Order::Unload { program } => drop(self.programs.remove(&program)),
                Order::Attach(attachment) => self.attach(*attachment),
                Order::Detach { instance } => {
                    if let Some(place) = self.places.get(&instance).copied() {
                        self.end(place, false);
                    }
                }
                Order::BesideLong { there } => self.waking.beside_long(there),
                Order::Name { number, others } => self.shelf.named(number, &others),
                // One that cannot be watched is lent nothing, and its items are found by nobody.
                Order::Watch { number, board } => {
                    if self.shelf.watch(number, &board).is_ok() {
                        (self.tell)(Told::Watches { number });
                    }
                }
                Order::Lend { number, arena } => drop(self.shelf.lent(number, arena)),
                Order::Part { number } => self.shelf.part(number),
                Order::Release { run, items } => items.into_iter().for_each(|id| self.shelf.release(run, id)),
                Order::Forget { run } => self.shelf.end(run),
                Order::Leave if self.shelf.bytes() > 0 => {}
                Order::Leave | Order::Close => return false,
            }
        }
        true
    }

    fn load(&mut self, program: u64, artefact: &crate::Artefact) {
        let engine = self.engines.iter_mut().find(|engine| engine.kind() == artefact.kind);
        let result = match engine {
            Some(engine) => engine.load(artefact).map(|loaded| drop(self.programs.insert(program, loaded))),
            None => Err(LoadError::Refused(format!("this engine runs no code of kind {}", artefact.kind))),
        };
        (self.tell)(Told::Loaded { program, result });
    }

    fn attach(&mut self, attachment: Attachment) {
        let since = os::monotonic_ns();
        let (instance, program) = (attachment.instance, attachment.program);
        let mut lane = Lane::new(attachment);
        if !self.programs.contains_key(&program) {
            lane.not_loaded("its code was not loaded");
            return (self.tell)(Told::Ended { instance, broken: true });
        }
        let place = self.lanes.iter().position(Option::is_none).unwrap_or(self.lanes.len());
        let flags = EventFlags::IN | EventFlags::ET;
        let heard = epoll::add(&self.epoll, lane.channel.receiver.bell(), EventData::new_u64(place as u64), flags);
        if heard.is_err() || lane.ready(since, self.processor).is_err() {
            return (self.tell)(Told::Ended { instance, broken: true });
        }
        lane.channel.receiver.stay_awake();
        lane.round = self.round;
        match self.lanes.get_mut(place) {
            Some(free) => *free = Some(Box::new(lane)),
            None => self.lanes.push(Some(Box::new(lane))),
        }
        self.places.insert(instance, place);
        // Its first request may be there already.
        self.busy.push(place);
    }

    fn end(&mut self, place: usize, broken: bool) {
        let Some(lane) = self.lanes.get_mut(place).and_then(Option::take) else { return };
        let _ = epoll::delete(&self.epoll, lane.channel.receiver.bell().as_fd());
        self.places.remove(&lane.instance);
        self.busy.retain(|busy| *busy != place);
        (self.tell)(Told::Ended { instance: lane.instance, broken });
    }
}
