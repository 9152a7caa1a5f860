//! The broker of a network's users. They are threads of this process that have another user's number: it takes root.

use super::*;
use crate::broker::doors;
use rustix::process::{Gid, Uid};
use socket::member::HELLO;
use std::io::Write;
use std::net::TcpStream;

const APP: u32 = 12_001;
const PROXY: u32 = 12_002;
const STRANGER: u32 = 12_003;

/// Such a broker, in a thread of its own, and the network.
struct Shared {
    served: Served,
    known: Known,
}

fn namespace() -> u64 {
    os::netlink::namespace_of(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
}

/// None: it takes root.
fn share(namespace: u64, bounds: Bounds) -> Option<Shared> {
    share_after(namespace, bounds, |_| ())
}

/// The same, of which this was done before it serves.
fn share_after(namespace: u64, bounds: Bounds, before: impl FnOnce(&Path)) -> Option<Shared> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let known = Known { name: "web".to_owned(), namespaces: vec![namespace], users: vec![APP, PROXY] };
    let _lock = doors::take(folder.path()).unwrap();
    assert_eq!(doors::take(folder.path()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    doors::prepare(folder.path(), &known).unwrap();
    let path = doors::own(folder.path(), &known).unwrap();
    let mut broker = Broker::of_network(&path, folder.path(), &known, bounds).unwrap();
    before(folder.path());
    let (stopped, stop) = rustix::pipe::pipe().unwrap();
    let thread = std::thread::spawn(move || broker.run(stopped.as_fd()).unwrap());
    Some(Shared { served: Served { path, stop: Some(stop), thread: Some(thread), folder: Some(folder) }, known })
}

/// Acts as a user: a thread's numbers are its own.
fn acting<T: Send + 'static>(user: u32, act: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        act()
    });
    thread.join().unwrap()
}

impl Shared {
    fn door(&self, user: u32) -> PathBuf {
        doors::door(self.served.folder.as_ref().unwrap().path(), self.known.namespaces[0], user)
    }

    fn join(&self, user: u32) -> Member {
        let door = self.door(user);
        acting(user, move || Member::join(&door).unwrap())
    }

    /// Offers an end, as a user, by whosever key.
    fn offer(&self, user: u32, key: socket::member::Key, end: &TcpStream) -> OwnedFd {
        let (door, end) = (self.door(user), end.try_clone().unwrap());
        acting(user, move || {
            let socket = seqpacket::connect(&door).unwrap();
            // With a bell: a pipe of its own.
            let (_, bell) = std::io::pipe().unwrap();
            let said: [&[u8]; 3] = [&[socket::member::OFFER], &key, &7_u64.to_le_bytes()];
            seqpacket::send(&socket, &said.map(IoSlice::new), &[end.as_fd(), bell.as_fd()]).unwrap();
            socket
        })
    }

    fn ask(&self, user: u32) -> api::node::Sockets {
        let door = self.door(user);
        acting(user, move || ask(&door).unwrap())
    }
}

/// Records that a process may take, as its notice says.
fn limit(member: &Member) -> u32 {
    let mut word = [0; 4];
    rustix::io::pread(member.notice().unwrap(), &mut word, 0).unwrap();
    u32::from_ne_bytes(word)
}

/// The first thing that is said to an offer, and with how many descriptors; none if it is hung up on.
fn answered(offer: &OwnedFd) -> Option<(Meeting, Vec<OwnedFd>)> {
    poll(&mut [PollFd::new(offer, PollFlags::IN)], None).unwrap();
    let (mut message, mut files) = ([0; 64], Vec::new());
    let len = seqpacket::receive(offer, &mut message, &mut files).ok()?;
    Some((Meeting::of(&message[..len])?, files))
}

