//! `lichen net`: keeps the split networks of one kernel.
//!
//! ```text
//!  client ── request ──▶ ┌────────┐ ── links, routes, filters ──▶ halves
//!  kernel ── claim ────▶ │ daemon │ ── elements of sets ────────▶ halves
//!  PU ────── its end ──▶ └────────┘ ── without it ──────────────▶ the halves that are left
//! ```
//! One thread, and no event loop but a poll. What it has made works without it, and outlives it: Pods do. Only claims are not
//! made while it is away; the next daemon finds what was bound meanwhile.

mod growth;
mod joined;

use super::capture::{Capture, CaptureError};
use super::client::{Answer, REQUEST_LIMIT, Request, SOCKET};
use super::halves::{self, MakeError, Standing, Whole};
use super::hooks::{HookError, Hooks, Space};
use super::listing;
use super::place::Place;
use super::plan::Side;
use super::ports::{Port, Table};
use super::rules::TABLE;
use super::state::{Folder, HalfMemory, Known, Memory};
use super::{Half, Network, NetworkError, Rules, plan};
use crate::redirect::{Family, ReadError, Redirects, read_nft, read_tables};
use joined::Joined;
use rustix::event::{PollFd, PollFlags, poll};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use tracing::{info, warn};

/// How long a client may take to say what it wants, and to hear the answer: root's own programs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no daemon.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("another daemon keeps its networks in {0}")]
    Taken(String),
    #[error("the folder {0} cannot be used: {1}")]
    Folder(String, io::Error),
    #[error("no socket at {0}: {1}")]
    Socket(String, io::Error),
    #[error(transparent)]
    Hooks(#[from] HookError),
    #[error("cannot wait: {0}")]
    Wait(io::Error),
}

/// Why a request is refused.
#[derive(Debug, Error)]
enum Refusal {
    #[error("this is no request: {0}")]
    Words(serde_json::Error),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("there is a network {0} already")]
    There(String),
    #[error("there is no network {0}")]
    Unknown(String),
    #[error("the network {0} has no half on {1}")]
    NoHalf(String, String),
    #[error("the half on {0} is there")]
    HalfThere(String),
    #[error("the half on {0} is gone")]
    HalfGone(String),
    #[error("the half on {0} is in the network {1} already")]
    Elsewhere(String, String),
    #[error("a network of one half is for its users alone: name those who may share memory there, or more halves")]
    Idle,
    #[error("the network {0} has one half: a mesh's rules do there what they say")]
    Whole(String),
    #[error("the network {0} is split: its uplink and addresses are what they were")]
    Split(String),
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error("ports on {pu} cannot be claimed: {source}")]
    Claim { pu: String, source: io::Error },
    #[error("nothing can be written down: {0}")]
    Memory(io::Error),
    #[error(transparent)]
    Rules(#[from] ReadError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

struct Daemon {
    folder: Folder,
    hooks: Hooks,
    networks: Vec<Joined>,
    made: u32,
    /// What was told of them last.
    told: Vec<Known>,
}

/// Serves until the process ends. `ready` is called when requests are taken, `tell` when networks are others than before, or have other
/// halves or users.
pub fn serve(folder: &Path, ready: impl FnOnce(), mut tell: impl FnMut(&[Known])) -> Result<(), ServeError> {
    let text = || folder.display().to_string();
    let kept = Folder::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => ServeError::Taken(text()),
        _ => ServeError::Folder(text(), error),
    })?;
    let memories = kept.load().map_err(|error| ServeError::Folder(text(), error))?;
    let mut daemon = Daemon { folder: kept, hooks: Hooks::open()?, networks: Vec::new(), made: 0, told: Vec::new() };
    for memory in memories {
        daemon.adopt(memory);
    }
    daemon.told = daemon.known();
    let listener = listen(&folder.join(SOCKET)).map_err(|error| ServeError::Socket(text(), error))?;
    tell(&daemon.told);
    ready();
    loop {
        daemon.wait(&listener, &mut tell)?;
    }
}

