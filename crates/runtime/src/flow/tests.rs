//! Runs with functions of the test's own: many shards, failures, limits, ends of all kinds.

use super::datum::inline;
use super::shard::{Made, Unmade, Work, answered, object};
use super::*;
use flow::language::{Offline, check};
use sets::wire::{Data, Encode, Held};
use sets::{Item, Set};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::Notify;

/// Functions by what their names say.
#[derive(Default)]
struct Fake {
    ran: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    ended: Arc<Notify>,
}

struct Running(Arc<Fake>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
        self.0.ended.notify_one();
    }
}

struct Hands(Arc<Fake>);

impl Perform for Hands {
    fn perform(&self, work: Work) -> Pin<Box<dyn Future<Output = Made> + Send>> {
        let fake = self.0.clone();
        Box::pin(async move {
            fake.ran.fetch_add(1, Relaxed);
            let now = fake.running.fetch_add(1, Relaxed) + 1;
            let _running = Running(fake.clone());
            fake.most.fetch_max(now, Relaxed);
            tokio::task::yield_now().await;
            let items = work.inputs.iter().flat_map(|set| &set.items);
            let is_odd = items.clone().any(|item| item.name.ends_with('1'));
            let made: Result<Sets<Bytes>, Bytes> = match work.function.as_str() {
                "odd" | "even" if is_odd => Err(object("Odd", &work.request_id)),
                "copy" | "even" => {
                    let item = |item: &Item<Datum>| {
                        Item::new(item.name.clone(), item.key, item.data.bytes().cloned().unwrap())
                    };
                    Ok(vec![Set::new("r", items.map(item).collect())])
                }
                "count" => Ok(vec![Set::new("r", vec![Item::new("n", 0, items.count().to_string().into())])]),
                "grow" => Ok(vec![Set::new("r", vec![Item::new("n", 0, vec![0_u8; 1 << 20].into())])]),
                "odd" => Ok(Vec::new()),
                _ => std::future::pending().await,
            };
            made.map(inline).map_err(Into::into)
        })
    }
}

struct Fixture {
    flows: Flows,
    fake: Arc<Fake>,
}

impl Fixture {
    fn new(config: FlowConfig) -> Self {
        Self { flows: Flows::new(config), fake: Arc::default() }
    }

    async fn run(&self, text: &str, items: usize) -> Result<Sets<Bytes>, RunError> {
        self.run_by(Arc::new(Hands(self.fake.clone())), text, items).await
    }

    async fn run_by(&self, by: Arc<dyn Perform>, text: &str, items: usize) -> Result<Sets<Bytes>, RunError> {
        let program = check(text, None, &Offline).program.unwrap();
        let items = (0..items).map(|index| Item::new(index.to_string(), 0, Bytes::from_static(b"data")));
        let id = "0d5ea7c2-7e2b-4c53-9e63-5c1d6b1d0e9a".to_owned();
        let timeout = Duration::from_secs(60);
        let order = Order { id, flow: "arn:flow".into(), trace_id: String::new(), timeout, keeps: true };
        let inputs = vec![Set::new("A", items.collect())];
        self.flows.run(Arc::new(program), by, inputs, order).await
    }

    /// Waits until shards that were ended are gone, which is soon after their run; then nothing is held.
    async fn settled(&self) {
        while self.fake.running.load(Relaxed) > 0 {
            self.fake.ended.notified().await;
        }
        assert!(self.is_clean());
    }

    fn is_clean(&self) -> bool {
        self.flows.held() == 0 && self.fake.running.load(Relaxed) == 0
    }
}

#[tokio::test]
async fn ten_thousand_shards_run_a_window_at_a_time_in_bounded_room() {
    let fixture = Fixture::new(FlowConfig { run_mib: 8, ..FlowConfig::default() });
    let text =
        "flow f(A) => (N) { copy(a = each A) => (B = r); copy(a = each B) => (C = r); count(a = all C) => (N = r); }";
    let outputs = fixture.run(text, 10_000).await.unwrap();
    assert_eq!(outputs[0].items[0].data, "10000");
    assert_eq!(fixture.fake.ran.load(Relaxed), 20_001);
    assert!((2..=32).contains(&fixture.fake.most.load(Relaxed)));
    assert!(fixture.is_clean());
    let run = &fixture.flows.runs.of("arn:flow")[0];
    let counts: Vec<u64> = run.counts().values().map(|count| count.timing.shards).collect();
    assert_eq!(counts, [10_000, 10_000, 1]);
    let State::Done(Some(kept)) = run.state() else { panic!("{:?}", run.state()) };
    assert_eq!(kept[0].items[0].data, "10000");
}

