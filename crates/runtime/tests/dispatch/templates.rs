//! Where instances come from: generic and dedicated templates, and stems.

use crate::{Fixture, fake::FakeWorker, function, plain};
use runtime::dispatch::snapshot::TemplatePhase;
use runtime::dispatch::{DispatchConfig, Dispatcher, NodeState, StartKind};
use runtime::function::{Function, Isolation};
use sandbox::spec::{Kind, Network, StartSpec, TemplateSpec, Version};
use std::sync::Arc;
use worker::protocol::Command;

async fn prepared(worker: &mut FakeWorker, is: impl Fn(&TemplateSpec) -> bool) -> (u64, TemplateSpec) {
    let found = worker.told(|command| match command {
        Command::Prepare { template, spec } if is(spec) => Some((*template, spec.clone())),
        _ => None,
    });
    found.await
}

async fn spawned(worker: &mut FakeWorker) -> (u64, Vec<StartSpec>) {
    let found = worker.told(|command| match command {
        Command::Spawn(order) => Some((order.template, order.starts.iter().map(|start| start.spec.clone()).collect())),
        _ => None,
    });
    found.await
}

fn is_ready(node: &NodeState, function: Option<&Function>) -> bool {
    let is = |phase: &TemplatePhase| matches!(phase, TemplatePhase::Ready { .. });
    node.templates.iter().any(|t| t.function.as_ref() == function.map(|f| &*f.key) && is(&t.phase))
}

#[tokio::test]
async fn each_kind_has_a_generic_template_with_its_preloads() {
    let preload = [(Kind::Python, vec!["numpy".to_owned()])].into();
    let mut node = Fixture::new(DispatchConfig { preload, ..DispatchConfig::default() });
    let (_, spec) = prepared(&mut node.worker, |spec| spec.kind == Kind::Python).await;
    assert_eq!((spec.preload, spec.function, spec.network), (vec!["numpy".to_owned()], None, Network::None));
    node.until_node(|node| node.templates.len() == 2 && node.templates.iter().all(|t| t.function.is_none())).await;
}

#[tokio::test]
async fn a_deployed_function_gets_a_template_of_its_own() {
    let mut node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(function("f", "ok"));
    node.node.deploy(f.clone());
    let (template, spec) = prepared(&mut node.worker, |spec| spec.function.is_some()).await;
    let code = spec.function.unwrap();
    let config: serde_json::Value = serde_json::from_str(&code.config).unwrap();
    assert_eq!((code.folder.to_str(), config["function_name"].as_str()), (Some("/code"), Some("f")));
    assert_eq!(config["log_stream"].as_str().unwrap().len(), "2026/10/28/[$LATEST]".len() + 32);
    node.until_node(|node| is_ready(node, Some(&f))).await;
    node.invoke(&f, "echo").await.unwrap();
    let (from, starts) = spawned(&mut node.worker).await;
    assert_eq!((from, starts.len(), &starts[0].code), (template, 1, &None));
}

