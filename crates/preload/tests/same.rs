//! The same program with the library and without: what it says of its connections is the same.

use net::broker::{Bounds, Broker};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

/// Where cargo has put the library: beside this test's program.
fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().join("liblichen_socket.so")
}

fn ran(command: &mut Command) -> String {
    let output: Output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// A program of ours in C.
fn compiled(folder: &Path, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name).with_extension("c");
    let program = folder.join(name);
    ran(Command::new("gcc").args(["-O1", "-Wall", "-Werror", "-pthread", "-o"]).arg(&program).arg(source));
    program
}

/// What it says with the library and a broker of its own, and how many connections met there.
fn beside_a_broker(program: &Path, settings: &[(&str, &str)]) -> (String, u64) {
    with_words(program, &[], settings)
}

fn with_words(program: &Path, words: &[String], settings: &[(&str, &str)]) -> (String, u64) {
    let place = program.with_extension("broker");
    let mut broker = Broker::bind(&place, Bounds::default()).unwrap();
    let (stop, end) = std::io::pipe().unwrap();
    let serving = thread::spawn(move || broker.run(stop.as_fd()).map(|()| broker.met()));
    let mut command = Command::new(program);
    command.args(words).env("LD_PRELOAD", built()).env("LICHEN_SOCKET_BROKER", &place).envs(settings.iter().copied());
    let said = ran(&mut command);
    drop(end);
    let met = serving.join().unwrap().unwrap();
    std::fs::remove_file(&place).unwrap();
    (said, met)
}

#[test]
fn a_program_cannot_tell() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "probe");
    let without = ran(&mut Command::new(&program));
    let cases = without.lines().filter(|line| line.contains(": ")).count();
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "2"), ("EXPECT_MEMORY", "1")]);
    assert_eq!(with, without);
    assert!(met as usize >= cases, "{met} connections met in {cases} cases");
}

/// Nor by calls that are seldom made, and ways in which others come to have its descriptors.
#[test]
fn a_program_cannot_tell_by_what_it_seldom_does() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "seldom");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "2"), ("EXPECT_MEMORY", "1")]);
    assert_eq!(with, without);
    assert!(met >= 12, "{met} connections met");
}

/// Of many connections in an epoll set most sleep: none is forgotten, however the set is waited for.
#[test]
fn who_is_called_answers() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "called");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "4")]);
    assert_eq!(with, without);
    assert!(met > 200, "most of them got memory");
}

/// What the kernel has to say is heard beside connections that always have something, and who asks without waiting is rung for when he waits.
#[test]
fn others_are_heard_beside_busy_connections() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "beside");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "4")]);
    assert_eq!(with, without);
    assert!(without.matches("pipe heard, 100 connections").count() == 3 && met > 300, "{without}, {met} with memory");
}

/// Of several threads that wait for one set, one is woken while another is held up by what it was woken for.
#[test]
fn one_of_several_is_woken() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "several");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_LOOK_US", "0"), ("LICHEN_SOCKET_AFTER", "4")]);
    assert_eq!((with, met), (without, 6));
}

/// Who sleeps in poll or select is woken by the thread's bell: no byte goes over TCP for that. The library never looks before it sleeps.
#[test]
fn who_polls_is_rung_for() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "polled");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_LOOK_US", "0"), ("EXPECT_MEMORY", "1")]);
    assert_eq!((with, met), (without, 8));
}

/// Whoever asks the kernel past libc gets what was sent, whether its ring is seen when it is made or when a connection is to be offered memory.
#[test]
fn who_has_a_ring_is_on_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "rings");
    let without = Command::new(&program).output().unwrap();
    if without.status.code() == Some(2) {
        eprintln!("io_uring is not to be had here: not tried");
        return;
    }
    let settings = [("LICHEN_SOCKET_AFTER", "2"), ("EXPECT_MEMORY", "1"), ("LICHEN_SOCKET_LOG", "1")];
    let (with, met) = beside_a_broker(&program, &settings);
    assert_eq!(with, String::from_utf8_lossy(&without.stdout));
    assert_eq!(met, 2, "all but the one that had a ring before");
}

/// Senders wait a little for receivers that are behind, but never for one that does not receive: here they are one thread.
#[test]
fn who_sends_ahead_waits_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "ahead");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "4")]);
    assert_eq!(with, without);
    assert!(met > 100, "most of them got memory");
}

/// The library's descriptors have high numbers. Where a process has several threads, the first of them waits for the kernel to make
/// room, for tens of milliseconds: it is made before there are any.
#[test]
fn descriptors_have_room_from_the_beginning() {
    let mut command = Command::new("cat");
    command.arg("/proc/self/status").env("LICHEN_SOCKET_BROKER", "/nowhere").env("LD_PRELOAD", built());
    let text = ran(&mut command);
    let room =
        text.lines().find_map(|line| line.strip_prefix("FDSize:")).and_then(|room| room.trim().parse::<u32>().ok());
    assert!(room >= Some(1024), "{text}");
}

/// A set's members are removed, put back and changed, of which the kernel hears late, or never: what is said of them is the same.
#[test]
fn who_changes_a_set_is_told_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "late");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "4")]);
    assert_eq!((with, met), (without, 2));
}

/// `shutdown` of a side, or of both: what can be received afterwards, and who is told what.
#[test]
fn who_shuts_a_side_is_told_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "shut");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "2")]);
    assert_eq!((with, met), (without, 11));
}

