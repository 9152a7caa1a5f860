//! Speaking to `lichen net`: one request and its answer, a line of JSON each, over a Unix socket that only root can reach.

use super::ports::Port;
use super::{Half, Network, Rules};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// The most bytes of one request: rules are the longest part.
pub const REQUEST_LIMIT: u64 = 4 << 20;
/// The most bytes of one answer: a claim is some 40 of them.
const ANSWER_LIMIT: u64 = 64 << 20;
/// How long a daemon may be at work for others and say nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the daemon's folder is.
pub const FOLDER: &str = "/run/lichen/net";
/// The daemon's socket within it.
pub const SOCKET: &str = "socket";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Makes a network of its halves.
    Join(Network),
    /// Takes a network apart. One that is not there is gone already.
    Leave { network: String },
    /// A half is gone: the others go on without it.
    Lose { network: String, pu: String },
    /// A half that was gone is there again.
    Rejoin { network: String, half: Half },
    /// Takes one more half in. Of a network that was not split, the uplink and the addresses may be said now.
    Split { network: String, half: Half, uplink: Option<String>, addresses: Vec<IpAddr> },
    /// Hands connections to a proxy that stands on this PU, as the rules say.
    Capture { network: String, proxy: String, rules: Rules },
    /// Hands them to nobody.
    Release { network: String },
    /// Says anew whose programs may share memory there.
    Users { network: String, users: Vec<u32> },
    /// All networks.
    List,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    /// The network is there. Ports that more than one half had already, which stay the first one's.
    Joined {
        contended: Vec<Port>,
    },
    Networks(Vec<Status>),
    /// A sentence for people.
    Refused(String),
}

/// What there is to say of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub uplink: Option<String>,
    pub halves: Vec<HalfStatus>,
    /// The PU whose proxy gets connections.
    pub proxy: Option<String>,
    /// Whose programs may share memory.
    #[serde(default)]
    pub users: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfStatus {
    pub pu: String,
    /// Whether it is there.
    pub there: bool,
    /// Claimed ports.
    pub ports: Vec<Port>,
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, Error)]
pub enum AskError {
    #[error("no daemon for split networks at {socket}: start `lichen net serve` ({source})")]
    NoDaemon { socket: String, source: io::Error },
    #[error("the daemon for split networks has gone away")]
    Gone(#[source] io::Error),
    #[error("the daemon for split networks has said nothing for {} seconds", PATIENCE.as_secs())]
    Silent,
    #[error("the daemon for split networks makes no sense: is it of another version?")]
    Answer,
    #[error("{0}")]
    Refused(String),
}

/// Asks the daemon of a folder ([`FOLDER`]).
pub fn ask(folder: &Path, request: &Request) -> Result<Answer, AskError> {
    ask_within(PATIENCE, folder, request)
}

fn ask_within(patience: Duration, folder: &Path, request: &Request) -> Result<Answer, AskError> {
    let socket = folder.join(SOCKET);
    let stream = reach(&socket, patience).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => AskError::Silent,
        _ => AskError::NoDaemon { socket: socket.display().to_string(), source },
    })?;
    let mut line = serde_json::to_vec(request).map_err(|_| AskError::Answer)?;
    line.push(b'\n');
    let gone = |source: io::Error| match source.kind() {
        io::ErrorKind::WouldBlock => AskError::Silent,
        _ => AskError::Gone(source),
    };
    (&stream).write_all(&line).map_err(gone)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_LIMIT)).read_line(&mut answer).map_err(gone)?;
    match serde_json::from_str(&answer).map_err(|_| AskError::Answer)? {
        Answer::Refused(why) => Err(AskError::Refused(why)),
        answer => Ok(answer),
    }
}

/// Connects, and does not wait for ever: not either for a place in the queue of a daemon that has stopped.
fn reach(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    for timeout in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&socket, timeout, Some(patience))?;
    }
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{bind, listen};

    #[test]
    fn a_daemon_that_says_nothing_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&daemon, &SocketAddrUnix::new(folder.path().join(SOCKET)).unwrap()).unwrap();
        listen(&daemon, 0).unwrap();
        let ask = || ask_within(Duration::from_millis(20), folder.path(), &Request::List);
        assert!(matches!(ask(), Err(AskError::Silent)), "it does not answer");
        let waiting = reach(&folder.path().join(SOCKET), Duration::from_millis(20));
        assert!(matches!(ask(), Err(AskError::Silent)), "it does not take callers either: {waiting:?}");
        drop(daemon);
        assert!(matches!(ask(), Err(AskError::NoDaemon { .. })));
    }
}
