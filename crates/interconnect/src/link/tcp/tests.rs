//! Who gets a link, who does not, and what a stranger costs.

use super::authority::{Authority, AuthorityError, JoinRefused};
use super::dial::{self, DialError};
use super::dialer::{Dialer, Dialled};
use super::identity::Identity;
use super::listen::{Arrival, GUESTS_MAX, Listener};
use super::token::Token;
use super::*;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::unix::fs::PermissionsExt;
use std::time::{Instant, SystemTime};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(10);

/// A head that listens, and its folder.
struct Head {
    authority: Authority,
    listener: Listener,
    folder: TempDir,
}

impl Head {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = || Authority::open(folder.path()).unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), open()).unwrap();
        Self { authority: open(), listener, folder }
    }

    fn invite(&self, pu: u8) -> Token {
        self.authority.invite(pu, vec![self.listener.address().to_string()], PATIENCE).unwrap()
    }

    fn joined(&self, pu: u8) -> Identity {
        dial::join(&self.invite(pu), PATIENCE).unwrap()
    }

    fn arrival(&mut self) -> Arrival {
        let begun = Instant::now();
        loop {
            if let Some(arrival) = self.listener.take() {
                return arrival;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody arrives");
            wait(self.listener.poll_fd());
        }
    }
}

fn wait(descriptor: BorrowedFd<'_>) {
    let timeout = PATIENCE.try_into().unwrap();
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&timeout)).unwrap();
}

/// What comes next.
fn next(link: &mut Tcp) -> Result<Vec<u8>, End> {
    let (begun, mut message) = (Instant::now(), Vec::new());
    while !link.receive(&mut message, &mut Vec::new())? {
        assert!(begun.elapsed() < PATIENCE, "nothing comes");
        if link.arm() {
            wait(link.poll_fd());
        }
    }
    Ok(message)
}

#[test]
fn whoever_has_a_token_joins_once_and_connects_from_then_on() {
    let mut head = Head::new();
    let token: Token = head.invite(3).reveal().parse().unwrap();
    let identity = dial::join(&token, PATIENCE).unwrap();
    assert_eq!(identity.pu, 3);
    assert!(matches!(dial::join(&token, PATIENCE), Err(DialError::Unknown)), "a token is for one use");
    let home = tempfile::tempdir().unwrap();
    identity.keep(home.path()).unwrap();
    let identity = Identity::load(home.path()).unwrap().unwrap();
    for word in [b"one", b"two"] {
        let mut member = dial::connect(&identity, PATIENCE).unwrap();
        let Arrival { pu, mut link, .. } = head.arrival();
        assert_eq!(pu, 3);
        member.send(word).unwrap();
        assert_eq!(next(&mut link).unwrap(), word);
        link.send(b"back").unwrap();
        assert_eq!(next(&mut member).unwrap(), b"back");
    }
    for (folder, file) in [(&head.folder, "keys.json"), (&head.folder, "members.json"), (&home, "identity.json")] {
        let mode = folder.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file} is its owner's");
    }
}

#[test]
fn a_token_is_bounded_in_time_and_void_when_there_is_a_newer_one() {
    let head = Head::new();
    let (old, new) = (head.invite(3), head.invite(3));
    let key = [4; 65];
    let later = SystemTime::now() + PATIENCE * 2;
    let join = |token: &Token, key: &[u8], now| head.authority.join(&token.secret, key, now).map(|(pu, _)| pu);
    assert!(matches!(join(&old, &key, SystemTime::now()), Err(JoinRefused::Unknown)));
    assert!(matches!(join(&new, &key[1..], SystemTime::now()), Err(JoinRefused::Key)));
    assert!(matches!(join(&new, &[9; 65], SystemTime::now()), Err(JoinRefused::Key)), "and the token is still good");
    assert!(matches!(join(&new, &key, later), Err(JoinRefused::Expired)));
    assert!(matches!(join(&new, &key, SystemTime::now()), Err(JoinRefused::Unknown)), "what has expired is forgotten");
    let void = head.invite(5);
    assert!(head.authority.revoke(5).unwrap());
    assert!(matches!(join(&void, &key, SystemTime::now()), Err(JoinRefused::Unknown)));
    assert!(!head.authority.revoke(5).unwrap());
    let invite = |pu, address: &str| head.authority.invite(pu, vec![address.into()], PATIENCE);
    assert!(matches!(invite(0, "a:1"), Err(AuthorityError::Head)));
    assert!(matches!(invite(1, "a"), Err(AuthorityError::Address(_))));
    assert!(matches!(head.authority.invite(1, vec![], PATIENCE), Err(AuthorityError::NoAddress)));
}

