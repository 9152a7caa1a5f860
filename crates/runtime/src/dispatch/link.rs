//! The connection to a worker.
//!
//! Whoever has something to say puts it into the outbox and, unless somebody is at it already, sends what is there: starts
//! that gather while one thread sends travel together, as a vector. Nobody waits: when the worker does not keep up, a
//! task sends the rest.

use sandbox::conversation::MESSAGE_MAX;
use sandbox::spec::StartSpec;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use worker::Client;
use worker::client::TalkError;
use worker::protocol::{Command, DESCRIPTORS_PER_START, Event, VECTOR_MAX};

/// Bytes that a start's specification takes beside its texts, generously.
const START_OVERHEAD: usize = 128;

/// One thing to say.
#[derive(Debug)]
pub(super) enum Said {
    Command(Command),
    Start { template: u64, start: StartSpec, descriptors: [OwnedFd; DESCRIPTORS_PER_START] },
}

struct Message {
    command: Command,
    descriptors: Vec<OwnedFd>,
}

#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Said>,
    /// Somebody sends.
    sending: bool,
    /// What did not fit into the socket.
    stuck: Option<Message>,
}

/// A worker, as long as it lives.
pub(super) struct Link {
    client: Client,
    outbox: Mutex<Outbox>,
    stuck: Notify,
    broken: Notify,
}

impl Link {
    pub fn new(socket: OwnedFd) -> io::Result<Arc<Self>> {
        let client = Client::new(socket)?;
        Ok(Arc::new(Self { client, outbox: Mutex::default(), stuck: Notify::new(), broken: Notify::new() }))
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something, soon and in order.
    pub fn tell(&self, said: Said) {
        self.tell_all([said]);
    }

    /// Says several things; starts among them travel together.
    pub fn tell_all(&self, said: impl IntoIterator<Item = Said>) {
        let mut outbox = self.outbox();
        outbox.waiting.extend(said);
        if std::mem::replace(&mut outbox.sending, true) {
            return;
        }
        drop(outbox);
        self.send();
    }

    /// Sends what waits. The caller is the one who sends.
    fn send(&self) {
        while let Some(message) = self.next() {
            match self.client.try_say(&message.command, &message.borrowed()) {
                Ok(true) => {}
                Ok(false) => {
                    self.outbox().stuck = Some(message);
                    return self.stuck.notify_one();
                }
                Err(error) => return self.give_up(&error),
            }
        }
    }

    /// The next message; nothing, and nobody sends, when the outbox is empty.
    fn next(&self) -> Option<Message> {
        let mut outbox = self.outbox();
        let message = compose(&mut outbox.waiting);
        outbox.sending = message.is_some();
        message
    }

    fn give_up(&self, error: &TalkError) {
        tracing::warn!(%error, "the worker cannot be told");
        self.outbox().waiting.clear();
        self.broken.notify_one();
    }

    /// Sends what was stuck, for ever.
    pub async fn relieve(&self) {
        loop {
            self.stuck.notified().await;
            let Some(message) = self.outbox().stuck.take() else { continue };
            match self.client.say(&message.command, &message.borrowed()).await {
                Ok(()) => self.send(),
                Err(error) => self.give_up(&error),
            }
        }
    }

    /// What the worker says next; nothing when it is gone.
    pub async fn hear(&self) -> Option<(Event, Vec<OwnedFd>)> {
        tokio::select! {
            heard = self.client.hear() => match heard {
                Ok(event) => Some(event),
                Err(TalkError::Gone) => None,
                Err(error) => {
                    tracing::error!(%error, "the worker cannot be understood, and is given up");
                    None
                }
            },
            () = self.broken.notified() => None,
        }
    }
}

impl Message {
    fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd).collect()
    }
}

/// Takes the next message off the outbox: one command, or as many starts from one template as may travel together.
fn compose(waiting: &mut VecDeque<Said>) -> Option<Message> {
    let template = match waiting.front()? {
        Said::Command(_) => match waiting.pop_front() {
            Some(Said::Command(command)) => return Some(Message { command, descriptors: Vec::new() }),
            _ => return None,
        },
        Said::Start { template, .. } => *template,
    };
    let (mut starts, mut descriptors, mut bytes) = (Vec::new(), Vec::new(), 0);
    while starts.len() < VECTOR_MAX {
        match waiting.front() {
            Some(Said::Start { template: of, start, .. }) if *of == template => bytes += encoded(start),
            _ => break,
        }
        if bytes > MESSAGE_MAX && !starts.is_empty() {
            break;
        }
        let Some(Said::Start { start, descriptors: own, .. }) = waiting.pop_front() else { break };
        starts.push(start);
        descriptors.extend(own);
    }
    Some(Message { command: Command::Spawn { template, starts }, descriptors })
}

/// An upper bound of what a start takes in a message.
fn encoded(start: &StartSpec) -> usize {
    let texts = start.code.as_ref().map_or(0, |code| code.folder.as_os_str().len() + code.config.len());
    texts + START_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::spec::{Code, Limits};
    use worker::client::Server;

    fn start(template: u64, instance: u64, config: usize) -> Said {
        let code = Some(Code { folder: "/code".into(), layers: None, config: "x".repeat(config) });
        let pipes = [std::io::pipe().unwrap(), std::io::pipe().unwrap()];
        let [(a, b), (c, d)] = pipes;
        let descriptors = [a.into(), b.into(), c.into(), d.into()];
        Said::Start { template, start: StartSpec { instance, code, limits: Limits::for_memory(128, 512) }, descriptors }
    }

    fn sizes(said: Vec<Said>) -> Vec<usize> {
        let mut waiting = VecDeque::from(said);
        let messages = std::iter::from_fn(|| compose(&mut waiting));
        let sizes = messages.map(|message| match message.command {
            Command::Spawn { starts, .. } => {
                assert_eq!(message.descriptors.len(), starts.len() * DESCRIPTORS_PER_START);
                starts.len()
            }
            _ => 0,
        });
        sizes.collect()
    }

    #[test]
    fn starts_from_one_template_travel_together() {
        assert_eq!(sizes((0..20).map(|i| start(1, i, 10)).collect()), [16, 4]);
        let retire = Said::Command(Command::Retire { instance: 1 });
        assert_eq!(sizes(vec![start(1, 1, 10), start(1, 2, 10), retire, start(1, 3, 10)]), [2, 0, 1]);
        assert_eq!(sizes(vec![start(1, 1, 10), start(2, 2, 10)]), [1, 1]);
    }

    #[test]
    fn no_message_is_longer_than_its_reader_expects() {
        assert_eq!(sizes((0..5).map(|i| start(1, i, 50_000)).collect()), [2, 2, 1]);
        assert_eq!(sizes((0..2).map(|i| start(1, i, 65_500)).collect()), [1, 1]);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_sent_later_and_in_order() {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let (link, server) = (Link::new(ours).unwrap(), Server::new(theirs).unwrap());
        let relief = tokio::spawn({
            let link = link.clone();
            async move { link.relieve().await }
        });
        (0..5000).for_each(|instance| link.tell(Said::Command(Command::Retire { instance })));
        for instance in 0..5000 {
            assert_eq!(server.hear().await.unwrap().0, Command::Retire { instance });
        }
        relief.abort();
        drop(server);
        assert!(link.hear().await.is_none());
    }

    #[tokio::test]
    async fn one_that_cannot_be_told_is_not_heard_either() {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let link = Link::new(ours).unwrap();
        drop(theirs);
        link.tell(Said::Command(Command::Retire { instance: 1 }));
        assert!(link.hear().await.is_none());
    }
}
