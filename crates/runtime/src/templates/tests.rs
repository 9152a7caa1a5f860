//! Sequences of events, and what follows from them.

use super::*;

const GENERIC: Seat = Seat::Generic(Kind::Python, Version { major: 3, minor: 11 }, Network::None);
/// Room for a generic and two dedicated templates.
const BUDGET: u64 = 100;

fn idle(last_used: u64) -> Activity {
    Activity { needed: false, last_used }
}

fn next(templates: &mut Templates, now: u64) -> Option<Step> {
    templates.next(now, BUDGET, |_| idle(0))
}

/// Templates in which these seats are ready, with ids from 1 on.
fn ready(seats: &[Seat]) -> Templates {
    let mut templates = Templates::new(1);
    for (i, seat) in seats.iter().enumerate() {
        templates.want(*seat, Kind::Python, 0, true);
        let id = i as u64 + 1;
        assert_eq!(next(&mut templates, 0), Some(Step::Prepare { id, seat: *seat }));
        assert_eq!(templates.prepared(id, 5, 0), Some(*seat));
    }
    templates
}

#[test]
fn generic_ones_come_first_and_few_at_a_time() {
    let mut templates = Templates::new(1);
    templates.want(Seat::Dedicated(7), Kind::Python, 1, true);
    templates.want(Seat::Dedicated(8), Kind::Python, 2, false);
    templates.want(GENERIC, Kind::Python, 0, false);
    assert_eq!(next(&mut templates, 3), Some(Step::Prepare { id: 1, seat: GENERIC }));
    assert_eq!(next(&mut templates, 3), Some(Step::Prepare { id: 2, seat: Seat::Dedicated(7) }));
    assert_eq!(next(&mut templates, 3), None, "two are being prepared");
    templates.prepared(1, 5, 3);
    assert_eq!(templates.ready(GENERIC), Some(1));
    assert_eq!(next(&mut templates, 3), Some(Step::Prepare { id: 3, seat: Seat::Dedicated(8) }));
}

#[test]
fn the_function_unused_for_longest_makes_room() {
    let mut templates = ready(&[GENERIC, Seat::Dedicated(7), Seat::Dedicated(8)]);
    templates.want(Seat::Dedicated(9), Kind::Python, 100, false);
    assert_eq!(next(&mut templates, 100), None, "a deployment takes nobody's place");
    templates.want(Seat::Dedicated(9), Kind::Python, 100, true);
    let busy = |_| Activity { needed: true, last_used: 1 };
    assert_eq!(templates.next(100, BUDGET, busy), None, "nobody can go");
    let used = |pool| idle(if pool == 7 { 50 } else { 40 });
    assert_eq!(templates.next(100, BUDGET, used), Some(Step::Discard { id: 3, seat: Seat::Dedicated(8) }));
    assert_eq!(templates.next(100, BUDGET, used), Some(Step::Prepare { id: 4, seat: Seat::Dedicated(9) }));
    assert_eq!(templates.phase(Seat::Dedicated(8)), None);
}

/// Lets `seat`, whose template has this id, end as soon as it is ready, again and again: the pauses in ms.
fn ends_at_once(templates: &mut Templates, seat: Seat, first: u64) -> Vec<u64> {
    let (mut now, mut pauses) = (0, Vec::new());
    for id in first..first + 12 {
        assert_eq!(templates.ended(id, now), Some(seat));
        let Some(due) = templates.due(now) else { break };
        pauses.push((due - now) / 1_000_000);
        assert_eq!(next(templates, due - 1), None);
        now = due;
        assert_eq!(next(templates, now), Some(Step::Prepare { id: id + 1, seat }));
        templates.prepared(id + 1, 5, now);
    }
    pauses
}

#[test]
fn what_ends_is_made_again_with_growing_pauses() {
    let pauses = ends_at_once(&mut ready(&[GENERIC]), GENERIC, 1);
    assert_eq!(pauses[..3], [100, 200, 400]);
    assert_eq!(pauses[10..], [1_600, 1_600]);
}

