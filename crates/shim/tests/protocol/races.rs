//! Calls and ends that cross each other on their way.

use crate::bed::{Bed, INCARNATION, LIMITS, config};
use shim::protocol::call::{ConnectError, CreateError, GrantError, RevokeError, SpawnError, StartError};
use shim::protocol::message::Ack;
use shim::protocol::{
    Action, Answer, Call, Cause, EndId, Former, Input, Message, Node, Program, Quota, Side, Source, Timing,
};
use std::collections::BTreeSet;
use std::time::Duration;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};

const FIFO: FifoId = FifoId(5);

fn create() -> Call {
    Call::Create { fifo: Some(FIFO), limits: LIMITS }
}

fn grant(to: XpuPid, rights: Rights) -> Call {
    Call::Grant { to, fifo: FIFO, rights }
}

fn revoke(from: XpuPid, rights: Rights) -> Call {
    Call::Revoke { from, fifo: FIFO, rights }
}

/// A FIFO of PU 1, written by PU 2 and read by PU 3.
fn lane(bed: &mut Bed) -> EndId {
    let [_, home, writer, reader] = [bed.pids[0], bed.pids[1], bed.pids[2], bed.pids[3]];
    assert_eq!(bed.call(home, create()), Answer::Created(Ok(FIFO)));
    assert_eq!(bed.call(home, grant(writer, Rights::WRITE)), Answer::Granted(Ok(())));
    assert_eq!(bed.call(home, grant(reader, Rights::READ)), Answer::Granted(Ok(())));
    bed.connect(reader, FIFO, Side::Reader);
    bed.connect(writer, FIFO, Side::Writer)
}

#[test]
fn of_two_who_create_one_id_at_once_one_does() {
    let mut bed = Bed::new(3);
    let calls = [bed.begin(bed.pids[1], create()), bed.begin(bed.pids[2], create())];
    bed.settle();
    let answers = calls.map(|call| bed.answers.remove(&call));
    assert_eq!(answers[0], Some(Answer::Created(Ok(FIFO))));
    assert_eq!(answers[1], Some(Answer::Created(Err(CreateError::Exists))));
    bed.check_rest();
}

#[test]
fn an_id_that_was_released_can_be_had_again_and_is_another_fifo() {
    let mut bed = Bed::new(4);
    let old = lane(&mut bed);
    let home = bed.pids[1];
    bed.stuck.insert(3);
    assert_eq!(bed.call(home, Call::Release { fifo: FIFO }), Answer::Released(Ok(())));
    // The reader still takes what was written, while there is a new FIFO of that id.
    assert_eq!(bed.call(home, create()), Answer::Created(Ok(FIFO)));
    assert!(bed.has(
        3,
        |action| matches!(action, Action::Cut { lane, cause: Cause::Closed, drain: true, .. } if *lane == old)
    ));
    assert_eq!(bed.call(home, revoke(bed.pids[3], Rights::READ)), Answer::Revoked(Ok(())));
    assert!(!bed.has(3, |action| matches!(action, Action::Cut { cause: Cause::Revoked, .. })));
    bed.step(3, Input::Ended { lane: old, side: Side::Reader });
    bed.settle();
    bed.check_rest();
    assert_eq!(bed.nodes[1].census().lanes, 0);
}

#[test]
fn what_is_given_to_the_dead_is_given_up_again() {
    let mut bed = Bed::new(3);
    let (owner, dying) = (bed.pids[1], bed.pids[2]);
    assert_eq!(bed.call(owner, create()), Answer::Created(Ok(FIFO)));
    let call = bed.begin(owner, grant(dying, Rights::READ));
    bed.step(2, Input::Gone { pid: dying });
    bed.settle();
    assert_eq!(bed.answers.remove(&call), Some(Answer::Granted(Err(GrantError::NoSuchProcess))));
    bed.pass(Duration::from_millis(100));
    assert_eq!(bed.nodes[0].census().capabilities, 0);
    // So is what the dead had asked for.
    let call = bed.begin(owner, Call::Create { fifo: Some(FifoId(6)), limits: LIMITS });
    bed.step(1, Input::Gone { pid: owner });
    bed.settle();
    bed.pass(Duration::from_millis(100));
    assert_eq!(bed.answers.get(&call), None);
    assert_eq!(bed.nodes[0].census().fifos, 0);
    bed.check_rest();
}

