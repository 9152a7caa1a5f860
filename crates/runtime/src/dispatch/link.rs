//! The connection to a worker.
//!
//! Starts need nothing but their orders: kits for them lie with the worker already. One that finds none is given one made
//! for it, which goes ahead.
//!
//! Whoever has something to say puts it into the outbox and, unless somebody is at it already, sends what is there: starts
//! that gather while one thread sends travel together, as a vector. Nobody waits: when the worker does not keep up, a
//! task sends the rest.

use super::call::PlatformError;
use super::kits::{Half, Kit, Made, Stock};
use super::orders::Orders;
use sandbox::conversation::MESSAGE_MAX;
use sandbox::spec::StartSpec;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use worker::Client;
use worker::client::TalkError;
use worker::kits;
use worker::protocol::{Command, Event, Order, Ordered, VECTOR_MAX};

/// Bytes that a start's specification takes beside its texts, generously.
const START_OVERHEAD: usize = 128;

/// One thing to say.
#[derive(Debug)]
pub(super) enum Said {
    Command(Command),
    Start { template: u64, start: Ordered },
}

/// What waits to be said.
#[derive(Debug)]
enum Waiting {
    Said(Said),
    Kit(Half),
}

struct Message {
    command: Command,
    descriptors: Vec<OwnedFd>,
}

struct Outbox {
    waiting: VecDeque<Waiting>,
    /// Numbers of the next kit that is made, and of the next that is sent.
    next_made: u64,
    next_sent: u64,
    /// Somebody sends.
    sending: bool,
    /// What did not fit into the socket.
    stuck: Option<Message>,
}

/// A worker, as long as it lives.
pub(super) struct Link {
    client: Client,
    outbox: Mutex<Outbox>,
    stock: Stock,
    body_max: usize,
    /// The other way for starts.
    pub orders: Orders,
    stuck: Notify,
    broken: Notify,
}

impl Link {
    /// Channels of its instances take bodies of so many bytes.
    pub fn new(socket: OwnedFd, body_max: usize) -> io::Result<Arc<Self>> {
        let outbox = Outbox {
            waiting: VecDeque::new(),
            next_made: kits::FIRST,
            next_sent: kits::FIRST,
            sending: false,
            stuck: None,
        };
        Ok(Arc::new(Self {
            client: Client::new(socket)?,
            outbox: Mutex::new(outbox),
            stock: Stock::default(),
            body_max,
            orders: Orders::default(),
            stuck: Notify::new(),
            broken: Notify::new(),
        }))
    }

    /// What an instance is given.
    pub fn kit(&self) -> Result<Kit, PlatformError> {
        match self.stock.take() {
            Some(kit) => Ok(kit),
            None => Made::new(self.body_max).map(|made| self.give(made)),
        }
    }

    /// Sends the worker its half of a kit.
    fn give(&self, made: Made) -> Kit {
        let mut outbox = self.outbox();
        let (kit, half) = made.numbered(outbox.next_made);
        outbox.next_made += 1;
        self.say(outbox, [Waiting::Kit(half)]);
        kit
    }

    /// The worker takes no more from a FIFO: it is told once more what it has not taken.
    pub fn orders_closed(&self, life: u32, taken: u64) {
        let left = self.orders.closed(life, taken);
        let starts = left.into_iter().flat_map(|Order { template, starts }| {
            starts.into_iter().map(move |start| Said::Start { template, start })
        });
        self.tell_all(starts);
    }

    /// Makes kits ahead of need, for ever.
    pub async fn stock_up(&self) {
        self.stock.replenish(self.body_max, |made| self.give(made)).await;
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
        self.say(self.outbox(), said.into_iter().map(Waiting::Said));
    }

    fn say(&self, mut outbox: MutexGuard<'_, Outbox>, said: impl IntoIterator<Item = Waiting>) {
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
            let Some(message) = message.unless_ordered(&self.orders) else { continue };
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
        let message = outbox.compose();
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
    /// The message, unless it is an order that goes through a FIFO.
    fn unless_ordered(self, orders: &Orders) -> Option<Self> {
        match self.command {
            Command::Spawn(order) => {
                let order = orders.send(order).err()?;
                Some(Self { command: Command::Spawn(order), ..self })
            }
            _ => Some(self),
        }
    }

    fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd).collect()
    }
}

