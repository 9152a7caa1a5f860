//! The dispatcher against a worker whose instances are threads of this process: every way in which an invocation can go.

mod fake;
mod farewell;
mod invocations;
mod node;
mod parts;
mod pus;
mod scaling;
mod stress;
mod templates;
mod workers;

use daemon::pu::Pus;
use fake::FakeWorker;
use runtime::billing::{Bill, BillSink};
use runtime::dispatch::snapshot::FunctionState;
use runtime::dispatch::{Call, DispatchConfig, Dispatcher, InvokeError, Outcome};
use runtime::function::{Function, FunctionKey, Isolation};
use runtime::logs::{LogConfig, LogGroup, LogStore, Query};
use sandbox::spec::{Kind, Network};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bills that are looked at afterwards.
#[derive(Clone, Default)]
struct Bills(Arc<Mutex<Vec<Bill>>>);

impl BillSink for Bills {
    fn record(&self, bill: Bill) {
        self.0.lock().unwrap().push(bill);
    }
}

/// A node with a worker.
struct Fixture {
    node: Arc<Dispatcher>,
    worker: FakeWorker,
    logs: Arc<LogStore>,
    bills: Bills,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(config: DispatchConfig) -> Self {
        Self::over(&Pus::default(), config)
    }

    /// On these PUs, of which the host itself has its worker.
    fn over(pus: &Pus, config: DispatchConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogStore::open(folder.path(), LogConfig::default()).unwrap();
        let bills = Bills::default();
        let node = Dispatcher::over(pus, config, logs.clone(), bills.clone());
        let worker = FakeWorker::attach(&node);
        Self { node, worker, logs, bills, _folder: folder }
    }

    async fn invoke(&self, function: &Arc<Function>, event: &str) -> Result<Outcome, InvokeError> {
        self.node.invoke(function, call(event)).await
    }

    /// Invokes in the background.
    fn spawn(&self, function: &Arc<Function>, event: &str) -> tokio::task::JoinHandle<Result<Outcome, InvokeError>> {
        let (node, function, call) = (self.node.clone(), function.clone(), call(event));
        tokio::spawn(async move { node.invoke(&function, call).await })
    }

    /// The function's present revision, as the node sees it.
    fn state(&self, function: &Function) -> FunctionState {
        let functions = self.node.snapshot().functions;
        let found = functions.into_iter().find(|f| f.key == *function.key && f.revision == function.revision);
        found.expect("the node knows the function")
    }

    /// Waits until the function's state is like this.
    async fn until(&self, function: &Function, is: impl Fn(&FunctionState) -> bool) {
        self.until_node(|node| {
            node.functions.iter().any(|f| f.key == *function.key && f.revision == function.revision && is(f))
        })
        .await;
    }

    /// Waits until the node's state is like this.
    async fn until_node(&self, is: impl Fn(&runtime::dispatch::NodeState) -> bool) {
        let reached = async {
            while !is(&self.node.snapshot()) {
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        assert!(reached.is_ok(), "{:#?}", self.node.snapshot());
    }

    async fn log(&self, function: &Function) -> Vec<String> {
        let group = LogGroup {
            account: function.key.account.clone(),
            region: function.key.region.clone(),
            name: function.log_group.clone(),
        };
        let records = self.logs.read(&group, Query::default()).await.unwrap();
        records.into_iter().map(|record| record.text.into()).collect()
    }
}

fn call(event: &str) -> Call {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let request_id = format!("request-{}", NEXT.fetch_add(1, Relaxed));
    Call { request_id, payload: event.to_owned().into(), ..Call::default() }
}

/// A function that has no dedicated template, so that it has no stems either.
fn plain(name: &str) -> Function {
    function(name, "unforkable")
}

fn function(name: &str, handler: &str) -> Function {
    Function {
        key: FunctionKey {
            account: "000000000000".into(),
            region: "us-east-1".into(),
            name: name.into(),
            version: "$LATEST".into(),
        }
        .into(),
        arn: format!("arn:aws:lambda:us-east-1:000000000000:function:{name}"),
        revision: "1".into(),
        kind: Kind::Python,
        runtime: "python3.11".into(),
        handler: handler.into(),
        layers: None,
        code: "/code".into(),
        memory_mib: 128,
        tmp_mib: 512,
        timeout_s: 30,
        environment: Default::default(),
        isolation: Isolation::Instance,
        network: Network::None,
        min_warm: 0,
        profiles: Vec::new(),
        pure: Default::default(),
        max_concurrency: None,
        log_group: format!("/aws/lambda/{name}"),
        log_format: Default::default(),
        snap_start: false,
    }
}

fn error_type(outcome: &Outcome) -> String {
    assert!(outcome.failed);
    let error: serde_json::Value = serde_json::from_slice(&outcome.body).unwrap();
    error["errorType"].as_str().unwrap().to_owned()
}

fn error_message(outcome: &Outcome) -> String {
    let error: serde_json::Value = serde_json::from_slice(&outcome.body).unwrap();
    error["errorMessage"].as_str().unwrap().to_owned()
}
