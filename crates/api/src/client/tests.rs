//! The client against servers that say exactly what a test wants.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// Answers one connection with `answer`, and gives back what it was sent.
fn server(answer: &'static str) -> (Client, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !is_whole(&request) {
            let got = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..got]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (client, thread)
}

fn is_whole(request: &[u8]) -> bool {
    let text = std::str::from_utf8(request).unwrap();
    text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        let length = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
        body.len() == length.parse::<usize>().unwrap()
    })
}

#[test]
fn endpoints() {
    assert_eq!(Client::new("http://localhost").unwrap().authority, "localhost:80");
    assert_eq!(Client::new("http://[::1]:9000/").unwrap().authority, "[::1]:9000");
    assert_eq!(Client::new("http://[::1]").unwrap().authority, "[::1]:80");
    assert_eq!(Client::new("http://proxy:1/lichen/").unwrap().prefix, "/lichen");
    assert!(matches!(Client::new("https://localhost"), Err(EndpointError::NotHttp(_))));
    assert!(matches!(Client::new("http://:9000"), Err(EndpointError::NoHost(_))));
    assert!(matches!(Client::new("http://a:b"), Err(EndpointError::NoHost(_))));
}

#[test]
fn a_body_by_length_and_lambdas_headers() {
    let (client, server) = server(
        "HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\nX-Amz-Log-Result: aGk=\r\nContent-Length: 2\r\n\r\n{}",
    );
    let invoked = client.invoke("a:b", b"[1]", true).unwrap();
    assert_eq!(invoked.body, b"{}");
    assert_eq!((invoked.error.as_deref(), invoked.log_tail.as_deref()), (Some("Unhandled"), Some(&b"hi"[..])));
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /2015-03-31/functions/a%3Ab/invocations HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n[1]") && request.contains("X-Amz-Log-Type: Tail\r\n"), "{request}");
}

#[test]
fn a_body_in_chunks_after_an_interim_answer() {
    let (client, server) = server(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x=y\r\n{\"t\r\n20\r\nime\":1,\"stream\":\"\",\"request\":\"\",\r\n10\r\n\"message\":\"hi\"}\n\r\n0\r\n\r\n",
    );
    let records: Vec<_> = client.logs("f", 0, false).unwrap().map(Result::unwrap).collect();
    assert_eq!((records.len(), records[0].message.as_str()), (1, "hi"));
    server.join().unwrap();
}

#[test]
fn refusals_say_what_the_node_said() {
    let (client, server) = server(
        "HTTP/1.1 404 Not Found\r\nx-amzn-ErrorType: ResourceNotFoundException\r\nContent-Length: 32\r\n\r\n\
         {\"Message\":\"Function not found\"}\n",
    );
    let error = client.function("f").unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), ("ResourceNotFoundException", "Function not found"));
    server.join().unwrap();
}

#[test]
fn answers_cut_short_are_errors() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}",
        "HTTP/1.1 200 OK\r\nConte",
    ] {
        let (client, server) = server(answer);
        assert!(matches!(client.node().unwrap_err(), CallError::Broken { .. } | CallError::Foreign { .. }), "{answer}");
        server.join().unwrap();
    }
}

#[test]
fn what_is_no_node_is_told() {
    let (client, server) = server("SSH-2.0-OpenSSH_9.2\r\n");
    assert!(matches!(client.node().unwrap_err(), CallError::Foreign { .. }));
    server.join().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::new(&format!("http://{nobody}")).unwrap();
    assert!(matches!(client.node().unwrap_err(), CallError::Unreachable { .. }));
    assert!(!client.is_ready());
}
