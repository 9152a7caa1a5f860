//! What a hostile end can do to its peer: end their link, and nothing else.

use super::*;

/// A sound end, and everything that its peer holds: the memory and the socket.
fn hostile() -> (Shm, Mapping, OwnedFd) {
    let (one, other) = seqpacket::pair().unwrap();
    let link = Shm::offer(one).unwrap();
    let mut descriptors = Vec::new();
    seqpacket::receive(&other, &mut [0; 1], &mut descriptors).unwrap();
    let mapping = Mapping::shared(&descriptors[0], REGION).unwrap();
    (link, mapping, other)
}

fn set(mapping: &Mapping, offset: usize, value: u32) {
    // SAFETY: the offsets of these tests lie in the mapping, which outlives the call.
    unsafe { word(mapping, offset) }.store(value, Ordering::Release);
}

/// Writes a frame's header at the start of the ring that the sound end reads: its length, as its mark, last.
fn frame(mapping: &Mapping, words: [u32; 4]) {
    for (i, value) in words.into_iter().enumerate().rev() {
        set(mapping, UP.ring + 4 * i, value.wrapping_add(u32::from(i == 0)));
    }
}

fn receive(link: &mut Shm) -> Result<bool, End> {
    link.receive(&mut Vec::new(), &mut Vec::new())
}

#[test]
fn impossible_frames_end_the_link() {
    let long = MESSAGE_MAX as u32 + 1;
    let frames = [
        [u32::MAX - 1, 0, 0, 0],
        [RING as u32, 0, 0, 0],
        [(RING - crate::layout::LINE) as u32, 0, 0, 0],
        [16, 8, 0, 0],
        [16, 17, 0, 0],
        [16, 16, 1, 0],
        [16, 16, 0, DESCRIPTORS_MAX as u32 + 1],
        [long, long, 0, 0],
        // Descriptors that never came.
        [16, 16, 0, 1],
    ];
    for words in frames {
        let (mut link, mapping, _socket) = hostile();
        frame(&mapping, words);
        assert_eq!(receive(&mut link), Err(End::Broken), "{words:?}");
        assert_eq!(link.send(b"x"), Err(SendError::Ended(End::Broken)));
        assert!(!link.arm(), "an end is something to look at");
    }
}

#[test]
fn an_impossible_tail_ends_the_link() {
    let (mut link, mapping, _socket) = hostile();
    set(&mapping, DOWN.consumer, 4096);
    assert_eq!(link.send(b"x"), Err(SendError::Ended(End::Broken)));
}

#[test]
fn packets_that_no_shim_sends_end_the_link() {
    let (mut reader, _writer) = io::pipe().unwrap();
    for (bytes, count) in [(&b"?"[..], 0), (b"d", 0), (b"b", 1), (b"d", DESCRIPTORS_MAX + 1), (b"bb", 0), (b"r", 1)] {
        let (mut link, _mapping, socket) = hostile();
        seqpacket::send(&socket, &[IoSlice::new(bytes)], &vec![reader.as_fd(); count]).unwrap();
        assert!(!link.arm());
        assert_eq!(receive(&mut link), Err(End::Broken), "{bytes:?} with {count}");
    }
    // Descriptors without frames are kept up to a limit, and closed with the link.
    let (mut link, _mapping, socket) = hostile();
    while seqpacket::send(&socket, &[IoSlice::new(b"d")], &[_writer.as_fd()]).is_ok() && link.packets.len() < 2 {
        link.look();
    }
    assert!(!link.arm());
    assert_eq!(receive(&mut link), Err(End::Broken));
    drop((link, socket, _writer));
    assert_eq!(io::Read::read(&mut reader, &mut [0; 1]).unwrap(), 0, "no descriptor is left open");
}

#[test]
fn a_wrong_number_of_descriptors_ends_the_link() {
    let (mut link, mapping, socket) = hostile();
    let (reader, _writer) = io::pipe().unwrap();
    seqpacket::send(&socket, &[IoSlice::new(b"d")], &[reader.as_fd(); 2]).unwrap();
    frame(&mapping, [0, 0, 0, 3]);
    assert_eq!(receive(&mut link), Err(End::Broken));
}

#[test]
fn a_burst_rings_once_for_a_nap() {
    let (one, other) = seqpacket::pair().unwrap();
    let mut a = Shm::offer(one).unwrap();
    let mut b = Shm::accept(other, Duration::from_secs(1)).unwrap();
    assert!(b.arm());
    for _ in 0..100 {
        a.send(b"x").unwrap();
    }
    assert_eq!(seqpacket::receive(&b.socket, &mut [0; 1], &mut Vec::new()).unwrap(), 1);
    assert!(seqpacket::receive(&b.socket, &mut [0; 1], &mut Vec::new()).is_err(), "one bell is enough");
    for _ in 0..100 {
        assert_eq!(receive(&mut b), Ok(true));
    }
    a.send(b"x").unwrap();
    assert!(!b.arm(), "what came while it was awake is seen");
    assert_eq!(receive(&mut b), Ok(true));
    assert!(b.arm());
    a.send(b"x").unwrap();
    assert_eq!(seqpacket::receive(&b.socket, &mut [0; 1], &mut Vec::new()).unwrap(), 1, "a nap of its own rings anew");
}

#[test]
fn what_is_no_link_is_not_attached_to() {
    let offer = |bytes: &[u8], descriptors: &[BorrowedFd<'_>]| {
        let (one, other) = seqpacket::pair().unwrap();
        seqpacket::send(&one, &[IoSlice::new(bytes)], descriptors).unwrap();
        Shm::accept(other, Duration::from_secs(1)).err().unwrap()
    };
    let blank = memfd::sealed("test", REGION as u64).unwrap();
    let short = memfd::sealed("test", PAGE as u64).unwrap();
    let (pipe, _writer) = io::pipe().unwrap();
    assert!(matches!(offer(b"r", &[blank.as_fd()]), OpenError::Foreign));
    assert!(matches!(offer(b"r", &[short.as_fd()]), OpenError::Foreign));
    assert!(matches!(offer(b"r", &[]), OpenError::Foreign));
    assert!(matches!(offer(b"d", &[blank.as_fd()]), OpenError::Foreign));
    assert!(matches!(offer(b"r", &[pipe.as_fd()]), OpenError::Memory(_)));
    let (_silent, other) = seqpacket::pair().unwrap();
    assert!(matches!(Shm::accept(other, Duration::from_millis(5)), Err(OpenError::Late(_))));
}