#[test]
fn a_dedicated_one_that_ends_too_often_is_given_up() {
    let seat = Seat::Dedicated(7);
    let mut templates = ready(&[seat]);
    assert_eq!(ends_at_once(&mut templates, seat, 1), [100, 200, 400]);
    assert!(matches!(templates.phase(seat), Some(Phase::Refused { .. })));
}

#[test]
fn what_cannot_be_made_is_tried_again_and_nobody_waits_for_it() {
    let mut templates = Templates::new(1);
    templates.want(GENERIC, Kind::Python, 0, true);
    let mut now = 0;
    let hopeless = |failures: u64| if failures < 3 { None } else { Some("no slot") };
    for id in 1..10 {
        assert_eq!(next(&mut templates, now), Some(Step::Prepare { id, seat: GENERIC }));
        assert_eq!(templates.hopeless(GENERIC), hopeless(id - 1));
        templates.failed(id, "no slot".into(), now);
        assert_eq!(templates.hopeless(GENERIC), hopeless(id));
        now = templates.due(now).unwrap();
    }
    assert!(next(&mut templates, now).is_some());
    templates.prepared(10, 5, now);
    assert_eq!((templates.hopeless(GENERIC), templates.ready(GENERIC)), (None, Some(10)));
}

#[test]
fn one_that_lived_long_is_not_blamed() {
    let mut templates = ready(&[GENERIC]);
    for id in 1..20 {
        let now = id * SOUND;
        templates.ended(id, now);
        assert_eq!(next(&mut templates, now + PAUSE), Some(Step::Prepare { id: id + 1, seat: GENERIC }));
        templates.prepared(id + 1, 5, now);
    }
}

#[test]
fn a_refusal_is_remembered_until_the_worker_changes() {
    let mut templates = ready(&[GENERIC]);
    templates.want(Seat::Dedicated(7), Kind::Python, 1, true);
    assert!(next(&mut templates, 1).is_some());
    assert_eq!(templates.refused(2, "it has threads".into()), Some(Seat::Dedicated(7)));
    templates.want(Seat::Dedicated(7), Kind::Python, 2, true);
    assert_eq!((next(&mut templates, 2), templates.ready(Seat::Dedicated(7))), (None, None));
    templates.reset(3);
    assert_eq!(next(&mut templates, 3), Some(Step::Prepare { id: 3, seat: GENERIC }));
    assert_eq!(next(&mut templates, 3), Some(Step::Prepare { id: 4, seat: Seat::Dedicated(7) }));
    assert_eq!(templates.prepared(1, 5, 4), None, "news of what the lost worker had");
}

#[test]
fn one_that_takes_workers_with_it_is_given_up() {
    let mut templates = ready(&[GENERIC]);
    templates.want(Seat::Dedicated(7), Kind::Python, 1, true);
    let mut now = 1;
    for _ in 0..FAILURES_MAX {
        now += 10 * SOUND;
        while let Some(Step::Prepare { id, seat }) = next(&mut templates, now) {
            if seat == GENERIC {
                templates.prepared(id, 5, now);
            }
        }
        templates.reset(now);
    }
    assert!(matches!(templates.phase(Seat::Dedicated(7)), Some(Phase::Refused { .. })));
    assert!(matches!(templates.phase(GENERIC), Some(Phase::Waiting { .. })));
}

#[test]
fn slots_are_asked_for_when_their_number_changes() {
    let mut templates = ready(&[GENERIC]);
    assert_eq!(templates.reserve(0), [(1, 2)]);
    assert_eq!(templates.reserve(0), []);
    (0..4).for_each(|_| templates.started(GENERIC, 1));
    assert_eq!(templates.reserve(1), [(1, 6)]);
    let fades = templates.due(1).unwrap();
    assert_eq!(templates.reserve(fades), [(1, 4)]);
}

#[test]
fn what_is_forgotten_is_discarded_and_its_news_ignored() {
    let mut templates = ready(&[GENERIC, Seat::Dedicated(7)]);
    assert_eq!(templates.forget(Seat::Dedicated(7)), Some(2));
    assert_eq!(templates.forget(Seat::Dedicated(7)), None);
    assert_eq!((templates.ended(2, 5), templates.seat(2)), (None, None));
}
