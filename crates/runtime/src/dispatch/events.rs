//! What the worker says, and what follows.

use super::link::Link;
use super::node::{Purpose, Worker};
use super::shared::Departure;
use super::ticket::Grant;
use super::{Dispatcher, link::Said};
use crate::templates::Seat;
use sandbox::spec::{Kind, Network};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use worker::protocol::{Command, Event};

/// A template's report: see `lang/README.md`. What is missing counts as fine.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct TemplateReport {
    forkable: Option<bool>,
    reason: Option<String>,
    error: Option<serde_json::Value>,
}

impl TemplateReport {
    /// Why children of the template would not be sound.
    fn objection(report: &str) -> Option<String> {
        let report: Self = match serde_json::from_str(report) {
            Ok(report) => report,
            Err(error) => return Some(format!("its report makes no sense: {error}")),
        };
        let error = report.error.filter(|error| !error.is_null()).map(|error| match error.get("errorMessage") {
            Some(serde_json::Value::String(message)) => message.clone(),
            _ => error.to_string(),
        });
        let unforkable = report.forkable == Some(false);
        error.or_else(|| unforkable.then(|| report.reason.unwrap_or_else(|| "it cannot be forked".into())))
    }
}

/// Hears a worker until it is gone.
pub(super) async fn listen(node: Weak<Dispatcher>, link: Arc<Link>) {
    let hearing = async {
        while let Some((event, descriptors)) = link.hear().await {
            let Some(node) = node.upgrade() else { return };
            node.heard(&link, event, descriptors);
        }
    };
    tokio::select! {
        () = hearing => {}
        () = link.relieve() => {}
    }
    if let Some(node) = node.upgrade() {
        node.lose(&link);
    }
}

impl Dispatcher {
    /// Connects to a worker in place of the one before.
    pub(super) fn attach(self: &Arc<Self>, link: Arc<Link>) {
        let worker = Worker { link: link.clone(), ready: false, languages: Vec::new(), missing: Vec::new() };
        let lost = {
            let mut state = self.state();
            let lost = state.lose_worker(os::monotonic_ns());
            state.worker = Some(worker);
            lost
        };
        drop(lost);
        self.runtime.spawn(listen(Arc::downgrade(self), link));
    }

    fn lose(self: &Arc<Self>, link: &Arc<Link>) {
        let lost = {
            let mut state = self.state();
            if !state.worker.as_ref().is_some_and(|worker| Arc::ptr_eq(&worker.link, link)) {
                return;
            }
            tracing::error!("the worker is gone: its instances are lost");
            state.lose_worker(os::monotonic_ns())
        };
        drop(lost);
    }

    fn heard(self: &Arc<Self>, link: &Arc<Link>, event: Event, mut descriptors: Vec<OwnedFd>) {
        let now = os::monotonic_ns();
        let mut state = self.state();
        let Some(worker) = state.worker.as_mut().filter(|worker| Arc::ptr_eq(&worker.link, link)) else { return };
        let mut departed = None;
        match event {
            Event::Hello { languages, missing } => {
                missing
                    .iter()
                    .for_each(|missing| tracing::warn!("the worker cannot enforce everything here: {missing}"));
                for kind in [Kind::Python, Kind::Node, Kind::Provided] {
                    if let Some((_, version)) = languages.iter().find(|(known, _)| *known == kind) {
                        state.templates.want(Seat::Generic(kind, *version, Network::None), kind, now, false);
                    }
                }
                if let Some(worker) = &mut state.worker {
                    (worker.ready, worker.languages, worker.missing) = (true, languages, missing);
                }
                // Functions that were there before the worker.
                let functions: Vec<_> =
                    state.posts.all().filter(|post| post.deployed).map(|post| post.function.clone()).collect();
                functions.iter().for_each(|function| state.want_generic(function, now));
            }
            Event::Prepared { template, report, prepare_us } => match TemplateReport::objection(&report) {
                None => drop(state.templates.prepared(template, prepare_us, now)),
                Some(reason) => {
                    tracing::info!(template, reason, "instances load their function themselves");
                    worker.link.tell(Said::Command(Command::Discard { template }));
                    state.templates.refused(template, reason);
                }
            },
            Event::NotPrepared { template, reason, lasting } => {
                tracing::warn!(template, reason, lasting, "a template could not be prepared");
                match lasting {
                    true => state.templates.refused(template, reason),
                    false => state.templates.failed(template, reason, now),
                };
            }
            Event::TemplateEnded { template } => {
                tracing::warn!(template, "a template has ended");
                state.templates.ended(template, now);
            }
            Event::Spawned { instance } => {
                let shared = state.instances.get(&instance);
                if shared.is_some_and(|shared| shared.spawned(descriptors.pop())) {
                    link.tell(Said::Command(Command::Retire { instance }));
                }
                return;
            }
            Event::NotSpawned { instance, reason } => {
                tracing::warn!(instance, reason, "an instance could not be started");
                departed = state.depart(instance, Departure::NotSpawned { reason });
            }
            Event::Ended { instance, end, memory_peak } => {
                departed = state.depart(instance, Departure::Ended { end, memory_peak });
            }
        }
        let (granted, hopeless) = (state.pump(now), state.hopeless(now));
        drop(state);
        drop(departed);
        self.deliver(granted);
        for (waiter, reason) in hopeless {
            // Whoever waited may have given up meanwhile.
            let _ = waiter.send(Grant::Never { reason });
        }
        self.upkeep_soon();
    }

    /// Waits until an instance that was started ahead of time has loaded its function.
    pub(super) async fn raise_stem(self: Arc<Self>, ticket: super::ticket::Ticket, mut instance: Box<super::Instance>) {
        debug_assert_eq!(ticket.permit().purpose, Purpose::Stem);
        instance.set_deadline(os::monotonic_ns() + self.config.init_timeout().as_nanos() as u64);
        let event = instance.next().await;
        instance.clear_deadline();
        // What it prints while it loads belongs to no invocation, and to its log all the same.
        let printed = instance.journal.drain().await;
        if matches!(event, super::instance::Event::Ready) && printed.is_ok() {
            return ticket.into_stem(instance);
        }
        tracing::info!(?event, "an instance that was started ahead of time is of no use");
        let after = os::monotonic_ns() + super::upkeep::STEM_PAUSE;
        self.state().posts.get_mut(instance.shared.post).into_iter().for_each(|post| post.stems_after = after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_for_objections() {
        let objection = |report| TemplateReport::objection(report);
        assert_eq!(objection(r#"{"forkable": true, "reason": null, "init_us": 1234, "error": null}"#), None);
        assert_eq!(objection("{}"), None);
        assert_eq!(objection(r#"{"forkable": false, "reason": "3 threads"}"#).unwrap(), "3 threads");
        assert_eq!(objection(r#"{"forkable": false}"#).unwrap(), "it cannot be forked");
        let error = r#"{"forkable": true, "error": {"errorType": "E", "errorMessage": "no module"}}"#;
        assert_eq!(objection(error).unwrap(), "no module");
        assert!(objection("nonsense").unwrap().starts_with("its report makes no sense"));
    }
}
