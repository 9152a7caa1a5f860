//! The worker's loop: commands in, events out.
//!
//! One thread. A command starts a task; tasks wait for sandboxes, never for each other, so a template that does not answer
//! delays nobody else's.

use crate::kits::{KEPT_MAX, Kit, NoKit, Stock};
use crate::orders::Desk;
use crate::protocol::{Command, Event, Order, Ordered};
use crate::{Server, TalkError};
use sandbox::spec::{Code, Kind};
use sandbox::{Backend, Instance, Start, Template};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tokio::sync::oneshot;
use xpucall::id::XpuPid;

struct Worker {
    backend: Arc<dyn Backend>,
    server: Server,
    /// Where the shim of this PU listens, if orders may come through it.
    shim: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    templates: HashMap<u64, Arc<dyn Template>>,
    /// How to end each instance.
    instances: HashMap<u64, oneshot::Sender<()>>,
    stock: Stock,
    /// Orders that have overtaken a kit of theirs.
    early: Vec<Order>,
    /// The life of the FIFO that orders come through, and what closes it.
    desk: Option<(u32, oneshot::Sender<()>)>,
}

/// Serves until the control plane is gone; then ends every sandbox. Orders come through FIFOs of the shim that listens at
/// `shim`, where there is one.
pub async fn serve(backend: Arc<dyn Backend>, server: Server, shim: Option<PathBuf>) -> Result<(), TalkError> {
    let worker = Arc::new(Worker { backend, server, shim, state: Mutex::default() });
    let hello =
        Event::Hello { languages: worker.backend.languages().to_vec(), missing: worker.backend.missing().to_vec() };
    match worker.server.say(&hello, &[]).await {
        // It has ended before it was any use: nothing is wrong here.
        Err(TalkError::Gone) => return Ok(()),
        said => said?,
    }
    let result = loop {
        match worker.server.hear().await {
            Ok((command, descriptors)) => worker.clone().obey(command, descriptors),
            Err(TalkError::Gone) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    worker.state().templates.drain().for_each(|(_, template)| template.discard());
    result
}

impl Worker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Says what became of something. A control plane that is gone needs no answer: the loop ends by itself.
    async fn say(&self, event: Event) {
        let _ = self.server.say(&event, &[]).await;
    }

    fn obey(self: Arc<Self>, command: Command, descriptors: Vec<OwnedFd>) {
        match command {
            Command::Prepare { template, spec } => drop(tokio::spawn(self.prepare(template, spec))),
            Command::Reserve { template, slots } => {
                let template = self.state().templates.get(&template).cloned();
                if let Some(template) = template {
                    template.reserve(slots.min(64) as usize);
                }
            }
            Command::Discard { template } => {
                let template = self.state().templates.remove(&template);
                if let Some(template) = template {
                    template.discard();
                }
            }
            Command::Kits { first } => self.keep(first, descriptors),
            Command::Spawn(order) => self.order(order),
            Command::OpenOrders { life, caller } => {
                let (close, closed) = oneshot::channel();
                // What was open before closes as its sender is dropped.
                self.state().desk = Some((life, close));
                tokio::spawn(self.take_orders(life, caller, closed));
            }
            Command::CloseOrders { life } => drop(self.state().desk.take_if(|(open, _)| *open == life)),
            Command::Check { check, kind, code } => drop(tokio::spawn(self.check(check, kind, code))),
            Command::Release { run, items } => self.backend.release(run, items.as_deref()),
            Command::Retire { instance } => {
                let end = self.state().instances.remove(&instance);
                if let Some(end) = end {
                    let _ = end.send(());
                }
            }
        }
    }

    async fn prepare(self: Arc<Self>, id: u64, spec: sandbox::spec::TemplateSpec) {
        let begun = Instant::now();
        match self.backend.prepare(spec).await {
            Ok(template) => {
                let report = template.report().to_owned();
                self.state().templates.insert(id, template.clone());
                let prepare_us = begun.elapsed().as_micros() as u64;
                self.say(Event::Prepared { template: id, report, prepare_us }).await;
                template.ended().await;
                self.state().templates.remove(&id);
                self.say(Event::TemplateEnded { template: id }).await;
            }
            Err(error) => {
                let (reason, lasting) = (with_causes(&error), error.is_lasting());
                tracing::info!(template = id, reason, "template not prepared");
                self.say(Event::NotPrepared { template: id, reason, lasting }).await;
            }
        }
    }

    async fn check(self: Arc<Self>, check: u64, kind: Kind, code: Code) {
        let refusal = match self.backend.check(kind, code).await {
            Ok(()) => None,
            Err(error) => {
                tracing::info!(check, %error, "code was looked at, and is not in order");
                error.is_lasting().then(|| with_causes(&error))
            }
        };
        self.say(Event::Checked { check, refusal }).await;
    }

    /// Takes orders through a FIFO until that, or what they come from, is no more.
    async fn take_orders(self: Arc<Self>, life: u32, caller: XpuPid, mut close: oneshot::Receiver<()>) {
        let desk = match &self.shim {
            Some(shim) => Desk::open(shim, caller).await.map_err(|error| with_causes(&error)),
            None => Err("this worker was told of no shim".to_owned()),
        };
        let mut desk = match desk {
            Ok(desk) => desk,
            Err(reason) => {
                tracing::info!(reason, "orders come over the socket");
                return self.say(Event::OrdersClosed { life, taken: 0 }).await;
            }
        };
        if let Some(fifo) = desk.fifo() {
            self.say(Event::OrdersOpen { life, fifo }).await;
        }
        loop {
            tokio::select! {
                biased;
                order = desk.next() => match order {
                    Some(order) => self.clone().order(order),
                    None => break,
                },
                _ = &mut close => {
                    while let Some(order) = desk.left() {
                        self.clone().order(order);
                    }
                    break;
                }
            }
        }
        self.say(Event::OrdersClosed { life, taken: desk.taken() }).await;
    }

    /// Kits have come; and what has waited for them goes on.
    fn keep(self: Arc<Self>, first: u64, descriptors: Vec<OwnedFd>) {
        let early = {
            let mut state = self.state();
            if let Err(error) = state.stock.put(first, descriptors) {
                tracing::error!(%error, "kits cannot be kept");
            }
            std::mem::take(&mut state.early)
        };
        early.into_iter().for_each(|order| self.clone().order(order));
    }

    /// Starts instances, as soon as their kits are here.
    fn order(self: Arc<Self>, order: Order) {
        let mut state = self.state();
        let is_early = order.starts.iter().any(|start| !state.stock.has_come(start.kit));
        if is_early && state.early.len() < KEPT_MAX {
            return state.early.push(order);
        }
        let Order { template, starts } = order;
        let template = state.templates.get(&template).cloned();
        let starts = starts.into_iter().map(|Ordered { kit, spec }| {
            let instance = spec.instance;
            let start = state.stock.take(kit).map(|Kit { channel, log }| Start { spec, channel, log });
            (instance, start)
        });
        let starts: Vec<_> = starts.collect();
        drop(state);
        tokio::spawn(self.spawn(template, starts));
    }

    async fn spawn(self: Arc<Self>, template: Option<Arc<dyn Template>>, starts: Vec<(u64, Result<Start, NoKit>)>) {
        let (mut ids, mut ready) = (Vec::new(), Vec::new());
        for (instance, start) in starts {
            match (start, &template) {
                (Ok(start), Some(_)) => {
                    ids.push(instance);
                    ready.push(start);
                }
                (Ok(_), None) => self.refuse(instance, "there is no such template").await,
                (Err(missing), _) => self.refuse(instance, &missing.to_string()).await,
            }
        }
        let Some(template) = template.filter(|_| !ready.is_empty()) else { return };
        for (instance, result) in ids.into_iter().zip(template.spawn(ready).await) {
            match result {
                Ok(running) => self.clone().watch(instance, running).await,
                Err(error) => self.refuse(instance, &with_causes(&error)).await,
            }
        }
    }

    async fn refuse(&self, instance: u64, reason: &str) {
        self.say(Event::NotSpawned { instance, reason: reason.to_owned() }).await;
    }

    /// Tells of a new instance, and of its end.
    async fn watch(self: Arc<Self>, id: u64, mut running: Box<dyn Instance>) {
        let (end, ended) = oneshot::channel();
        self.state().instances.insert(id, end);
        let gauge: Vec<_> = running.memory_gauge().into_iter().collect();
        let _ = self.server.say(&Event::Spawned { instance: id }, &gauge).await;
        tokio::spawn(async move {
            tokio::select! {
                _ = running.ended() => {}
                _ = ended => running.kill(),
            }
            let end = running.ended().await;
            let usage = running.retire().await;
            self.state().instances.remove(&id);
            self.say(Event::Ended { instance: id, end, memory_peak: usage.memory_peak }).await;
        });
    }
}

/// An error with what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
