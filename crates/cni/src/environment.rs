//! What the caller says by environment variables, and whether it can be so.

use crate::failure::Failure;
use std::ffi::OsString;
use std::path::PathBuf;

/// The kernel's limit, with the zero at the end.
const IFNAME_MAX: usize = 15;
/// More than any runtime's.
const CONTAINER_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// The variables, as they are: each is looked at when it is needed.
#[derive(Debug, Default)]
pub struct Environment {
    command: Option<OsString>,
    container: Option<OsString>,
    namespace: Option<OsString>,
    ifname: Option<OsString>,
    arguments: Option<OsString>,
}

impl Environment {
    pub fn of_process() -> Self {
        let of = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            command: of("CNI_COMMAND"),
            container: of("CNI_CONTAINERID"),
            namespace: of("CNI_NETNS"),
            ifname: of("CNI_IFNAME"),
            arguments: of("CNI_ARGS"),
        }
    }

    pub fn command(&self) -> Result<Command, Failure> {
        match self.command.as_ref().and_then(|command| command.to_str()) {
            Some("ADD") => Ok(Command::Add),
            Some("DEL") => Ok(Command::Del),
            Some("CHECK") => Ok(Command::Check),
            Some("GC") => Ok(Command::Gc),
            Some("STATUS") => Ok(Command::Status),
            Some("VERSION") => Ok(Command::Version),
            _ => Err(Failure::Variable("CNI_COMMAND")),
        }
    }

    pub fn container(&self) -> Result<&str, Failure> {
        text(&self.container).filter(|id| is_container(id)).ok_or(Failure::Variable("CNI_CONTAINERID"))
    }

    pub fn ifname(&self) -> Result<&str, Failure> {
        text(&self.ifname).filter(|name| is_ifname(name)).ok_or(Failure::Variable("CNI_IFNAME"))
    }

    /// Absolute, so that whoever opens it finds the same.
    pub fn namespace(&self) -> Result<PathBuf, Failure> {
        let path = text(&self.namespace).map(PathBuf::from).filter(|path| path.is_absolute());
        path.ok_or(Failure::Variable("CNI_NETNS"))
    }

    /// The value of a key in `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`.
    pub fn argument(&self, key: &str) -> Option<&str> {
        let pairs = text(&self.arguments)?.split(';');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

fn text(value: &Option<OsString>) -> Option<&str> {
    value.as_ref()?.to_str()
}

/// CNI's rule for containers and networks: a letter or digit, and such and `_`, `.` or `-` after it.
pub fn is_container(id: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    id.len() <= CONTAINER_MAX && id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.chars().all(rest)
}

pub fn is_ifname(name: &str) -> bool {
    let odd = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    !name.is_empty() && name.len() <= IFNAME_MAX && !matches!(name, "." | "..") && !name.contains(odd)
}

#[cfg(test)]
impl Environment {
    pub fn for_test(container: &str, namespace: Option<&str>, arguments: &str) -> Self {
        Self {
            command: None,
            container: Some(container.into()),
            namespace: namespace.map(Into::into),
            ifname: Some("eth0".into()),
            arguments: Some(arguments.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_cni_wants_them() {
        for id in ["a", "0b", "a_b.c-D9", &"f".repeat(CONTAINER_MAX)] {
            assert!(is_container(id), "{id}");
        }
        for id in ["", "-a", ".", "..", "a/b", "a b", "ä", &"f".repeat(CONTAINER_MAX + 1)] {
            assert!(!is_container(id), "{id}");
        }
        for name in ["eth0", "a@b", "fifteen-letters"] {
            assert!(is_ifname(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-letters!", "a\tb"] {
            assert!(!is_ifname(name), "{name}");
        }
    }

    #[test]
    fn arguments_are_found_by_their_key() {
        let environment = Environment::for_test("c", Some("relative"), "IgnoreUnknown=1;;A;B=x=y;B=z");
        assert_eq!(environment.argument("B"), Some("x=y"));
        assert_eq!(environment.argument("A"), None);
        assert!(matches!(environment.namespace(), Err(Failure::Variable("CNI_NETNS"))));
        assert!(matches!(Environment::default().container(), Err(Failure::Variable("CNI_CONTAINERID"))));
    }
}
