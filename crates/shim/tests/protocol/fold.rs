//! The state is the fold of all changes, whichever way it is come by.

use crate::bed::LIMITS;
use crate::random::Random;
use shim::protocol::message::{Entry, Lazy};
use shim::protocol::{Message, Place, Seq, State};
use xpucall::id::{FifoId, PuId, Rights, XpuPid};

/// Changes as a head would order them: of FIFOs that there are, and none twice.
fn change(random: &mut Random, state: &State) -> Entry {
    let ids: Vec<FifoId> = state.fifos().keys().copied().collect();
    let fifo = ids.get(random.below(ids.len().max(1))).copied().unwrap_or(FifoId(1));
    let place = Place { pu: PuId(random.below(4) as u8), incarnation: 1 + random.below(3) as u32 };
    let pid = XpuPid::new(place.pu, place.incarnation, random.below(6) as u32);
    let rights = Rights::from_bits(random.below(8) as u8).unwrap_or_default();
    match random.below(20) {
        0..6 => {
            let fifo = FifoId(1 + random.next() % 3_000);
            match state.fifos().get(&fifo) {
                None => Entry::Create { fifo, creator: pid, limits: LIMITS },
                Some(held) => Entry::Lazy(vec![Lazy::Released { fifo, born: held.born }]),
            }
        }
        6..13 => Entry::Grant { to: pid, fifo, rights },
        13..16 => Entry::Revoke { from: pid, fifo, rights },
        16 => Entry::Endow { child: pid, capabilities: vec![(fifo, rights), (FifoId(9), Rights::READ)] },
        17 => Entry::Lazy(vec![Lazy::Gone(pid), Lazy::Released { fifo, born: 1 }]),
        18 => Entry::Join { place, shares: random.chance(50) },
        _ if random.chance(20) => Entry::Fence { place },
        _ => Entry::Lazy(Vec::new()),
    }
}

fn log(random: &mut Random, length: usize) -> (State, Vec<Entry>) {
    let mut state = State::default();
    let entries = (1..=length as Seq).map(|seq| {
        let entry = change(random, &state);
        state.fold(seq, &entry).expect("numbers follow each other");
        entry
    });
    let entries = entries.collect();
    (state, entries)
}

/// What a joiner has after the snapshot at `at` and the changes after it.
fn joined(entries: &[Entry], at: usize) -> State {
    let mut before = State::default();
    for (index, entry) in entries[..at].iter().enumerate() {
        before.fold(index as Seq + 1, entry).unwrap();
    }
    let mut state = State::at(before.seq());
    for (number, records) in (0..).zip(before.snapshot()) {
        let part = Message::Part { number, records };
        let Ok(Message::Part { records, .. }) = Message::decode(&part.encode().expect("a part fits a message")) else {
            panic!("a part does not come through");
        };
        records.iter().for_each(|record| state.load_record(record));
    }
    assert_eq!(state, before, "a snapshot is not the state it is of");
    for (index, entry) in entries.iter().enumerate().skip(at) {
        state.fold(index as Seq + 1, entry).unwrap();
    }
    state
}

#[test]
fn a_snapshot_and_what_follows_is_the_whole_log() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (whole, entries) = log(&mut random, 1_500);
        for _ in 0..6 {
            let at = random.below(entries.len() + 1);
            assert_eq!(joined(&entries, at), whole, "seed {seed}, snapshot at {at}");
        }
    }
}

#[test]
fn indices_agree_with_what_they_index() {
    for seed in 100..130 {
        let (state, _) = log(&mut Random::new(seed), 1_500);
        let capabilities: usize = state.fifos().values().map(|fifo| fifo.holders()).sum();
        assert_eq!(state.capabilities(), capabilities);
        for pu in 0..4 {
            let count = state.fifos().values().filter(|fifo| fifo.creator.pu() == PuId(pu)).count();
            assert_eq!(state.load(PuId(pu)).fifos, count);
        }
        for (id, fifo) in state.fifos() {
            assert!(state.created(fifo.creator).any(|created| created == *id));
        }
    }
}

#[test]
fn when_everybody_is_gone_nothing_is_left() {
    let (mut state, _) = log(&mut Random::new(7), 2_000);
    for pu in 0..4 {
        for incarnation in 1..4 {
            let place = Place { pu: PuId(pu), incarnation };
            state.fold(state.seq() + 1, &Entry::Fence { place }).unwrap();
        }
    }
    assert_eq!(state, State::at(state.seq()));
}

#[test]
fn a_change_that_is_left_out_is_noticed() {
    let mut state = State::default();
    assert!(state.fold(2, &Entry::Lazy(Vec::new())).is_err());
    assert_eq!(state, State::default());
}