#[test]
fn two_users_of_a_network_meet_in_a_pair_of_theirs() {
    for sharing in [Sharing::Pair, Sharing::Pod, Sharing::Strict] {
        let Some(shared) = share(namespace(), Bounds { sharing, ..quick() }) else { return };
        let (app, proxy, second) = (shared.join(APP), shared.join(PROXY), shared.join(APP));
        let (near, far) = connection();
        let (one, two) = (shared.offer(APP, key(&app), &near), shared.offer(PROXY, key(&proxy), &far));
        let ((a, files), (b, same)) = (answered(&one).unwrap(), answered(&two).unwrap());
        assert_eq!((a.number, number(&files[0])), (b.number, number(&same[0])));
        // Of two, whatever the mode; and without bells.
        assert_eq!(os::memfd::sealed_len(&files[0]).unwrap(), socket::layout::whole(2) as u64);
        assert_eq!((a.bell, b.bell, files.len(), same.len()), (0, 0, 1, 1));
        // Those of one user have theirs, which are others, and bells.
        let (near, far) = connection();
        let (one, two) = (shared.offer(APP, key(&app), &near), shared.offer(APP, key(&second), &far));
        let ((a, own), _) = (answered(&one).unwrap(), answered(&two).unwrap());
        assert_ne!(number(&own[0]), number(&files[0]), "{sharing:?}");
        assert_eq!((a.bell, own.len()), (7, 2));
    }
}

#[test]
fn in_another_network_than_theirs_they_do_not_meet() {
    let Some(shared) = share(namespace() + 1_000_000, quick()) else { return };
    let (app, proxy, second) = (shared.join(APP), shared.join(PROXY), shared.join(APP));
    let (near, far) = connection();
    let waits = shared.offer(APP, key(&app), &near);
    assert!(answered(&shared.offer(PROXY, key(&proxy), &far)).is_none());
    // One user's programs do, by the end that waits still.
    assert!(answered(&shared.offer(APP, key(&second), &far)).is_some());
    assert!(answered(&waits).is_some());
}

#[test]
fn a_door_is_one_users() {
    let Some(shared) = share(namespace(), quick()) else { return };
    let refused = |user, path: PathBuf| acting(user, move || seqpacket::connect(&path).unwrap_err().kind());
    for (user, of) in [(STRANGER, APP), (PROXY, APP), (APP, PROXY)] {
        assert_eq!(refused(user, shared.door(of)), std::io::ErrorKind::PermissionDenied);
    }
    assert_eq!(refused(APP, shared.served.path.clone()), std::io::ErrorKind::PermissionDenied);
    // Nor can anybody put something else there, or keep others from hearing of another broker.
    let (own, others) = (shared.door(PROXY), socket::member::call_beside(&shared.door(APP)));
    acting(PROXY, move || {
        assert!(std::fs::remove_file(&own).is_err());
        assert!(std::fs::File::open(socket::member::call_beside(&own)).is_ok());
        assert!(std::fs::File::open(&others).is_err());
        // Its own door it can open to all,
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o666)).unwrap();
    });
    // who come in vain then: root too.
    let door = shared.door(PROXY);
    assert!(acting(STRANGER, move || Member::join(&door)).is_err());
    assert!(Member::join(&shared.door(PROXY)).is_err());
    assert!(shared.ask(PROXY).broker);
}

/// Users have the same numbers in other networks, and may see its folder there.
#[test]
fn a_door_is_one_networks() {
    let Some(shared) = share(namespace(), quick()) else { return };
    let door = shared.door(APP);
    let elsewhere = std::thread::spawn(move || {
        os::ns::unshare(os::ns::Kinds::NET).unwrap();
        let app = Uid::from_raw(APP);
        rustix::thread::set_thread_res_uid(app, app, app).unwrap();
        (Member::join(&door).is_ok(), ask(&door).is_ok())
    });
    assert_eq!(elsewhere.join().unwrap(), (false, false));
    assert_eq!(shared.ask(APP).processes, 0);
}

