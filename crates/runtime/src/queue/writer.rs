//! The queue's thread: everything that is written, in transactions of all that has come since the last one. While the
//! disk is busy with one, the next gathers; so many accept for the price of one.
//!
//! What was decided of an event is never lost for want of room: it is owed, and written as soon as there is some.

use super::event::{Event, Id};
use super::store::{self, Waiting, Which};
use super::{AcceptError, DeadError, Shared};
use crate::queue::machine::Arrival;
use rusqlite::{Connection, ErrorCode};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// As much as is written at once.
const BATCH: usize = 512;
/// How often what is owed is tried again.
const OWED_EVERY: Duration = Duration::from_millis(500);

/// Bytes of a conclusion, and of a message, beside what is in them.
const CONCLUSION: u64 = 256;

/// What an event's row becomes.
pub enum Fate {
    Gone,
    Retry { due_ms: u64, attempts: u32 },
    Dead { reason: &'static str, attempts: u32, error: Vec<u8> },
}

/// What was decided of an event: written as a whole, with the messages that follow from it.
pub struct Conclusion {
    pub id: Id,
    pub bytes: u64,
    pub fate: Fate,
    pub messages: Vec<Event>,
}

impl Conclusion {
    /// Bytes that it takes of memory until it is written.
    pub fn weight(&self) -> u64 {
        let error = if let Fate::Dead { error, .. } = &self.fate { error.len() as u64 } else { 0 };
        CONCLUSION + error + self.messages.iter().map(|message| CONCLUSION + message.bytes()).sum::<u64>()
    }
}

pub enum Command {
    /// Boxed: the others are small.
    Accept(Box<Accepted>),
    /// Something was concluded.
    Look,
    Redrive(Which, oneshot::Sender<Result<u64, DeadError>>),
    Purge(Which, oneshot::Sender<Result<u64, DeadError>>),
    /// Answered when everything before it is written, or owed.
    Flush(oneshot::Sender<()>),
}

/// An event that somebody waits for to be written.
pub struct Accepted {
    pub event: Event,
    /// Not again where one of its request id was written in this way.
    pub once: bool,
    pub reply: oneshot::Sender<Result<(), AcceptError>>,
}

pub struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    accepted: Vec<Accepted>,
    owed: Vec<Conclusion>,
    /// Waits for commands on this thread, for as long as it may. (A channel of the standard library has all of its places
    /// from the beginning, a megabyte.)
    clock: Runtime,
}

impl Writer {
    pub fn new(connection: Connection, shared: Arc<Shared>) -> io::Result<Self> {
        let clock = Builder::new_current_thread().enable_time().build()?;
        Ok(Self { connection, shared, accepted: Vec::new(), owed: Vec::new(), clock })
    }

