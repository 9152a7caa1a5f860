//! The head's side: it plays the worker for the gateway.

use super::RemoteError;
use super::folders::Packing;
use super::passage::{Item, Message, Passage, Passed, WINDOW};
use super::stream::{Stream, TURN};
use super::words::Word;
use crate::kits::{Kit, Stock};
use crate::protocol::{Command, Event, Order, Ordered};
use cfork::invocation::{self, RELATIVE_MAX_MS};
use interconnect::channel::{Channel, Descriptors};
use interconnect::link::Link;
use rustix::event::{PollFd, PollFlags, poll};
use sandbox::conversation::{self, MESSAGE_MAX, TalkError};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

/// Bytes that may wait for the link before another piece of a folder is read.
const BACKLOG: usize = 1024 * 1024;
/// How often what found no room is tried again, where nobody says that there is some.
const AGAIN: Duration = Duration::from_millis(2);

/// An instance, as the gateway has made it.
struct Guest {
    passage: Passage,
    log: OwnedFd,
    retired: bool,
}

/// One life of a remote worker, at the head.
pub struct Near {
    gateway: OwnedFd,
    stream: Stream,
    stock: Stock,
    guests: HashMap<u64, Guest>,
    packing: VecDeque<Packing>,
    /// What the clock there is ahead of the one here, in nanoseconds.
    ahead: i64,
}

impl Near {
    /// Between the gateway at the other end of this socket and far at the other end of this link.
    pub fn new(gateway: OwnedFd, link: Box<dyn Link>) -> Self {
        let stream = Stream::new(link);
        Self { gateway, stream, stock: Stock::default(), guests: HashMap::new(), packing: VecDeque::new(), ahead: 0 }
    }

    /// Goes on until either end is gone, or `stop` has something to say.
    pub fn run(mut self, stop: BorrowedFd<'_>) -> Result<(), RemoteError> {
        self.ask()?;
        loop {
            for _ in 0..TURN {
                let Some(heard) = self.stream.hear()? else { break };
                let body = heard.body().to_vec();
                self.hear(heard.word, body)?;
            }
            self.pass_on_all()?;
            self.pack()?;
            self.stream.pass_on()?;
            let ready = self.wait(stop)?;
            if ready.stop {
                return Ok(());
            }
            for instance in ready.rung {
                self.look(instance)?;
            }
            if ready.gateway {
                match self.obey() {
                    Err(RemoteError::Talk(TalkError::Gone)) => return Ok(()),
                    result => result?,
                }
            }
        }
    }

    fn wait(&mut self, stop: BorrowedFd<'_>) -> Result<Ready, RemoteError> {
        let armed = self.stream.arm();
        let busy = self.packing.front().is_some() && self.stream.backlog() < BACKLOG;
        let full = self.guests.values().any(|guest| !guest.passage.waiting.is_empty());
        let timeout = match () {
            () if !armed || busy => Some(Duration::ZERO),
            () if full => Some(AGAIN),
            () => None,
        };
        let ids: Vec<u64> = self.guests.keys().copied().collect();
        let mut fds = vec![
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::new(&self.gateway, PollFlags::IN),
            PollFd::from_borrowed_fd(self.stream.poll_fd(), self.stream.wants()),
        ];
        fds.extend(ids.iter().map(|id| PollFd::from_borrowed_fd(self.guests[id].passage.bell(), PollFlags::IN)));
        // Interrupted: looks at everything that is cheap to look at, and waits again.
        let _ = poll(&mut fds, timeout.and_then(|timeout| timeout.try_into().ok()).as_ref());
        let is_ready = |at: usize| !fds[at].revents().is_empty();
        let rung = ids.iter().enumerate().filter(|(at, _)| is_ready(3 + at)).map(|(_, id)| *id).collect();
        Ok(Ready { stop: is_ready(0), gateway: is_ready(1), rung })
    }

    fn ask(&mut self) -> Result<(), RemoteError> {
        self.stream.say(&Word::Ask { at: os::monotonic_ns() }, &[])
    }

    /// Does what the gateway says.
    fn obey(&mut self) -> Result<(), RemoteError> {
        let (command, descriptors) = conversation::hear(&self.gateway, &mut vec![0; MESSAGE_MAX])?;
        match command {
            Command::Kits { first } => self.stock.put(first, descriptors).map_err(|_| RemoteError::Malformed),
            Command::Spawn(Order { template, starts }) => {
                starts.into_iter().try_for_each(|start| self.start(template, start))?;
                self.ask()
            }
            command => {
                if let Command::Retire { instance } = &command
                    && let Some(guest) = self.guests.get_mut(instance)
                {
                    guest.retired = true;
                }
                self.stream.say(&Word::Command(command), &[])
            }
        }
    }

    /// Has an instance started there, and stands in for it here.
    fn start(&mut self, template: u64, start: Ordered) -> Result<(), RemoteError> {
        let Ordered { kit, spec: start } = start;
        let kit = self.stock.take(kit).map_err(|_| RemoteError::Malformed)?;
        let Kit { channel: Descriptors { region, down, up }, log } = kit;
        rustix::io::ioctl_fionbio(&log, true).map_err(std::io::Error::from)?;
        let passage = Passage::new(Channel::attach(region, down, up)?);
        let (instance, body_max) = (start.instance, passage.body_max() as u64);
        self.guests.insert(instance, Guest { passage, log, retired: false });
        self.stream.say(&Word::Start { template, start, body_max }, &[])?;
        self.look(instance)
    }