#[test]
fn what_is_one_users_is_of_no_use_to_another() {
    let Some(shared) = share(namespace(), quick()) else { return };
    let (app, proxy, second) = (shared.join(APP), shared.join(PROXY), shared.join(APP));
    let (near, far) = connection();
    let waits = shared.offer(APP, key(&app), &near);
    // Its key; its notice; its memory.
    assert!(answered(&shared.offer(PROXY, key(&app), &far)).is_none());
    let (notice, door) = (app.notice().unwrap().try_clone_to_owned().unwrap(), shared.door(PROXY));
    let said = acting(PROXY, move || {
        let socket = seqpacket::connect(&door).unwrap();
        rustix::io::ioctl_fionbio(&socket, false).unwrap();
        let hello = [HELLO, socket::build::own().as_bytes()].concat();
        seqpacket::send(&socket, &[IoSlice::new(&hello)], &[notice.as_fd()]).unwrap();
        seqpacket::receive(&socket, &mut [0; 64], &mut Vec::new()).unwrap()
    });
    assert_eq!(said, 0, "it is hung up on");
    assert!(answered(&shared.offer(APP, key(&second), &far)).is_some());
    let (_, files) = answered(&waits).unwrap();
    assert!((0..2).all(|store| proxy.tell(&files[0], store).is_err()));
    // Of who has what, each hears what is its own.
    let (alone, _other) = connection();
    let _waits = shared.offer(PROXY, key(&proxy), &alone);
    eventually("it is known", || shared.ask(PROXY).connections.len() == 1);
    let (of_proxy, of_app, all) = (shared.ask(PROXY), shared.ask(APP), ask(&shared.served.path).unwrap());
    assert_eq!((of_proxy.processes, of_app.processes, all.processes), (1, 2, 3));
    assert_eq!((of_proxy.met, of_app.met, all.met), (0, 1, 1));
    assert_eq!((of_proxy.connections.len(), of_app.connections.len(), all.connections.len()), (1, 1, 2));
    assert_ne!(of_proxy.connections, of_app.connections);
}

/// A socket whose last close takes minutes: what it has sent is not received, and it was told to wait for that.
fn lingering() -> (TcpStream, TcpStream) {
    let (mut near, far) = connection();
    near.set_nonblocking(true).unwrap();
    while near.write(&[0; 65536]).is_ok() {}
    rustix::net::sockopt::set_socket_linger(&near, Some(Duration::from_secs(600))).unwrap();
    (near, far)
}

#[test]
fn what_a_user_shows_keeps_nobody_when_it_is_closed() {
    let mut others = Vec::new();
    let say = |door: &Path, file: BorrowedFd<'_>| {
        let socket = seqpacket::connect(door).unwrap();
        seqpacket::send(&socket, &[IoSlice::new(b"no word of anybody's")], &[file]).unwrap();
        socket
    };
    let mut said = None;
    let shared = share_after(namespace(), quick(), |folder| {
        let door = doors::door(folder, namespace(), PROXY);
        let (near, far) = lingering();
        others.push(far);
        said = Some(acting(PROXY, move || say(&door, near.as_fd())));
    });
    let Some(shared) = shared else { return };
    let hangs_up = |socket: &OwnedFd| {
        poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
        seqpacket::receive(socket, &mut [0; 64], &mut Vec::new()).map_or(0, |len| len)
    };
    // It is the broker's alone by now, and nobody waits.
    let (app, second, (near, far)) = (shared.join(APP), shared.join(APP), connection());
    let (one, two) = (shared.offer(APP, key(&app), &near), shared.offer(APP, key(&second), &far));
    assert!(answered(&one).is_some() && answered(&two).is_some());
    // Whoever shows more is not heard in the end, and nobody else notices.
    let (door, null) = (shared.door(PROXY), std::fs::File::open("/dev/null").unwrap());
    let crowd: Vec<OwnedFd> = acting(PROXY, move || (0..closer::MANY).map(|_| say(&door, null.as_fd())).collect());
    let door = shared.door(PROXY);
    let (waits, is_heard) = (acting(PROXY, move || say(&door, std::io::stdin().as_fd())), |socket: &OwnedFd| {
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&now)).unwrap() > 0
    });
    for _ in 0..8 {
        drop(shared.join(APP));
    }
    assert!(!is_heard(&waits));
    // It goes on when the first one is closed.
    drop(others);
    for socket in said.iter().chain(&crowd).chain([&waits]) {
        assert_eq!(hangs_up(socket), 0);
    }
    drop(shared.join(PROXY));
}

#[test]
fn a_door_is_waited_for_until_somebody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let door = folder.path().join("broker");
    let early = doors::await_open(&door, Duration::from_millis(1)).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::NotFound);
    let waits = std::thread::spawn({
        let door = door.clone();
        move || doors::await_open(&door, Duration::from_secs(60))
    });
    // Of a broker that has ended; then of the next.
    drop(seqpacket::listen(&door).unwrap());
    std::fs::remove_file(&door).unwrap();
    let _listener = seqpacket::listen(&door).unwrap();
    // It is given to its user.
    std::fs::set_permissions(&door, std::fs::Permissions::from_mode(0o600)).unwrap();
    waits.join().unwrap().unwrap();
}

