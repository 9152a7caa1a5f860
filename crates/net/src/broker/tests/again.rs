//! A broker that takes the place of another one, and those who tell it what they have.

use super::*;
use socket::member::{Connection, HAS, hello};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Two processes that have a connection which lies in memory, as their library has it.
struct Met {
    members: [Member; 2],
    sockets: [TcpStream; 2],
    told: [(Meeting, OwnedFd); 2],
    ends: [(Sender, Receiver); 2],
    shares: [Pod; 2],
}

fn met(served: &Served) -> Met {
    let members = [Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap()];
    let (near, far) = connection();
    let offers = [offer(served, &key(&members[0]), &near), offer(served, &key(&members[1]), &far)];
    let told = offers.map(|offer| told(&offer).unwrap());
    let shares = [0, 1].map(|end: usize| join(&told[end].1, &told[end].0, &members[end]));
    let ends = [0, 1].map(|end: usize| open(&shares[end], told[end].0));
    for (meeting, file) in &told {
        say_there(file, meeting);
    }
    Met { members, sockets: [near, far], told, ends, shares }
}

impl Met {
    fn connection(&self, end: usize) -> Connection {
        let meeting = self.told[end].0;
        Connection { meeting: meeting.number, number: meeting.connection, side: meeting.side }
    }

    /// An end's process goes to the broker that is there now, and tells it of the connection.
    fn tell(&mut self, served: &Served, end: usize) {
        self.members[end].rejoin(seqpacket::connect(&served.path).unwrap()).unwrap();
        self.tell_as(end, end);
    }

    /// By the place of the process of `by`.
    fn tell_as(&self, by: usize, end: usize) {
        let (meeting, file) = &self.told[end];
        let shown = [(self.connection(end), self.sockets[end].as_fd())];
        self.members[by].tell_of((file.as_fd(), meeting.stores[0]), &shown).unwrap();
    }

    fn talk(&mut self, len: usize) {
        send_all(&mut self.ends[0].0, len);
        assert_eq!(receive(&mut self.ends[1].1), len);
    }
}

#[test]
fn a_new_broker_knows_what_there_is_and_takes_back_what_is_idle() {
    let served = serve(quick());
    let mut met = met(&served);
    let len = LOCAL + 40 * RECORD;
    met.talk(len);
    let before = ask(&served.path).unwrap().connections;
    // It may have been killed while it kept senders out.
    let notice = socket::notice::Notice::of(met.members[0].notice().unwrap()).unwrap();
    notice.freeze();
    let served = served.again(quick());
    assert_eq!(ask(&served.path).unwrap().connections, []);
    met.tell(&served, 0);
    eventually("one end is known", || ask(&served.path).unwrap().connections.len() == 1);
    let half = &ask(&served.path).unwrap().connections[0];
    assert_eq!(half.ends.iter().filter(|end| end.process.is_some()).count(), 1);
    met.tell(&served, 1);
    // Told twice, known once.
    met.tell_as(1, 1);
    let known = || ask(&served.path).unwrap().connections;
    eventually("both are known", || known().first().is_some_and(|c| c.ends.iter().all(|end| end.process.is_some())));
    let ends = |connections: &[api::node::Connection]| connections[0].ends.clone().map(|end| end.address);
    assert_eq!((ends(&known()), known().len()), (ends(&before), 1));
    for _ in 0..2 {
        eventually("memory is given back", || resident(&met.told[0].1) < LOCAL + 4 * RECORD);
        met.talk(len);
    }
    // A new connection has a memory that this broker has made, and a number that no meeting had.
    let (one, two) = (&met.members[0], &met.members[1]);
    eventually("both have a place", || one.key().unwrap().is_some() && two.key().unwrap().is_some());
    let ((meeting, file), _) = meet(&served, one, two);
    assert_ne!(number(&file), number(&met.told[0].1));
    assert!(meeting.number > met.told[0].0.number);
    // One end leaves, then the other: nothing is known of it any more.
    let Met { ends: [first, second], .. } = met;
    drop(first);
    assert!(known().len() == 2);
    drop(second);
    eventually("it is forgotten", || known().len() == 1);
}

#[test]
fn what_was_sent_before_is_received_when_its_sender_is_gone() {
    let served = serve(quick());
    let mut met = met(&served);
    let len = LOCAL + 40 * RECORD;
    assert_eq!(send(&mut met.ends[0].0, len), len);
    let served = served.again(quick());
    met.tell(&served, 0);
    eventually("one end is known", || ask(&served.path).unwrap().connections.len() == 1);
    let Met { members: [one, two], ends: [first, mut second], shares: [share, _share], .. } = met;
    drop((one, first, share));
    eventually("it is gone", || ask(&served.path).unwrap().processes == 0);
    // The other end is still to tell the broker; it reads what there is, in its own time.
    assert_eq!(receive(&mut second.1), len);
    drop(two);
}

