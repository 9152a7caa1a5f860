//! The loop with an engine that leaves its inputs: what is tested is the way to it and back, not what runs.

use super::*;
use crate::held::Window;
use crate::{Arena, Artefact, Blob, Finished, Kind, LoadError, Run, RunError, SelfTestError};
use cfork::invocation::{self, Cause, Ran};
use interconnect::channel::Channel;
use sets::wire::{self, Data};
use sets::{Item, Set, Sets};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Leaves its inputs as outputs; one whose first item is called `wait` goes on until it is stopped, `long` for a while,
/// `some` for a moment.
struct Echo;

impl Engine for Echo {
    fn kind(&self) -> Kind {
        Kind::Wasm
    }

    fn self_test(&mut self) -> Result<(), SelfTestError> {
        Ok(())
    }

    fn load(&mut self, _: &Artefact) -> Result<Box<dyn Program>, LoadError> {
        Ok(Box::new(Self))
    }
}

impl Program for Echo {
    fn run(&mut self, run: &Run<'_>) -> Finished {
        let first = run.inputs.first().and_then(|set| set.items.first()).map_or("", |item| item.name.as_str());
        if first == "wait" {
            while !run.stop.is_cancelled() {
                if Instant::now() > run.deadline {
                    return Finished::failed(RunError::Timeout);
                }
                std::thread::yield_now();
            }
            return Finished::failed(RunError::Cancelled);
        }
        if let "long" | "some" = first {
            let until = Instant::now() + Duration::from_nanos(if first == "long" { 10 * LONG } else { LONG / 2 });
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        let outputs: Sets<Blob> = run.inputs.to_vec();
        let stdout = run.stdin.map_or_else(Vec::new, |stdin| stdin.to_vec());
        Finished { outcome: Ok(outputs), stdout, stderr: Vec::new(), memory_peak: 4096 }
    }
}

struct Bench {
    desk: Arc<Desk>,
    told: mpsc::Receiver<Told>,
    thread: Option<JoinHandle<()>>,
    window: Window,
}

struct Guest {
    channel: Channel,
    log: OwnedFd,
}

impl Bench {
    fn new() -> Self {
        let desk = Arc::new(Desk::new().unwrap());
        let (tell, told) = mpsc::sync_channel(1024);
        let its = desk.clone();
        let (shelf, window) = Shelf::new(Arena::new(16 << 20).unwrap(), 8 << 20).unwrap();
        let thread = std::thread::spawn(move || {
            let tell = move |what| drop(tell.send(what));
            Serving::new(vec![Box::new(Echo)], its, shelf, Duration::from_micros(20), false, tell).unwrap().run();
        });
        let artefact = Artefact { kind: Kind::Wasm, file: File::open("/dev/null").unwrap() };
        desk.give(Order::Load { program: 1, artefact }).unwrap();
        let bench = Self { desk, told, thread: Some(thread), window: window.unwrap() };
        assert!(matches!(bench.hear(), Told::Loaded { program: 1, result: Ok(()) }));
        bench
    }