#[test]
fn a_revoked_pu_loses_its_link_and_gets_no_other() {
    let mut head = Head::new();
    let (kept, revoked) = (head.joined(1), head.joined(2));
    let mut kept_link = dial::connect(&kept, PATIENCE).unwrap();
    let mut kept_end = head.arrival().link;
    let mut link = dial::connect(&revoked, PATIENCE).unwrap();
    let mut end = head.arrival().link;
    assert!(head.authority.revoke(2).unwrap());
    assert_eq!(next(&mut end), Err(End::Gone));
    assert_eq!(next(&mut link), Err(End::Gone));
    assert!(matches!(dial::connect(&revoked, PATIENCE), Err(DialError::NoMember)));
    kept_link.send(b"goes on").unwrap();
    assert_eq!(next(&mut kept_end).unwrap(), b"goes on");
    // Joining anew ends what the PU had before.
    let mut anew = dial::connect(&head.joined(1), PATIENCE).unwrap();
    assert_eq!(next(&mut kept_end), Err(End::Gone));
    assert!(matches!(dial::connect(&kept, PATIENCE), Err(DialError::NoMember)));
    head.arrival().link.send(b"welcome").unwrap();
    assert_eq!(next(&mut anew).unwrap(), b"welcome");
}

#[test]
fn a_pu_has_one_link() {
    let mut head = Head::new();
    let identity = head.joined(1);
    let mut first = dial::connect(&identity, PATIENCE).unwrap();
    let mut first_end = head.arrival().link;
    let mut second = dial::connect(&identity, PATIENCE).unwrap();
    let mut second_end = head.arrival().link;
    assert_eq!(next(&mut first), Err(End::Gone));
    assert_eq!(next(&mut first_end), Err(End::Gone));
    // Without its listener a link goes on.
    drop(head);
    second.send(b"goes on").unwrap();
    assert_eq!(next(&mut second_end).unwrap(), b"goes on");
    drop(second_end);
    assert_eq!(next(&mut second), Err(End::Gone));
}

#[test]
fn another_head_is_not_spoken_to() {
    let (mine, other) = (Head::new(), Head::new());
    let mut token = mine.invite(1);
    token.addresses = vec![other.listener.address().to_string()];
    assert!(matches!(dial::join(&token, PATIENCE), Err(DialError::Stranger { .. })));
    let mut identity = mine.joined(1);
    identity.addresses = vec![other.listener.address().to_string()];
    assert!(matches!(dial::connect(&identity, PATIENCE), Err(DialError::Stranger { .. })));
    // One address that fails does not hide the next.
    identity.addresses.push(mine.listener.address().to_string());
    dial::connect(&identity, PATIENCE).unwrap();
    identity.addresses = vec!["127.0.0.1:1".into()];
    assert!(matches!(dial::connect(&identity, PATIENCE), Err(DialError::Unreachable { .. })));
}

