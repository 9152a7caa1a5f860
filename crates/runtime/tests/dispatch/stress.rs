//! Everything at once, at random: each invocation ends exactly once, and nothing stays behind.

use crate::fake::FakeWorker;
use crate::{Fixture, function, plain};
use runtime::dispatch::{DispatchConfig, InvokeError, PlatformError};
use runtime::function::{Function, Isolation};
use sandbox::spec::End;
use std::sync::Arc;

/// A sequence of numbers that looks random and is the same every time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn functions() -> Vec<Arc<Function>> {
    let mut functions = vec![plain("a"), function("b", "ok"), function("c", "ok"), function("d", "once-not-spawned")];
    functions[1].min_warm = 2;
    functions[2].isolation = Isolation::Request;
    functions[0].max_concurrency = Some(20);
    functions.push(function("e", "not-entered"));
    functions
        .into_iter()
        .map(|mut f| {
            f.timeout_s = 1;
            Arc::new(f)
        })
        .collect()
}

fn event(dice: &mut Dice) -> String {
    let text = match dice.below(24) {
        0 => "exit 1",
        1 => "signal 9",
        2 => "oom",
        3 => "break",
        4 => "twice",
        5 => r#"fail {"errorType":"E"}"#,
        6 => "print 100",
        7 => "big 300000",
        8 if dice.below(8) == 0 => "never",
        n => return format!("echo {n}"),
    };
    text.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_invocation_ends_exactly_once() {
    let mut node = Fixture::new(DispatchConfig { starts_per_core: 2, instances: 60, ..DispatchConfig::default() });
    let functions = functions();
    functions.iter().for_each(|f| node.node.deploy(f.clone()));
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let (mut running, mut answered) = (Vec::new(), 0);
    for round in 0..1500 {
        let f = &functions[dice.below(functions.len() as u64) as usize];
        running.push(node.spawn(f, &event(&mut dice)));
        match dice.below(40) {
            0 => running.swap_remove(dice.below(running.len() as u64) as usize).abort(),
            1 | 2 => {
                let instances = node.worker.instances();
                let unlucky = instances.get(dice.below(instances.len().max(1) as u64) as usize);
                unlucky.into_iter().for_each(|instance| node.worker.kill(*instance, End::Signal(9)));
            }
            _ => {}
        }
        if round % 500 == 499 {
            let fresh = FakeWorker::attach(&node.node);
            std::mem::replace(&mut node.worker, fresh).die();
        }
        while running.len() > 30 {
            let one = running.swap_remove(dice.below(running.len() as u64) as usize);
            match one.await.unwrap() {
                Ok(_) => answered += 1,
                Err(InvokeError::Throttled { .. }) => {}
                Err(InvokeError::Platform(PlatformError::NotStarted { .. } | PlatformError::WorkerLost)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    for one in running {
        if one.await.unwrap().is_ok() {
            answered += 1;
        }
    }
    let settled = |node: &runtime::dispatch::NodeState| {
        node.in_flight == 0 && node.functions.iter().all(|f| f.busy == 0 && f.queued == 0)
    };
    node.until_node(settled).await;
    let told: u64 = node.node.snapshot().functions.iter().map(|f| f.tally.invocations).sum();
    let billed = node.bills.0.lock().unwrap().len() as u64;
    assert_eq!(told, billed, "each invocation is counted and billed once");
    assert!(billed >= answered, "those whose callers had gone are billed too");
    functions.iter().for_each(|f| node.node.withdraw(&f.key));
    node.until_node(|node| node.functions.is_empty() && node.starting == 0).await;
    while !node.worker.instances().is_empty() {
        tokio::task::yield_now().await;
    }
}
