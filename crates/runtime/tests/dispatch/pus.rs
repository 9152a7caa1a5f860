//! Functions on several PUs: where they run, and what it is to lose one of them.

use crate::fake::FakeWorker;
use crate::{Fixture, call, function, plain};
use daemon::pu::{Pu, Pus, Tier};
use runtime::dispatch::{DispatchConfig, InvokeError, PlatformError, StartKind};
use runtime::function::Function;
use std::sync::Arc;
use std::time::Duration;

/// A host at 1, and two DPUs at 0.5 and 0.4 for a GB-second.
fn pus(memory_mib: Option<u64>) -> Pus {
    let dpu = |name: &str, price: &str| Pu {
        name: name.into(),
        kind: "dpu".parse().unwrap(),
        tier: Tier::Namespace,
        memory_mib,
        price: price.parse().unwrap(),
        ..Pu::default()
    };
    vec![dpu("dear", "0.5"), dpu("cheap", "0.4")].try_into().unwrap()
}

fn on(name: &str, profiles: &[&str]) -> Arc<Function> {
    let profiles = profiles.iter().map(|profile| profile.parse().unwrap()).collect();
    Arc::new(Function { profiles, ..plain(name) })
}

fn patient(worker_wait_s: u64) -> DispatchConfig {
    DispatchConfig { worker_wait_s, ..DispatchConfig::default() }
}

/// Until the templates of these PUs are ready.
async fn until_ready(node: &Fixture, pus: &[usize]) {
    node.until_node(|node| pus.iter().all(|pu| node.pus[*pu].templates > 0)).await;
}

#[tokio::test]
async fn a_function_runs_where_its_profiles_say() {
    let node = Fixture::over(&pus(None), DispatchConfig::default());
    let _dpus = [1, 2].map(|pu| FakeWorker::attach_to(&node.node, pu));
    until_ready(&node, &[0, 1, 2]).await;
    for (profiles, pu, memory, price) in [
        (&[][..], 0, 128, 1_000_000),
        (&["cpu"][..], 0, 128, 1_000_000),
        (&["dpu:memory=64", "cpu"][..], 2, 64, 400_000),
        (&["dpu:price=0.1"][..], 1, 128, 100_000),
    ] {
        let f = on(&format!("f{}", profiles.join("-").replace([':', '='], "")), profiles);
        let first = node.invoke(&f, "echo").await.unwrap();
        assert_eq!((first.report.pu, first.report.start), (pu, StartKind::Cold), "{profiles:?}");
        let bill = node.bills.0.lock().unwrap().last().unwrap().clone();
        assert_eq!((bill.pu, bill.memory_mib, bill.price.micros()), (pu, memory, price));
        assert!(node.log(&f).await.iter().any(|line| line.contains(&format!("Memory Size: {memory} MB"))));
        let next = node.invoke(&f, "echo").await.unwrap();
        assert_eq!((next.report.pu, next.report.start), (pu, StartKind::Warm));
    }
}

#[tokio::test]
async fn the_next_profile_serves_while_the_first_is_down() {
    let node = Fixture::over(&pus(None), patient(1));
    until_ready(&node, &[0]).await;
    let f = on("f", &["dpu", "cpu"]);
    assert_eq!(node.invoke(&f, "echo").await.unwrap().report.pu, 0);
    let dpu = FakeWorker::attach_to(&node.node, 1);
    until_ready(&node, &[1]).await;
    let back = node.invoke(&f, "echo").await.unwrap().report;
    assert_eq!((back.pu, back.start), (1, StartKind::Cold), "what waits elsewhere is no reason to stay there");
    dpu.die();
    node.until_node(|node| !node.pus[1].ready).await;
    let again = node.invoke(&f, "echo").await.unwrap().report;
    assert_eq!((again.pu, again.start), (0, StartKind::Warm));
}

#[tokio::test]
async fn a_function_whose_only_unit_is_down_waits_and_then_says_so() {
    let node = Fixture::over(&pus(None), patient(1));
    let f = on("f", &["dpu"]);
    let error = node.invoke(&f, "echo").await.unwrap_err();
    assert!(matches!(&error, InvokeError::NoPu { kinds } if kinds == "dpu"), "{error}");
    let waiting = node.node.invoke(&f, call("echo fine"));
    let (outcome, _dpu) = tokio::join!(waiting, async { FakeWorker::attach_to(&node.node, 2) });
    assert_eq!(outcome.unwrap().report.pu, 2);
    let nowhere = node.invoke(&on("g", &["fpga"]), "echo").await.unwrap_err();
    assert!(nowhere.to_string().contains("no PU of this node is one of fpga"), "{nowhere}");
}