#[test]
fn strangers_cost_little_and_hold_up_nobody() {
    let mut head = Head::new();
    let identity = head.joined(1);
    let address: SocketAddr = head.listener.address();
    let garbage = |bytes: &[u8]| {
        let mut stranger = TcpStream::connect(address).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be cut off while it still speaks.
        let _ = stranger.write_all(bytes);
        let _ = stranger.shutdown(Shutdown::Write);
        // Until it is closed: an alert at most comes before that.
        let mut answer = Vec::new();
        let _ = stranger.take(4096).read_to_end(&mut answer);
        assert!(answer.len() < 4096);
    };
    garbage(b"GET / HTTP/1.1\r\n\r\n");
    garbage(&[0; 100_000]);
    garbage(&[0xff; 100_000]);
    garbage(&[0x16, 3, 1, 0xff, 0xff]);
    garbage(&[vec![0x16, 3, 1, 0x40, 0], vec![1; 0x4000]].concat().repeat(10));
    let silent: Vec<_> = (0..2 * GUESTS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut link = dial::connect(&identity, PATIENCE).unwrap();
    link.send(b"still here").unwrap();
    assert_eq!(next(&mut head.arrival().link).unwrap(), b"still here");
    // Those that came first had to go: they read an end, not a wait.
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!((&silent[0]).read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn a_guest_that_is_silent_is_sent_away() {
    let head = Head::new();
    let stranger = TcpStream::connect(head.listener.address()).unwrap();
    stranger.set_read_timeout(Some(listen::GUEST_TIME * 3)).unwrap();
    let begun = Instant::now();
    assert_eq!((&stranger).read(&mut [0; 1]).unwrap(), 0);
    assert!(begun.elapsed() >= listen::GUEST_TIME / 2, "it had its time");
}

#[test]
fn a_member_that_breaks_the_framing_loses_its_link() {
    let mut head = Head::new();
    let mut link = dial::connect(&head.joined(1), PATIENCE).unwrap();
    let mut end = head.arrival().link;
    link.send(b"first").unwrap();
    link.outgoing = (MESSAGE_MAX as u32 + 1).to_le_bytes().to_vec();
    link.flush().unwrap();
    assert_eq!(next(&mut end).unwrap(), b"first");
    assert_eq!(next(&mut end), Err(End::Broken));
    assert_eq!(end.send(b"x"), Err(SendError::Ended(End::Broken)));
    // Bytes that are no TLS.
    let mut link = dial::connect(&head.joined(1), PATIENCE).unwrap();
    let mut end = head.arrival().link;
    link.socket.set_nonblocking(false).unwrap();
    link.socket
        .write_all(&[0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .unwrap();
    assert_eq!(next(&mut end), Err(End::Broken));
}

#[test]
fn a_dialer_connects_again_until_it_is_refused() {
    let mut head = Head::new();
    let mut identity = head.joined(1);
    // A machine that is not there yet.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    identity.addresses = vec![taken.local_addr().unwrap().to_string()];
    drop(taken);
    let address: SocketAddr = identity.addresses[0].parse().unwrap();
    let mut dialer = Dialer::start(identity).unwrap();
    let next_outcome = |dialer: &mut Dialer| {
        let begun = Instant::now();
        loop {
            if let Some(outcome) = dialer.take() {
                return outcome;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing comes of it");
            wait(dialer.poll_fd());
        }
    };
    assert!(matches!(next_outcome(&mut dialer), Dialled::Failed(DialError::Unreachable { .. })));
    head.listener = Listener::bind(address, Authority::open(head.folder.path()).unwrap()).unwrap();
    for _ in 0..3 {
        let mut link = loop {
            match next_outcome(&mut dialer) {
                Dialled::Link(link) => break link,
                Dialled::Failed(_) => {}
                Dialled::Refused(error) => panic!("{error}"),
            }
        };
        drop(head.arrival());
        assert_eq!(next(&mut link), Err(End::Gone));
        dialer.again();
    }
    assert!(matches!(next_outcome(&mut dialer), Dialled::Link(_)));
    assert!(head.authority.revoke(1).unwrap());
    dialer.again();
    assert!(matches!(next_outcome(&mut dialer), Dialled::Refused(DialError::NoMember)));
}

#[test]
fn files_that_were_damaged_are_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(Authority::open(folder.path()).unwrap());
    std::fs::write(folder.path().join("keys.json"), "{").unwrap();
    let Err(error) = Authority::open(folder.path()) else { panic!("keys out of nothing") };
    assert!(error.to_string().contains("keys.json"), "{error}");
}

/// Runs `check` where the network is this thread's own, and can be switched off. False: not here.
fn with_own_network(check: impl FnOnce() + Send + 'static) -> bool {
    let run = move || {
        if os::ns::unshare(os::ns::Kinds::NET).is_err() || !switch("up") {
            return false;
        }
        check();
        true
    };
    std::thread::spawn(run).join().unwrap()
}

/// Switches the loopback device of this thread's network.
fn switch(state: &str) -> bool {
    let ip = std::process::Command::new("ip").args(["link", "set", "lo", state]).status();
    ip.is_ok_and(|status| status.success())
}

#[test]
fn a_peer_that_vanishes_without_a_word_is_noticed() {
    let ran = with_own_network(|| {
        let mut head = Head::new();
        let mut link = dial::connect(&head.joined(1), PATIENCE).unwrap();
        let mut end = head.arrival().link;
        end.send(b"both ways").unwrap();
        assert_eq!(next(&mut link).unwrap(), b"both ways");
        assert!(switch("down"));
        let begun = Instant::now();
        // One end waits, the other has something to say.
        link.send(b"into the dark").unwrap();
        assert_eq!(next(&mut end), Err(End::Gone));
        assert_eq!(next(&mut link), Err(End::Gone));
        assert!(begun.elapsed() < SILENCE * 2, "noticed after {:?}", begun.elapsed());
    });
    if !ran {
        println!("skip: a network of one's own needs root and `ip`");
    }
}