#[test]
fn of_two_owners_who_revoke_each_other_the_first_does() {
    let mut bed = Bed::new(4);
    let (creator, one, other) = (bed.pids[1], bed.pids[2], bed.pids[3]);
    assert_eq!(bed.call(creator, create()), Answer::Created(Ok(FIFO)));
    for owner in [one, other] {
        assert_eq!(bed.call(creator, grant(owner, Rights::ALL)), Answer::Granted(Ok(())));
    }
    let calls = [bed.begin(one, revoke(other, Rights::ALL)), bed.begin(other, revoke(one, Rights::ALL))];
    bed.settle();
    let answers = calls.map(|call| bed.answers.remove(&call));
    assert_eq!(answers[0], Some(Answer::Revoked(Ok(()))));
    assert_eq!(answers[1], Some(Answer::Revoked(Err(RevokeError::NotPermitted))));
    let from_creator = bed.call(one, revoke(creator, Rights::READ));
    assert_eq!(from_creator, Answer::Revoked(Err(RevokeError::NotPermitted)));
    // An owner may give up its own right.
    assert_eq!(bed.call(one, revoke(one, Rights::OWNER)), Answer::Revoked(Ok(())));
    assert_eq!(bed.nodes[3].state().rights(one, FIFO), Rights::READ | Rights::WRITE);
}

#[test]
fn a_connection_that_crosses_a_revoke_leaves_no_lane() {
    for held in [1, 2, 3] {
        let mut bed = Bed::new(4);
        let (home, writer, reader) = (bed.pids[1], bed.pids[2], bed.pids[3]);
        assert_eq!(bed.call(home, create()), Answer::Created(Ok(FIFO)));
        assert_eq!(bed.call(home, grant(writer, Rights::WRITE)), Answer::Granted(Ok(())));
        assert_eq!(bed.call(home, grant(reader, Rights::READ)), Answer::Granted(Ok(())));
        bed.connect(reader, FIFO, Side::Reader);
        bed.held.insert(held);
        let connect = bed.begin(writer, Call::Connect { fifo: FIFO, side: Side::Writer });
        let revoke = bed.begin(home, revoke(writer, Rights::WRITE));
        bed.settle();
        assert!(!bed.answers.contains_key(&revoke), "PU {held} has not acknowledged it");
        bed.release();
        assert_eq!(bed.answers.remove(&revoke), Some(Answer::Revoked(Ok(()))));
        // Connected and cut at once, or not at all.
        let connected = bed.answers.remove(&connect);
        let refused = Answer::Connected(Err(ConnectError::NotPermitted));
        assert!(matches!(connected, Some(Answer::Connected(Ok(_)))) || connected == Some(refused));
        bed.check_rest();
        let left = [1, 2, 3].map(|pu| (bed.nodes[pu].census().lanes, bed.nodes[pu].census().ends));
        assert_eq!(left, [(0, 0), (0, 0), (0, 1)], "held: PU {held}");
    }
}

#[test]
fn a_revoke_waits_for_both_sides_also_of_a_lane_that_is_ending() {
    let mut bed = Bed::new(4);
    let lane = lane(&mut bed);
    bed.stuck.insert(3);
    // Closed, and its reader still takes what was written.
    assert_eq!(bed.call(bed.pids[2], Call::Close { end: lane }), Answer::Closed(Ok(())));
    let call = bed.begin(bed.pids[1], revoke(bed.pids[2], Rights::WRITE));
    bed.settle();
    assert!(!bed.answers.contains_key(&call), "the reader may still read what is written now");
    let sharper = |action: &Action| matches!(action, Action::Cut { cause: Cause::Revoked, drain: false, .. });
    assert!(bed.has(3, sharper));
    bed.step(3, Input::Ended { lane, side: Side::Reader });
    bed.settle();
    assert_eq!(bed.answers.remove(&call), Some(Answer::Revoked(Ok(()))));
    bed.check_rest();
}

#[test]
fn a_lane_that_its_reader_gives_up_ends_for_its_writer() {
    let mut bed = Bed::new(4);
    let lane = lane(&mut bed);
    bed.step(3, Input::Ended { lane, side: Side::Reader });
    bed.settle();
    let closed = |action: &Action| matches!(action, Action::Cut { side: Side::Writer, cause: Cause::Closed, .. });
    assert!(bed.has(2, closed));
    // The FIFO still has its reader, and the writer may come again.
    let again = bed.connect(bed.pids[2], FIFO, Side::Writer);
    assert!(bed.has(3, |action| matches!(action, Action::Open { lane, .. } if *lane == again)));
    bed.check_rest();
}