#[tokio::test]
async fn a_failure_says_where_it_comes_from_and_ends_the_rest() {
    let fixture = Fixture::new(FlowConfig::default());
    let text = "flow f(A) => (B, C) {\n odd(a = each A) => (B = r);\n stuck(a = each A) => (C = r); }";
    let error = fixture.run(text, 2).await.unwrap_err();
    let object: serde_json::Value = serde_json::from_slice(&error.object()).unwrap();
    assert_eq!(
        (&object["errorType"], &object["application"], &object["line"]),
        (&"Odd".into(), &"odd".into(), &2.into())
    );
    let shard = object["shard"].as_u64().unwrap();
    assert_eq!(object["errorMessage"], format!("0d5ea7c2-7e2b-4c53-9e63-{shard:012x}"));
    fixture.settled().await;
    assert_eq!(fixture.flows.runs.of("arn:flow")[0].state().word(), "failed");
    let handed_on = fixture.run("flow f(A) => (E) { odd(a = each A) => () on error => E; }", 12).await.unwrap();
    let names: Vec<&str> = handed_on[0].items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["1", "11"]);
    let skipped = "flow f(A) => (B, N) { even(a = each A) => (B = r) on error skip; count(a = all B) => (N = r); }";
    let left = fixture.run(skipped, 12).await.unwrap();
    let names: Vec<&str> = left[0].items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["0", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    assert_eq!(left[1].items[0].data, "10", "what was skipped holds nothing up");
    fixture.settled().await;
}

