//! Servers that mean no good: each costs its own request, within its time and its memory.

use super::server::{Server, echo};
use super::*;

fn head(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 {}\r\n\r\n", text.replace('\n', "\r\n")).into_bytes()
}

#[tokio::test]
async fn bodies_end_at_their_limit_whatever_they_say_of_themselves() {
    let fetch = fetch(|config| config.body_max = 1000, &[]);
    let short = Server::raw(vec![head("200 OK\ncontent-length: 1000"), vec![b'x'; 1000]], false).await;
    assert_eq!(one(&fetch, short.url("/")).await.unwrap().len(), 1000);
    let announced = Server::raw(vec![head("200 OK\ncontent-length: 99999999999")], false).await;
    assert_eq!(one(&fetch, announced.url("/")).await, Err("TooLong"));
    let endless = Server::raw(vec![head("200 OK\nconnection: close"), vec![b'x'; 5000]], false).await;
    assert_eq!(one(&fetch, endless.url("/")).await, Err("TooLong"));
    let chunk = [b"7d0\r\n".to_vec(), vec![b'x'; 2000]].concat();
    let chunks = Server::raw(vec![head("200 OK\ntransfer-encoding: chunked"), chunk], false).await;
    assert_eq!(one(&fetch, chunks.url("/")).await, Err("TooLong"));
}

#[tokio::test]
async fn what_broke_is_said() {
    let fetch = fetch(|_| {}, &[]);
    let other = Server::raw(vec![head("200 OK")], true).await;
    let said = run(&fetch, &[format!("GET {} HTTP/2\n\n", other.url("/"))], &["bodies"]).await.unwrap_err().to_string();
    assert!(said.contains("http2 error: "), "{said}");
}

#[tokio::test]
async fn lengths_that_lie_are_breaks() {
    let fetch = fetch(|_| {}, &[]);
    let too_little = Server::raw(vec![head("200 OK\ncontent-length: 10"), b"abc".to_vec()], true).await;
    assert_eq!(one(&fetch, too_little.url("/")).await, Err("Broken"));
    let two = Server::raw(vec![head("200 OK\ncontent-length: 3\ncontent-length: 4"), b"abcd".to_vec()], true).await;
    assert_eq!(one(&fetch, two.url("/")).await, Err("Broken"));
    // What comes behind an answer is no answer to the next request.
    let more = [head("200 OK\ncontent-length: 2"), b"ok".to_vec(), head("200 OK\ncontent-length: 4"), b"evil".to_vec()];
    let more = Server::raw(vec![more.concat()], false).await;
    for _ in 0..3 {
        assert_eq!(one(&fetch, more.url("/")).await.as_deref(), Ok("ok"));
    }
}

#[tokio::test]
async fn heads_end_at_their_limit() {
    let fetch = fetch(|config| config.head_max = 16 << 10, &[]);
    let wide = Server::raw(vec![head(&format!("200 OK\nx: {}", "y".repeat(20 << 10)))], false).await;
    assert_eq!(one(&fetch, wide.url("/")).await, Err("TooLong"));
    let many: String = (0..300).map(|at| format!("\nh{at}: v")).collect();
    let many = Server::raw(vec![head(&format!("200 OK{many}"))], false).await;
    assert_eq!(one(&fetch, many.url("/")).await, Err("TooLong"));
    let endless = Server::raw(vec![b"HTTP/1.1 200 OK\r\n".to_vec(), vec![b'x'; 1 << 20]], false).await;
    assert_eq!(one(&fetch, endless.url("/")).await, Err("TooLong"));
}

#[tokio::test]
async fn what_is_no_answer() {
    let fetch = fetch(|_| {}, &[]);
    for answer in [&b"SSH-2.0-x\r\n\r\n"[..], b"", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n"] {
        let server = Server::raw(vec![answer.to_vec()], true).await;
        assert_eq!(one(&fetch, server.url("/")).await, Err("Broken"), "{}", String::from_utf8_lossy(answer));
    }
    let upgrade = Server::raw(vec![head("101 Switching Protocols\nupgrade: x\nconnection: upgrade")], false).await;
    assert_eq!(one(&fetch, upgrade.url("/")).await, Err("Broken"));
    let absent = Server::plain(echo).await;
    let url = absent.url("/");
    drop(absent);
    // The listener goes with its task, at some moment.
    while one(&fetch, &url[..]).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(one(&fetch, &url[..]).await.is_err());
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let silent = Server::raw(vec![], false).await;
    let dripping = Server::raw(vec![head("200 OK\ncontent-length: 10"), b"x".to_vec()], false).await;
    let first = fetch(|config| config.first_byte_s = 0, &[]);
    assert_eq!(one(&first, silent.url("/")).await, Err("Timeout"));
    let all = fetch(|config| config.total_s = 1, &[]);
    assert_eq!(one(&all, dripping.url("/")).await, Err("Timeout"));
    let own = format!(r#"{{"url": "{}", "timeout_ms": 20}}"#, dripping.url("/"));
    assert_eq!(one(&fetch(|_| {}, &[]), own).await, Err("Timeout"));
    let terms = Terms { deadline: Instant::now() + Duration::from_millis(50), outputs: &["status"] };
    let late = fetch(|_| {}, &[]).run(Function::Http, requests(&[dripping.url("/")]), terms).await;
    assert_eq!(late.unwrap_err().error_type(), "Fetch.Timeout");
}

#[tokio::test]
async fn a_run_that_is_dropped_ends_its_requests() {
    let silent = Server::raw(vec![], false).await;
    let fetch = fetch(|config| (config.concurrency, config.each) = (2, 2), &[]);
    for _ in 0..4 {
        let texts = vec![silent.url("/"); 2];
        let running = run(&fetch, &texts, &[]);
        assert!(tokio::time::timeout(Duration::from_millis(50), running).await.is_err());
    }
    // Its turns are free again.
    let server = Server::plain(echo).await;
    assert!(one(&fetch, server.url("/")).await.is_ok());
}

#[tokio::test]
async fn memory_for_bodies_is_bounded_and_comes_back() {
    let server = Server::raw(vec![head("200 OK\ncontent-length: 700000"), vec![b'x'; 700_000]], true).await;
    let fetch = fetch(|config| config.bodies_mib = 1, &[]);
    let held = run(&fetch, &[server.url("/")], &["bodies"]).await.unwrap();
    assert_eq!(one(&fetch, server.url("/")).await, Err("Memory"));
    drop(held);
    assert_eq!(one(&fetch, server.url("/")).await.unwrap().len(), 700_000);
}
