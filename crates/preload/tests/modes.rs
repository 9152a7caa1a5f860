//! Who can reach what, by each of the ways in which processes have memory together: a hostile process that has one connection looks
//! for the bytes of others, in whatever the descriptor of its memory gives it.

use net::broker::{Bounds, Broker, Sharing};
use socket::member::{Meeting, Member, OFFER};
use socket::region::{Pod, Receiver, Sender};
use std::fs::File;
use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// One end of a connection, as the library has it.
struct End {
    memory: OwnedFd,
    ends: (Sender, Receiver),
    _share: Pod,
    _socket: TcpStream,
}

fn connect(place: &Path, members: [&Member; 2]) -> [End; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let sockets = [near, listener.accept().unwrap().0];
    let offers: Vec<OwnedFd> = (0..2)
        .map(|end| {
            let offer = os::seqpacket::connect(place).unwrap();
            rustix::io::ioctl_fionbio(&offer, false).unwrap();
            let said: [&[u8]; 3] = [&[OFFER], &members[end].key().unwrap().unwrap(), &[0; 8]];
            os::seqpacket::send(&offer, &said.map(IoSlice::new), &[sockets[end].as_fd()]).unwrap();
            offer
        })
        .collect();
    let mut ends = sockets.into_iter().zip(offers).zip(members).map(|((socket, offer), member)| {
        let (mut message, mut files) = ([0; 64], Vec::new());
        let len = os::seqpacket::receive(&offer, &mut message, &mut files).unwrap();
        let (met, memory) = (Meeting::of(&message[..len]).unwrap(), files.pop().unwrap());
        let share = Pod::join(&memory, met.stores[0].into(), member.quota()).unwrap();
        let ends = share.open(met.connection.into(), met.side.into(), met.stores[1].into()).unwrap();
        End { memory, ends, _share: share, _socket: socket }
    });
    [ends.next().unwrap(), ends.next().unwrap()]
}

/// Whether the bytes of a file, as far as there are some, have this among them.
fn holds(file: &File, what: &[u8]) -> bool {
    let (mut at, end) = (0, file.metadata().unwrap().len());
    while let Ok(from) = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        let to = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(from)).unwrap_or(end);
        let mut bytes = vec![0; (to - from) as usize];
        file.read_exact_at(&mut bytes, from).unwrap();
        if bytes.windows(what.len()).any(|window| window == what) {
            return true;
        }
        at = to;
    }
    false
}

/// Whether a process that has this memory can come to these bytes, by whatever it can do with it.
fn reaches(memory: &OwnedFd, what: &[u8]) -> bool {
    let own = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let again = File::options().read(true).write(true).open(&own).unwrap();
    let opened = holds(&again, what);
    // Nobody can make it longer, or shorter.
    assert!(again.set_len(again.metadata().unwrap().len() + 4096).is_err() && again.set_len(0).is_err());
    // A second mapping, of more than there is, grown and moved: what lies behind the end is nobody's memory.
    let len = again.metadata().unwrap().len() as usize;
    let (mapped, grown) = (len + (1 << 20), len + (2 << 20));
    // SAFETY: a fresh mapping at an address of the kernel's choice, grown, which may move it, and given up; nothing is read through it
    // but by the kernel, which says what cannot be read.
    let beyond = unsafe {
        use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap, mremap, munmap};
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let base = mmap(std::ptr::null_mut(), mapped, rights, MapFlags::SHARED, &again, 0).unwrap();
        let base = mremap(base, mapped, grown, MremapFlags::MAYMOVE).unwrap();
        let own = File::open("/proc/self/mem").unwrap();
        let beyond = own.read_at(&mut [0; 4096], (base as usize + len) as u64);
        munmap(base, grown).unwrap();
        beyond
    };
    assert!(beyond.is_err(), "{beyond:?}");
    // Another process that has it from this one.
    let text = String::from_utf8(what.to_vec()).unwrap();
    let child = Command::new("grep")
        .args(["-q", "-a", "-F", &text, "/dev/stdin"])
        .stdin(Stdio::from(first_bytes(&again)))
        .status()
        .unwrap();
    assert_eq!(child.success(), opened, "a child reaches as much");
    opened
}

/// The part of a memory in which connections have their words and local records, as a pipe has it from another process.
fn first_bytes(file: &File) -> OwnedFd {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let file = file.try_clone().unwrap();
    thread::spawn(move || {
        let (mut at, end) = (0, file.metadata().unwrap().len());
        while let Ok(from) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
            let to = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(from)).unwrap_or(end);
            let mut bytes = vec![0; (to - from) as usize];
            file.read_exact_at(&mut bytes, from).unwrap();
            if std::io::Write::write_all(&mut writer, &bytes).is_err() {
                return;
            }
            at = to;
        }
    });
    reader.into()
}

/// What a process that has one connection reaches of another one of the same two processes, and of one of another process.
fn reached(sharing: Sharing) -> [bool; 2] {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("broker");
    let mut broker = Broker::bind(&place, Bounds { sharing, ..Bounds::default() }).unwrap();
    let (stop, end) = std::io::pipe().unwrap();
    let serving = thread::spawn(move || broker.run(stop.as_fd()));
    let members = [(); 3].map(|()| Member::join(&place).unwrap());
    let [mine, _theirs] = connect(&place, [&members[0], &members[1]]);
    let secrets: [&[u8]; 2] = [b"what the two say elsewhere", b"what the third is told"];
    let mut others = [connect(&place, [&members[0], &members[1]]), connect(&place, [&members[1], &members[2]])];
    for (ends, secret) in others.iter_mut().zip(secrets) {
        // In the local record, and beyond.
        let long: Vec<u8> = secret.iter().copied().cycle().take(100 << 10).collect();
        assert_eq!(ends[0].ends.0.write(&[IoSlice::new(&long)]).unwrap(), long.len());
    }
    let reached = secrets.map(|secret| reaches(&mine.memory, secret));
    drop((mine, others, members, end));
    serving.join().unwrap().unwrap();
    reached
}

#[test]
fn of_a_pair_one_reaches_what_the_two_say() {
    assert_eq!(reached(Sharing::Pair), [true, false]);
}

#[test]
fn strictly_one_reaches_nothing_but_ones_own_connection() {
    assert_eq!(reached(Sharing::Strict), [false, false]);
}

#[test]
fn of_a_pod_one_reaches_everything() {
    assert_eq!(reached(Sharing::Pod), [true, true]);
}
