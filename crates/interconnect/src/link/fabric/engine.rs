//! The thread of one link over a fabric: it makes the provider progress, and sleeps when there is nothing to expect.
//!
//! ```text
//!              something moved                  nothing moved for SPIN
//!            ╭───────────────╮               ╭──────────────────────────╮
//!            ▼               │               ▼                          │
//!          turn ─────────────┴──────────▶ expecting? ──yes──▶ wait a little, longer each time
//!            ▲                               │ no
//!            │                               ▼
//!            ╰──── rung, or told ──── say that it naps, look once more, wait
//! ```
//!
//! *Expecting* is: a message of ours is with the provider, or the peer has rung for messages that are not here yet. A nap
//! says how many messages had come before it; the peer rings if it has sent more than that. So no message is slept on.

use super::endpoint::{Done, Endpoint, FabricError};
use super::word::Word;
use super::{Provider, Shared, State, WINDOW};
use crate::doorbell;
use crate::link::{End, Interest, Link, SendError};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to look for more before sleeping: about what a sleep and a wake-up cost.
const SPIN: Duration = Duration::from_micros(30);
/// Between two looks at a provider that owes something.
const WAIT_FIRST: Duration = Duration::from_micros(20);
const WAIT_LAST: Duration = Duration::from_millis(5);
/// How long an end is put off for messages that are still on their way.
const LINGER: Duration = Duration::from_secs(2);
/// Operations taken from the provider at a time.
const BATCH: usize = 2 * WINDOW;

pub struct Engine {
    endpoint: Endpoint,
    words: Box<dyn Link>,
    provider: Provider,
    shared: Arc<Shared>,
    /// This end's hello, until it was said.
    hello: Option<Word>,
    tag: u64,
    /// The peer's hello was heard.
    met: bool,
    /// Messages given to the provider, and how many there may be by now.
    sent: u64,
    limit: u64,
    /// Slots to send from, and whether the provider took none at last.
    free: Vec<usize>,
    stuck: bool,
    /// The peer naps, and had received so many.
    napping: Option<u64>,
    /// Messages received in order, those that the peer has promised, and those that it knows to have been read.
    received: u64,
    expected: u64,
    told: u64,
    done: [Option<usize>; WINDOW],
    /// This end has said that it naps; has said its last.
    naps: bool,
    said_bye: bool,
    /// The peer has said its last; the words are over.
    last: bool,
    over: Option<End>,
    /// When to end, whatever is still on its way.
    deadline: Option<Instant>,
}

/// Tells the owner of the end, also where the thread panics.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended.get_or_insert(End::Gone);
        state.outgoing.clear();
        self.0.tell_owner(&mut state);
    }
}

impl Engine {
    pub fn new(
        endpoint: Endpoint,
        words: Box<dyn Link>,
        provider: Provider,
        shared: Arc<Shared>,
    ) -> Result<Self, FabricError> {
        let tag = random();
        let hello = Some(Word::Hello { provider, tag, name: endpoint.name()? });
        Ok(Self {
            endpoint,
            words,
            provider,
            shared,
            hello,
            tag,
            met: false,
            sent: 0,
            limit: WINDOW as u64,
            free: (WINDOW..2 * WINDOW).collect(),
            stuck: false,
            napping: None,
            received: 0,
            expected: 0,
            told: 0,
            done: [None; WINDOW],
            naps: false,
            said_bye: false,
            last: false,
            over: None,
            deadline: None,
        })
    }

    pub fn run(mut self) {
        let ending = Ending(self.shared.clone());
        let end = self.serve();
        ending.0.lock().ended = Some(end);
    }

    fn serve(&mut self) -> End {
        let (mut quiet_since, mut wait) = (Instant::now(), WAIT_FIRST);
        loop {
            match self.turn() {
                Ok(true) => (quiet_since, wait) = (Instant::now(), WAIT_FIRST),
                Ok(false) if quiet_since.elapsed() < SPIN => std::hint::spin_loop(),
                Ok(false) if self.is_expecting() => {
                    self.sleep(Some(wait));
                    wait = (wait * 2).min(WAIT_LAST);
                }
                Ok(false) if !self.naps && self.met => match self.say(&Word::Nap(self.received)) {
                    Ok(said) => self.naps = said,
                    Err(end) => self.over = Some(end),
                },
                Ok(false) => self.sleep(None),
                Err(end) => return end,
            }
        }
    }

