//! The network's configuration: what CNI says about every one, and what is ours in it, under `lichen`.
//!
//! ```json
//! { "cniVersion": "1.1.0", "name": "pods", "type": "lichen-cni",
//!   "lichen": { "pu": "cpu", "peer": "dpu", "pods": "annotated" },
//!   "capabilities": { "io.kubernetes.cri.pod-annotations": true } }
//! ```

use crate::environment::{Command, is_container};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use thiserror::Error;

/// CNI's versions that are spoken, oldest first.
pub const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", NEWEST];
pub const NEWEST: &str = "1.1.0";
/// With it a Pod asks to be split, and says with which PU.
pub const ANNOTATION: &str = "lichen.dev/split";
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
const STATE: &str = "/run/lichen/cni";

#[derive(Debug, Error)]
pub enum ReadError {
    #[error("the configuration is no JSON of CNI's")]
    Json(#[source] serde_json::Error),
    #[error("cniVersion {0:?}: 0.4.0, 1.0.0 and 1.1.0 are spoken here")]
    Version(String),
    #[error("{command} is not in CNI {version}")]
    TooOld { command: &'static str, version: String },
    #[error("the name {0:?}: letters, digits, dots, underscores and dashes, a letter or digit first")]
    Name(String),
    #[error("\"lichen\": {value}: {why}")]
    Ours { value: String, why: serde_json::Error },
    #[error("\"lichen\": pu and peer are both {0:?}: the halves of a Pod stand on two PUs")]
    OnePu(String),
    #[error("no prevResult: {0} needs it")]
    NoResult(&'static str),
    #[error("prevResult is no object")]
    Result,
    #[error("cni.dev/valid-attachments is not there: without it, GC would remove what is in use")]
    NoAttachments,
}

/// What the caller wrote.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    name: String,
    #[serde(default)]
    lichen: Value,
    #[serde(default)]
    prev_result: Option<Value>,
    #[serde(default)]
    runtime_config: BTreeMap<String, Value>,
    #[serde(default, rename = "cni.dev/valid-attachments", deserialize_with = "listed")]
    valid: Option<Vec<Valid>>,
    /// As the first runtimes wrote it.
    #[serde(default, rename = "cni.dev/attachments", deserialize_with = "listed")]
    attachments: Option<Vec<Valid>>,
}

/// A list that is written. CNI's own library writes `null` for an empty one.
fn listed<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Vec<Valid>>, D::Error> {
    Option::deserialize(from).map(|list| Some(list.unwrap_or_default()))
}

/// An attachment that is in use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Valid {
    #[serde(rename = "containerID")]
    pub container: String,
    pub ifname: String,
}

/// Which Pods are split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pods {
    #[default]
    All,
    /// Those with the annotation, whose value is the PU of the other half.
    Annotated,
    /// No Pod, whatever its annotations say.
    None,
}

/// What is under `lichen`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ours {
    /// The PU on which the container's own half stands.
    pub pu: String,
    /// The PU of the other half.
    pub peer: String,
    pub pods: Pods,
    /// The other half's network namespace, by its path; none: one is made.
    pub peer_namespace: Option<PathBuf>,
    /// Whose programs may share memory with each other's, in every Pod of this network.
    pub users: Vec<u32>,
    /// The folder of the daemon of networks.
    pub daemon: Option<PathBuf>,
    /// Where it is noted what has been made. It should not survive a restart of the machine.
    pub state: PathBuf,
}

impl Default for Ours {
    fn default() -> Self {
        Self {
            pu: "cpu".to_owned(),
            peer: "dpu".to_owned(),
            pods: Pods::All,
            peer_namespace: None,
            users: Vec::new(),
            daemon: None,
            state: STATE.into(),
        }
    }
}

/// A configuration that can be acted on.
#[derive(Debug)]
pub struct Configuration {
    pub version: String,
    pub name: String,
    pub ours: Ours,
    /// What the plugins before this one have made of the container.
    pub previous: Option<Value>,
    /// The annotation's value, if the Pod has it.
    pub annotation: Option<String>,
    /// What is still in use; only told to `GC`.
    pub valid: Vec<Valid>,
}

/// Reads it for a command. `version` becomes the caller's, as soon as it is known to be spoken here.
pub fn read(text: &str, command: Command, version: &mut String) -> Result<Configuration, ReadError> {
    *version = version_of(text)?;
    let since = |needed: &str, name| match version.as_str() < needed {
        true => Err(ReadError::TooOld { command: name, version: version.clone() }),
        false => Ok(()),
    };
    match command {
        Command::Gc => since("1.1.0", "GC")?,
        Command::Status => since("1.1.0", "STATUS")?,
        _ => {}
    }
    let written: Written = serde_json::from_str(text).map_err(ReadError::Json)?;
    if !is_container(&written.name) {
        return Err(ReadError::Name(written.name));
    }
    if written.previous_is_odd() {
        return Err(ReadError::Result);
    }
    if command == Command::Check && written.prev_result.is_none() {
        return Err(ReadError::NoResult("CHECK"));
    }
    let annotations = written.runtime_config.get(ANNOTATIONS);
    let annotation = annotations.and_then(|all| all.get(ANNOTATION)).and_then(Value::as_str).map(str::to_owned);
    if command == Command::Gc && written.valid.is_none() && written.attachments.is_none() {
        return Err(ReadError::NoAttachments);
    }
    // What either says is in use is.
    let valid = [written.valid, written.attachments].into_iter().flatten().flatten().collect();
    Ok(Configuration {
        version: version.clone(),
        name: written.name,
        ours: ours(written.lichen)?,
        previous: written.prev_result.filter(|result| !result.is_null()),
        annotation,
        valid,
    })
}