    fn hear(&self) -> Told {
        self.told.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn attach(&self, instance: u64, program: u64) -> Guest {
        attach(&self.desk, instance, program)
    }
}

fn attach(desk: &Desk, instance: u64, program: u64) -> Guest {
    let terms = Terms { name: "f".into(), timeout: Duration::from_secs(20), ..Terms::default() };
    attach_on(desk, instance, program, terms)
}

fn attach_on(desk: &Desk, instance: u64, program: u64, terms: Terms) -> Guest {
    let (channel, theirs) = Channel::create(1 << 20).unwrap();
    channel.receiver.sleep_by_event();
    let (log, printer) = std::io::pipe().unwrap();
    let channel_theirs = Channel::attach(&theirs.region, theirs.down, theirs.up).unwrap();
    let attachment = Attachment { instance, program, channel: channel_theirs, log: printer.into(), terms };
    desk.give(Order::Attach(Box::new(attachment))).unwrap();
    Guest { channel, log: log.into() }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.desk.give(Order::Close).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Guest {
    fn ask(&mut self, name: &str, data: &[u8]) {
        let mut body = Vec::new();
        wire::encode(&[Set::new("in", vec![Item::new(name, 7, data)])], &mut body).unwrap();
        self.channel.sender.send(invocation::INVOKE, b"", &body).unwrap();
    }

    /// The next message: its kind, head and body.
    fn hear(&mut self) -> (u32, Vec<u8>, Vec<u8>) {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(message) = self.channel.receiver.receive().unwrap() {
                return (message.kind(), message.head().to_vec(), message.body());
            }
            std::thread::yield_now();
        }
        panic!("the engine does not answer");
    }

    fn answer(&mut self) -> (Ran, Sets<Data<bytes::Bytes>>) {
        let (kind, head, body) = self.hear();
        assert_eq!(kind, invocation::REPLY, "{}", String::from_utf8_lossy(&body));
        (Ran::decode(&head), wire::decode(&bytes::Bytes::from(body), sets::Limits::default()).unwrap())
    }
}

#[test]
fn sets_go_in_and_come_out() {
    let bench = Bench::new();
    let mut guest = bench.attach(9, 1);
    guest.ask("x", b"hello");
    assert_eq!(guest.hear().0, invocation::READY);
    let (ran, outputs) = guest.answer();
    assert_eq!((outputs[0].name.as_str(), outputs[0].items[0].key), ("in", 7));
    assert_eq!(outputs[0].items[0].data, Data::Inline(bytes::Bytes::from_static(b"hello")));
    assert_eq!((ran.memory, ran.printed, ran.cause), (4096, true, Cause::Function));
    assert!(ran.served.begun > 0 && ran.served.ended >= ran.served.begun);
    let mut printed = [0; 5];
    File::from(guest.log.try_clone().unwrap()).read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"hello");
    // Long ones travel beside the ring.
    guest.ask("x", &vec![3; 200_000]);
    assert_eq!(guest.answer().1[0].items[0].data.len(), 200_000);
}

#[test]
fn a_request_does_not_replace_what_a_function_brings() {
    let bench = Bench::new();
    let own = Set::new("app", vec![Item::new("main.py", 0, Blob::from(b"its own".to_vec()))]);
    let timeout = Duration::from_secs(20);
    let terms = |fixed| Terms { name: "f".into(), timeout, fixed, ..Terms::default() };
    let mut other = attach_on(&bench.desk, 1, 1, terms(vec![own.clone()]));
    let mut same = attach_on(&bench.desk, 2, 1, terms(vec![Set { name: "in".into(), ..own }]));
    [&mut other, &mut same].into_iter().for_each(|guest| guest.ask("x", b""));
    assert_eq!((other.hear().0, same.hear().0), (invocation::READY, invocation::READY));
    let sets: Vec<String> = other.answer().1.into_iter().map(|set| set.name).collect();
    assert_eq!(sets, ["in", "app"]);
    let (kind, _, body) = same.hear();
    let body = String::from_utf8(body).unwrap();
    assert!(kind == invocation::FAILED && body.contains("Pure.BadInput") && body.contains("own"), "{kind} {body}");
}

#[test]
fn many_channels_are_served_in_turn() {
    let bench = Bench::new();
    let mut guests: Vec<Guest> = (1..=100).map(|instance| bench.attach(instance, 1)).collect();
    for guest in &mut guests {
        assert_eq!(guest.hear().0, invocation::READY);
    }
    // More often than a bell may be heard before it is emptied.
    for round in 0..2 * RINGS_MAX {
        let some = if round % 8 == 0 { guests.len() } else { 3 };
        guests[..some].iter_mut().for_each(|guest| guest.ask("x", b""));
        guests[..some].iter_mut().for_each(|guest| drop(guest.answer()));
    }
}

#[test]
fn short_runs_come_before_long_ones_that_wait_too() {
    let bench = Bench::new();
    let mut guests: Vec<Guest> = (1..=4).map(|instance| bench.attach(instance, 1)).collect();
    guests.iter_mut().for_each(|guest| drop(guest.hear()));
    for long in &mut guests[1..3] {
        long.ask("long", b"");
        long.answer();
    }
    guests[0].ask("wait", b"");
    // It has been taken, so all that follow wait.
    while !guests[0].channel.sender.is_read() {
        std::thread::yield_now();
    }
    guests[1].ask("long", b"");
    guests[2].ask("long", b"");
    guests[3].ask("x", b"");
    bench.desk.give(Order::Detach { instance: 1 }).unwrap();
    let [first, second, short] = [1, 2, 3].map(|guest| guests[guest].answer().0.served.begun);
    assert!(short < first && short < second, "{short} {first} {second}");
}

/// An engine whose turns the test takes, and two guests that have been served.
fn by_hand() -> (Serving<impl Fn(Told)>, [Guest; 2]) {
    let desk = Arc::new(Desk::new().unwrap());
    let (shelf, _) = Shelf::new(Arena::new(16 << 20).unwrap(), 8 << 20).unwrap();
    let mut serving = Serving::new(vec![Box::new(Echo)], desk.clone(), shelf, Duration::ZERO, false, drop).unwrap();
    let artefact = Artefact { kind: Kind::Wasm, file: File::open("/dev/null").unwrap() };
    desk.give(Order::Load { program: 1, artefact }).unwrap();
    let mut guests = [1, 2].map(|instance| attach(&desk, instance, 1));
    // It would sleep if nobody had anything to say.
    guests.iter_mut().for_each(|guest| guest.ask("x", b""));
    assert!(serving.turn());
    for guest in &mut guests {
        assert_eq!(guest.hear().0, invocation::READY);
        guest.answer();
    }
    (serving, guests)
}

#[test]
fn who_rings_is_heard_while_others_always_have_something() {
    let (mut serving, [mut busy, mut quiet]) = by_hand();
    let mut serve_one = |busy: &mut Guest| {
        busy.ask("some", b"");
        assert!(serving.turn());
        busy.answer();
    };
    // It is asked to ring after a while in which it says nothing.
    (0..2 * SILENCE).for_each(|_| serve_one(&mut busy));
    quiet.ask("x", b"");
    let waited = (0..10).find(|_| {
        serve_one(&mut busy);
        quiet.channel.receiver.has_message()
    });
    assert!(waited.is_some(), "it is not heard");
}

#[test]
fn one_ring_is_enough_for_all_who_spoke_lately() {
    let (mut serving, [mut one, mut other]) = by_hand();
    // How often the other one rings that speaks after the first has woken the engine.
    let mut rings = |rounds: u64| {
        for _ in 0..rounds {
            one.ask("x", b"");
            assert!(serving.turn());
            one.answer();
        }
        let bell = |serving: &Serving<_>, place: usize| {
            let lane = serving.lanes[place].as_ref().unwrap();
            interconnect::doorbell::hush(lane.channel.receiver.bell())
        };
        assert!(serving.settle());
        (0..2).for_each(|place| _ = bell(&serving, place));
        one.ask("x", b"");
        serving.wait();
        other.ask("x", b"");
        let rings = bell(&serving, 1);
        while !other.channel.receiver.has_message() {
            serving.hear(Some(&NOW));
            // What was rung for is not looked for by bells that were emptied here.
            serving.busy = vec![0, 1];
            assert!(serving.turn());
        }
        one.answer();
        other.answer();
        rings
    };
    assert_eq!([rings(0), rings(LATELY / 2), rings(2 * LATELY)], [0, 0, 1]);
}

#[test]
fn who_is_detached_is_stopped_and_nobody_else() {
    let bench = Bench::new();
    let mut guests = [bench.attach(1, 1), bench.attach(2, 1), bench.attach(3, 1)];
    guests.iter_mut().for_each(|guest| drop(guest.hear()));
    guests[0].ask("wait", b"");
    guests[1].ask("wait", b"");
    guests[2].ask("x", b"");
    bench.desk.give(Order::Detach { instance: 1 }).unwrap();
    assert!(matches!(bench.hear(), Told::Ended { instance: 1, broken: false }));
    bench.desk.give(Order::Detach { instance: 2 }).unwrap();
    assert!(matches!(bench.hear(), Told::Ended { instance: 2, broken: false }));
    guests[2].answer();
}

/// A request of one item, and another small one.
fn request(ask: wire::Ask, data: Data<&[u8]>) -> Vec<u8> {
    let (mut body, small) = (Vec::new(), Item::new("small", 0, Data::Inline(&[1_u8; 10][..])));
    wire::encode_asking(ask, &[Set::new("in", vec![Item::new("x", 7, data), small])], &mut body).unwrap();
    body
}

fn send(guest: &mut Guest, body: Vec<u8>) {
    guest.channel.sender.send(invocation::INVOKE, b"", &body).unwrap();
}

fn refused(guest: &mut Guest, body: Vec<u8>) {
    send(guest, body);
    is_gone(guest);
}

fn is_gone(guest: &mut Guest) {
    let (kind, head, body) = guest.hear();
    assert_eq!((kind, Ran::decode(&head).cause), (invocation::FAILED, Cause::Gone));
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&said["errorType"], &said["lost"]), (&"Pure.Gone".into(), &serde_json::json!([0])), "{said}");
}