impl Outbox {
    /// Takes the next message off: one command, or as many kits, or starts from one template, as may travel together.
    fn compose(&mut self) -> Option<Message> {
        match self.waiting.pop_front()? {
            Waiting::Said(Said::Command(command)) => Some(Message { command, descriptors: Vec::new() }),
            Waiting::Said(Said::Start { template, start }) => {
                let starts = self.starts(template, start);
                Some(Message { command: Command::Spawn(Order { template, starts }), descriptors: Vec::new() })
            }
            Waiting::Kit(half) => Some(self.kits(half)),
        }
    }

    fn kits(&mut self, first: Half) -> Message {
        let mut halves = vec![first];
        while halves.len() < VECTOR_MAX {
            match self.waiting.pop_front() {
                Some(Waiting::Kit(half)) => halves.push(half),
                other => {
                    other.into_iter().for_each(|other| self.waiting.push_front(other));
                    break;
                }
            }
        }
        let first = self.next_sent;
        self.next_sent += halves.len() as u64;
        Message {
            command: Command::Kits { first },
            descriptors: halves.into_iter().flat_map(Half::descriptors).collect(),
        }
    }

    fn starts(&mut self, template: u64, first: Ordered) -> Vec<Ordered> {
        let mut bytes = encoded(&first.spec);
        let mut starts = vec![first];
        while starts.len() < VECTOR_MAX {
            match self.waiting.pop_front() {
                Some(Waiting::Said(Said::Start { template: of, start }))
                    if of == template && bytes + encoded(&start.spec) <= MESSAGE_MAX =>
                {
                    bytes += encoded(&start.spec);
                    starts.push(start);
                }
                other => {
                    other.into_iter().for_each(|other| self.waiting.push_front(other));
                    break;
                }
            }
        }
        starts
    }
}

/// An upper bound of what a start takes in a message.
fn encoded(start: &StartSpec) -> usize {
    let texts = start.code.as_ref().map_or(0, |code| code.folder.as_os_str().len() + code.config.len());
    texts + START_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::spec::{Code, EngineClass, Limits};
    use worker::client::Server;

    const BODY_MAX: usize = 4096;

    fn start(template: u64, instance: u64, config: usize) -> Said {
        let code = Some(Code { folder: "/code".into(), layers: None, config: "x".repeat(config) });
        let spec =
            StartSpec { instance, code, limits: Limits::for_memory(128, 512), class: EngineClass::Short, apart: None };
        Said::Start { template, start: Ordered { kit: instance, spec } }
    }

    fn outbox() -> Outbox {
        Outbox { waiting: VecDeque::new(), next_made: 1, next_sent: 1, sending: false, stuck: None }
    }

    fn sizes(said: Vec<Said>) -> Vec<usize> {
        let mut outbox = outbox();
        outbox.waiting.extend(said.into_iter().map(Waiting::Said));
        let messages = std::iter::from_fn(|| outbox.compose());
        let sizes = messages.map(|message| match message.command {
            Command::Spawn(Order { starts, .. }) => starts.len(),
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

    /// The numbers of a message's kits.
    async fn kits_heard(server: &Server) -> std::ops::Range<u64> {
        let (command, descriptors) = server.hear().await.unwrap();
        let Command::Kits { first } = command else { panic!("{command:?}") };
        first..first + (descriptors.len() / worker::protocol::DESCRIPTORS_PER_KIT) as u64
    }

    #[tokio::test]
    async fn a_stock_of_kits_is_kept_and_the_worker_has_their_halves() {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let (link, server) = (Link::new(ours, BODY_MAX).unwrap(), Server::new(theirs).unwrap());
        // Nothing is there yet: one is made at once.
        assert_eq!(link.kit().unwrap().number, 1);
        assert_eq!(kits_heard(&server).await, 1..2);
        let stocking = tokio::spawn({
            let link = link.clone();
            async move { link.stock_up().await }
        });
        let (mut heard, mut taken) = (2, Vec::new());
        while heard < 18 {
            let kits = kits_heard(&server).await;
            assert_eq!(kits.start, heard, "in turn");
            heard = kits.end;
        }
        for _ in 0..16 {
            taken.push(link.kit().unwrap().number);
        }
        assert_eq!(taken, (2..18).collect::<Vec<_>>());
        while heard < 34 {
            heard = kits_heard(&server).await.end;
        }
        assert_eq!(heard, 34, "as many again, and no more");
        stocking.abort();
    }

    #[tokio::test]
    async fn what_does_not_fit_is_sent_later_and_in_order() {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let (link, server) = (Link::new(ours, BODY_MAX).unwrap(), Server::new(theirs).unwrap());
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
        let link = Link::new(ours, BODY_MAX).unwrap();
        drop(theirs);
        link.tell(Said::Command(Command::Retire { instance: 1 }));
        assert!(link.hear().await.is_none());
    }
}
