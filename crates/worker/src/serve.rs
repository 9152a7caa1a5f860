//! The worker's loop: commands in, events out.
//!
//! One thread. A command starts a task; tasks wait for sandboxes, never for each other, so a template that does not answer
//! delays nobody else's.

use crate::protocol::{Command, DESCRIPTORS_PER_START, Event};
use crate::{Server, TalkError};
use interconnect::channel::Descriptors;
use sandbox::spec::StartSpec;
use sandbox::{Backend, Instance, Start, Template};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tokio::sync::oneshot;

struct Worker {
    backend: Arc<dyn Backend>,
    server: Server,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    templates: HashMap<u64, Arc<dyn Template>>,
    /// How to end each instance.
    instances: HashMap<u64, oneshot::Sender<()>>,
}

/// Serves until the control plane is gone; then ends every sandbox.
pub async fn serve(backend: Arc<dyn Backend>, server: Server) -> Result<(), TalkError> {
    let worker = Arc::new(Worker { backend, server, state: Mutex::default() });
    let hello =
        Event::Hello { languages: worker.backend.languages().to_vec(), missing: worker.backend.missing().to_vec() };
    worker.server.say(&hello, &[]).await?;
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
            Command::Spawn { template, starts } => drop(tokio::spawn(self.spawn(template, starts, descriptors))),
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

    async fn spawn(self: Arc<Self>, template: u64, specs: Vec<StartSpec>, descriptors: Vec<OwnedFd>) {
        let ids: Vec<u64> = specs.iter().map(|spec| spec.instance).collect();
        let template = self.state().templates.get(&template).cloned();
        let starts = starts(specs, descriptors);
        let (Some(template), Some(starts)) = (template, starts) else {
            for instance in ids {
                self.say(Event::NotSpawned { instance, reason: "there is no such template".to_owned() }).await;
            }
            return;
        };
        for (instance, result) in ids.into_iter().zip(template.spawn(starts).await) {
            match result {
                Ok(running) => self.clone().watch(instance, running).await,
                Err(error) => self.say(Event::NotSpawned { instance, reason: with_causes(&error) }).await,
            }
        }
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

/// Gives each start its descriptors; nothing where the numbers do not match.
fn starts(specs: Vec<StartSpec>, descriptors: Vec<OwnedFd>) -> Option<Vec<Start>> {
    if descriptors.len() != specs.len() * DESCRIPTORS_PER_START {
        return None;
    }
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next();
    specs
        .into_iter()
        .map(|spec| {
            let channel = Descriptors { region: next()?, down: next()?, up: next()? };
            Some(Start { spec, channel, log: next()? })
        })
        .collect()
}

/// An error with what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Sends the descriptors of a start, in the order in which [`Command::Spawn`] has them.
pub fn descriptors_of<'a>(channel: &'a Descriptors, log: &'a OwnedFd) -> [std::os::fd::BorrowedFd<'a>; 4] {
    [channel.region.as_fd(), channel.down.as_fd(), channel.up.as_fd(), log.as_fd()]
}
