//! CNI's commands.
//!
//! ```text
//! ADD   record ── other half's namespace ── network          each step may be the last: DEL takes back what there is
//! DEL   network ── other half's namespace ── record          each may have been done already
//! ```

#[cfg(test)]
mod tests;

use crate::attachment::{self, Attachment, Key, Other};
use crate::configuration::{Configuration, Pods, VERSIONS, version_of};
use crate::environment::{Command, Environment};
use crate::failure::Failure;
use crate::namespace;
use crate::networks::{AskError, Daemon, Networks};
use crate::outcome::{self, End};
use crate::state::State;
use net::split::{Half, Network};
use serde_json::json;
use std::path::PathBuf;

/// `CNI_ARGS`: the other half's namespace, by its path.
const PEER_NAMESPACE: &str = "LICHEN_PEER_NETNS";
/// How the first half calls its link to the second, and the other way round.
const LINKS: [&str; 2] = ["link1", "link0"];

/// What is to be done, of whom.
struct Call<'a> {
    environment: &'a Environment,
    configuration: &'a Configuration,
    networks: &'a dyn Networks,
}

/// Does a command other than VERSION: what is to be printed.
pub fn act(command: Command, environment: &Environment, configuration: &Configuration) -> Result<String, Failure> {
    let networks = Daemon::at(configuration.ours.daemon.as_deref());
    let call = Call { environment, configuration, networks: &networks };
    match command {
        // Who stands where containers are made is the node, and that is not to be split.
        Command::Add if environment.namespace().is_ok_and(|path| namespace::is_own(&path)) => Err(Failure::Own),
        Command::Add => call.add(),
        Command::Del => call.del().map(|()| String::new()),
        Command::Check => call.check().map(|()| String::new()),
        Command::Gc => call.gc().map(|()| String::new()),
        Command::Status | Command::Version => call.status().map(|()| String::new()),
    }
}

/// VERSION: which versions are spoken here. Of the caller's, only that it is one.
pub fn version(text: &str, spoken: &mut String) -> Result<String, Failure> {
    // One that is not spoken here is no reason not to say which are.
    if let Ok(version) = version_of(text) {
        *spoken = version;
    }
    Ok(format!("{}\n", json!({ "cniVersion": spoken, "supportedVersions": VERSIONS })))
}