#[test]
fn one_user_takes_nothing_from_another() {
    let Some(shared) = share(namespace(), Bounds { members: 8, records: 64, each: 32, ..quick() }) else { return };
    let app = shared.join(APP);
    let door = shared.door(PROXY);
    let (places, refused) = acting(PROXY, move || {
        let (places, refused): (Vec<_>, Vec<_>) = (0..8).map(|_| Member::join(&door)).partition(Result::is_ok);
        (places, refused.len())
    });
    assert_eq!((places.len(), refused), (4, 4), "half of all places are the other's");
    // So are half of the records: however many there are among whom the first user's are divided.
    assert_eq!(limit(&app), 32);
    eventually("its own are divided", || limit(places[0].as_ref().unwrap()) == 8);
    // Memory that it has the broker watch, and connections that say nothing, are bounded likewise.
    let part = (os::process::descriptors() / 4).min(16384) as usize / 2;
    let most = part.min(os::process::descriptors() as usize / 8);
    let door = shared.door(PROXY);
    let crowd: Vec<OwnedFd> = acting(PROXY, move || (0..most).filter_map(|_| seqpacket::connect(&door).ok()).collect());
    let (second, (near, far)) = (shared.join(APP), connection());
    let (one, two) = (shared.offer(APP, key(&app), &near), shared.offer(APP, key(&second), &far));
    assert!(answered(&one).is_some() && answered(&two).is_some());
    drop(crowd);
    // Memory that it has the broker watch is, too.
    let greedy = places[1].as_ref().unwrap();
    let part = part.min(most);
    let watched = (0..part + 4).take_while(|_| greedy.tell(socket::region::publish_pair().unwrap(), 0).is_ok()).count();
    assert!(watched <= part, "{watched}");
}

#[test]
fn the_next_broker_is_told_by_all_users() {
    let Some(shared) = share(namespace(), quick()) else { return };
    let (mut app, mut proxy) = (shared.join(APP), shared.join(PROXY));
    let (near, far) = connection();
    let (one, two) = (shared.offer(APP, key(&app), &near), shared.offer(PROXY, key(&proxy), &far));
    let ((a, file), (b, same)) = (answered(&one).unwrap(), answered(&two).unwrap());
    let (mine, theirs) = (join(&file[0], &a, &app), join(&same[0], &b, &proxy));
    let mut ends = (open(&mine, a), open(&theirs, b));
    [(&file[0], &a), (&same[0], &b)].into_iter().for_each(|(file, meeting)| say_there(file, meeting));
    send_all(&mut ends.0.0, LOCAL / 2);
    let Shared { mut served, known } = shared;
    let folder = served.folder.take().unwrap();
    drop(served);
    let path = doors::own(folder.path(), &known).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut broker = Broker::of_network(&path, folder.path(), &known, quick()).unwrap();
    let (stopped, stop) = rustix::pipe::pipe().unwrap();
    let thread = std::thread::spawn(move || broker.run(stopped.as_fd()).unwrap());
    let shared =
        Shared { served: Served { path, stop: Some(stop), thread: Some(thread), folder: Some(folder) }, known };
    let meetings = [(&mut app, APP, a, &file[0], &near), (&mut proxy, PROXY, b, &same[0], &far)];
    for (member, user, meeting, memory, end) in meetings {
        let door = shared.door(user);
        let socket = acting(user, move || seqpacket::connect(&door).unwrap());
        member.rejoin(&socket).unwrap();
        eventually("the broker has answered", || member.key().unwrap().is_some());
        let connection =
            socket::member::Connection { meeting: meeting.number, number: meeting.connection, side: meeting.side };
        member.tell_of((memory.as_fd(), meeting.stores[0]), &[(connection, end.as_fd())]).unwrap();
    }
    let whole = |user| shared.ask(user).connections.iter().any(|c| c.ends.iter().all(|end| end.process.is_some()));
    eventually("both ends are known again", || whole(APP) && whole(PROXY));
    assert_eq!(receive(&mut ends.1.1), LOCAL / 2);
}