#[test]
fn who_does_not_end_a_lane_is_fenced_and_not_the_home_that_waits_for_it() {
    let mut bed = Bed::new(4);
    let lane = lane(&mut bed);
    bed.stuck.insert(2);
    let call = bed.begin(bed.pids[1], revoke(bed.pids[3], Rights::READ));
    bed.settle();
    let timing = Timing::default();
    bed.pass(timing.patience / 2 + Duration::from_millis(100));
    assert!(bed.has(0, |action| *action == Action::Drop { pu: PuId(2) }));
    bed.step(2, Input::LinkDown { pu: PuId::HEAD, dead: false });
    assert!(!bed.answers.contains_key(&call), "its lease is not over");
    bed.pass(timing.lease + timing.margin);
    assert_eq!(bed.answers.remove(&call), Some(Answer::Revoked(Ok(()))));
    let members: Vec<u8> = bed.nodes[0].state().members().keys().map(|pu| pu.0).collect();
    assert_eq!(members, [0, 1, 3], "of lane {lane}");
}

#[test]
fn what_waits_for_a_member_that_is_lost_waits_for_its_fence() {
    let mut bed = Bed::new(4);
    // PU 1 is the home, and is lost; the writer's PU does not end the lane.
    let lane = lane(&mut bed);
    assert_eq!(bed.call(bed.pids[1], grant(bed.pids[0], Rights::OWNER)), Answer::Granted(Ok(())));
    bed.held.insert(1);
    bed.stuck.insert(2);
    let call = bed.begin(bed.pids[0], revoke(bed.pids[2], Rights::WRITE));
    bed.settle();
    bed.step(0, Input::LinkDown { pu: PuId(1), dead: true });
    bed.settle();
    assert!(!bed.answers.contains_key(&call), "the lane of a FIFO of PU 1 has not ended");
    bed.step(2, Input::Ended { lane, side: Side::Writer });
    bed.settle();
    assert_eq!(bed.answers.remove(&call), Some(Answer::Revoked(Ok(()))));
}

#[test]
fn words_of_an_earlier_life_count_for_nothing() {
    let mut bed = Bed::new(3);
    let former = bed.nodes[2].place().unwrap().incarnation;
    bed.step(2, Input::LinkDown { pu: PuId::HEAD, dead: false });
    bed.step(0, Input::LinkDown { pu: PuId(2), dead: false });
    bed.forget_messages();
    bed.link(2, true);
    assert_ne!(bed.nodes[2].place().unwrap().incarnation, former);
    bed.held.insert(2);
    let call = bed.begin(bed.pids[1], create());
    bed.settle();
    let acks = vec![Ack { seq: bed.nodes[0].state().seq(), absent: false }];
    bed.say(2, 0, Message::Acknowledge { incarnation: former, acks });
    bed.settle();
    assert!(!bed.answers.contains_key(&call));
    bed.release();
    assert_eq!(bed.answers.remove(&call), Some(Answer::Created(Ok(FIFO))));
}

#[test]
fn who_joins_while_a_call_waits_has_it_and_is_not_waited_for() {
    let mut bed = Bed::new(4);
    bed.step(3, Input::LinkDown { pu: PuId::HEAD, dead: false });
    bed.step(0, Input::LinkDown { pu: PuId(3), dead: true });
    bed.settle();
    bed.held.extend([2]);
    let call = bed.begin(bed.pids[1], create());
    bed.settle();
    bed.link(3, true);
    assert!(bed.nodes[3].place().is_some(), "it serves, whoever is slow");
    assert!(bed.nodes[3].state().fifos().contains_key(&FIFO));
    bed.release();
    assert_eq!(bed.answers.remove(&call), Some(Answer::Created(Ok(FIFO))));
    bed.check_rest();
}

#[test]
fn a_member_that_is_cut_off_stops_before_others_go_on() {
    let mut bed = Bed::new(3);
    bed.held.insert(2);
    let call = bed.begin(bed.pids[1], create());
    let timing = Timing::default();
    let mut stopped = None;
    for _ in 0..100 {
        bed.pass(Duration::from_millis(50));
        if bed.nodes[2].place().is_none() {
            stopped.get_or_insert(bed.now);
        }
        if bed.answers.contains_key(&call) {
            break;
        }
    }
    assert_eq!(bed.answers.remove(&call), Some(Answer::Created(Ok(FIFO))));
    assert!(stopped.is_some_and(|at| at + timing.margin <= bed.now), "{stopped:?}, and others at {:?}", bed.now);
}

