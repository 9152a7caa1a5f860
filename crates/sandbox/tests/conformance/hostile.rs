//! Functions that mean harm: each gets an error or a wall, and nobody else notices.

use crate::probe::Bench;
use crate::{Case, case};
use cfork::invocation;
use sandbox::spec::End;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    case!(dangerous_calls_are_refused),
    case!(files_of_the_host_are_not_there),
    case!(neither_processes_nor_files_of_others_are_seen),
    case!(nothing_answers_on_the_network),
    case!(too_much_memory_ends_the_instance),
    case!(a_fork_bomb_hits_its_limit),
    case!(a_full_tmp_is_an_error),
    case!(closing_every_descriptor_ends_only_itself),
    case!(garbage_in_the_channel_breaks_only_that_channel),
];

async fn dangerous_calls_are_refused(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut probe = bench.start_with(&template, None).await.unwrap();
    let Value::Object(results) = probe.reply(json!({"do": "attack"})).await else { panic!("a table of results") };
    assert!(results.len() >= 5, "{results:?}");
    for (attack, result) in results {
        assert_eq!(result, "refused", "{attack}");
    }
    let status = probe.reply(json!({"do": "read", "path": "/proc/self/status"})).await;
    let status = status.as_str().unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.trim_start_matches(':').trim().to_owned())
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set).unwrap(), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs").unwrap(), field("Seccomp").unwrap()), ("1".to_owned(), "2".to_owned()));
    assert!(field("Threads").is_some());
}

async fn files_of_the_host_are_not_there(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    // tidy: allow machine-path: every host has this folder, and no sandbox does
    for path in ["/etc/shadow", "/root/.bashrc", "/sys/kernel", "/var/log/dpkg.log", "/proc/kcore"] {
        let (kind, _) = probe.ask(json!({"do": "read", "path": path})).await.unwrap();
        assert_eq!(kind, invocation::FAILED, "{path} can be read");
    }
    if let (invocation::REPLY, environment) = probe.ask(json!({"do": "read", "path": "/proc/1/environ"})).await.unwrap()
    {
        assert!(environment.as_str().unwrap().chars().all(|c| c == '\0'), "the worker's environment can be read");
    }
    for path in ["/x", "/usr/x", "/etc/passwd", "/var/task/x", "/var/runtime/x", "/dev/x"] {
        let (kind, _) = probe.ask(json!({"do": "write", "path": path})).await.unwrap();
        assert_eq!(kind, invocation::FAILED, "{path} can be written");
    }
}

async fn neither_processes_nor_files_of_others_are_seen(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut first = bench.start_with(&template, None).await.unwrap();
    let mut second = bench.start_with(&template, None).await.unwrap();
    first.reply(json!({"do": "write", "path": "/tmp/mine"})).await;
    let (kind, _) = second.ask(json!({"do": "read", "path": "/tmp/mine"})).await.unwrap();
    assert_eq!(kind, invocation::FAILED, "/tmp is shared");
    let Value::Array(processes) = second.reply(json!({"do": "processes"})).await else { panic!("a list") };
    assert!(processes.len() <= 3, "{processes:?}");
}

async fn nothing_answers_on_the_network(bench: &Bench) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    for host in ["127.0.0.1", "169.254.169.254", "10.0.0.1"] {
        let (kind, _) = probe.ask(json!({"do": "connect", "host": host, "port": port})).await.unwrap();
        assert_eq!(kind, invocation::FAILED, "{host} answers");
    }
}

async fn too_much_memory_ends_the_instance(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    if probe.instance.memory_gauge().is_none() {
        println!("skip: no memory cgroup on this machine");
        return;
    }
    assert_eq!(probe.ask(json!({"do": "allocate", "mib": 600})).await.unwrap_err(), End::OutOfMemory);
    let mut next = bench.start(&template).await;
    assert_eq!(next.reply(json!({"do": "echo", "value": 1})).await, json!(1));
}

async fn a_fork_bomb_hits_its_limit(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    let Value::Number(made) = probe.reply(json!({"do": "fork-bomb"})).await else { panic!("a number") };
    assert!(made.as_u64().unwrap() <= 64, "{made} processes");
    probe.instance.retire().await;
    let mut next = bench.start(&template).await;
    assert_eq!(next.reply(json!({"do": "echo", "value": 1})).await, json!(1));
}

async fn a_full_tmp_is_an_error(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    let (kind, error) = probe.ask(json!({"do": "fill-tmp", "mib": 64})).await.unwrap();
    assert_eq!(kind, invocation::FAILED);
    assert!(error["errorMessage"].as_str().unwrap().contains("space"), "{error}");
}

async fn closing_every_descriptor_ends_only_itself(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    probe.send(&json!({"do": "close-all"}));
    // Some runtimes go on through shared memory, some die of it: both are fine.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), probe.hear()).await;
    probe.instance.retire().await;
    let mut next = bench.start(&template).await;
    assert_eq!(next.reply(json!({"do": "echo", "value": 1})).await, json!(1));
}

async fn garbage_in_the_channel_breaks_only_that_channel(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    probe.reply(json!({"do": "echo", "value": 1})).await;
    let (kind, _) = match probe.ask(json!({"do": "scribble"})).await {
        Ok(answer) => answer,
        Err(_) => (0, Value::Null),
    };
    // The sample scribbles where its language lets it; where not, it says so.
    assert!(kind == invocation::REPLY || kind == 0);
    probe.instance.retire().await;
    let mut next = bench.start(&template).await;
    assert_eq!(next.reply(json!({"do": "echo", "value": 1})).await, json!(1));
}