/// The folder is root's, and its lock says that no other daemon listens there.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Daemon {
    /// Waits until there is something to do, and does it.
    fn wait(&mut self, listener: &UnixListener, tell: &mut impl FnMut(&[Known])) -> Result<(), ServeError> {
        let mut polled = vec![PollFd::new(listener, PollFlags::IN), PollFd::new(&self.hooks, PollFlags::IN)];
        let mut lives = Vec::new();
        for (at, number, half) in self.standing() {
            if let Some(process) = &half.process {
                polled.push(PollFd::new(process, PollFlags::IN));
                lives.push((self.networks[at].memory.network.name.clone(), number));
            }
        }
        let halves: Vec<_> = self.standing().map(|(at, number, _)| (at, number)).collect();
        polled.extend(self.standing().map(|(_, _, half)| PollFd::new(&half.news, PollFlags::IN)));
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ServeError::Wait(error.into())),
        }
        let called = !polled[0].revents().is_empty();
        let mut rest = polled[2..].iter().map(|fd| !fd.revents().is_empty());
        let ended: Vec<_> = rest.by_ref().take(lives.len()).collect();
        let changed: Vec<_> = rest.collect();
        drop(polled);
        for ((at, number), _) in halves.into_iter().zip(changed).filter(|(_, changed)| *changed) {
            self.networks[at].look_around(number);
        }
        for ((name, number), _) in lives.into_iter().zip(ended).filter(|(_, ended)| *ended) {
            warn!(network = name, half = number, "a half is lost: its process has ended");
            if let Err(error) = self.part(&name, number) {
                warn!(network = name, half = number, "the others could not be told: {error}");
            }
        }
        self.hear();
        if called && let Ok((stream, _)) = listener.accept() {
            self.attend(&stream, tell);
        }
        self.tell(tell);
        Ok(())
    }

    /// The halves that are there, with the places of their networks.
    fn standing(&self) -> impl Iterator<Item = (usize, usize, &Standing)> {
        self.networks.iter().enumerate().flat_map(|(at, joined)| {
            let halves = joined.halves.iter().enumerate();
            halves.filter_map(move |(number, half)| Some((at, number, half.as_ref()?)))
        })
    }

    fn known(&self) -> Vec<Known> {
        self.networks.iter().map(|joined| joined.memory.known()).collect()
    }

    /// Tells of networks if they are others than before.
    fn tell(&mut self, tell: &mut impl FnMut(&[Known])) {
        let known = self.known();
        if known != self.told {
            tell(&known);
            self.told = known;
        }
    }

    fn attend(&mut self, stream: &UnixStream, tell: &mut impl FnMut(&[Known])) {
        let answer = match hear(stream) {
            Ok(line) => self.answer(&line).unwrap_or_else(|refusal| Answer::Refused(refusal.to_string())),
            Err(error) => return warn!("a client has said nothing: {error}"),
        };
        // Whoever has the answer finds what follows from it.
        self.tell(tell);
        let mut line = serde_json::to_vec(&answer).unwrap_or_default();
        line.push(b'\n');
        let mut to = stream;
        if let Err(error) = to.write_all(&line) {
            warn!("a client did not wait for its answer: {error}");
        }
    }

    fn answer(&mut self, line: &[u8]) -> Result<Answer, Refusal> {
        match serde_json::from_slice(line).map_err(Refusal::Words)? {
            Request::Join(network) => self.join(network),
            Request::Leave { network } => self.leave(&network),
            Request::Lose { network, pu } => {
                let number = self.half(&network, &pu)?;
                self.part(&network, number).map(|()| Answer::Done)
            }
            Request::Rejoin { network, half } => self.rejoin(&network, half),
            Request::Split { network, half, uplink, addresses } => self.split(&network, half, uplink, addresses),
            Request::Capture { network, proxy, rules } => self.capture(&network, &proxy, rules),
            Request::Release { network } => {
                let joined = self.joined(&network)?;
                (joined.redirects, joined.memory.capture) = (None, None);
                self.rewrite(&network)
            }
            Request::Users { network, users } => {
                super::check_users(&users)?;
                self.joined(&network)?.memory.network.users = users;
                let memory = self.joined(&network)?.memory.clone();
                self.folder.keep(&memory).map_err(Refusal::Memory)?;
                Ok(Answer::Done)
            }
            Request::List => Ok(Answer::Networks(self.networks.iter().map(Joined::status).collect())),
        }
    }

    fn joined(&mut self, name: &str) -> Result<&mut Joined, Refusal> {
        let found = self.networks.iter_mut().find(|joined| joined.memory.network.name == name);
        found.ok_or_else(|| Refusal::Unknown(name.to_owned()))
    }

    fn whole(&mut self, name: &str) -> Result<(&Joined, Whole<'_>), Refusal> {
        let joined = &*self.joined(name)?;
        Ok((joined, joined.whole(&[])))
    }

    fn half(&mut self, name: &str, pu: &str) -> Result<usize, Refusal> {
        let network = &self.joined(name)?.memory.network;
        network.place_of(pu).ok_or_else(|| Refusal::NoHalf(name.to_owned(), pu.to_owned()))
    }

    fn join(&mut self, network: Network) -> Result<Answer, Refusal> {
        network.check()?;
        let name = network.name.clone();
        if self.joined(&name).is_ok() {
            return Err(Refusal::There(name));
        }
        if !network.is_split() && network.users.is_empty() {
            return Err(Refusal::Idle);
        }
        let count = network.halves.len();
        let (mut halves, mut memories) = (Vec::new(), Vec::new());
        for (number, half) in network.halves.iter().enumerate() {
            let standing = self.stand(half)?;
            let was = match network.is_split() {
                true => standing.note(&half.pu, &Side::new(number, count, &[]))?,
                false => Vec::new(),
            };
            memories.push(HalfMemory { namespace: standing.namespace, was });
            halves.push(Some(standing));
        }
        let memory = Memory { network, halves: memories, capture: None };
        self.folder.keep(&memory).map_err(Refusal::Memory)?;
        self.made += 1;
        self.networks.push(Joined { id: self.made, memory, halves, table: Table::default(), redirects: None });
        match self.complete(&name) {
            Ok(contended) => {
                info!(network = name, "joined");
                Ok(Answer::Joined { contended })
            }
            Err(refusal) => {
                self.leave(&name)?;
                Err(refusal)
            }
        }
    }

    /// A half that is to be a network's, and is no other's.
    fn stand(&self, half: &Half) -> Result<Standing, Refusal> {
        let standing = Standing::of(half)?;
        let other = self.standing().find(|(_, _, other)| other.namespace == standing.namespace);
        match other {
            Some((at, ..)) => Err(Refusal::Elsewhere(half.pu.clone(), self.networks[at].memory.network.name.clone())),
            None => Ok(standing),
        }
    }

    /// Makes what is there of a network, all of it or as much as is missing.
    fn complete(&mut self, name: &str) -> Result<Vec<Port>, Refusal> {
        if !self.joined(name)?.memory.network.is_split() {
            return Ok(Vec::new());
        }
        self.joined(name)?.whole(&[]).furnish()?;
        let contended = self.claim(name)?;
        self.joined(name)?.filter()?;
        Ok(contended)
    }

    /// Has the programs look at all halves that are there, and finds what was bound before they did.
    fn claim(&mut self, name: &str) -> Result<Vec<Port>, Refusal> {
        let hooks = &self.hooks;
        let found = self.networks.iter_mut().find(|joined| joined.memory.network.name == name);
        let joined = found.ok_or_else(|| Refusal::Unknown(name.to_owned()))?;
        let count = joined.halves.len();
        let mut contended = Vec::new();
        for (number, half) in joined.halves.iter().enumerate() {
            let Some(half) = half else { continue };
            let pu = &joined.memory.network.halves[number].pu;
            let space = Space { network: joined.id, half: number, chosen: plan::chosen(number, count) };
            let seeded = seed(hooks, &half.place, &space)
                .and_then(|_| hooks.admit(half.namespace, &space))
                // What was bound between the first look and the programs'.
                .and_then(|()| seed(hooks, &half.place, &space));
            contended.extend(seeded.map_err(|source| Refusal::Claim { pu: pu.clone(), source })?);
        }
        let error = |source| Refusal::Claim { pu: name.to_owned(), source };
        for (port, owner) in hooks.claims(joined.id).map_err(error)? {
            joined.table.note(port, Some(owner), &[]);
        }
        contended.sort_unstable();
        contended.dedup();
        Ok(contended)
    }

    /// Takes over what another daemon has left.
    fn adopt(&mut self, mut memory: Memory) {
        let name = memory.network.name.clone();
        let mut halves = Vec::new();
        for (half, remembered) in memory.network.halves.iter().zip(&mut memory.halves) {
            let standing = Standing::of(half).ok().filter(|standing| standing.namespace == remembered.namespace);
            remembered.namespace = standing.as_ref().map_or(0, |standing| standing.namespace);
            halves.push(standing);
        }
        if halves.iter().all(Option::is_none) {
            info!(network = name, "all halves have gone meanwhile");
            return drop(self.folder.forget(&name));
        }
        let redirects = memory.capture.as_ref().and_then(|(pu, rules)| {
            let proxy = memory.network.place_of(pu).filter(|proxy| halves[*proxy].is_some())?;
            read(rules).ok().map(|redirects| (proxy, redirects))
        });
        let lost: Vec<usize> = (0..halves.len()).filter(|number| halves[*number].is_none()).collect();
        self.made += 1;
        self.networks.push(Joined { id: self.made, memory, halves, table: Table::default(), redirects });
        for number in lost {
            self.disconnect(&name, number);
        }
        match self.complete(&name) {
            Ok(_) => info!(network = name, "taken over"),
            Err(refusal) => warn!(network = name, "could not be taken over whole: {refusal}"),
        }
    }

    fn leave(&mut self, name: &str) -> Result<Answer, Refusal> {
        let Some(at) = self.networks.iter().position(|joined| joined.memory.network.name == name) else {
            return Ok(Answer::Done);
        };
        let joined = self.networks.remove(at);
        let whole = joined.whole(&[]);
        for (number, half) in joined.halves.iter().enumerate() {
            let Some(half) = half else { continue };
            let _ = self.hooks.dismiss(half.namespace);
            whole.strip(number, half, &joined.memory.halves[number].was);
        }
        let _ = self.hooks.forget(joined.id, None);
        self.folder.forget(name).map_err(Refusal::Memory)?;
        info!(network = name, "left");
        Ok(Answer::Done)
    }

    /// Takes a half back to what it was, and goes on without it. Its namespace may outlive the process by which it is known.
    fn part(&mut self, name: &str, number: usize) -> Result<(), Refusal> {
        let (joined, whole) = self.whole(name)?;
        if let Some(half) = &joined.halves[number] {
            whole.strip(number, half, &joined.memory.halves[number].was);
        }
        self.lose(name, number)
    }

    /// Goes on without a half.
    fn lose(&mut self, name: &str, number: usize) -> Result<(), Refusal> {
        let joined = self.joined(name)?;
        let Some(half) = joined.halves[number].take() else { return Ok(()) };
        let id = joined.id;
        joined.table.forget(number);
        joined.memory.halves[number] = HalfMemory::default();
        if joined.redirects.as_ref().is_some_and(|(proxy, _)| *proxy == number) {
            joined.redirects = None;
        }
        let last = joined.halves.iter().all(Option::is_none);
        let _ = self.hooks.dismiss(half.namespace).and_then(|()| self.hooks.forget(id, Some(number)));
        // The namespace ends with the last that holds it.
        drop(half);
        if last {
            return self.leave(name).map(drop);
        }
        self.disconnect(name, number);
        self.rewrite(name).map(drop)
    }

    fn disconnect(&mut self, name: &str, number: usize) {
        let Ok(joined) = self.joined(name) else { return };
        let count = joined.halves.len();
        for (other, half) in joined.halves.iter().enumerate() {
            if let Some(Err(error)) = half.as_ref().map(|half| halves::disconnect(half, other, number, count)) {
                warn!(network = name, "the link to a lost half could not be removed: {error}");
            }
        }
    }

    fn rejoin(&mut self, name: &str, half: Half) -> Result<Answer, Refusal> {
        let number = self.half(name, &half.pu)?;
        if self.joined(name)?.halves[number].is_some() {
            return Err(Refusal::HalfThere(half.pu));
        }
        let standing = self.stand(&half)?;
        let joined = self.joined(name)?;
        let was = standing.note(&half.pu, &Side::new(number, joined.halves.len(), &[]))?;
        joined.memory.halves[number] = HalfMemory { namespace: standing.namespace, was };
        joined.memory.network.halves[number] = half;
        joined.halves[number] = Some(standing);
        if let Some((pu, rules)) = &joined.memory.capture
            && joined.memory.network.place_of(pu) == Some(number)
        {
            joined.redirects = Some((number, read(rules)?));
        }
        let memory = joined.memory.clone();
        self.folder.keep(&memory).map_err(Refusal::Memory)?;
        match self.complete(name) {
            Ok(contended) => Ok(Answer::Joined { contended }),
            Err(refusal) => {
                self.part(name, number)?;
                Err(refusal)
            }
        }
    }

    fn capture(&mut self, name: &str, proxy: &str, rules: Rules) -> Result<Answer, Refusal> {
        let number = self.half(name, proxy)?;
        if !self.joined(name)?.memory.network.is_split() {
            return Err(Refusal::Whole(name.to_owned()));
        }
        let redirects = read(&rules)?;
        Capture { redirects: &redirects, proxy: number }.check()?;
        let joined = self.joined(name)?;
        if joined.halves[number].is_none() {
            return Err(Refusal::HalfGone(proxy.to_owned()));
        }
        let before = (joined.redirects.replace((number, redirects)), joined.memory.capture.take());
        joined.memory.capture = Some((proxy.to_owned(), rules));
        self.rewrite(name).or_else(|refusal| {
            let joined = self.joined(name)?;
            (joined.redirects, joined.memory.capture) = before;
            self.rewrite(name)?;
            Err(refusal)
        })
    }

    /// Remembers a network as it is, and writes all its filters anew.
    fn rewrite(&mut self, name: &str) -> Result<Answer, Refusal> {
        let memory = self.joined(name)?.memory.clone();
        self.folder.keep(&memory).map_err(Refusal::Memory)?;
        self.joined(name)?.filter()?;
        Ok(Answer::Done)
    }

    /// Passes on what the programs have told.
    fn hear(&mut self) {
        let mut ports = Vec::new();
        let overflow = self.hooks.news(|network, port| ports.push((network, port)));
        if overflow.unwrap_or(true) {
            self.resume(&mut ports);
        }
        ports.sort_unstable();
        ports.dedup();
        for joined in &mut self.networks {
            let there = joined.there();
            let mut changes = Vec::new();
            for (_, port) in ports.iter().filter(|(network, _)| *network == joined.id) {
                match self.hooks.owner(joined.id, *port) {
                    Ok(owner) => {
                        let owner = owner.filter(|owner| there.contains(owner));
                        changes.extend(joined.table.note(*port, owner, &there));
                    }
                    Err(error) => warn!("a claim cannot be read: {error}"),
                }
            }
            joined.tell(&changes);
            if changes.iter().any(|change| plan::is_chosen(change.port.number)) {
                joined.reserve();
            }
        }
    }

    /// Where events were lost: every port that has, or had, an owner.
    fn resume(&self, ports: &mut Vec<(u32, Port)>) {
        for joined in &self.networks {
            let now = self.hooks.claims(joined.id).unwrap_or_default();
            ports.extend(joined.table.claims().into_iter().chain(now).map(|(port, _)| (joined.id, port)));
        }
    }
}

/// Claims what was bound before. The ports that another half has.
fn seed(hooks: &Hooks, place: &Place, space: &Space) -> io::Result<Vec<Port>> {
    let mut contended = Vec::new();
    for bound in place.visit(listing::bound)? {
        let chosen = space.chosen.contains(&bound.port.number);
        if !chosen && hooks.seed(space.network, space.half, bound.port, bound.cookie)? != space.half {
            contended.push(bound.port);
        }
    }
    Ok(contended)
}

fn read(rules: &Rules) -> Result<Redirects, ReadError> {
    match rules {
        Rules::Nft(text) => read_nft(text, &[TABLE]),
        Rules::Tables { v4, v6 } => {
            let read = |text: &str, family| match text.trim() {
                "" => Ok(Redirects::default()),
                text => read_tables(text, family),
            };
            Ok(read(v4, Family::V4)?.and(read(v6, Family::V6)?))
        }
    }
}

/// A request: one line.
fn hear(stream: &UnixStream) -> io::Result<Vec<u8>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(REQUEST_LIMIT)).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