#[tokio::test]
async fn a_lost_unit_takes_its_own_instances_only() {
    let node = Fixture::over(&pus(None), DispatchConfig::default());
    let dpu = FakeWorker::attach_to(&node.node, 1);
    until_ready(&node, &[0, 1]).await;
    let (here, there) = (on("here", &["cpu"]), on("there", &["dpu"]));
    let idle = node.invoke(&here, "echo").await.unwrap().report.instance;
    let held: Vec<_> = [&here, &there].into_iter().flat_map(|f| (0..5).map(|_| node.spawn(f, "hold"))).collect();
    node.until(&here, |f| f.busy == 5).await;
    node.until(&there, |f| f.busy == 5).await;
    dpu.die();
    node.until_node(|node| node.pus[1].losses == 1 && node.pus[1].instances == 0).await;
    node.worker.release();
    for (i, held) in held.into_iter().enumerate() {
        match held.await.unwrap() {
            Ok(outcome) => assert!(i < 5 && outcome.report.pu == 0),
            Err(error) => {
                assert!(matches!(error, InvokeError::Platform(PlatformError::WorkerLost)) && i >= 5, "{error}")
            }
        }
    }
    assert!(node.worker.instances().contains(&idle));
    let _fresh = FakeWorker::attach_to(&node.node, 1);
    assert_eq!(node.invoke(&there, "echo").await.unwrap().report.pu, 1);
    assert_eq!(node.node.snapshot().pus.iter().map(|pu| pu.losses).collect::<Vec<_>>(), [0, 1, 0]);
}

#[tokio::test]
async fn a_full_unit_passes_on_and_ends_what_is_idle_there() {
    // 32 MiB for its daemons, 96 for its two templates, and two instances.
    let node = Fixture::over(&pus(Some(384)), DispatchConfig::default());
    let mut dpu = FakeWorker::attach_to(&node.node, 1);
    node.until_node(|node| node.pus[1].templates == 2 && node.pus[0].templates > 0).await;
    let (f, g) = (on("f", &["dpu", "cpu"]), on("g", &["dpu"]));
    let held: Vec<_> = (0..3).map(|_| node.spawn(&f, "hold")).collect();
    node.until(&f, |f| f.busy == 3).await;
    let [host, dear, _] = &node.node.snapshot().pus[..] else { panic!("three PUs") };
    assert_eq!((host.instances, dear.instances, dear.reserved_mib), (1, 2, 256));
    node.worker.release();
    dpu.release();
    for held in held {
        held.await.unwrap().unwrap();
    }
    // Both wait now, and one of them makes way.
    assert_eq!(node.invoke(&g, "echo").await.unwrap().report.pu, 1);
    dpu.told(|command| matches!(command, worker::protocol::Command::Retire { .. }).then_some(())).await;
    node.until_node(|node| node.pus[1].reserved_mib <= 256).await;
    let huge = Arc::new(Function { memory_mib: 512, revision: "2".into(), ..(*g).clone() });
    let never = node.invoke(&huge, "echo").await.unwrap_err();
    assert!(never.to_string().contains("too little memory for an instance of 512 MiB"), "{never}");
}

#[tokio::test]
async fn what_is_kept_ready_is_kept_where_the_function_is_at_home() {
    let node = Fixture::over(&pus(None), DispatchConfig::default());
    let dpu = FakeWorker::attach_to(&node.node, 1);
    until_ready(&node, &[0, 1]).await;
    let profiles = vec!["dpu".parse().unwrap(), "cpu".parse().unwrap()];
    let f = Arc::new(Function { profiles, min_warm: 2, ..function("f", "ok") });
    node.node.deploy(f.clone());
    node.until(&f, |f| f.stems == 2).await;
    assert_eq!(node.node.snapshot().pus[1].waiting, 2);
    dpu.die();
    node.until_node(|node| node.pus[0].waiting == 2).await;
    let report = node.invoke(&f, "echo").await.unwrap().report;
    assert_eq!((report.pu, report.start), (0, StartKind::Stem));
}

/// Units come and go under load: nobody waits for ever, and nothing stays counted.
#[tokio::test]
async fn units_that_die_under_load_leave_nothing() {
    let node = Fixture::over(&pus(Some(1024)), DispatchConfig::default());
    let mut dpus = [1, 2].map(|pu| FakeWorker::attach_to(&node.node, pu));
    until_ready(&node, &[0, 1, 2]).await;
    let functions = [on("a", &["dpu"]), on("b", &["dpu", "cpu"]), on("c", &["cpu"])];
    for round in 0..10 {
        let running: Vec<_> = (0..30).map(|i| node.spawn(&functions[i % 3], "echo x")).collect();
        let which = round % 2;
        let pu = which as u8 + 1;
        let fresh = FakeWorker::attach_to(&node.node, pu);
        std::mem::replace(&mut dpus[which], fresh).die();
        for (i, running) in running.into_iter().enumerate() {
            let ended = tokio::time::timeout(Duration::from_secs(20), running).await.expect("nobody waits for ever");
            match ended.unwrap() {
                Ok(outcome) => assert_eq!(&outcome.body[..], b"x"),
                Err(InvokeError::Platform(PlatformError::WorkerLost)) => assert_ne!(i % 3, 2),
                Err(error) => panic!("{error}"),
            }
        }
    }
    node.node.drain(Duration::from_secs(5)).await;
    node.until_node(|node| node.pus.iter().all(|pu| (pu.instances, pu.reserved_mib, pu.starting) == (0, 0, 0))).await;
}