impl Call<'_> {
    fn add(&self) -> Result<String, Failure> {
        let Configuration { version, previous, .. } = self.configuration;
        let key = self.key()?;
        let namespace = self.environment.namespace()?;
        if !namespace.exists() {
            return Err(Failure::Variable("CNI_NETNS"));
        }
        if !self.is_wanted() {
            return Ok(outcome::result(previous.as_ref(), version, &[]));
        }
        let name = key.name();
        let state = self.state()?;
        if state.has(&name) {
            return Err(Failure::Attached);
        }
        let peer_namespace = || self.peer_namespace().unwrap_or_else(|| state.namespace(&name));
        let other = self.peer().map(|pu| Other { pu, namespace: peer_namespace() });
        let attachment = Attachment { key, namespace, pu: self.configuration.ours.pu.clone(), other };
        if let Err(failure) = self.attach(&state, &attachment) {
            // Whatever there is goes: the caller may not ask for it. The first failure is the one to tell.
            let _ = self.detach(&state, &name);
            return Err(failure);
        }
        Ok(outcome::result(previous.as_ref(), version, &ends(&attachment)))
    }

    fn attach(&self, state: &State, attachment: &Attachment) -> Result<(), Failure> {
        let name = attachment.key.name();
        state.write(attachment)?;
        if let Some(other) = attachment.other.as_ref().filter(|other| other.namespace == state.namespace(&name)) {
            namespace::make(&other.namespace)?;
        }
        let previous = self.configuration.previous.as_ref();
        let half =
            |(pu, namespace): (&String, &PathBuf)| Half { pu: pu.clone(), namespace: namespace.clone(), process: None };
        let network = Network {
            name,
            addresses: previous.map(|result| outcome::addresses(result, &attachment.namespace)).unwrap_or_default(),
            halves: attachment.halves().map(half).collect(),
            // What a plugin before this one has made is in the container's own half.
            uplink: previous.map(|_| attachment.pu.clone()),
            users: self.configuration.ours.users.clone(),
        };
        Ok(self.networks.make(&network)?)
    }

    fn del(&self) -> Result<(), Failure> {
        let name = self.key()?.name();
        let state = self.state()?;
        if state.has(&name) { self.detach(&state, &name) } else { Ok(()) }
    }

    /// Takes back all there is of an attachment.
    fn detach(&self, state: &State, name: &str) -> Result<(), Failure> {
        match self.networks.remove(name) {
            // Its networks are the namespaces', which go; it forgets those when it starts.
            Err(error @ AskError::NoDaemon { .. }) => eprintln!("lichen-cni: {name}: {error}"),
            removed => removed?,
        }
        namespace::remove(&state.namespace(name))?;
        Ok(state.remove(name)?)
    }

    fn check(&self) -> Result<(), Failure> {
        let key = self.key()?;
        let namespace = self.environment.namespace()?;
        if !self.is_wanted() {
            return Ok(());
        }
        let name = key.name();
        let state = self.state()?;
        let attachment = state.read(&name)?.ok_or(Failure::NotAsMade("nothing is known of this attachment"))?;
        if attachment.namespace != namespace {
            return Err(Failure::NotAsMade("CNI_NETNS is another namespace than that which was attached"));
        }
        let told = |result| ends(&attachment).iter().all(|end| outcome::names(result, end));
        if !self.configuration.previous.as_ref().is_some_and(told) {
            return Err(Failure::NotAsMade("prevResult does not name the link between the halves"));
        }
        let network = self.networks.all()?.into_iter().find(|network| network.name == name);
        let network = network.ok_or(Failure::NotAsMade("the daemon knows no such network"))?;
        let there = |pu: &String| network.halves.iter().any(|half| half.pu == *pu && half.there);
        if !attachment.halves().all(|(pu, _)| there(pu)) {
            return Err(Failure::NotAsMade("a half of the network is gone"));
        }
        if !ends(&attachment).iter().all(|end| self.networks.has_link(end.namespace, end.link)) {
            return Err(Failure::NotAsMade("the link between the halves is gone, or down"));
        }
        Ok(())
    }

    fn gc(&self) -> Result<(), Failure> {
        let Configuration { name: network, valid, .. } = self.configuration;
        let valid: Vec<String> = valid
            .iter()
            .map(|of| {
                Key { network: network.clone(), container: of.container.clone(), ifname: of.ifname.clone() }.name()
            })
            .collect();
        let prefix = attachment::prefix(network);
        let state = self.state()?;
        let mut names = state.names(&prefix)?;
        // Those of which the folder says nothing any more.
        names.extend(
            self.networks.all()?.into_iter().map(|network| network.name).filter(|name| name.starts_with(&prefix)),
        );
        names.sort();
        names.dedup();
        let stale = names.iter().filter(|name| !valid.contains(name));
        let failures: Vec<Failure> = stale.filter_map(|name| self.detach(&state, name).err()).collect();
        let left = failures.len();
        match failures.into_iter().next() {
            Some(first) => Err(Failure::Collection { left, first: Box::new(first) }),
            None => Ok(()),
        }
    }

    fn status(&self) -> Result<(), Failure> {
        self.networks.all().map(drop).map_err(Failure::Unavailable)
    }

    fn key(&self) -> Result<Key, Failure> {
        let network = self.configuration.name.clone();
        let container = self.environment.container()?.to_owned();
        Ok(Key { network, container, ifname: self.environment.ifname()?.to_owned() })
    }

    /// Whether the Pod is to have a network: of several halves, or for its users.
    fn is_wanted(&self) -> bool {
        self.peer().is_some() || !self.configuration.ours.users.is_empty()
    }

    /// The PU of the other half; none for a Pod that is not to be split.
    fn peer(&self) -> Option<String> {
        let Configuration { ours, annotation, .. } = self.configuration;
        match (ours.pods, annotation) {
            (Pods::None, _) | (Pods::Annotated, None) => None,
            (Pods::All, None) => Some(ours.peer.clone()),
            (_, Some(peer)) => Some(peer.clone()),
        }
    }

    /// One that is there already. A Pod's own words cannot name it: they are anybody's.
    fn peer_namespace(&self) -> Option<PathBuf> {
        let given = self.environment.argument(PEER_NAMESPACE).map(PathBuf::from);
        given.or_else(|| self.configuration.ours.peer_namespace.clone())
    }

    fn state(&self) -> Result<State, Failure> {
        Ok(State::open(&self.configuration.ours.state)?)
    }
}

/// Of the link between its halves.
fn ends(attachment: &Attachment) -> Vec<End<'_>> {
    let halves = attachment.halves().zip(LINKS).map(|((_, namespace), link)| End { link, namespace });
    if attachment.other.is_some() { halves.collect() } else { Vec::new() }
}
