//! Where a post's instances are and can be: what [`crate::placement`] has to know of this node's PUs at a moment, and what
//! has to go where there are too many.

use super::instance::Instance;
use super::node::State;
use super::post::Post;
use super::pu::Source;
use crate::dispatch::StartKind;
use crate::function::Function;
use crate::placement::{self, Candidate, Choice, Place, Terms};
use crate::templates::Seat;
use api::pu::{Price, PuKind};

impl State {
    /// Where a function may run.
    pub fn places(&self, function: &Function) -> Vec<Place> {
        let pus: Vec<(PuKind, Price)> = self.pus.iter().map(|pu| (pu.spec.kind, pu.spec.price)).collect();
        let mut places = placement::places(&function.profiles, function.memory_mib, &pus);
        places.iter_mut().for_each(|place| place.terms.is_pure = function.kind.is_pure());
        places
    }

    /// Whether a worker is there that may run this function.
    pub fn is_up_for(&self, function: &Function) -> bool {
        self.places(function).iter().any(|place| self.pus[usize::from(place.terms.pu)].ready().is_some())
    }

    /// Asks for the templates that functions like this one are started from, wherever it may run.
    pub fn want_generic(&mut self, function: &Function, places: &[Place], now: u64, urgent: bool) {
        for place in places {
            self.pu(place.terms.pu).want_generic(function, now, urgent);
        }
    }

    /// What waits, unless another place is to be preferred, where one is started.
    pub fn take_where_preferred(&mut self, post_id: u64) -> Option<(Box<Instance>, StartKind)> {
        let choice = placement::choose(self.candidates(post_id, true))?;
        let pool = &mut self.posts.get_mut(post_id)?.pool;
        match choice {
            Choice::Warm(pu) => pool.take_idle(|instance| instance.shared.terms.pu == pu),
            Choice::Stem(pu) => pool.take_stem(|instance| instance.shared.terms.pu == pu),
            Choice::Start(_) => None,
        }
    }

    /// The places of a post at this moment; what waits there only if it is asked for.
    pub fn candidates(&self, post_id: u64, waiting: bool) -> impl Iterator<Item = Candidate> {
        let post = self.posts.get(post_id);
        let places = post.into_iter().flat_map(|post| post.places.iter().map(move |place| (post, *place)));
        places.map(move |(post, place)| {
            let (terms, pu) = (place.terms, &self.pus[usize::from(place.terms.pu)]);
            let is_there = |instance: &Instance| instance.shared.terms.pu == terms.pu;
            Candidate {
                place,
                warm: waiting && post.pool.idle_ones().any(|instance| is_there(instance)),
                stem: waiting && post.pool.stem_ones().any(|instance| is_there(instance)),
                startable: pu.may_start()
                    && matches!(pu.source(post_id, &post.function), Source::Template { .. })
                    && self.has_memory(terms),
                load: pu.load(),
            }
        })
    }

    /// Whether one more fits into the PU's memory, were all ended that wait there.
    fn has_memory(&self, terms: Terms) -> bool {
        let lacks = self.pus[usize::from(terms.pu)].lacks_mib(Some(terms));
        if lacks == 0 {
            return true;
        }
        let pools = self.posts.awake().map(|(_, post)| &post.pool);
        let waiting = pools.flat_map(|pool| pool.idle_ones().chain(pool.stem_ones())).map(|one| one.shared.terms);
        waiting.filter(|waiting| waiting.pu == terms.pu).map(|waiting| u64::from(waiting.memory_mib)).sum::<u64>()
            >= lacks
    }

    /// Asks for the templates of a post: its own where it is at home, the first place that is up.
    pub fn want_templates(&mut self, post_id: u64, now: u64) {
        let Some(post) = self.posts.get(post_id) else { return };
        let (function, places) = (post.function.clone(), post.places.clone());
        if let Some(home) = self.home(post_id) {
            self.pu(home).templates.want(Seat::Dedicated(post_id), function.kind, now, true);
        }
        for place in places {
            let pu = self.pu(place.terms.pu);
            if pu.templates.ready(Seat::Dedicated(post_id)).is_none() {
                pu.want_generic(&function, now, true);
            }
        }
    }

