//! What is done in the background: ending what is idle for too long, preparing templates, and keeping stems, slots and
//! each function's minimum of instances ready.
//!
//! It sleeps until time or an event gives it something to do; an idle node has no timer.

use super::Dispatcher;
use super::config::DispatchConfig;
use super::instance::Instance;
use super::link::{Link, Said};
use super::node::{Permit, Purpose, State};
use super::post::Post;
use super::spec;
use super::ticket::Ticket;
use crate::function::Isolation;
use crate::templates::{Activity, Phase, Seat, Step};
use crate::{keepalive, scaling};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use worker::protocol::Command;

/// Events that come together are answered together, and not in the way of what caused them.
const GATHER: Duration = Duration::from_millis(5);
/// No stem of a function is started so soon after one that could not be loaded.
pub(super) const STEM_PAUSE: u64 = 10_000_000_000;

/// What one round has found to do.
#[derive(Default)]
pub(super) struct Chores {
    ended: Vec<Instance>,
    commands: Vec<(Arc<Link>, Command)>,
    stems: Vec<Permit>,
}

/// Runs for as long as the node.
pub(super) async fn run(node: Weak<Dispatcher>, wake: Arc<Notify>) {
    loop {
        let Some(due) = node.upgrade().map(|node| node.upkeep()) else { return };
        let rest = Duration::from_nanos(due.saturating_sub(os::monotonic_ns()));
        tokio::select! {
            () = wake.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(rest), if due < u64::MAX => {}
        }
    }
}

impl Dispatcher {
    /// One round. Answers when time alone will make the next one worth while.
    fn upkeep(self: &Arc<Self>) -> u64 {
        let now = os::monotonic_ns();
        let (chores, due) = {
            let mut state = self.state();
            let chores = state.chores(&self.config, now);
            let due = state.due(&self.config, now);
            state.upkeep_at = due;
            (chores, due)
        };
        drop(chores.ended);
        for (link, command) in chores.commands {
            link.tell(Said::Command(command));
        }
        for permit in chores.stems {
            let mut ticket = Ticket::new(self.clone(), permit);
            match self.start(&mut ticket, None) {
                Ok(instance) => drop(self.runtime.spawn(self.clone().raise_stem(ticket, instance))),
                Err(error) => tracing::warn!(%error, "an instance could not be started ahead of time"),
            }
        }
        due
    }
}

impl State {
    fn chores(&mut self, config: &DispatchConfig, now: u64) -> Chores {
        let mut chores = Chores::default();
        self.end_the_unused(config, now, &mut chores);
        for number in 0..self.pus.len() as u8 {
            let Some(link) = self.pu(number).ready().map(|worker| worker.link.clone()) else { continue };
            let mut commands = self.prepare_templates(number, config, now, &mut chores.ended);
            let slots = self.pu(number).templates.reserve(now).into_iter();
            commands.extend(slots.map(|(template, slots)| Command::Reserve { template, slots }));
            chores.commands.extend(commands.into_iter().map(|command| (link.clone(), command)));
        }
        self.start_stems(config, now, &mut chores);
        self.posts.rest(|post| post.has_nothing(config, now));
        chores
    }

    fn end_the_unused(&mut self, config: &DispatchConfig, now: u64, chores: &mut Chores) {
        let keep = config.keep_alive().as_nanos() as u64;
        let mut gone = Vec::new();
        for id in self.posts.awake_ids() {
            let Some(post) = self.posts.get_mut(id) else { continue };
            if post.closed {
                chores.ended.extend(post.pool.clear().map(|instance| *instance));
            }
            let spare = post.live().saturating_sub(post.function.min_warm as usize);
            let due = keepalive::due(post.pool.idle_since(), now, keep, spare);
            chores.ended.extend((0..due).filter_map(|_| post.pool.retire_idle().map(|instance| *instance)));
            let spare = post.live().saturating_sub(post.function.min_warm as usize);
            let surplus = post.pool.stems().saturating_sub(post.stems_wanted(config, now) as usize).min(spare);
            chores.ended.extend((0..surplus).filter_map(|_| post.pool.retire_stem().map(|instance| *instance)));
            let unused = post.used.is_none_or(|used| now.saturating_sub(used) >= keep);
            if post.is_empty() && (post.closed || (!post.deployed && unused)) {
                gone.push(id);
            }
        }
        for id in gone {
            for (number, template) in self.remove_post(id) {
                let link = self.pu(number).ready().map(|worker| worker.link.clone());
                chores.commands.extend(link.map(|link| (link, Command::Discard { template })));
            }
        }
        chores.ended.extend(self.surplus(config.instances as usize));
    }

    fn prepare_templates(
        &mut self,
        number: u8,
        config: &DispatchConfig,
        now: u64,
        ended: &mut Vec<Instance>,
    ) -> Vec<Command> {
        let budget = self.pu(number).budget_mib(config).saturating_sub(self.stems_mib(number));
        let (posts, pu) = (&self.posts, &mut self.pus[usize::from(number)]);
        let activity = |post: u64| posts.get(post).map_or_else(Activity::default, Post::activity);
        let steps: Vec<Step> = std::iter::from_fn(|| pu.templates.next(now, budget, activity)).collect();
        let mut commands = Vec::new();
        for step in steps {
            commands.push(match step {
                Step::Prepare { id: template, seat } => match self.template_spec(number, seat, config) {
                    Some(spec) => Command::Prepare { template, spec },
                    None => {
                        self.pu(number).templates.forget(seat);
                        continue;
                    }
                },
                Step::Discard { id: template, seat } => {
                    // What came from it ends with it.
                    if let Seat::Dedicated(post) = seat
                        && let Some(post) = self.posts.get_mut(post)
                    {
                        let here = post.pool.clear_where(|instance| instance.shared.terms.pu == number);
                        ended.extend(here.into_iter().map(|instance| *instance));
                    }
                    Command::Discard { template }
                }
            });
        }
        commands
    }