#[test]
fn a_place_is_had_until_the_last_of_a_family_is_gone() {
    let served = serve(quick());
    let mut met = met(&served);
    let served = served.again(quick());
    met.tell(&served, 0);
    let child_notice = met.members[0].notice().unwrap().try_clone_to_owned().unwrap();
    // A child of the same process.
    let child = seqpacket::connect(&served.path).unwrap();
    seqpacket::send(&child, &[IoSlice::new(&hello())], &[met.members[0].notice().unwrap()]).unwrap();
    let said = |socket: &OwnedFd| {
        poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
        let mut message = [0; 64];
        let len = seqpacket::receive(socket, &mut message, &mut Vec::new()).unwrap();
        message[..len].to_vec()
    };
    let key = said(&child)[1..].to_vec();
    assert_eq!(ask(&served.path).unwrap().processes, 1);
    let Met { members: [one, _two], told, sockets, ends, shares } = met;
    eventually("it has a key", || one.key().unwrap().is_some());
    assert_eq!(one.key().unwrap().unwrap().to_vec(), key);
    // Who has the memory, and not the notice, is another.
    let (meeting, file) = &told[0];
    let stranger = Member::join(&served.path).unwrap();
    assert!(stranger.tell(file, meeting.stores[0]).is_err());
    drop((stranger, one, ends, shares));
    eventually("the child is left", || ask(&served.path).unwrap().processes == 1);
    let again = seqpacket::connect(&served.path).unwrap();
    seqpacket::send(&again, &[IoSlice::new(&hello())], &[child_notice.as_fd()]).unwrap();
    assert_eq!(said(&again)[1..].to_vec(), key, "it has the place still");
    drop(again);
    drop(child);
    eventually("all are gone", || ask(&served.path).unwrap().processes == 0);
    drop(sockets);
}

#[test]
fn lies_about_memory_cost_nobody_else_anything() {
    let served = serve(quick());
    let mut honest = met(&served);
    let mut other = met(&served);
    let served = served.again(quick());
    other.members[0].rejoin(seqpacket::connect(&served.path).unwrap()).unwrap();
    let liar = &other.members[0];
    let file = &other.told[0].1;
    let socket = other.sockets[0].as_fd();
    let true_one = other.connection(0);
    // No memory; a store that there is not; numbers that there are not; a socket that is none; another's; a side twice.
    let none = os::memfd::sealed("none", 4096).unwrap();
    let pipe = std::io::pipe().unwrap().0;
    let lies = [
        (none.as_fd(), 0, true_one, socket),
        (file.as_fd(), 200, true_one, socket),
        (file.as_fd(), 0, Connection { number: u16::MAX, ..true_one }, socket),
        (file.as_fd(), 0, Connection { meeting: 7, number: 9, ..true_one }, socket),
        (file.as_fd(), 0, true_one, pipe.as_fd()),
        (file.as_fd(), 0, Connection { side: 1 - true_one.side, ..true_one }, honest.sockets[0].as_fd()),
    ];
    for (memory, store, connection, socket) in lies {
        liar.tell_of((memory, store), &[(connection, socket)]).unwrap();
    }
    // What is no message at all ends its connection alone.
    let greeting = hello();
    let strange: [&[u8]; 4] = [&[HAS], &[HAS, 0, 1, 2, 3], &[HAS, 0], &greeting];
    for said in strange {
        let place = seqpacket::connect(&served.path).unwrap();
        for said in [&*greeting, said] {
            seqpacket::send(&place, &[IoSlice::new(said)], &[]).unwrap();
        }
        eventually("it is hung up on", || matches!(seqpacket::receive(&place, &mut [0; 64], &mut Vec::new()), Ok(0)));
    }
    honest.tell(&served, 0);
    honest.tell(&served, 1);
    let processes = || {
        let known = ask(&served.path).unwrap().connections;
        known.iter().filter(|c| c.ends.iter().all(|end| end.process.is_some())).count()
    };
    eventually("the honest are known", || processes() == 1);
    honest.talk(LOCAL + 8 * RECORD);
    eventually("memory is given back", || resident(&honest.told[0].1) < LOCAL + 4 * RECORD);
    // A notice that is none.
    for page in [none.as_fd(), pipe.as_fd(), file.as_fd()] {
        let socket = seqpacket::connect(&served.path).unwrap();
        seqpacket::send(&socket, &[IoSlice::new(&hello())], &[page]).unwrap();
        poll(&mut [PollFd::new(&socket, PollFlags::IN)], None).unwrap();
        let len = seqpacket::receive(&socket, &mut [0; 64], &mut Vec::new()).unwrap_or(0);
        assert_eq!(len > 0, page.as_raw_fd() == none.as_raw_fd(), "a sealed page of the right size is as good as any");
    }
}