    /// Where a post's instances are best: the first of its places that is up, or would be.
    pub fn home(&self, post_id: u64) -> Option<u8> {
        let mut places = self.posts.get(post_id)?.places.iter().map(|place| place.terms.pu);
        let first = places.clone().next();
        places.find(|pu| self.pus[usize::from(*pu)].ready().is_some()).or(first)
    }

    /// Why no instance of this post can ever be started on any PU; nothing where one may be.
    pub fn why_never(&self, post_id: u64) -> Option<String> {
        let post = self.posts.get(post_id)?;
        let mut why = None;
        for place in &post.places {
            let (pu, mib) = (&self.pus[usize::from(place.terms.pu)], place.terms.memory_mib);
            if !pu.can_hold(mib) {
                why.get_or_insert_with(|| {
                    format!("{} has too little memory for an instance of {mib} MiB", pu.spec.name)
                });
                continue;
            }
            match pu.source(post_id, &post.function) {
                Source::Never { reason } => why.get_or_insert(reason),
                Source::Template { .. } | Source::Later => return None,
            };
        }
        why.or_else(|| Some(format!("no PU of this node is one of {}", kinds_of(&post.function))))
    }

    /// What has to go where there are more than `limit` instances: the one that has been idle for longest. And those on
    /// PUs on which instances are given more memory than there is, likewise.
    pub fn surplus(&mut self, limit: usize) -> Vec<Instance> {
        let mut surplus = Vec::new();
        // What has been retired and has not ended yet does not count: its place is as good as free.
        if self.posts.awake().map(|(_, post)| post.live()).sum::<usize>() > limit {
            surplus.extend(self.retire_idlest(|_| true).map(|idlest| *idlest));
        }
        for number in 0..self.pus.len() as u8 {
            let mut lacks = self.pu(number).lacks_mib(None);
            while lacks > 0 {
                let here = |instance: &Instance| instance.shared.terms.pu == number;
                let Some(idlest) = self.retire_stem(here).or_else(|| self.retire_idlest(here)) else { break };
                lacks = lacks.saturating_sub(idlest.shared.terms.memory_mib.into());
                surplus.push(*idlest);
            }
        }
        surplus
    }

    /// Takes a stem out of its pool of which `is` holds.
    fn retire_stem(&mut self, is: impl Fn(&Instance) -> bool) -> Option<Box<Instance>> {
        let stem = self.posts.awake().flat_map(|(_, post)| post.pool.stem_ones()).find(|stem| is(stem));
        let shared = stem.map(|stem| stem.shared.clone())?;
        self.posts.get_mut(shared.post)?.pool.remove(|waiting| waiting.shared.id == shared.id)
    }

    /// Takes the instance out of its pool, of those of which `is` holds, that has been idle for longest.
    fn retire_idlest(&mut self, is: impl Fn(&Instance) -> bool) -> Option<Box<Instance>> {
        let oldest = |post: &Post| {
            let waiting = post.pool.idle_ones().zip(post.pool.idle_since());
            waiting.filter(|(instance, _)| is(instance)).map(|(instance, since)| (since, instance.shared.id)).next()
        };
        let oldest = self.posts.awake().filter_map(|(id, post)| Some((oldest(post)?, id)));
        let ((_, instance), id) = oldest.min()?;
        self.posts.get_mut(id)?.pool.remove(|waiting| waiting.shared.id == instance)
    }
}

/// The kinds of PU on which a function may run, in words.
pub(super) fn kinds_of(function: &Function) -> String {
    let mut kinds: Vec<&str> = function.profiles.iter().map(|profile| profile.kind.as_str()).collect();
    kinds.dedup();
    kinds.join(", ")
}
