//! What killed processes leave, and where each connection has a memory of its own.

use super::*;

/// Says that an end is there still, as one that was killed does.
fn kill(file: &OwnedFd, meeting: &Meeting) {
    let open = std::mem::offset_of!(socket::layout::SenderLine, open);
    let at = socket::layout::way(meeting.connection.into(), meeting.side.into()) + open;
    let received = socket::layout::way(meeting.connection.into(), 1 - usize::from(meeting.side))
        + std::mem::offset_of!(socket::layout::Way, receiver)
        + std::mem::offset_of!(socket::layout::ReceiverLine, open);
    for at in [at, received] {
        rustix::io::pwrite(file, &1_u32.to_ne_bytes(), at as u64).unwrap();
    }
}

#[test]
fn what_a_killed_process_of_a_pod_had_is_had_by_the_next() {
    let served = serve(pods());
    let server = Member::join(&served.path).unwrap();
    let (mut memory, mut share) = (None, None);
    // More of them than there are stores, each with records that are read by nobody.
    for turn in 0..20 {
        let caller = Member::join(&served.path).unwrap();
        let ((a, file), (b, _)) = meet(&served, &server, &caller);
        let at = memory.get_or_insert_with(|| file.try_clone().unwrap());
        assert_eq!(number(&file), number(at), "turn {turn}");
        assert!(usize::from(a.stores[1]) < 4 && a.connection < 4, "turn {turn}: {a:?}");
        let share = share.get_or_insert_with(|| join(&file, &a, &server));
        let ends = open(share, a);
        let theirs = join(&file, &b, &caller);
        let mut their_ends = open(&theirs, b);
        say_there(&file, &a);
        say_there(&file, &b);
        assert_eq!(send(&mut their_ends.0, LOCAL + 8 * RECORD), LOCAL + 8 * RECORD);
        drop(their_ends);
        kill(&file, &b);
        drop((theirs, caller));
        eventually("it is gone", || ask(&served.path).unwrap().processes == 1);
        drop(ends);
        eventually("it is taken over", || {
            let mut top = [1; 4];
            rustix::io::pread(&file, &mut top, socket::layout::store_line(b.stores[0].into()) as u64).unwrap();
            top == [0; 4]
        });
    }
    let memory = memory.unwrap();
    eventually("memory is given back", || resident(&memory) < 8 * LOCAL);
}

#[test]
fn what_a_killed_process_has_sent_is_read_before_its_store_is_anothers() {
    let served = serve(pods());
    let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    let ((a, file), (b, _)) = meet(&served, &one, &two);
    let (share, theirs) = (join(&file, &a, &one), join(&file, &b, &two));
    let (mut ends, mut their_ends) = (open(&share, a), open(&theirs, b));
    say_there(&file, &a);
    say_there(&file, &b);
    let len = LOCAL + 20 * RECORD;
    assert_eq!(send(&mut their_ends.0, len), len);
    drop(their_ends);
    kill(&file, &b);
    drop((theirs, two));
    eventually("it is gone", || ask(&served.path).unwrap().processes == 1);
    // Others come and go meanwhile: none of them has its store or its number.
    for _ in 0..3 {
        let third = Member::join(&served.path).unwrap();
        let ((next, _), (there, _)) = meet(&served, &one, &third);
        assert_ne!(next.connection, a.connection);
        assert!(!there.stores.contains(&b.stores[0]) || there.stores[0] == a.stores[0]);
        drop(third);
        eventually("it is gone", || ask(&served.path).unwrap().processes == 1);
    }
    assert_eq!(receive(&mut ends.1), len);
}

#[test]
fn strictly_a_memory_goes_with_its_connection() {
    let served = serve(Bounds { sharing: Sharing::Strict, ..quick() });
    let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    let mut memories = Vec::new();
    for _ in 0..8 {
        let ((a, file), (b, same)) = meet(&served, &one, &two);
        let shares = (join(&file, &a, &one), join(&same, &b, &two));
        let mut ends = (open(&shares.0, a), open(&shares.1, b));
        say_there(&file, &a);
        say_there(&file, &b);
        let len = LOCAL + 8 * RECORD;
        assert_eq!(send(&mut ends.0.0, len), len);
        assert_eq!(receive(&mut ends.1.1), len);
        assert!(!memories.contains(&number(&file)));
        memories.push(number(&file));
        assert_eq!(ask(&served.path).unwrap().connections.len(), 1);
        drop((ends, shares, file, same));
        eventually("it is forgotten", || ask(&served.path).unwrap().connections.is_empty());
    }
    // Whoever was killed, too.
    let ((a, file), (b, _)) = meet(&served, &one, &two);
    let share = join(&file, &a, &one);
    let ends = open(&share, a);
    say_there(&file, &a);
    say_there(&file, &b);
    kill(&file, &b);
    drop(two);
    eventually("it is gone", || ask(&served.path).unwrap().processes == 1);
    drop((ends, share));
    memories.push(number(&file));
    drop(file);
    eventually("nobody has their memory", || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut numbers = open.filter_map(|fd| Some(std::os::unix::fs::MetadataExt::ino(&fd.path().metadata().ok()?)));
        !numbers.any(|number| memories.contains(&number))
    });
}
