//! The client against a server of hyper, and its parser against answers in pieces.

use super::*;
use crate::baseline::Hello;

#[test]
fn answers_are_found_when_they_are_complete() {
    let fixed = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello";
    let chunked = b"HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
    for (bytes, status) in [(fixed.as_slice(), 200), (chunked.as_slice(), 502)] {
        for cut in 0..bytes.len() {
            assert_eq!(Answer::parse(&bytes[..cut]).unwrap(), None, "{cut}");
        }
        let answer = Answer::parse(bytes).unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (status, b"hello".as_slice()));
    }
    assert_eq!(Answer::parse(fixed).unwrap().unwrap().header("x-a"), Some("b"));
    for foreign in
        [b"SSH-2.0\r\n\r\n".as_slice(), b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
    {
        assert!(Answer::parse(foreign).is_err());
    }
}

#[test]
fn one_client_and_many() {
    let server = Hello::start().unwrap();
    let request = Request::new(server.address, "POST", "/", &[("X-A", "b")], b"{}");
    let mut connection = Connection::new();
    for _ in 0..3 {
        let answer = connection.call(&request).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"\"hello\"".as_slice()));
    }
    let load = Crowd { clients: 4, request: request.clone() }.ask(25).unwrap();
    assert_eq!((load.latencies.len(), load.refused), (100, 0));
    assert!(load.per_second() > 0.0);
    let load = Crowd { clients: 2, request }.ask_for(Duration::from_millis(20)).unwrap();
    assert!(!load.latencies.is_empty());
}

#[test]
fn a_server_that_is_gone_is_an_error() {
    let server = Hello::start().unwrap();
    let request = Request::new(server.address, "GET", "/", &[], b"");
    let mut connection = Connection::new();
    connection.call(&request).unwrap();
    drop(server);
    assert!(connection.call(&request).is_err());
    assert!(Crowd { clients: 2, request }.ask(1).is_err());
}