/// Numbers 1 to 3, and what the first one holds for a run: nobody knows anybody yet.
fn strangers() -> ([Bench; 3], Guest, wire::Held) {
    let engines = [Bench::new(), Bench::new(), Bench::new()];
    for (engine, number) in engines.iter().zip(1..) {
        engine.desk.give(Order::Name { number, others: (1..number).collect() }).unwrap();
    }
    let mut guest = engines[0].attach(1, 1);
    guest.hear();
    send(&mut guest, request(ASK, Data::Inline(&[9; 5000])));
    let (_, outputs) = guest.answer();
    let Data::Held(held) = outputs[0].items[0].data else { panic!("{outputs:?}") };
    (engines, guest, held)
}

/// `one`, of this number, reads from now on what `other` holds.
fn acquaint([one, other]: [&Bench; 2], [its, others]: [u32; 2]) {
    let copy = |file: &OwnedFd| file.try_clone().unwrap();
    for (bench, number, known) in [(other, its, one), (one, others, other)] {
        bench.desk.give(Order::Watch { number, board: copy(&known.window.board) }).unwrap();
        assert!(matches!(bench.hear(), Told::Watches { number: said } if said == number));
    }
    one.desk.give(Order::Lend { number: others, arena: copy(&other.window.arena) }).unwrap();
}

