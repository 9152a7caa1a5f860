//! Those who take what they can: connections, descriptors, the broker's time.

use super::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket::member::LIST;

/// The broker that this test's program is, where it runs again for its sake: it has few descriptors.
#[test]
fn a_broker_with_few_descriptors() {
    let Some(path) = std::env::var_os("BROKER_WITH_FEW_DESCRIPTORS") else { return };
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(48), ..limit }).unwrap();
    let mut broker = Broker::bind(Path::new(&path), quick()).unwrap();
    println!("serves");
    broker.run(std::io::stdin().as_fd()).unwrap();
}

/// Nanoseconds that a process has run.
fn ran(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn without_descriptors_it_hangs_up_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["broker::tests::crowds::a_broker_with_few_descriptors", "--exact", "--nocapture"])
        .env("BROKER_WITH_FEW_DESCRIPTORS", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(output.any(|line| line.unwrap().contains("serves")));
    let crowd: Vec<OwnedFd> = (0..200).map(|_| seqpacket::connect(&path).unwrap()).collect();
    let hung_up = |socket: &OwnedFd| matches!(seqpacket::receive(socket, &mut [0; 8], &mut Vec::new()), Ok(0));
    eventually("those who find no room know", || crowd.iter().filter(|socket| hung_up(socket)).count() > 100);
    assert!(crowd.iter().any(|socket| !hung_up(socket)), "who was there before stays");
    // Nobody waits who could wake it again and again.
    let before = ran(child.id());
    assert!(!rustix::event::poll(&mut [PollFd::new(&crowd[0], PollFlags::IN)], Some(&QUARTER)).is_ok_and(|n| n > 0));
    let busy = ran(child.id()) - before;
    assert!(busy < 100_000_000, "{busy} ns of a quarter of a second");
    drop(crowd);
    eventually("there is room again", || Member::join(&path).is_ok());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

const QUARTER: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

#[test]
fn who_takes_all_the_room_makes_room_for_others() {
    let served = serve(quick());
    let (near, far) = connection();
    let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    // More than there is room for, and nobody says anything; some ask, and do not read what they are told.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let crowd: Vec<OwnedFd> = (0..5000)
        .filter_map(|turn| {
            let socket = seqpacket::connect(&served.path).ok()?;
            if turn % 50 == 0 {
                seqpacket::send(&socket, &[IoSlice::new(LIST)], &[]).unwrap();
            }
            Some(socket)
        })
        .collect();
    assert!(crowd.len() > 4096);
    let (first, second) = (offer(&served, &key(&one), &near), offer(&served, &key(&two), &far));
    assert!(told(&first).zip(told(&second)).is_some());
    drop(crowd);
    eventually("those who are gone are forgotten", || ask(&served.path).unwrap().processes == 2);
}

#[test]
fn whatever_is_said_the_broker_goes_on() {
    let served = serve(quick());
    let mut talk = talk(&served);
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        random >> 33
    };
    let files: Vec<OwnedFd> = (0..70).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
    let hello = &*socket::member::hello();
    for _ in 0..500 {
        let socket = seqpacket::connect(&served.path).unwrap();
        if next() % 2 == 0 {
            let _ = seqpacket::send(&socket, &[IoSlice::new(hello)], &[]);
        }
        for _ in 0..next() % 4 {
            // Too long, empty, of the right beginning; with descriptors that it does not ask for.
            let mut said: Vec<u8> = (0..next() % 700).map(|_| next() as u8).collect();
            if let (Some(first), kind) = (said.first_mut(), next() as usize) {
                *first = *[b'h', b'o', b'p', b'l', 1].get(kind % 6).unwrap_or(first);
            }
            let with = next() as usize % 64;
            let with: Vec<BorrowedFd<'_>> = files[..with].iter().map(AsFd::as_fd).collect();
            let _ = seqpacket::send(&socket, &[IoSlice::new(&said)], if next() % 2 == 0 { &with } else { &[] });
        }
    }
    send_all(&mut talk.ends.0.0, LOCAL + RECORD);
    assert_eq!(receive(&mut talk.ends.1.1), LOCAL + RECORD);
    eventually("nobody is left of them", || ask(&served.path).unwrap().processes == 2);
}
