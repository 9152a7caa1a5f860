//! `[socket]`: which programs' connections may go through memory (`lichen socket run`).

use serde::Deserialize;
use std::path::Path;

/// What is allowed. Nothing said: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sockets {
    /// Ports, of which one end of a connection has one.
    pub ports: Vec<u16>,
    /// Programs, by the names of their files; others run as they would without the library.
    pub programs: Vec<String>,
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