    /// Takes what the gateway has said to an instance.
    fn look(&mut self, instance: u64) -> Result<(), RemoteError> {
        let Some(guest) = self.guests.get_mut(&instance) else { return Ok(()) };
        guest.passage.hush();
        // A gateway that has broken a channel of its own has nothing more to say in it.
        while let Ok(Some(mut message)) = guest.passage.take() {
            // Room is what waits here is told by; far tells its instance itself.
            if message.kind == invocation::ROOM {
                continue;
            }
            if message.kind == invocation::INVOKE {
                make_relative(&mut message.head);
            }
            let word = Word::Message { instance, kind: message.kind, head: message.head.len() as u32 };
            self.stream.say(&word, &[&message.head, &message.body])?;
        }
        Ok(())
    }

    fn hear(&mut self, word: Word, body: Vec<u8>) -> Result<(), RemoteError> {
        match word {
            Word::Event(event) => self.hear_event(event),
            Word::Want { folder } => {
                self.packing.push_back(Packing::begin(folder));
                Ok(())
            }
            Word::Message { instance, kind, head } => {
                let (head, body) = body.split_at_checked(head as usize).ok_or(RemoteError::Malformed)?;
                let mut message = Message { kind, head: head.to_vec(), body: body.to_vec() };
                move_stamps(&mut message, self.ahead);
                self.keep(instance, Item::Message(message))
            }
            Word::Log { instance } => self.keep(instance, Item::Log(body, 0)),
            Word::Clock { asked, here } => {
                let now = os::monotonic_ns();
                self.ahead = here.wrapping_sub(asked.midpoint(now)) as i64;
                Ok(())
            }
            _ => Err(RemoteError::Malformed),
        }
    }

    fn hear_event(&mut self, event: Event) -> Result<(), RemoteError> {
        match event {
            Event::Ended { instance, .. } | Event::NotSpawned { instance, .. }
                if self.guests.contains_key(&instance) =>
            {
                self.keep(instance, Item::Event(event))
            }
            event => Ok(conversation::say(&self.gateway, &event, &[])?),
        }
    }

    fn keep(&mut self, instance: u64, item: Item) -> Result<(), RemoteError> {
        let Some(guest) = self.guests.get_mut(&instance) else {
            // Of an instance whose end was told.
            return Ok(());
        };
        if guest.passage.waiting.len() > WINDOW {
            return Err(RemoteError::Malformed);
        }
        guest.passage.waiting.push_back(item);
        Ok(())
    }

    /// Passes on what waits, as far as there is room.
    fn pass_on_all(&mut self) -> Result<(), RemoteError> {
        let ids: Vec<u64> =
            self.guests.iter().filter(|(_, g)| !g.passage.waiting.is_empty()).map(|(id, _)| *id).collect();
        ids.into_iter().try_for_each(|instance| self.pass_on(instance))
    }

    fn pass_on(&mut self, instance: u64) -> Result<(), RemoteError> {
        while let Some(guest) = self.guests.get_mut(&instance) {
            let mut passed = guest.passage.pass(Some(&guest.log));
            // Nobody reads what a retired instance says: it goes, so that its end can be told.
            if matches!(passed, Passed::Full) && guest.retired {
                guest.passage.waiting.pop_front();
                passed = Passed::On;
            }
            match passed {
                Passed::On => self.stream.say(&Word::Taken { instance }, &[])?,
                Passed::Event(event) => {
                    self.guests.remove(&instance);
                    conversation::say(&self.gateway, &event, &[])?;
                }
                Passed::Full | Passed::Nothing => break,
            }
        }
        Ok(())
    }

    /// Sends pieces of folders, as long as the link keeps up.
    fn pack(&mut self) -> Result<(), RemoteError> {
        while self.stream.backlog() < BACKLOG {
            let Some(packing) = self.packing.front_mut() else { break };
            match packing.next() {
                Some((word, body)) => self.stream.say(&word, &[&body])?,
                None => drop(self.packing.pop_front()),
            }
        }
        Ok(())
    }
}

/// What there is to look at.
struct Ready {
    stop: bool,
    gateway: bool,
    rung: Vec<u64>,
}

/// Turns an invocation's deadline into the time that is left: the clock on the other wall may be wrong.
fn make_relative(head: &mut [u8]) {
    let Some(deadline) = head.first_chunk_mut::<8>() else { return };
    let at = u64::from_le_bytes(*deadline);
    if at >= RELATIVE_MAX_MS {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        *deadline = at.saturating_sub(now.as_millis() as u64).to_le_bytes();
    }
}

/// Moves the stamps in a message's head from the other machine's clock to this one's.
fn move_stamps(message: &mut Message, ahead: i64) {
    let stamped =
        [invocation::READY, invocation::INIT_FAILED, invocation::REPLY, invocation::FAILED, invocation::PASSED];
    if !stamped.contains(&message.kind) {
        return;
    }
    for stamp in message.head.chunks_exact_mut(8) {
        let at = u64::from_le_bytes(stamp.try_into().unwrap_or_default());
        if at > 0 {
            stamp.copy_from_slice(&at.wrapping_sub(ahead as u64).to_le_bytes());
        }
    }
}
