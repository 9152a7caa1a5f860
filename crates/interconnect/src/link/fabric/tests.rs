//! A peer that says what it may not, beside the fabric.

use super::word::Word;
use super::*;
use crate::link::sim::{Network, Simulated};
use rustix::event::{PollFd, PollFlags, poll};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// An end, and what its peer has: words.
fn end(provider: Provider) -> Option<(Fabric, Simulated)> {
    let network = Network::new(1, Duration::ZERO..Duration::ZERO);
    let (_, a, b) = network.link().unwrap();
    match Fabric::over(Box::new(a), provider, Some([127, 0, 0, 1].into())) {
        Ok(fabric) => Some((fabric, b)),
        Err(error) => {
            assert!(matches!(error, FabricError::Library(_)), "{error}");
            println!("skip: {error}");
            None
        }
    }
}

/// How the link ends.
fn outcome(fabric: &mut Fabric) -> End {
    let begun = Instant::now();
    loop {
        match fabric.receive(&mut Vec::new(), &mut Vec::new()) {
            Ok(received) => assert!(!received, "a message out of nothing"),
            Err(end) => return end,
        }
        assert!(begun.elapsed() < PATIENCE, "it goes on");
        if fabric.arm() {
            let timeout = PATIENCE.try_into().unwrap();
            poll(&mut [PollFd::from_borrowed_fd(fabric.poll_fd(), PollFlags::IN)], Some(&timeout)).unwrap();
        }
    }
}

#[test]
fn words_that_no_peer_says_end_the_link() {
    let window = WINDOW as u64;
    let other = Word::Hello { provider: Provider::Shm, tag: 1, name: vec![1] };
    let words = [Word::Read(1), Word::Nap(1), Word::Ring(window + 1), Word::Bye(u64::MAX), other];
    for bytes in words.iter().map(Word::encode).chain([vec![], vec![7; 40]]) {
        let Some((mut fabric, mut peer)) = end(Provider::Tcp) else {
            return;
        };
        peer.send(&bytes).unwrap();
        assert_eq!(outcome(&mut fabric), End::Broken, "{bytes:?}");
        assert_eq!(fabric.send(b"x"), Err(SendError::Ended(End::Broken)));
    }
}

#[test]
fn a_name_that_is_none_is_refused_or_leads_nowhere() {
    for provider in [Provider::Tcp, Provider::Shm] {
        for name in [vec![0], vec![0xff; 256], b"fi_shm://".to_vec(), vec![2, 0, 0, 1, 127, 0, 0, 1]] {
            let Some((mut fabric, mut peer)) = end(provider) else {
                return;
            };
            fabric.send(b"whoever you are").unwrap();
            peer.send(&Word::Hello { provider, tag: 1, name }.encode()).unwrap();
            drop(peer);
            outcome(&mut fabric);
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let network = Network::new(1, Duration::ZERO..Duration::ZERO);
    let (_, words, _peer) = network.link().unwrap();
    match Fabric::over(Box::new(words), Provider::Tcp, Some([192, 0, 2, 1].into())) {
        Err(error @ FabricError::NoProvider { .. }) => assert!(error.to_string().contains("192.0.2.1"), "{error}"),
        Err(error @ FabricError::Library(_)) => println!("skip: {error}"),
        other => panic!("{:?}", other.err()),
    }
}