#[tokio::test]
async fn limits_are_kept() {
    let fixture = Fixture::new(FlowConfig { run_mib: 4, runs: 1, shards_max: 8, ..FlowConfig::default() });
    let error = fixture.run("flow f(A) => (B) { grow(a = each A) => (B = r); }", 6).await.unwrap_err();
    assert!(matches!(error, RunError::TooMuch(_)) && !error.is_busy(), "{error}");
    let error = fixture.run("flow f(A) => (B) { copy(a = each A) => (B = r); }", 9).await.unwrap_err();
    assert!(matches!(error, RunError::TooMany(8)), "{error}");
    let mut stuck = std::pin::pin!(fixture.run("flow f(A) => (B) { stuck(a = all A) => (B = r); }", 1));
    tokio::select! {
        biased;
        _ = &mut stuck => panic!("it ends"),
        () = tokio::task::yield_now() => {}
    }
    let error = fixture.run("flow f(A) => (B) { copy(a = all A) => (B = r); }", 1).await.unwrap_err();
    assert!(matches!(error, RunError::Busy(1)) && error.is_busy(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn runs_end_by_their_time_by_cancelling_and_when_nobody_waits() {
    let fixture = Fixture::new(FlowConfig::default());
    let text = "flow f(A) => (B) { stuck(a = each A) => (B = r); }";
    assert!(matches!(fixture.run(text, 3).await, Err(RunError::Timeout)));
    let cancel = async {
        while fixture.fake.ran.load(Relaxed) < 6 {
            tokio::task::yield_now().await;
        }
        let run = fixture.flows.runs.find("0d5ea7c2-7e2b-4c53-9e63-5c1d6b1d0e9a").unwrap();
        assert!(run.cancel());
    };
    let (result, ()) = tokio::join!(fixture.run(text, 3), cancel);
    assert!(matches!(result, Err(RunError::Cancelled)), "{result:?}");
    fixture.settled().await;
}

#[test]
fn what_is_kept_of_runs_is_bounded() {
    let runs = Runs::new(&FlowConfig { keep_runs: 2, ..FlowConfig::default() });
    for id in ["a", "b", "c"] {
        let run = runs.enter(id, "f", true);
        runs.end(&run, State::Failed(object("X", "y")));
    }
    assert!(runs.find("a").is_none() && runs.find("b").is_some() && runs.find("c").is_some());
    let queued = runs.enter("d", "f", true);
    assert!(queued.cancel() && !queued.cancel());
    assert_eq!(queued.state().word(), "cancelled");
}

#[test]
fn an_answer_is_sets_or_one_item() {
    let results = ["r".to_owned()];
    assert_eq!(
        answered(Bytes::from_static(b"[1]"), &results).unwrap(),
        inline(vec![Set::new("r", vec![Item::new("answer", 0, Bytes::from_static(b"[1]"))])])
    );
    let sets = answered(Bytes::from_static(br#"{"sets": {"x": ["a"]}}"#), &results).unwrap();
    assert_eq!((sets[0].name.as_str(), sets[0].items.len()), ("x", 1));
    let error = answered(Bytes::from_static(br#"{"sets": 1}"#), &results).unwrap_err();
    assert!(matches!(error, Unmade::Failed(object) if String::from_utf8_lossy(&object).contains("Flow.BadSets")));
    assert_eq!(answered(Bytes::from_static(b"1"), &[]).unwrap(), vec![]);
}

/// Engines that hold what `p…` leave: the first end of one is when all of it is asked for.
#[derive(Default)]
struct Engines {
    /// How many items were left, and which are gone.
    left: AtomicU64,
    gone: Mutex<BTreeSet<u64>>,
    /// Bytes of an item.
    len: u64,
}

struct OnEngines(Arc<Engines>);

impl Perform for OnEngines {
    fn perform(&self, work: Work) -> Pin<Box<dyn Future<Output = Made> + Send>> {
        let engines = self.0.clone();
        Box::pin(async move {
            let gone = || object("Pure.Gone", "gone");
            let items: Vec<&Datum> = work.inputs.iter().flat_map(|set| &set.items).map(|item| &item.data).collect();
            let held = |datum: &Datum| match datum.data() {
                Data::Held(held) => Some(held.id),
                Data::Inline(_) => None,
            };
            let ids: Vec<Option<u64>> = items.iter().map(|datum| held(datum)).collect();
            let mut lost = engines.gone.lock().unwrap();
            let places: Vec<usize> =
                (0..ids.len()).filter(|at| ids[*at].is_some_and(|id| lost.contains(&id))).collect();
            let id = engines.left.fetch_add(1, Relaxed);
            match work.function.as_str() {
                "pdies" => Err(Unmade::Interrupted { lost: Vec::new(), error: object("Pure.Engine", "ended") }),
                _ if !places.is_empty() => Err(Unmade::Interrupted { lost: places, error: gone() }),
                "psum" if lost.is_empty() => {
                    lost.extend(ids.iter().flatten().filter(|id| *id % 2 == 1));
                    Err(Unmade::Interrupted {
                        lost: (0..ids.len()).filter(|at| ids[*at].unwrap() % 2 == 1).collect(),
                        error: gone(),
                    })
                }
                "psum" => Ok(inline(vec![Set::new("r", vec![Item::new("n", 0, items.len().to_string().into())])])),
                _ => {
                    let held = Data::Held(Held { engine: 1, id, len: engines.len });
                    Ok(vec![Set::new("r", vec![Item::new("i", 0, held)])])
                }
            }
        })
    }

    fn may_repeat(&self, _: &str) -> bool {
        true
    }

    fn engines_of(&self, function: &str) -> Option<u8> {
        function.starts_with('p').then_some(0)
    }

    fn holding(&self, _: u8, from: u32) -> Option<Arc<crate::dispatch::Holding>> {
        Some(crate::dispatch::Holding::to_nobody(from))
    }
}

const ON_ENGINES: &str =
    "flow f(A) => (N) { pmake(a = each A) => (B = r); pcopy(b = each B) => (C = r); psum(c = all C) => (N = r); }";

async fn on_engines(
    config: FlowConfig,
    text: &str,
    len: u64,
) -> (Fixture, Arc<Engines>, Result<Sets<Bytes>, RunError>) {
    let (fixture, engines) = (Fixture::new(config), Arc::new(Engines { len, ..Engines::default() }));
    let result = fixture.run_by(Arc::new(OnEngines(engines.clone())), text, 40).await;
    assert!(fixture.is_clean());
    (fixture, engines, result)
}

#[tokio::test]
async fn what_an_engine_has_taken_with_it_is_made_again() {
    let (fixture, engines, result) = on_engines(FlowConfig::default(), ON_ENGINES, 5000).await;
    assert_eq!(result.unwrap()[0].items[0].data, "40");
    let lost = engines.gone.lock().unwrap().len() as u64;
    assert!(lost > 0);
    // The sum is asked for twice; what was lost is copied again, from what is made again.
    assert_eq!(engines.left.load(Relaxed), 40 + 40 + 2 + 2 * lost);
    let counts = fixture.flows.runs.of("arn:flow")[0].counts();
    assert!(counts.values().all(|count| count.begun == count.timing.shards && count.timing.failed == 0), "{counts:?}");
}

#[tokio::test]
async fn where_there_is_little_room_nothing_is_remembered_and_the_error_says_so() {
    // 40 items of 80 KiB are more than three quarters of 4 MiB.
    let (_, _, result) = on_engines(FlowConfig { run_mib: 4, ..FlowConfig::default() }, ON_ENGINES, 80 << 10).await;
    let error: serde_json::Value = serde_json::from_slice(&result.unwrap_err().object()).unwrap();
    assert_eq!((&error["errorType"], &error["application"]), (&"Pure.Gone".into(), &"psum".into()));
}

#[tokio::test]
async fn one_whose_engines_end_is_begun_three_times() {
    let text = "flow f(A) => (N) { pdies(a = all A) => (N = r); }";
    let (_, engines, result) = on_engines(FlowConfig::default(), text, 1).await;
    assert!(matches!(result, Err(RunError::Failed(_))), "{result:?}");
    assert_eq!(engines.left.load(Relaxed), 3);
}