const ASK: wire::Ask = wire::Ask { run: [1; 16], from: 4096 };
const NOTHING: wire::Ask = wire::Ask { from: wire::Ask::NOTHING, ..ASK };

#[test]
fn a_request_waits_until_engines_know_each_other_and_holds_up_nobody() {
    let ([one, two, _three], _guest, held) = strangers();
    let [mut early, mut gone, mut other] = [1, 2, 3].map(|instance| two.attach(instance, 1));
    for guest in [&mut early, &mut gone, &mut other] {
        guest.hear();
    }
    send(&mut early, request(NOTHING, Data::Held(held)));
    // One that is given up while its request waits has its place taken by another.
    send(&mut gone, request(NOTHING, Data::Held(held)));
    other.ask("x", b"");
    other.answer();
    two.desk.give(Order::Detach { instance: 2 }).unwrap();
    let mut late = two.attach(4, 1);
    assert!(matches!(two.hear(), Told::Ended { instance: 2, broken: false }));
    for guest in [&mut late, &mut other] {
        guest.ask("x", b"");
    }
    late.hear();
    for guest in [&mut late, &mut other] {
        guest.answer();
    }
    assert!(!early.channel.receiver.has_message());
    acquaint([&two, &one], [2, 1]);
    assert_eq!(early.answer().1[0].items[0].data, Data::Inline(bytes::Bytes::from(vec![9; 5000])));
}

#[test]
fn who_has_ended_is_not_waited_for() {
    let ([_one, two, _three], _guest, held) = strangers();
    let mut guests = [two.attach(1, 1), two.attach(2, 1), two.attach(3, 1)];
    guests.iter_mut().for_each(|guest| drop(guest.hear()));
    let of = |engine| request(NOTHING, Data::Held(wire::Held { engine, ..held }));
    for (guest, engine) in guests.iter_mut().zip([1, 3, 4]) {
        send(guest, of(engine));
    }
    for (guest, number) in guests.iter_mut().zip([1, 3]) {
        two.desk.give(Order::Part { number }).unwrap();
        is_gone(guest);
        // Nor is it by the next one.
        refused(guest, of(number));
    }
    // One that nobody has heard of is, but not for ever.
    is_gone(&mut guests[2]);
    // An engine that is to close does not wait for it.
    send(&mut guests[2], of(4));
}