impl Written {
    fn previous_is_odd(&self) -> bool {
        self.prev_result.as_ref().is_some_and(|result| !result.is_object() && !result.is_null())
    }
}

fn ours(value: Value) -> Result<Ours, ReadError> {
    if value.is_null() {
        return Ok(Ours::default());
    }
    let ours: Ours = Ours::deserialize(&value).map_err(|why| ReadError::Ours { value: value.to_string(), why })?;
    if ours.pu == ours.peer && ours.pods != Pods::None { Err(ReadError::OnePu(ours.pu)) } else { Ok(ours) }
}

/// The version in which the caller speaks, and wants to be answered.
pub fn version_of(text: &str) -> Result<String, ReadError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spoken {
        #[serde(default)]
        cni_version: String,
    }
    let spoken: Spoken = serde_json::from_str(text).map_err(ReadError::Json)?;
    if VERSIONS.contains(&spoken.cni_version.as_str()) {
        Ok(spoken.cni_version)
    } else {
        Err(ReadError::Version(spoken.cni_version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, command: Command) -> Result<Configuration, String> {
        read(text, command, &mut String::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_understood() {
        let text = r#"{"cniVersion":"1.1.0","name":"pods","type":"lichen-cni","ipam":{"odd":1},
            "lichen":{"peer":"dpu1","pods":"annotated","daemon":"/d"},"prevResult":{"ips":[]},
            "runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"lichen.dev/split":"dpu7"}},
            "cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]}"#;
        let read = of(text, Command::Gc).unwrap();
        assert_eq!((read.version.as_str(), read.name.as_str(), read.ours.pu.as_str()), ("1.1.0", "pods", "cpu"));
        assert_eq!((read.ours.peer.as_str(), read.ours.pods), ("dpu1", Pods::Annotated));
        assert_eq!(read.annotation.as_deref(), Some("dpu7"));
        assert_eq!(read.valid, [Valid { container: "a".to_owned(), ifname: "eth0".to_owned() }]);
        assert!(read.previous.is_some());
        let old = text.replace("valid-attachments", "attachments");
        assert_eq!(of(&old, Command::Gc).unwrap().valid.len(), 1);
        let both = |list: &str| {
            let keys = format!(r#""cni.dev/valid-attachments":{list},"cni.dev/attachments":{list}"#);
            of(&format!(r#"{{"cniVersion":"1.1.0","name":"pods",{keys}}}"#), Command::Gc).unwrap().valid
        };
        assert_eq!((both("null").len(), both("[]").len()), (0, 0));
        assert!(both(r#"[{"containerID":"a","ifname":"eth0"}]"#).contains(&read.valid[0]));
    }

    #[test]
    fn what_cannot_be_is_told() {
        let with = |more: &str| format!(r#"{{"cniVersion":"1.0.0","name":"pods"{more}}}"#);
        let cases = [
            ("[", Command::Add, "no JSON"),
            (r#"{"name":"pods"}"#, Command::Add, "cniVersion \"\""),
            (r#"{"cniVersion":"0.3.1","name":"pods"}"#, Command::Add, "cniVersion \"0.3.1\""),
            (r#"{"cniVersion":"2.0.0","name":"pods"}"#, Command::Add, "cniVersion \"2.0.0\""),
            (r#"{"cniVersion":"1.0.0","name":"../x"}"#, Command::Add, "the name \"../x\""),
            (r#"{"cniVersion":"1.0.0"}"#, Command::Add, "the name \"\""),
            (&with(""), Command::Gc, "GC is not in CNI 1.0.0"),
            (&with(""), Command::Status, "STATUS is not in CNI 1.0.0"),
            (&with(""), Command::Check, "no prevResult"),
            (&with(r#","prevResult":[]"#), Command::Add, "prevResult is no object"),
            (&with(r#","lichen":{"puu":"cpu"}"#), Command::Add, "\"lichen\": {\"puu\":\"cpu\"}: unknown field"),
            (&with(r#","lichen":{"pu":"dpu"}"#), Command::Add, "both \"dpu\""),
            (r#"{"cniVersion":"1.1.0","name":"pods"}"#, Command::Gc, "valid-attachments is not there"),
        ];
        for (text, command, words) in cases {
            let said = of(text, command).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