    /// Does what there is to do. True: there was something.
    fn turn(&mut self) -> Result<bool, End> {
        let mut moved = self.listen()?;
        if self.met {
            moved |= self.take_completions()? | self.deliver()?;
            moved |= self.transmit()?;
        }
        moved |= self.tell()?;
        self.look_for_the_end()?;
        Ok(moved)
    }

    /// Whether the provider owes something, so that somebody has to keep asking.
    fn is_expecting(&self) -> bool {
        self.met && (self.free.len() < WINDOW || self.stuck || self.received < self.expected)
    }

    fn listen(&mut self) -> Result<bool, End> {
        let (mut message, mut moved) = (Vec::new(), false);
        while self.over.is_none() {
            match self.words.receive(&mut message, &mut Vec::new()) {
                Ok(true) => self.hear(Word::decode(&message).ok_or(End::Broken)?)?,
                Ok(false) => break,
                Err(end) => self.over = Some(end),
            }
            moved = true;
        }
        Ok(moved)
    }

    /// What the peer says is checked: it may promise no more than it has room for, and have read no more than was sent.
    fn hear(&mut self, word: Word) -> Result<(), End> {
        match word {
            Word::Hello { provider, tag, name } if !self.met && provider == self.provider => {
                self.endpoint.connect(&name, self.tag, tag).map_err(|_| End::Broken)?;
                self.met = true;
            }
            Word::Read(total) if total <= self.sent => self.limit = self.limit.max(total + WINDOW as u64),
            Word::Nap(total) if total <= self.sent => self.napping = Some(total),
            Word::Ring(total) | Word::Bye(total) if total <= self.told + WINDOW as u64 => {
                self.expected = self.expected.max(total);
                self.last |= matches!(word, Word::Bye(_));
                self.naps = false;
            }
            _ => return Err(End::Broken),
        }
        Ok(())
    }

    fn take_completions(&mut self) -> Result<bool, End> {
        for taken in 0..BATCH {
            match self.endpoint.poll().map_err(|_| End::Gone)? {
                Some(Done::Sent { slot }) => self.free.push(slot),
                Some(Done::Received { slot, len }) => self.done[slot] = Some(len),
                None => return Ok(taken > 0),
            }
        }
        Ok(true)
    }

    /// Gives what has come, in order, to the owner, and the slots back to the provider.
    fn deliver(&mut self) -> Result<bool, End> {
        let before = self.received;
        loop {
            let slot = (self.received % WINDOW as u64) as usize;
            let Some(len) = self.done[slot].take() else {
                return Ok(self.received > before);
            };
            let message = self.endpoint.copy(slot, len);
            self.endpoint.post(slot).map_err(|_| End::Gone)?;
            self.received += 1;
            if self.received > self.told + WINDOW as u64 {
                return Err(End::Broken);
            }
            let mut state = self.shared.lock();
            if !state.gone {
                state.incoming.push_back(message);
                self.shared.tell_owner(&mut state);
            }
        }
    }

    fn transmit(&mut self) -> Result<bool, End> {
        let before = self.sent;
        self.stuck = false;
        while self.sent < self.limit {
            let Some(&slot) = self.free.last() else { break };
            let Some(message) = self.shared.lock().outgoing.pop_front() else { break };
            if !self.endpoint.send(slot, &message).map_err(|_| End::Gone)? {
                self.stuck = true;
                self.shared.lock().outgoing.push_front(message);
                break;
            }
            self.free.pop();
            self.sent += 1;
            let mut state = self.shared.lock();
            if state.refused {
                self.shared.tell_owner(&mut state);
            }
        }
        Ok(self.sent > before)
    }

