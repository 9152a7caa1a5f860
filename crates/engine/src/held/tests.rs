//! Two engines in one process: what one holds the other finds, for the same run only, and reads until its own run is over.

use super::*;

const RUN: RunId = [7; 16];
const OTHER: RunId = [8; 16];

fn engine(number: u32) -> (Shelf, Arena, Window) {
    let arena = Arena::new(4 << 20).unwrap();
    let (mut shelf, window) = Shelf::new(arena.clone(), 2 << 20).unwrap();
    shelf.named(number, &[]);
    (shelf, arena, window.unwrap())
}

fn paged(arena: &Arena, len: usize, with: u8) -> Blob {
    let mut extent = arena.extent(len as u64).unwrap();
    extent.range_mut(0, len).unwrap().fill(with);
    extent.freeze()
}

#[test]
fn an_item_is_found_by_its_run_only_and_where_it_lies() {
    let (mut shelf, arena, _) = engine(1);
    let blob = paged(&arena, 100_000, 3);
    let held = shelf.hold(RUN, &blob).unwrap();
    assert_eq!((held.engine, held.len, shelf.bytes()), (1, 100_000, 102_400));
    let found = shelf.find(RUN, held).unwrap();
    assert_eq!(found.as_ptr(), blob.as_ptr(), "its bytes have gone nowhere");
    for wrong in [Held { id: held.id + 1, ..held }, Held { len: 5, ..held }, Held { engine: 2, ..held }] {
        assert!(shelf.find(RUN, wrong).is_none(), "{wrong:?}");
    }
    assert!(shelf.find(OTHER, held).is_none(), "another run's");
    shelf.release(OTHER, held.id);
    assert!(shelf.find(RUN, held).is_some(), "it is not another run's to release");
    drop((blob, found));
    shelf.release(RUN, held.id);
    assert!(shelf.find(RUN, held).is_none());
    assert_eq!((arena.held(), shelf.bytes()), (0, 0));
    // The slot's next item has another name.
    let again = shelf.hold(RUN, &Blob::from(vec![1; 5000])).unwrap();
    assert_ne!(again.id, held.id);
    assert_eq!(shelf.find(RUN, again).unwrap().as_ref(), [1; 5000]);
}

#[test]
fn other_engines_read_it_without_a_copy_until_their_run_is_over() {
    let (mut one, arena, window) = engine(1);
    let (mut two, _, its) = engine(2);
    let held = one.hold(RUN, &paged(&arena, 70_000, 9)).unwrap();
    one.watch(2, &its.board).unwrap();
    two.watch(1, &window.board).unwrap();
    assert!(two.find(RUN, held).is_none(), "its arena is not lent yet");
    two.lent(1, window.arena).unwrap();
    assert!(two.find(OTHER, held).is_none() && two.find(RUN, Held { len: 1, ..held }).is_none());
    assert!(two.find(RUN, Held { id: held.id + SLOTS as u64 + 1, ..held }).is_none());
    assert!(two.find(RUN, Held { id: u64::MAX, ..held }).is_none());
    two.done();
    let found = two.find(RUN, held).unwrap();
    assert!(found.iter().all(|byte| *byte == 9));
    one.end(RUN);
    assert!(one.is_leaving() && arena.held() > 0);
    assert!(found.iter().all(|byte| *byte == 9), "it is there as long as it is read");
    assert!(two.find(RUN, held).is_none(), "and nobody else finds it");
    drop(found);
    two.done();
    one.sweep();
    assert!(!one.is_leaving());
    assert_eq!(arena.held(), 0);
}

#[test]
fn who_reads_and_ends_is_not_waited_for() {
    let (mut one, arena, window) = engine(1);
    let (mut two, _, its) = engine(2);
    one.watch(2, &its.board).unwrap();
    two.watch(1, &window.board).unwrap();
    two.lent(1, window.arena).unwrap();
    let held = one.hold(RUN, &paged(&arena, 70_000, 9)).unwrap();
    let found = two.find(RUN, held).unwrap();
    drop(found);
    drop(two);
    one.release(RUN, held.id);
    assert!(one.is_leaving());
    one.part(2);
    one.sweep();
    assert_eq!((one.is_leaving(), arena.held()), (false, 0));
}

#[test]
fn there_is_an_end_to_it() {
    let (mut shelf, arena, _) = engine(1);
    assert!(shelf.hold(RUN, &paged(&arena, (2 << 20) + 1, 1)).is_none(), "more than it may hold");
    let small = Blob::from(vec![1; 10]);
    let held: Vec<Held> = std::iter::from_fn(|| shelf.hold(RUN, &small)).collect();
    assert!(!held.is_empty() && held.len() <= SLOTS);
    shelf.end(RUN);
    assert_eq!((shelf.bytes(), arena.held()), (0, 0));
    assert!(shelf.hold(RUN, &small).is_none(), "a run that is over leaves nothing");
    let next = shelf.hold(OTHER, &small).unwrap();
    assert!(held.iter().all(|one| one.id != next.id));
    let (mut unnamed, _) = Shelf::new(arena, 1 << 20).unwrap();
    assert!(unnamed.hold(OTHER, &small).is_none());
}

#[test]
fn what_is_said_to_be_a_window_is_looked_at() {
    let (mut shelf, _, window) = engine(1);
    let (_, _, other) = engine(2);
    assert!(shelf.watch(2, &other.arena).is_err());
    assert!(shelf.lent(2, other.arena).is_ok() && shelf.neighbours.is_empty(), "nobody's");
    assert!(rustix::io::write(&window.board, b"x").is_err(), "others may read only");
}
