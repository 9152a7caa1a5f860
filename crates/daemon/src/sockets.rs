//! `[socket]`: which programs' connections may go through memory (`lichen socket run`), and whose memory that is.

use serde::Deserialize;
use std::path::Path;

/// What is allowed. Nothing said: everything.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sockets {
    /// Ports, of which one end of a connection has one.
    pub ports: Vec<u16>,
    /// Programs, by the names of their files; others run as they would without the library.
    pub programs: Vec<String>,
    /// Whether a node has a broker.
    pub broker: bool,
    /// Who has a memory together.
    pub mode: Mode,
}

/// Who can read and spoil what passes through memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The two processes of a connection.
    #[default]
    Pair,
    /// The two ends of each connection: no two connections have a memory together.
    Strict,
    /// All processes of one network: a Pod's.
    Pod,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { ports: Vec::new(), programs: Vec::new(), broker: true, mode: Mode::Pair }
    }
}

impl Sockets {
    /// Whether a program, as a command line names it, may.
    pub fn allows(&self, program: &Path) -> bool {
        let name = program.file_name().and_then(|name| name.to_str());
        self.programs.is_empty() || name.is_some_and(|name| self.programs.iter().any(|allowed| allowed == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_the_names_of_their_files() {
        let programs = vec!["redis-server".to_owned()];
        let some = Sockets { programs, ..Sockets::default() };
        assert!(some.allows(Path::new("/usr/bin/redis-server")) && some.allows(Path::new("redis-server")));
        assert!(!some.allows(Path::new("redis-server2")) && !some.allows(Path::new("/")));
        assert!(Sockets::default().allows(Path::new("anything")));
    }
}