    /// Runs until nobody can send a command any more.
    pub fn run(mut self, mut commands: Receiver<Command>) {
        loop {
            let received = match self.owed.is_empty() {
                true => Ok(commands.blocking_recv()),
                false => self.clock.block_on(async { timeout(OWED_EVERY, commands.recv()).await }),
            };
            let mut next = match received {
                Ok(Some(command)) => Some(command),
                // Nobody is left who could send one.
                Ok(None) => {
                    self.owed.append(&mut self.shared.concluded());
                    return self.write();
                }
                Err(_) => None,
            };
            let mut others = Vec::new();
            while let Some(command) = next {
                match command {
                    Command::Accept(accepted) => self.accepted.push(*accepted),
                    Command::Look => {}
                    other => others.push(other),
                }
                let full = self.accepted.len() >= BATCH || !others.is_empty();
                next = if full { None } else { commands.try_recv().ok() };
            }
            self.owed.append(&mut self.shared.concluded());
            self.write();
            others.into_iter().for_each(|command| self.act(command));
        }
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Redrive(which, reply) => {
                let redriven = store::redrive(&self.connection, &which, api::time::now_ms());
                let count = redriven.map(|events| {
                    self.shared.dead.fetch_sub(events.len() as u64, Relaxed);
                    self.shared.enter(&events);
                    events.len() as u64
                });
                let _ = reply.send(count.map_err(DeadError::from));
            }
            Command::Purge(which, reply) => {
                let count = store::purge(&self.connection, &which).map(|(count, bytes)| {
                    self.shared.dead.fetch_sub(count, Relaxed);
                    self.shared.room.give_back(count, bytes);
                    count
                });
                let _ = reply.send(count.map_err(DeadError::from));
            }
            Command::Flush(reply) => drop(reply.send(())),
            Command::Accept(_) | Command::Look => {}
        }
    }

    /// Writes what has gathered: all of it, or, where that fails, what was decided alone.
    fn write(&mut self) {
        let accepted = std::mem::take(&mut self.accepted);
        if accepted.is_empty() && self.owed.is_empty() {
            return;
        }
        match commit(&mut self.connection, &self.owed, &accepted) {
            Ok(Written { entered, repeated }) => {
                self.settle();
                self.shared.enter(&entered);
                repeated.into_iter().for_each(|bytes| self.shared.room.give_back(1, bytes));
                accepted.into_iter().for_each(|accepted| drop(accepted.reply.send(Ok(()))));
            }
            Err(error) => {
                tracing::warn!(%error, events = accepted.len(), owed = self.owed.len(), "the queue could not be written");
                self.refuse(accepted, &error);
                if !self.owed.is_empty()
                    && let Ok(written) = commit(&mut self.connection, &self.owed, &[])
                {
                    self.settle();
                    self.shared.enter(&written.entered);
                }
            }
        }
    }

    fn refuse(&self, accepted: Vec<Accepted>, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        for Accepted { event, reply, .. } in accepted {
            self.shared.room.give_back(1, event.bytes());
            let refusal = if full { AcceptError::DiskFull } else { AcceptError::Disk(error.to_string().into()) };
            let _ = reply.send(Err(refusal));
        }
    }

    /// What was owed is written: its room is free.
    fn settle(&mut self) {
        self.shared.paid(self.owed.iter().map(Conclusion::weight).sum());
        for conclusion in self.owed.drain(..) {
            match conclusion.fate {
                Fate::Gone => self.shared.room.give_back(1, conclusion.bytes),
                Fate::Dead { .. } => drop(self.shared.dead.fetch_add(1, Relaxed)),
                Fate::Retry { .. } => {}
            }
            let messages = &conclusion.messages;
            self.shared.room.force(messages.len() as u64, messages.iter().map(Event::bytes).sum());
        }
    }
}

/// What came of a transaction.
struct Written {
    /// Events that now wait.
    entered: Vec<Waiting>,
    /// Bytes of each event that had been written before.
    repeated: Vec<u64>,
}

/// One transaction.
fn commit(connection: &mut Connection, owed: &[Conclusion], accepted: &[Accepted]) -> rusqlite::Result<Written> {
    let now = api::time::now_ms();
    let transaction = connection.transaction()?;
    let (mut entered, mut repeated) = (Vec::new(), Vec::new());
    let mut add = |event: &Event| {
        let arrival =
            Arrival { id: store::add(&transaction, event)?, accepted_ms: event.accepted_ms, due_ms: 0, attempts: 0 };
        entered.push(Waiting { target: event.target.clone(), arrival, bytes: event.bytes() });
        Ok::<_, rusqlite::Error>(())
    };
    for Conclusion { id, fate, messages, .. } in owed {
        match fate {
            Fate::Gone => store::remove(&transaction, *id)?,
            Fate::Retry { due_ms, attempts } => store::retry(&transaction, *id, *due_ms, *attempts)?,
            Fate::Dead { reason, attempts, error } => {
                store::bury(&transaction, *id, reason, *attempts, error, now)?;
            }
        }
        messages.iter().try_for_each(&mut add)?;
    }
    for Accepted { event, once, .. } in accepted {
        if *once && !store::is_new(&transaction, &event.request_id, now)? {
            repeated.push(event.bytes());
        } else {
            add(event)?;
        }
    }
    transaction.commit()?;
    Ok(Written { entered, repeated })
}