/// A set speaks once of a connection that is to be spoken of once, also if that gets memory meanwhile.
#[test]
fn what_is_to_be_said_once_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "once");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "2")]);
    assert_eq!((with, met), (without, 5));
}

/// Whoever listens for a program that is started then (socket activation) need not have the library.
#[test]
fn listeners_that_come_from_elsewhere_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "handed");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "2"), ("EXPECT_MEMORY", "1")]);
    assert_eq!((with, met), (without, 2));
}

/// A socket that has a port, which others may have too who listen there.
fn bound() -> (OwnedFd, u16) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap().port();
    (socket, port)
}

/// Who looks for an answer keeps nobody from running on whom that depends: neither one who was woken on its processor to give it, nor one to
/// whom it has sent something over TCP itself. It looks for milliseconds here, and so would each call take some.
#[test]
fn who_looks_lets_others_go_first() {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("there is one processor: not tried");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "turns");
    let calls = |look: &str, all_in_memory: bool| {
        // Kept for the program: it listens by them itself.
        let kept = [(); 3].map(|()| bound());
        let ports = kept.each_ref().map(|(_, port)| port.to_string());
        let joined = if all_in_memory { ports.join(",") } else { format!("{},{}", ports[0], ports[2]) };
        let settings =
            [("LICHEN_SOCKET_LOOK_US", look), ("LICHEN_SOCKET_AFTER", "4"), ("LICHEN_SOCKET_PORTS", &*joined)];
        let (said, met) = with_words(&program, &ports, &settings);
        assert_eq!(met, if all_in_memory { 3 } else { 2 });
        said.trim().parse::<u64>().unwrap()
    };
    for all_in_memory in [true, false] {
        // Others are at work on these processors too.
        let mut tries = Vec::new();
        let good = (0..5).any(|_| {
            let [asleep, looking] = ["0", "5000"].map(|look| calls(look, all_in_memory));
            tries.push([asleep, looking]);
            looking < 2 * asleep
        });
        assert!(good, "us without looking, and with: {tries:?}, all in memory: {all_in_memory}");
    }
}

/// Nobody to bring ends together: a library that does nothing.
#[test]
fn without_a_broker_all_is_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "probe");
    let without = ran(&mut Command::new(&program));
    let with = ran(Command::new(&program).env("LD_PRELOAD", built()));
    assert_eq!(with, without);
    let gone = folder.path().join("nobody");
    assert_eq!(ran(Command::new(&program).env("LD_PRELOAD", built()).env("LICHEN_SOCKET_BROKER", gone)), without);
}

/// A broker of another build: all is TCP, and whoever asks is told why, once.
#[test]
fn a_broker_of_another_build_is_spoken_of() {
    let folder = tempfile::tempdir().unwrap();
    let (program, place) = (compiled(folder.path(), "called"), folder.path().join("broker"));
    let without = ran(&mut Command::new(&program));
    let listener = os::seqpacket::listen(&place).unwrap();
    let (stop, end) = std::io::pipe().unwrap();
    let serving = thread::spawn(move || {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut refused = Vec::new();
        loop {
            let mut events = [PollFd::new(&stop, PollFlags::IN), PollFd::new(&listener, PollFlags::IN)];
            poll(&mut events, None).unwrap();
            if !events[0].revents().is_empty() {
                return refused.len();
            }
            if let Ok(Some(socket)) = os::seqpacket::accept(listener.as_fd()) {
                let said = [IoSlice::new(&[socket::member::REFUSED]), IoSlice::new(b"999.4 9.9.9")];
                // While what a library has said is not read, closing this would take the answer back. One whose program has ended is gone.
                refused.extend(os::seqpacket::send(&socket, &said, &[]).is_ok().then_some(socket));
            }
        }
    });
    let with = |log: Option<&str>| {
        let mut command = Command::new(&program);
        command.env("LD_PRELOAD", built()).env("LICHEN_SOCKET_BROKER", &place).env("LICHEN_SOCKET_AFTER", "4");
        let output = command.envs(log.map(|log| ("LICHEN_SOCKET_LOG", log))).output().unwrap();
        assert!(output.status.success());
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(out, without);
        err
    };
    assert_eq!(with(None), "");
    let said = with(Some("1"));
    assert!(said.contains("9.9.9 (999.4)") && said.contains(&socket::build::name()), "{said}");
    // The program has a child: each of the two says it once, at most.
    assert!(said.contains("stay on TCP") && said.matches("lichen: ").count() <= 2, "{said}");
    drop(end);
    assert!(serving.join().unwrap() > 0);
}

/// It holds the sockets that it was shown, and the connections end all the same.
#[test]
fn a_broker_that_is_stopped_keeps_no_connection_up() {
    let folder = tempfile::tempdir().unwrap();
    let (program, place) = (compiled(folder.path(), "ends"), folder.path().join("broker"));
    let said = |library: bool| {
        let mut broker = Broker::bind(&place, Bounds::default()).unwrap();
        let (stop, end) = std::io::pipe().unwrap();
        let serving = thread::spawn(move || broker.run(stop.as_fd()).map(|()| broker));
        let mut command = Command::new(&program);
        if library {
            command.env("LD_PRELOAD", built()).env("LICHEN_SOCKET_BROKER", &place).env("LICHEN_SOCKET_AFTER", "2");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        // From here on it hears nobody, and is still there.
        drop(end);
        let _silent = serving.join().unwrap().unwrap();
        writeln!(child.stdin.take().unwrap(), "go").unwrap();
        out.read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        std::fs::remove_file(&place).unwrap();
        said
    };
    assert_eq!(said(true), said(false));
}
