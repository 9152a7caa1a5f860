//! Commands one after another, with a daemon of the test's own that fails when it is told to. What they do to the kernel
//! is tested end to end, with the real one.

use super::*;
use crate::configuration;
use net::split::client::{HalfStatus, Status};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use tempfile::TempDir;

/// Networks that are only remembered.
#[derive(Default)]
struct Remembered {
    networks: RefCell<Vec<Network>>,
    /// How many requests still go well.
    left: Cell<Option<usize>>,
    absent: Cell<bool>,
    unlinked: Cell<bool>,
}

impl Remembered {
    fn ask(&self) -> Result<(), AskError> {
        if self.absent.get() {
            return Err(AskError::NoDaemon { socket: "/nowhere".to_owned(), source: io::ErrorKind::NotFound.into() });
        }
        match self.left.get() {
            Some(0) => Err(AskError::Refused("no".to_owned())),
            Some(left) => {
                self.left.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Networks for Remembered {
    fn make(&self, network: &Network) -> Result<(), AskError> {
        self.ask()?;
        network.check().map_err(|error| AskError::Refused(error.to_string()))?;
        self.networks.borrow_mut().push(network.clone());
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), AskError> {
        self.ask()?;
        self.networks.borrow_mut().retain(|network| network.name != name);
        Ok(())
    }

    fn all(&self) -> Result<Vec<Status>, AskError> {
        self.ask()?;
        let status = |network: &Network| Status {
            name: network.name.clone(),
            addresses: network.addresses.clone(),
            uplink: network.uplink.clone(),
            halves: network
                .halves
                .iter()
                .map(|half| HalfStatus { pu: half.pu.clone(), there: true, ports: Vec::new() })
                .collect(),
            proxy: None,
            users: network.users.clone(),
        };
        Ok(self.networks.borrow().iter().map(status).collect())
    }

    fn has_link(&self, _: &Path, _: &str) -> bool {
        !self.unlinked.get()
    }
}

/// A node with its state folder, on which Pods are attached. The peer's namespace is always given, so that no test needs root.
struct World {
    folder: TempDir,
    networks: Remembered,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), networks: Remembered::default() }
    }

    fn configured(&self, command: Command, more: &str) -> Configuration {
        let state = self.folder.path().join("state");
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"pods","type":"lichen-cni",
                "lichen":{{"state":{state:?},"peerNamespace":"/proc/self/ns/net"{more}"#
        );
        configuration::read(&text, command, &mut String::new()).unwrap()
    }

    fn does(&self, command: Command, container: &str, more: &str) -> Result<String, Failure> {
        let environment = Environment::for_test(container, Some("/proc/self/ns/net"), "");
        self.does_with(command, &environment, more)
    }

    fn does_with(&self, command: Command, environment: &Environment, more: &str) -> Result<String, Failure> {
        let configuration = self.configured(command, more);
        let call = Call { environment, configuration: &configuration, networks: &self.networks };
        match command {
            Command::Add => call.add(),
            Command::Del => call.del().map(|()| String::new()),
            Command::Check => call.check().map(|()| String::new()),
            Command::Gc => call.gc().map(|()| String::new()),
            _ => call.status().map(|()| String::new()),
        }
    }

    fn is_clean(&self) -> bool {
        let left: Vec<_> = std::fs::read_dir(self.folder.path().join("state")).unwrap().collect();
        self.networks.networks.borrow().is_empty() && left.len() == 1
    }
}

const ALONE: &str = "}}";

fn chained() -> String {
    let result = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/proc/self/ns/net"}],"ips":[{"address":"10.1.0.5/16","interface":0}]}"#;
    format!(r#"}},"prevResult":{result}}}"#)
}

#[test]
fn a_pod_comes_and_goes() {
    let world = World::new();
    let result = world.does(Command::Add, "one", &chained()).unwrap();
    let network = world.networks.networks.borrow()[0].clone();
    assert_eq!(network.addresses, ["10.1.0.5".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(network.uplink.as_deref(), Some("cpu"));
    assert!(matches!(world.does(Command::Add, "one", &chained()), Err(Failure::Attached)));
    let check = format!(r#"}},"prevResult":{result}}}"#);
    world.does(Command::Check, "one", &check).unwrap();
    assert!(matches!(world.does(Command::Check, "one", &chained()), Err(Failure::NotAsMade(_))), "no link in it");
    assert!(matches!(world.does(Command::Check, "two", &check), Err(Failure::NotAsMade(_))), "never added");
    world.networks.unlinked.set(true);
    assert!(matches!(world.does(Command::Check, "one", &check), Err(Failure::NotAsMade(_))), "no link");
    for _ in 0..2 {
        world.does(Command::Del, "one", &chained()).unwrap();
        assert!(world.is_clean());
    }
    let gone = Environment::for_test("one", None, "");
    world.does_with(Command::Del, &gone, ALONE).unwrap();
    world.does(Command::Add, "one", ALONE).unwrap();
    assert_eq!(world.networks.networks.borrow()[0].uplink, None);
}

#[test]
fn an_add_that_fails_leaves_nothing() {
    let world = World::new();
    world.networks.absent.set(true);
    assert!(matches!(world.does(Command::Add, "one", ALONE), Err(Failure::Network(AskError::NoDaemon { .. }))));
    assert!(world.is_clean());
    assert!(matches!(world.does(Command::Status, "", ALONE), Err(Failure::Unavailable(_))));
    let nowhere = Environment::for_test("one", Some("/nowhere"), "");
    assert!(matches!(world.does_with(Command::Add, &nowhere, ALONE), Err(Failure::Variable("CNI_NETNS"))));
}

#[test]
fn what_was_cut_off_is_taken_back() {
    for steps in 0..3 {
        let world = World::new();
        // The record is there, then the network; DEL dies at either step, and is done again.
        world.networks.left.set(Some(steps));
        let _ = world.does(Command::Add, "one", ALONE);
        let _ = world.does(Command::Del, "one", ALONE);
        world.networks.left.set(None);
        world.does(Command::Del, "one", ALONE).unwrap();
        assert!(world.is_clean(), "after {steps} steps");
    }
}

#[test]
fn without_a_daemon_a_pod_can_still_go() {
    let world = World::new();
    world.does(Command::Add, "one", ALONE).unwrap();
    world.networks.absent.set(true);
    world.does(Command::Del, "one", ALONE).unwrap();
    assert_eq!(world.networks.networks.borrow().len(), 1);
    world.networks.absent.set(false);
    world.does(Command::Gc, "", r#"},"cni.dev/valid-attachments":[]}"#).unwrap();
    assert!(world.is_clean());
}

#[test]
fn what_is_not_in_use_is_collected() {
    let world = World::new();
    for container in ["one", "two", "three"] {
        world.does(Command::Add, container, ALONE).unwrap();
    }
    world.networks.networks.borrow_mut()[0].name = "another's".to_owned();
    let valid = r#"},"cni.dev/valid-attachments":[{"containerID":"two","ifname":"eth0"}]}"#;
    world.networks.left.set(Some(2));
    assert!(matches!(world.does(Command::Gc, "", valid), Err(Failure::Collection { left: 1, .. })));
    world.networks.left.set(None);
    world.does(Command::Gc, "", valid).unwrap();
    assert_eq!(world.networks.networks.borrow().len(), 2, "the valid one, and another's");
    assert!(matches!(world.does(Command::Add, "two", ALONE), Err(Failure::Attached)));
}

#[test]
fn pods_that_do_not_ask_are_left_alone() {
    let world = World::new();
    let annotated = |annotations: &str| {
        format!(r#","pods":"annotated"}},"runtimeConfig":{{"io.kubernetes.cri.pod-annotations":{{{annotations}}}}}}}"#)
    };
    let result = world.does(Command::Add, "one", &annotated("")).unwrap();
    assert!(world.networks.networks.borrow().is_empty() && !result.contains("link"), "{result}");
    world.does(Command::Del, "one", &annotated("")).unwrap();
    world.does(Command::Add, "one", &annotated(r#""lichen.dev/split":"dpu7""#)).unwrap();
    assert_eq!(world.networks.networks.borrow()[0].halves[1].pu, "dpu7");
    let odd = world.does(Command::Add, "two", &annotated(r#""lichen.dev/split":"../x""#));
    assert!(matches!(odd, Err(Failure::Network(AskError::Refused(_)))));
}

#[test]
fn a_pod_that_is_not_split_has_a_network_for_its_users() {
    let world = World::new();
    let result = r#""prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/proc/self/ns/net"}],"ips":[{"address":"10.1.0.5/16","interface":0}]}"#;
    let of = |pods: &str, more: &str| format!(r#","pods":"{pods}","users":[1000,1337]}},{result}{more}"#) + "}";
    let asks = r#","runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"lichen.dev/split":"dpu7"}}"#;
    for config in [of("annotated", ""), of("none", asks)] {
        let said = world.does(Command::Add, "one", &config).unwrap();
        assert!(said.contains("eth0") && !said.contains("link"), "{said}");
        let network = world.networks.networks.borrow()[0].clone();
        let pus: Vec<_> = network.halves.iter().map(|half| half.pu.as_str()).collect();
        assert_eq!(
            (pus, network.users.as_slice(), network.uplink.as_deref()),
            (vec!["cpu"], &[1000, 1337][..], Some("cpu"))
        );
        assert_eq!(network.addresses, ["10.1.0.5".parse::<std::net::IpAddr>().unwrap()]);
        world.does(Command::Check, "one", &config).unwrap();
        assert!(matches!(world.does(Command::Check, "two", &config), Err(Failure::NotAsMade(_))), "never added");
        assert!(matches!(world.does(Command::Add, "one", &config), Err(Failure::Attached)));
        // By hand, it was given another half: that is no reason to complain, and goes with it.
        world.networks.networks.borrow_mut()[0].halves.push(Half { pu: "dpu".to_owned(), ..network.halves[0].clone() });
        world.does(Command::Check, "one", &config).unwrap();
        for _ in 0..2 {
            world.does(Command::Del, "one", &config).unwrap();
            assert!(world.is_clean());
        }
    }
    world.does(Command::Add, "one", &of("annotated", asks)).unwrap();
    assert_eq!(world.networks.networks.borrow()[0].halves[1].pu, "dpu7");
    world.does(Command::Add, "two", &of("none", "")).unwrap();
    let valid = |container: &str| {
        format!(r#"}},"cni.dev/valid-attachments":[{{"containerID":"{container}","ifname":"eth0"}}]}}"#)
    };
    world.does(Command::Gc, "", &valid("two")).unwrap();
    assert_eq!(world.networks.networks.borrow().len(), 1);
    world.does(Command::Gc, "", &valid("none")).unwrap();
    assert!(world.is_clean());
    // With nobody named there is nothing to do, and no daemon has to be there.
    world.networks.absent.set(true);
    let nobody = format!(r#","pods":"none"}},{result}}}"#);
    assert!(world.does(Command::Add, "one", &nobody).unwrap().contains("eth0") && world.is_clean());
    assert!(matches!(
        world.does(Command::Add, "one", &of("none", "")),
        Err(Failure::Network(AskError::NoDaemon { .. }))
    ));
    assert!(world.is_clean());
}

/// As plugins before this one have written it.
#[test]
fn records_of_split_pods_are_read() {
    let old = r#"{"key":{"network":"n","container":"c","ifname":"e"},"namespace":"/a","peer_namespace":"/b","pu":"cpu","peer":"dpu"}"#;
    let attachment: Attachment = serde_json::from_str(old).unwrap();
    let halves: Vec<_> = attachment.halves().map(|(pu, at)| (pu.as_str(), at.to_str())).collect();
    assert_eq!(halves, [("cpu", Some("/a")), ("dpu", Some("/b"))]);
    let alone = Attachment { other: None, ..attachment.clone() };
    for attachment in [attachment, alone] {
        let text = serde_json::to_string(&attachment).unwrap();
        assert_eq!(serde_json::from_str::<Attachment>(&text).unwrap(), attachment, "{text}");
    }
}