    /// Says what the peer has to know.
    fn tell(&mut self) -> Result<bool, End> {
        if self.over.is_some() {
            return Ok(false);
        }
        if let Some(hello) = self.hello.take()
            && !self.say(&hello)?
        {
            self.hello = Some(hello);
        }
        let (waiting, read, gone) = {
            let state = self.shared.lock();
            (state.outgoing.len() as u64, state.read, state.gone)
        };
        let mut said = false;
        let promised = (self.sent + waiting).min(self.limit);
        if self.napping.is_some_and(|had| promised > had) && self.say(&Word::Ring(promised))? {
            self.napping = None;
            said = true;
        }
        if is_worth_telling(read, self.told) && self.say(&Word::Read(read))? {
            self.told = read;
            self.shared.lock().told = read;
            said = true;
        }
        let passed_on = waiting == 0 && self.free.len() == WINDOW;
        if gone && !self.said_bye && passed_on && self.say(&Word::Bye(self.sent))? {
            self.said_bye = true;
            said = true;
        }
        // Words that the socket does not take now are taken when it is writable.
        if let Err(end) = self.words.flush() {
            self.over = Some(end);
        }
        Ok(said)
    }

    /// Says this. False: not now.
    fn say(&mut self, word: &Word) -> Result<bool, End> {
        match self.words.send(&word.encode()) {
            Ok(()) => Ok(true),
            Err(SendError::Full) => Ok(false),
            Err(SendError::Ended(End::Broken)) => Err(End::Broken),
            // What the peer had sent before it went may still come.
            Err(_) => {
                self.over.get_or_insert(End::Gone);
                Ok(false)
            }
        }
    }

    fn look_for_the_end(&mut self) -> Result<(), End> {
        let gone = self.shared.lock().gone;
        let end = self.over.or(self.last.then_some(End::Gone));
        if end.is_none() && !gone {
            return Ok(());
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + LINGER);
        let all_here = end.is_some() && (gone || self.received >= self.expected);
        if all_here || Instant::now() >= deadline { Err(end.unwrap_or(End::Gone)) } else { Ok(()) }
    }

    /// Sleeps until there may be something to do: for so long at most.
    fn sleep(&mut self, most: Option<Duration>) {
        let begun = self.may_sleep() && (self.over.is_some() || self.words.arm());
        if begun {
            let deadline = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = most.into_iter().chain(deadline).min();
            let Interest { read, write } = self.words.wants();
            let mut wants = PollFlags::empty();
            wants.set(PollFlags::IN, read);
            wants.set(PollFlags::OUT, write);
            let mut descriptors = vec![PollFd::new(&self.shared.work, PollFlags::IN)];
            if self.over.is_none() {
                descriptors.push(PollFd::from_borrowed_fd(self.words.poll_fd(), wants));
            }
            // Interrupted: looks at everything, and sleeps again.
            let _ = poll(&mut descriptors, timeout.and_then(|t| t.try_into().ok()).as_ref());
        }
        self.shared.lock().asleep = false;
        doorbell::hush(self.shared.work.as_fd());
    }

    /// Says to the owner that this thread sleeps, unless the owner has left something to do.
    fn may_sleep(&self) -> bool {
        let mut state = self.shared.lock();
        state.asleep = !self.has_work(&state);
        state.asleep
    }

    fn has_work(&self, state: &State) -> bool {
        let sends =
            self.met && !self.stuck && !state.outgoing.is_empty() && self.sent < self.limit && !self.free.is_empty();
        let tells = self.over.is_none() && is_worth_telling(state.read, self.told);
        sends || tells || (state.gone && self.deadline.is_none())
    }
}

/// Half a window that was read is worth a word: the peer never waits for the other half.
fn is_worth_telling(read: u64, told: u64) -> bool {
    read - told >= WINDOW as u64 / 2
}

/// A tag that nobody else on the fabric knows.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // The kernel gives as many as were asked for once it has gathered enough to begin with.
    while rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(bytes.len()) {}
    u64::from_ne_bytes(bytes)
}