#[test]
fn a_new_head_waits_for_those_who_may_serve_under_the_last() {
    for comes_back in [true, false] {
        let mut bed = Bed::new(2);
        let former = Former { incarnation: INCARNATION + 9, members: BTreeSet::from([PuId(1)]) };
        bed.nodes[0] = Node::head(config(0), former);
        bed.step(0, Input::Tick);
        let pid = bed.attach(0);
        let call = bed.begin(pid, create());
        bed.pass(Duration::from_secs(1));
        assert!(!bed.answers.contains_key(&call), "PU 1 may have a FIFO of that id");
        if comes_back {
            bed.step(1, Input::LinkDown { pu: PuId::HEAD, dead: false });
            bed.link(1, true);
        } else {
            bed.pass(Timing::default().lease + Timing::default().margin - Duration::from_secs(1));
        }
        assert_eq!(bed.answers.remove(&call), Some(Answer::Created(Ok(FIFO))));
    }
}

#[test]
fn frames_that_are_on_their_way_when_a_right_is_revoked_reach_nobody() {
    let mut bed = Bed::with(4, false);
    let lane = lane(&mut bed);
    assert!(bed.has(2, |action| matches!(action, Action::Relay { .. })));
    assert!(bed.has(3, |action| matches!(action, Action::Open { source: Source::Relayed, .. })));
    let frame = || Input::Frame { lane, bytes: vec![1; 9] };
    bed.step(2, frame());
    bed.settle();
    let frames = |bed: &Bed| bed.done.iter().filter(|(_, action)| matches!(action, Action::Frame { .. })).count();
    assert_eq!(frames(&bed), 1);
    bed.held.insert(2);
    bed.step(2, frame());
    let call = bed.begin(bed.pids[1], revoke(bed.pids[2], Rights::WRITE));
    bed.settle();
    assert!(!bed.answers.contains_key(&call));
    bed.release();
    assert_eq!(bed.answers.remove(&call), Some(Answer::Revoked(Ok(()))));
    assert_eq!(frames(&bed), 1, "what was not there when its side ended is not delivered");
    bed.check_rest();
}

#[test]
fn a_child_has_its_rights_when_it_starts_and_no_others() {
    let mut bed = Bed::new(3);
    let owner = bed.pids[1];
    assert_eq!(bed.call(owner, create()), Answer::Created(Ok(FIFO)));
    let program = Program { path: b"/bin/true".to_vec(), argv: Vec::new(), envp: Vec::new() };
    let spawn = |pu, rights| Call::Spawn { pu: PuId(pu), program: program.clone(), capabilities: vec![(FIFO, rights)] };
    let call = bed.begin(owner, spawn(2, Rights::WRITE));
    bed.settle();
    let started = bed.done.iter().find_map(|(at, action)| match action {
        Action::Start { pid, .. } => Some((*at, *pid)),
        _ => None,
    });
    let (at, child) = started.expect("it is started");
    assert_eq!((at, child.pu()), (2, PuId(2)));
    assert_eq!(bed.nodes.iter().filter(|node| node.state().rights(child, FIFO) == Rights::WRITE).count(), 3);
    bed.step(2, Input::Started { pid: child, result: Ok(Quota { fifos: 1, ends: 1 }) });
    bed.settle();
    assert_eq!(bed.answers.remove(&call), Some(Answer::Spawned(Ok(child))));
    bed.connect(child, FIFO, Side::Writer);
    // What its maker has not, it does not get; and what could not start leaves nothing.
    let refused = bed.call(child, spawn(1, Rights::READ));
    assert_eq!(refused, Answer::Spawned(Err(SpawnError::NotPermitted)));
    let call = bed.begin(owner, spawn(0, Rights::READ));
    bed.settle();
    let last = bed.done.iter().rev().find_map(|(_, action)| match action {
        Action::Start { pid, .. } => Some(*pid),
        _ => None,
    });
    bed.step(0, Input::Started { pid: last.unwrap(), result: Err(StartError::Os(2)) });
    bed.settle();
    assert_eq!(bed.answers.remove(&call), Some(Answer::Spawned(Err(SpawnError::NotStarted(StartError::Os(2))))));
    bed.pass(Duration::from_millis(100));
    assert_eq!((bed.nodes[0].census().capabilities, bed.nodes[0].census().processes), (1, 1));
    assert_eq!(bed.call(owner, spawn(7, Rights::READ)), Answer::Spawned(Err(SpawnError::NoSuchPu)));
    bed.check_rest();
}