    fn template_spec(&self, number: u8, seat: Seat, config: &DispatchConfig) -> Option<sandbox::spec::TemplateSpec> {
        match seat {
            Seat::Generic(kind, version, network) => Some(spec::generic((kind, version), network, config)),
            Seat::Dedicated(post) => {
                let post = self.posts.get(post)?;
                let terms = post.places.iter().find(|place| place.terms.pu == number)?.terms;
                let version = self.pus[usize::from(number)].worker.as_ref()?.language_for(&post.function);
                Some(spec::dedicated(&post.function_on(terms), version, &post.stream, config))
            }
        }
    }

    /// MiB that all stems on a PU together are taken to occupy; those that are being started count where they belong.
    fn stems_mib(&self, number: u8) -> u64 {
        let stems = |id: u64, post: &Post| {
            let waiting = post.pool.stem_ones().filter(|stem| stem.shared.terms.pu == number).count() as u64;
            waiting + if self.home(id) == Some(number) { u64::from(post.stemming) } else { 0 }
        };
        self.posts.awake().map(|(id, post)| stems(id, post) * scaling::stem_mib(post.function.kind)).sum()
    }

    fn start_stems(&mut self, config: &DispatchConfig, now: u64, chores: &mut Chores) {
        let numbers = 0..self.pus.len() as u8;
        let room = |number: u8| {
            let pu = &self.pus[usize::from(number)];
            pu.budget_mib(config).saturating_sub(self.stems_mib(number) + pu.templates.occupied_mib())
        };
        let mut rooms: Vec<u64> = numbers.map(room).collect();
        for id in self.posts.awake_ids() {
            let Some(home) = self.home(id).filter(|home| self.pus[usize::from(*home)].ready().is_some()) else {
                continue;
            };
            let Some(post) = self.posts.get(id).filter(|post| !post.closed && post.stems_after <= now) else {
                continue;
            };
            let mib = scaling::stem_mib(post.function.kind);
            let present = post.pool.stems() as u32 + post.stemming;
            // Those that have to be there whatever the load wait for a template of their own, but not in vain.
            let (wanted, required) = match self.pus[usize::from(home)].templates.phase(Seat::Dedicated(id)) {
                Some(Phase::Ready { .. }) => (post.stems_wanted(config, now).saturating_sub(present), post.missing()),
                Some(Phase::Waiting { .. } | Phase::Preparing { .. }) => (0, 0),
                Some(Phase::Refused { .. }) | None => (0, post.missing()),
            };
            let affordable = (rooms[usize::from(home)] / mib).min(u64::from(wanted)) as u32;
            for _ in 0..affordable.max(required) {
                // Requests that wait come first.
                if self.is_behind() || self.draining {
                    return;
                }
                let Some(permit) = self.permit(id, Purpose::Stem, now) else { break };
                let room = &mut rooms[usize::from(permit.shared.terms.pu)];
                *room = room.saturating_sub(mib);
                chores.stems.push(permit);
            }
        }
    }

    /// When time alone will next give something to do; for ever later where it will not.
    fn due(&self, config: &DispatchConfig, now: u64) -> u64 {
        let keep = config.keep_alive().as_nanos() as u64;
        let posts = self.posts.awake().flat_map(|(_, post)| {
            let can_lose = post.live() > post.function.min_warm as usize;
            let idle = post.pool.oldest_idle().filter(|_| can_lose).map(|since| since + keep);
            let stems = (post.pool.stems() > 0 && can_lose).then(|| post.demand.fades(now)).flatten();
            let used = post.used.filter(|_| post.pool.stems() > 0 || !post.deployed).map(|used| used + keep);
            let again = Some(post.stems_after).filter(|after| *after > now);
            [idle, stems, used, again].into_iter().flatten()
        });
        // What is overdue now waits for something else to happen: an instance that must stay, a request in the queue.
        let templates = self.pus.iter().filter_map(|pu| pu.templates.due(now));
        posts.chain(templates).filter(|due| *due > now).min().unwrap_or(u64::MAX)
    }
}

impl Post {
    fn activity(&self) -> Activity {
        let running = self.pool.busy() + self.starting + self.stemming > 0;
        Activity { needed: running || self.function.min_warm > 0, last_used: self.used.unwrap_or(0) }
    }

    /// Whether time alone gives nothing to do for it.
    fn has_nothing(&self, config: &DispatchConfig, now: u64) -> bool {
        let stays = self.deployed && !self.closed && self.function.min_warm == 0;
        stays && self.is_empty() && self.stems_after <= now && self.stems_wanted(config, now) == 0
    }

    /// How many stems there should be.
    fn stems_wanted(&self, config: &DispatchConfig, now: u64) -> u32 {
        // Attaching to an engine takes no time that would be worth a channel kept ready, but where it makes a choice.
        if self.function.kind.is_pure() {
            return u32::from(self.wants_choice(now));
        }
        let keep = config.keep_alive().as_nanos() as u64;
        let isolation = self.function.isolation;
        let at_hand = self.pool.idle() + self.pool.busy() as usize;
        let stems = scaling::stems(&self.demand, now, self.used, keep, at_hand, isolation).min(config.stems);
        match isolation {
            Isolation::Request => stems.max(self.function.min_warm),
            Isolation::Instance => stems,
        }
    }

    /// How many instances are missing from those that must be there whatever the load.
    fn missing(&self) -> u32 {
        self.function.min_warm.saturating_sub(self.live() as u32)
    }
}
