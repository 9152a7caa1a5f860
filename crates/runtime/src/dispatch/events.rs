//! What the worker says, and what follows.

use super::link::Link;
use super::node::{Purpose, State};
use super::orders::{self, Attachment};
use super::post::Post;
use super::pu::Worker;
use super::shared::Departure;
use super::ticket::Grant;
use super::{Dispatcher, link::Said};
use crate::templates::Seat;
use daemon::pu::Tier;
use sandbox::spec::{Kind, Network, Version};
use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard, Weak};
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

/// The instance that an event is of; 0 where it is of none.
fn instance_of(event: &Event) -> u64 {
    match event {
        Event::Spawned { instance } | Event::NotSpawned { instance, .. } | Event::Ended { instance, .. } => *instance,
        _ => 0,
    }
}

/// Hears a PU's worker until it is gone.
pub(super) async fn listen(node: Weak<Dispatcher>, pu: u8, link: Arc<Link>, attachment: Option<Arc<Attachment>>) {
    let hearing = async {
        while let Some((event, descriptors)) = link.hear().await {
            let Some(node) = node.upgrade() else { return };
            node.heard(pu, &link, event, descriptors);
        }
    };
    tokio::select! {
        () = hearing => {}
        () = link.relieve() => {}
        () = link.stock_up() => {}
        () = orders::attend(&link, attachment.as_deref()) => {}
    }
    if let Some(node) = node.upgrade() {
        node.lose(pu, &link);
    }
}

impl State {
    /// A worker says what it runs, and what it cannot enforce.
    fn greeted(&mut self, number: u8, languages: Vec<(Kind, Version)>, missing: Vec<String>, now: u64) {
        let pu = self.pu(number);
        let name = pu.spec.name.as_str();
        let tell = |missing| tracing::warn!(pu = name, "the worker cannot enforce everything here: {missing}");
        missing.iter().for_each(tell);
        for kind in [Kind::Python, Kind::Node, Kind::Provided] {
            if let Some((_, version)) = languages.iter().find(|(known, _)| *known == kind) {
                pu.templates.want(Seat::Generic(kind, *version, Network::None), kind, now, false);
            }
        }
        if let Some(worker) = &mut pu.worker {
            (worker.ready, worker.languages, worker.missing) = (true, languages, missing);
        }
        // Functions that were there before the worker.
        let here = |post: &&Post| post.deployed && post.places.iter().any(|place| place.terms.pu == number);
        let functions: Vec<_> = self.posts.all().filter(here).map(|post| post.function.clone()).collect();
        functions.iter().for_each(|function| self.pu(number).want_generic(function, now, false));
    }
}

impl State {
    /// An instance runs; one that was retired meanwhile is ended now.
    fn spawned(&self, instance: u64, link: &Link, memory: Option<OwnedFd>) {
        if self.instances.get(&instance).is_some_and(|shared| shared.spawned(memory)) {
            link.tell(Said::Command(Command::Retire { instance }));
        }
    }
}

impl Dispatcher {
    /// Connects to a PU's worker in place of the one before.
    pub(super) fn attach(self: &Arc<Self>, pu: u8, link: Arc<Link>) {
        let worker = Worker { link: link.clone(), ready: false, languages: Vec::new(), missing: Vec::new() };
        let (lost, tier) = {
            let mut state = self.state();
            let lost = state.lose_worker(pu, os::monotonic_ns());
            state.pu(pu).worker = Some(worker);
            (lost, state.pu(pu).spec.tier)
        };
        drop(lost);
        let attachment = self.attachment.get().filter(|_| tier != Tier::Remote).cloned();
        self.runtime.spawn(listen(Arc::downgrade(self), pu, link, attachment));
    }

    fn lose(self: &Arc<Self>, pu: u8, link: &Arc<Link>) {
        let now = os::monotonic_ns();
        let (lost, granted) = {
            let mut state = self.state();
            if !state.pu(pu).worker.as_ref().is_some_and(|worker| Arc::ptr_eq(&worker.link, link)) {
                return;
            }
            tracing::error!(pu = state.pu(pu).spec.name, "the worker is gone: its instances are lost");
            // What waits may be served elsewhere.
            (state.lose_worker(pu, now), state.pump(now))
        };
        drop(lost);
        drop(self.sets.remove_departed());
        self.deliver(granted);
        self.upkeep_soon();
    }

    fn heard(self: &Arc<Self>, number: u8, link: &Arc<Link>, event: Event, descriptors: Vec<OwnedFd>) {
        if let Event::Checked { check, refusal } = event {
            return self.checked(check, refusal);
        }
        let mut state = self.state();
        let pu = state.pu(number);
        if !pu.worker.as_ref().is_some_and(|worker| Arc::ptr_eq(&worker.link, link)) {
            return;
        }
        match event {
            Event::OrdersOpen { life, fifo } => return link.orders.opened(life, fifo),
            Event::OrdersClosed { life, taken } => {
                drop(state);
                return link.orders_closed(life, taken);
            }
            _ => {}
        }
        // A worker has news of its own instances only.
        let of_instance = instance_of(&event);
        if of_instance > 0 {
            link.orders.heard_of(of_instance);
        }
        if state.instances.get(&of_instance).is_some_and(|shared| shared.terms.pu != number) {
            tracing::warn!(pu = number, instance = of_instance, "a worker has news of another's instance");
            return;
        }
        self.learn(state, number, link, event, descriptors);
    }

    /// Has a worker's news known, and does what follows.
    fn learn(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        number: u8,
        link: &Link,
        event: Event,
        mut descriptors: Vec<OwnedFd>,
    ) {
        let now = os::monotonic_ns();
        let pu = state.pu(number);
        let mut departed = None;
        let mut buried = None;
        match event {
            Event::Hello { languages, missing } => state.greeted(number, languages, missing, now),
            Event::Prepared { template, report, prepare_us } => match TemplateReport::objection(&report) {
                None => drop(pu.templates.prepared(template, prepare_us, now)),
                Some(reason) => {
                    tracing::info!(template, reason, "instances load their function themselves");
                    link.tell(Said::Command(Command::Discard { template }));
                    pu.templates.refused(template, reason);
                }
            },
            Event::NotPrepared { template, reason, lasting } => {
                tracing::warn!(pu = number, template, reason, lasting, "a template could not be prepared");
                match lasting {
                    true => pu.templates.refused(template, reason),
                    false => pu.templates.failed(template, reason, now),
                };
            }
            Event::TemplateEnded { template } => {
                tracing::warn!(pu = number, template, "a template has ended");
                pu.templates.ended(template, now);
            }
            // Of the way to the worker, not of what it runs.
            Event::OrdersOpen { .. } | Event::OrdersClosed { .. } => return,
            Event::Spawned { instance } => return state.spawned(instance, link, descriptors.pop()),
            Event::NotSpawned { instance, reason } => {
                tracing::warn!(instance, reason, "an instance could not be started");
                departed = state.depart(instance, Departure::NotSpawned { reason });
            }
            Event::Checked { .. } => {}
            Event::Ended { instance, end, memory_peak } => {
                buried = Some(instance);
                departed = state.depart(instance, Departure::Ended { end, memory_peak });
            }
        }
        let (granted, hopeless) = (state.pump(now), state.hopeless());
        drop(state);
        drop(departed);
        buried.into_iter().for_each(|instance| self.bury_set(instance));
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