#[test]
fn an_engine_that_began_later_knows_who_had_ended_before() {
    let ([_one, _two, three], _guest, held) = strangers();
    three.desk.give(Order::Name { number: 9, others: vec![8] }).unwrap();
    let mut guest = three.attach(1, 1);
    guest.hear();
    refused(&mut guest, request(NOTHING, Data::Held(wire::Held { engine: 7, ..held })));
}

#[test]
fn what_is_asked_for_is_held_for_its_run_and_found_by_it() {
    let bench = Bench::new();
    let mut guests = [bench.attach(1, 1), bench.attach(2, 1)];
    guests.iter_mut().for_each(|guest| drop(guest.hear()));
    bench.desk.give(Order::Name { number: 5, others: Vec::new() }).unwrap();
    let (ask, nothing) = (ASK, NOTHING);
    send(&mut guests[0], request(ask, Data::Inline(&[9; 5000])));
    let (_, outputs) = guests[0].answer();
    let Data::Held(held) = outputs[0].items[0].data else { panic!("{outputs:?}") };
    assert_eq!((held.engine, held.len), (5, 5000));
    assert_eq!(outputs[0].items[1].data.len(), 10, "small ones travel");
    bench.desk.give(Order::Leave).unwrap();
    // Another function of the same run has it by its name; what it leaves travels if nothing is asked for.
    send(&mut guests[1], request(nothing, Data::Held(held)));
    assert_eq!(guests[1].answer().1[0].items[0].data, Data::Inline(bytes::Bytes::from(vec![9; 5000])));
    // Other runs have not, nor who names none.
    refused(&mut guests[1], request(wire::Ask { run: [2; 16], ..ask }, Data::Held(held)));
    let mut body = Vec::new();
    wire::encode(&[Set::new("in", vec![Item::new("x", 7, Data::<&[u8]>::Held(held))])], &mut body).unwrap();
    refused(&mut guests[1], body);
    bench.desk.give(Order::Release { run: [2; 16], items: vec![held.id] }).unwrap();
    send(&mut guests[1], request(nothing, Data::Held(held)));
    assert_eq!(guests[1].answer().1[0].items[0].data.len(), 5000, "not its to release");
    bench.desk.give(Order::Forget { run: [1; 16] }).unwrap();
    refused(&mut guests[1], request(nothing, Data::Held(held)));
    // What comes too late for its run is held by nobody.
    send(&mut guests[0], request(ask, Data::Inline(&[9; 5000])));
    assert!(matches!(guests[0].answer().1[0].items[0].data, Data::Inline(_)));
    bench.desk.give(Order::Leave).unwrap();
    let ended = bench.told.recv_timeout(Duration::from_secs(20));
    assert!(matches!(ended, Err(mpsc::RecvTimeoutError::Disconnected)), "{ended:?}");
}

#[test]
fn nonsense_is_refused_and_breaks_nothing() {
    let bench = Bench::new();
    let mut guest = bench.attach(1, 1);
    guest.hear();
    guest.channel.sender.send(invocation::INVOKE, b"", b"nonsense").unwrap();
    let (kind, head, body) = guest.hear();
    assert_eq!((kind, Ran::decode(&head).cause), (invocation::FAILED, Cause::Function));
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(error["errorType"], "Pure.BadInput");
    assert!(error["errorMessage"].as_str().unwrap().starts_with("f: the function's inputs cannot be given to it"));
    let held = Data::<&[u8]>::Held(wire::Held { engine: 0, id: 1, len: 5 });
    let mut body = Vec::new();
    wire::encode(&[Set::new("in", vec![Item::new("x", 0, held)])], &mut body).unwrap();
    guest.channel.sender.send(invocation::INVOKE, b"", &body).unwrap();
    assert_eq!(guest.hear().0, invocation::FAILED);
    guest.ask("x", b"");
    guest.answer();
    let mut nobody = bench.attach(2, 77);
    assert_eq!(nobody.hear().0, invocation::INIT_FAILED);
    assert!(matches!(bench.hear(), Told::Ended { instance: 2, broken: true }));
}