#[tokio::test]
async fn without_one_instances_load_the_function_themselves() {
    for handler in ["unforkable", "unpreparable"] {
        let mut node = Fixture::new(DispatchConfig::default());
        let f = Arc::new(function("f", handler));
        node.node.deploy(f.clone());
        let refused = |node: &NodeState| {
            node.templates.iter().find_map(|template| match &template.phase {
                TemplatePhase::Refused { reason } => Some(reason.clone()),
                _ => None,
            })
        };
        node.until_node(|node| refused(node).is_some()).await;
        let reason = refused(&node.node.snapshot()).unwrap();
        assert!(["it has threads", "it takes too long (4 times in a row)"].contains(&reason.as_str()), "{reason}");
        node.invoke(&f, "echo").await.unwrap();
        let (_, starts) = spawned(&mut node.worker).await;
        let code = starts[0].code.as_ref().unwrap();
        assert!(code.config.contains(r#""handler":"un"#), "{}", code.config);
    }
}

#[tokio::test]
async fn egress_has_templates_of_its_own() {
    let mut node = Fixture::new(DispatchConfig::default());
    let mut f = plain("f");
    f.network = Network::Egress;
    node.node.deploy(Arc::new(f.clone()));
    node.invoke(&Arc::new(f), "echo").await.unwrap();
    let (template, _) =
        prepared(&mut node.worker, |spec| spec.network == Network::Egress && spec.function.is_none()).await;
    assert_eq!(spawned(&mut node.worker).await.0, template);
}

#[tokio::test]
async fn a_new_revision_replaces_the_old_one() {
    let mut node = Fixture::new(DispatchConfig::default());
    let old = Arc::new(function("f", "ok"));
    node.node.deploy(old.clone());
    let (template, _) = prepared(&mut node.worker, |spec| spec.function.is_some()).await;
    node.until_node(|node| is_ready(node, Some(&old))).await;
    let held = node.spawn(&old, "hold");
    let idle = node.invoke(&old, "echo").await.unwrap().report.instance;
    node.until(&old, |f| f.busy == 1 && f.idle == 1).await;
    let new = Arc::new(Function { revision: "2".into(), ..(*old).clone() });
    node.node.deploy(new.clone());
    node.worker.told(|command| (*command == Command::Retire { instance: idle }).then_some(())).await;
    assert_ne!(node.invoke(&new, "echo").await.unwrap().report.instance, idle);
    assert_eq!(node.state(&old).busy, 1, "what runs may end");
    node.worker.release();
    held.await.unwrap().unwrap();
    node.worker.told(|command| (*command == Command::Discard { template }).then_some(())).await;
    node.until_node(|node| node.functions.len() == 1).await;
    assert_eq!(node.state(&new).tally.invocations, 3, "counted over all revisions");
}

#[tokio::test]
async fn what_is_withdrawn_goes() {
    let mut node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(function("f", "ok"));
    node.node.deploy(f.clone());
    let instance = node.invoke(&f, "echo").await.unwrap().report.instance;
    node.node.withdraw(&f.key);
    node.worker.told(|command| (*command == Command::Retire { instance }).then_some(())).await;
    node.until_node(|node| node.functions.is_empty() && !is_ready(node, Some(&f))).await;
}

#[tokio::test]
async fn stems_wait_after_the_first_use_and_are_replaced() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(function("f", "ok"));
    node.node.deploy(f.clone());
    node.until_node(|node| is_ready(node, Some(&f))).await;
    assert_eq!(node.state(&f).stems, 0, "never used");
    let held = node.spawn(&f, "hold");
    node.until(&f, |f| f.busy == 1 && f.stems == 1).await;
    let second = node.invoke(&f, "echo").await.unwrap();
    assert_eq!((second.report.start, second.report.init), (StartKind::Stem, None));
    node.until(&f, |f| f.stems >= 1).await;
    assert_eq!(node.invoke(&f, "echo").await.unwrap().report.start, StartKind::Warm, "used ones first");
    node.worker.release();
    held.await.unwrap().unwrap();
}

#[tokio::test]
async fn isolation_by_request_lives_on_stems() {
    let node = Fixture::new(DispatchConfig::default());
    let mut f = function("f", "ok");
    f.isolation = Isolation::Request;
    let f = Arc::new(f);
    node.node.deploy(f.clone());
    node.invoke(&f, "echo").await.unwrap();
    let mut stems = 0;
    for _ in 0..20 {
        node.until(&f, |f| f.stems > 0).await;
        stems += u32::from(node.invoke(&f, "echo").await.unwrap().report.start == StartKind::Stem);
    }
    assert_eq!(stems, 20);
}

#[tokio::test]
async fn a_minimum_of_instances_is_kept_whatever_the_load() {
    for handler in ["ok", "unforkable"] {
        let mut node = Fixture::new(DispatchConfig { keep_alive_s: 0, ..DispatchConfig::default() });
        let mut f = function("f", handler);
        f.min_warm = 3;
        let f = Arc::new(f);
        node.node.deploy(f.clone());
        node.until(&f, |f| f.stems == 3).await;
        let outcome = node.invoke(&f, "echo").await.unwrap();
        assert_eq!(outcome.report.start, StartKind::Stem, "{handler}");
        node.worker.kill(outcome.report.instance, sandbox::spec::End::Signal(9));
        node.until(&f, |f| f.stems + f.idle == 3 && f.starting == 0).await;
        node.node.withdraw(&f.key);
        node.worker.told(|command| matches!(command, Command::Retire { .. }).then_some(())).await;
        node.until_node(|node| node.functions.is_empty()).await;
    }
}

#[tokio::test]
async fn idle_instances_end_when_their_time_is_over() {
    let node = Fixture::new(DispatchConfig { keep_alive_s: 1, ..DispatchConfig::default() });
    let f = Arc::new(function("f", "ok"));
    node.node.deploy(f.clone());
    node.until_node(|node| is_ready(node, Some(&f))).await;
    node.invoke(&f, "echo").await.unwrap();
    node.until(&f, |f| f.idle == 1 && f.stems == 1).await;
    node.until(&f, |f| (f.idle, f.stems, f.starting) == (0, 0, 0)).await;
    assert!(is_ready(&node.node.snapshot(), Some(&f)), "its template stays");
    assert_eq!(node.invoke(&f, "echo").await.unwrap().report.start, StartKind::Cold);
}

#[tokio::test]
async fn templates_share_their_memory() {
    // Room for the two generic ones and one more.
    let mut node = Fixture::new(DispatchConfig { memory_budget_mib: 128, ..DispatchConfig::default() });
    let [f, g] = ["f", "g"].map(|name| Arc::new(function(name, "ok")));
    node.node.deploy(f.clone());
    let (first, _) = prepared(&mut node.worker, |spec| spec.function.is_some()).await;
    node.until_node(|node| is_ready(node, Some(&f))).await;
    node.node.deploy(g.clone());
    node.invoke(&g, "echo").await.unwrap();
    node.worker.told(|command| (*command == Command::Discard { template: first }).then_some(())).await;
    node.until_node(|node| is_ready(node, Some(&g)) && !is_ready(node, Some(&f))).await;
    assert_eq!(node.invoke(&f, "echo").await.unwrap().report.start, StartKind::Cold);
}

#[tokio::test]
async fn stems_that_cannot_be_loaded_are_not_tried_for_ever() {
    let mut node = Fixture::new(DispatchConfig::default());
    let mut f = function("f", "init-failed");
    f.min_warm = 1;
    let f = Arc::new(f);
    node.node.deploy(f.clone());
    let (_, starts) = spawned(&mut node.worker).await;
    let instance = starts[0].instance;
    node.worker.told(|command| (*command == Command::Retire { instance }).then_some(())).await;
    node.until(&f, |f| f.starting == 0).await;
    // A round of the upkeep later there is still no other.
    node.node.deploy(Arc::new(plain("other")));
    prepared(&mut node.worker, |spec| spec.function.as_ref().is_some_and(|code| code.config.contains("other"))).await;
    assert!(!node.worker.told_so_far().iter().any(|command| matches!(command, Command::Spawn(_))));
}

#[tokio::test]
async fn slots_are_reserved_as_instances_are_started() {
    let mut node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    let slots = |command: &Command| match command {
        Command::Reserve { slots, .. } => Some(*slots),
        _ => None,
    };
    assert_eq!(node.worker.told(slots).await, 2);
    let burst: Vec<_> = (0..8).map(|_| node.spawn(&f, "hold")).collect();
    let more = |command: &Command| slots(command).filter(|slots| *slots > 2);
    assert!(node.worker.told(more).await <= 10);
    node.worker.release();
    for held in burst {
        held.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_kind_that_the_worker_lacks_is_an_error_and_not_a_wait() {
    let (ours, theirs) = os::seqpacket::pair().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let logs = runtime::logs::LogStore::open(folder.path(), Default::default()).unwrap();
    let node = Dispatcher::new(DispatchConfig::default(), logs, crate::Bills::default());
    node.attach_worker(0, ours);
    let worker = worker::client::Server::new(theirs).unwrap();
    let f = Arc::new(plain("f"));
    let waiting = tokio::spawn({
        let (node, f) = (node.clone(), f.clone());
        async move { node.invoke(&f, crate::call("echo")).await }
    });
    let hello =
        worker::protocol::Event::Hello { languages: vec![(Kind::Node, Version::default())], missing: Vec::new() };
    worker.say(&hello, &[]).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err().to_string();
    assert!(error.ends_with("this machine's worker does not run python functions"), "{error}");
}
