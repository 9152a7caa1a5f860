//! I/O functions: trusted code of the platform that does for flows what pure functions cannot, within an egress policy.
//!
//! ```text
//!   items ─▶ request ─▶ policy ◀─ names      connect ─▶ exchange ─▶ answer ─▶ items
//!                          ╰── the address ──▶ ▲  ╰ pool ╯  │
//!                                              ╰─ redirect ◀╯
//! ```
//! | module | what it is |
//! |---|---|
//! | [`function`] | the functions, and their sets |
//! | [`config`] | the section `[fetch]` |
//! | [`policy`], `address` | who may be reached; what kind of place an address is |
//! | [`names`] | names of hosts, looked up |
//! | `request`, `redirect`, `answer` | items to requests, answers to requests, answers to items |
//! | `connect`, `tls`, `pool`, `exchange` | connections, and what passes over them |
//! | `room` | the memory of answers' bodies |
//! | `http`, `object` | the functions themselves, one item each |
//! | [`failure`] | why an item, or a run, came to nothing |
//!
//! Whoever drops a run cancels it: every request of it ends. Not here: whose run it is, retries, caches, proxies, and
//! encodings of bodies, which are handed on as they come.
#![forbid(unsafe_code)]

mod address;
mod answer;
pub mod config;
mod connect;
mod exchange;
pub mod failure;
pub mod function;
mod http;
pub mod names;
mod object;
pub mod policy;
mod pool;
mod redirect;
mod request;
mod room;
#[cfg(test)]
mod tests;
mod tls;

pub use aws::tls::TrustError;
pub use config::FetchConfig;
pub use failure::{Failure, FetchError};
pub use function::{Function, STATUS};

use answer::{Made, Taken};
use aws::Aws;
use bytes::Bytes;
use connect::Connector;
use exchange::Exchanger;
use http::Http;
use names::{Names, System};
use object::Objects;
use policy::Policy;
use pool::Pool;
use room::Room;
use sets::{Item, Sets};
use std::sync::Arc;
use std::time::Duration;
use tls::Tls;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// What a run has.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub deadline: Instant,
    /// The output sets that are taken; only these are made. With [`STATUS`] among them a failure is an item of that set;
    /// without it, the first failure is the run's.
    pub outputs: &'a [&'a str],
}

/// Runs I/O functions. Clones share connections and limits.
#[derive(Clone)]
pub struct Fetch(Arc<Parts>);

struct Parts {
    http: Http,
    objects: Objects,
    /// Turns of all runs.
    turns: Semaphore,
    each: usize,
}

impl Fetch {
    /// Reads the certificates that are trusted. `region` is the node's, for the signatures of requests for objects.
    pub fn open(config: &FetchConfig, aws: Aws, region: &str) -> Result<Self, TrustError> {
        Self::over(config, aws, region, Box::new(System::default()))
    }

    /// The same with other names.
    pub fn over(config: &FetchConfig, aws: Aws, region: &str, names: Box<dyn Names>) -> Result<Self, TrustError> {
        let room = Room::new(config.bodies_mib);
        let connector = Connector {
            policy: Policy::new(&config.allow, &config.deny, &config.ports),
            names,
            tls: Tls::open(&config.ca_file)?,
            patience: Duration::from_secs(config.connect_s),
        };
        let exchanger = Exchanger {
            connector,
            pool: Pool::new(config.idle, Duration::from_secs(config.idle_s)),
            room: room.clone(),
            first_byte: Duration::from_secs(config.first_byte_s),
            head_max: config.head_max,
            body_max: config.body_max,
        };
        let total = Duration::from_secs(config.total_s);
        let http = Http { exchanger, redirects: config.redirects, total };
        let objects = Objects::new(config, aws, region, room);
        let turns = Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        Ok(Self(Arc::new(Parts { http, objects, turns, each: config.each.max(1) })))
    }

    /// Runs a function on all items of its input sets. Sets that are missing are empty.
    pub async fn run(
        &self,
        function: Function,
        inputs: Sets<Bytes>,
        terms: Terms<'_>,
    ) -> Result<Sets<Bytes>, FetchError> {
        let known = function.inputs();
        let takes = |name: &str| known.contains(&name) || function.aliases().iter().any(|(alias, _)| *alias == name);
        if let Some(unknown) = inputs.iter().find(|set| !takes(&set.name)) {
            let (function, set) = (function.name(), unknown.name.clone());
            return Err(FetchError::UnknownSet { function, set, known });
        }
        let taken = Taken::of(function, terms.outputs);
        let work = match function {
            Function::ObjectPut => object::puts(inputs),
            _ => inputs.into_iter().flat_map(|set| set.items).map(|item| Work { item, key: None }).collect(),
        };
        let made = self.all(function, work, taken, terms.deadline).await?;
        Ok(answer::gathered(taken, made))
    }

    /// What all items come to, a bounded number of them at once.
    async fn all(
        &self,
        function: Function,
        work: Vec<Work>,
        taken: Taken,
        deadline: Instant,
    ) -> Result<Vec<Made>, FetchError> {
        let mut made: Vec<Option<Made>> = work.iter().map(|_| None).collect();
        let mut waiting = work.into_iter().enumerate();
        let mut under_way = JoinSet::new();
        let mut left = made.len();
        while left > 0 {
            while under_way.len() < self.0.each
                && let Some((at, work)) = waiting.next()
            {
                let parts = self.0.clone();
                under_way.spawn(async move { (at, parts.one(function, work, taken).await) });
            }
            let done = timeout_at(deadline, under_way.join_next()).await.map_err(|_| FetchError::Deadline { left })?;
            match done {
                Some(Ok((at, result))) => made[at] = Some(result?),
                Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Some(Err(_)) | None => return Err(FetchError::Deadline { left }),
            }
            left -= 1;
        }
        Ok(made.into_iter().flatten().collect())
    }
}

/// An item, and for an object that is stored, where.
struct Work {
    item: Item<Bytes>,
    key: Option<Bytes>,
}

impl Parts {
    async fn one(&self, function: Function, work: Work, taken: Taken) -> Result<Made, FetchError> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let item = &work.item;
        let result = match function {
            Function::Http => self.http.run(item, taken).await,
            Function::ObjectGet => self.objects.get(item, taken).await,
            Function::ObjectPut => self.objects.put(item, work.key.as_ref(), taken).await,
            Function::ObjectList => self.objects.list(item, taken).await,
        };
        match result {
            Ok(made) => Ok(made),
            Err(failure) if taken.has_status() => Ok(answer::failed(&failure, &item.name, item.key)),
            Err(source) => Err(FetchError::Item { item: work.item.name, source }),
        }
    }
}
