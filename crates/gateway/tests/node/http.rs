//! HTTP itself: bodies of every kind, clients of every kind.

use crate::place::{FUNCTIONS, Place};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

impl Place {
    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Sends bytes as they are, and reads until the other side closes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A gateway that refuses may close before it has read everything.
        let _ = stream.write_all(bytes);
        read_all(&mut stream)
    }
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn bodies_come_in_chunks_too() {
    let place = Place::new();
    place.create("f", json!({}));
    let request = format!(
        "POST {FUNCTIONS}/f/invocations HTTP/1.1\r\nHost: localhost\r\nX-Amz-Invocation-Type: DryRun\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n"
    );
    assert!(place.raw(request.as_bytes()).starts_with("HTTP/1.1 204"));
    assert!(place.raw(request.replace("[1", "{1").as_bytes()).starts_with("HTTP/1.1 400"));
}

#[test]
fn a_client_that_asks_is_told_to_go_on_or_not() {
    let place = Place::new();
    place.create("f", json!({}));
    let head = |length: usize| {
        format!(
            "POST {FUNCTIONS}/f/invocations HTTP/1.1\r\nHost: localhost\r\nX-Amz-Invocation-Type: DryRun\r\nConnection: close\r\n\
             Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut stream = place.connect();
    stream.write_all(head(2).as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 204"));
    assert!(place.raw(head(100 << 20).as_bytes()).starts_with("HTTP/1.1 413"));
}

#[test]
fn nonsense_is_answered_and_costs_one_connection() {
    let place = Place::new();
    for nonsense in ["nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n", "\0\0\0\0\r\n\r\n"] {
        let answer = place.raw(nonsense.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(200_000));
    let answer = place.raw(long.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 414") || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(place.get("/healthz").status, 200);
}

#[test]
fn slow_heads_and_bodies_are_given_up() {
    let place = Place::with("[http]\nidle_s = 1\nstall_s = 1\n");
    place.create("f", json!({}));
    let mut idle = place.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHos").unwrap();
    assert!(!read_all(&mut idle).starts_with("HTTP/1.1 2"));
    let mut stalled = place.connect();
    let head = format!("POST {FUNCTIONS}/f/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{");
    stalled.write_all(head.as_bytes()).unwrap();
    assert!(read_all(&mut stalled).starts_with("HTTP/1.1 400"));
}

/// Each byte comes well within `stall_s`: it is all of them that come too slowly.
#[test]
fn a_body_that_drips_is_given_up() {
    let place = Place::with("[http]\nstall_s = 1\n");
    place.create("f", json!({}));
    let mut dripping = place.connect();
    let head = format!("POST {FUNCTIONS}/f/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
    dripping.write_all(head.as_bytes()).unwrap();
    dripping.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let (begun, mut answer) = (Instant::now(), [0; 1024]);
    let length = loop {
        dripping.write_all(b"1").unwrap();
        match dripping.read(&mut answer) {
            Ok(length) => break length,
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(20), "the body is still waited for"),
        }
    };
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("slower than 16384 bytes"), "{answer}");
}

#[test]
fn connections_are_bounded() {
    let place = Place::with("[http]\nconnections = 2\n");
    let mut kept: Vec<TcpStream> = (0..2).map(|_| place.connect()).collect();
    for stream in &mut kept {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    let refused = read_all(&mut place.connect());
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("connections"), "{refused}");
    drop(kept);
}

#[test]
fn clients_that_ask_nothing_do_not_hold_up_the_end() {
    let mut place = Place::new();
    let silent = place.connect();
    let mut idle = place.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    let begun = Instant::now();
    place.end();
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    drop((silent, idle));
}

#[test]
fn web_pages_of_others_are_refused() {
    let place = Place::new();
    let page = [("Origin", "http://evil.example")];
    let refused = place.create_as(&page, "f", json!({}));
    assert_eq!((refused.status, refused.code.as_str()), (403, "AccessDeniedException"));
    assert!(refused.text().contains("evil.example"));
    let rebound = place.raw(b"GET /2015-03-31/functions HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(rebound.starts_with("HTTP/1.1 403") && rebound.contains("evil.example"), "{rebound}");
}

#[test]
fn what_is_not_there_is_told() {
    let place = Place::new();
    let unknown = place.get("/2099-01-01/nothing");
    assert_eq!((unknown.status, unknown.code.as_str()), (404, "UnknownOperationException"));
    assert!(place.raw(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ends_with("\r\n\r\n"));
    let mut method = place.client().open(&api::client::Request::new("PATCH", FUNCTIONS)).unwrap();
    assert_eq!((method.status, method.header("allow")), (405, Some("POST, GET")));
    method.read_to_end().unwrap();
}
