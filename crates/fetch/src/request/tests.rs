//! Requests as functions may write them, and as they may not.

use super::*;

fn of(text: &str) -> Result<Request, RequestError> {
    read(&Bytes::copy_from_slice(text.as_bytes()), 1024)
}

fn value<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn texts() {
    let request = of("POST http://a.example:81/x?y=1 HTTP/1.1\nA-b: c \r\nd:e\n\nbo\ndy\n").unwrap();
    assert_eq!((request.method.as_str(), request.version), ("POST", Version::One));
    let target = Target { https: false, host: "a.example".into(), port: 81, path: "/x?y=1".into() };
    assert_eq!((request.target, &request.body[..]), (target, &b"bo\ndy\n"[..]));
    let request = of("PUT https://[2606::1] HTTP/2\r\nx: 1\r\nx: 2\r\n\r\n").unwrap();
    assert_eq!(
        (request.target.host.as_str(), request.target.port, request.target.path.as_str()),
        ("2606::1", 443, "/")
    );
    assert_eq!((request.headers.get_all("x").iter().count(), request.version), (2, Version::Two));
    let request = of("http://A.example?q").unwrap();
    assert_eq!((request.method.as_str(), request.version, request.target.path.as_str()), ("GET", Version::Any, "/?q"));
    assert_eq!(request.target.authority(), "a.example");
    let request = of("GET http://a/\nx: y").unwrap();
    assert_eq!((value(&request, "x"), request.body.len()), (Some("y"), 0));
}

#[test]
fn json() {
    let request = of(r#" {"method": "POST", "url": "http://a/", "headers": {"x": "y", "n": 3, "two": ["1", "2"]},
        "json": {"a": [1, 2]}, "version": "1.1", "redirects": 0, "timeout_ms": 20}"#)
    .unwrap();
    assert_eq!(
        (&request.body[..], value(&request, "content-type")),
        (&br#"{"a": [1, 2]}"#[..], Some("application/json"))
    );
    assert_eq!((value(&request, "n"), request.headers.get_all("two").iter().count()), (Some("3"), 2));
    assert_eq!((request.redirects, request.timeout), (Some(0), Some(Duration::from_millis(20))));
    let body =
        |text: &str| of(&format!(r#"{{"url": "http://a/", "headers": [["x", "y"]], {text}}}"#)).map(|it| it.body);
    assert_eq!(body(r#""body": "é""#).unwrap(), "é");
    assert_eq!(body(r#""json": null"#).unwrap(), "null");
    assert_eq!(body(r#""data": "AP8=""#).unwrap(), &b"\0\xff"[..]);
    assert_eq!(body(r#""data": "!""#), Err(RequestError::Base64));
    assert_eq!(body(r#""body": "", "json": 1"#), Err(RequestError::Bodies));
    for wrong in [
        "{",
        "{}",
        r#"{"url": 1}"#,
        r#"{"url": "http://a/", "uri": 1}"#,
        r#"{"url": "http://a/", "headers": {"x": {}}}"#,
    ] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn no_line_becomes_two() {
    for text in [
        "GET http://a/ HTTP/1.1\nx: a\rb: c\n\n",
        "GET http://a/\rx HTTP/1.1\n\n",
        "GET http://a/ HTTP/1.1 x\n\n",
        "GET\tHTTP/1.1 http://a/ \n\n",
        "G\0T http://a/\n\n",
        "GET http://a/\0\n\n",
        "GET http://a/ HTTP/1.1\nx y: z\n\n",
        "GET http://a/ HTTP/1.1\n folded: z\n\n",
        "GET http://a/ HTTP/1.1\n: z\n\n",
        "GET http://a/ HTTP/1.1\nno colon\n\n",
        "GET http://a/ HTTP/1.1\nx: a\0b\n\n",
        r#"{"url": "http://a/", "headers": {"x": "a\r\nb: c"}}"#,
        r#"{"url": "http://a/", "headers": {"x\r\nb": "c"}}"#,
        r#"{"url": "http://a/ HTTP/1.1\r\nx: y"}"#,
        r#"{"url": "http://a/", "method": "GET / HTTP/1.1\r\nx: y\r\n"}"#,
    ] {
        assert!(of(text).is_err(), "{text:?}");
    }
}

#[test]
fn urls_that_are_none_or_not_ours() {
    for url in [
        "",
        "/x",
        "a",
        "ftp://a/",
        "file:///x",
        "http:///x",
        "http://",
        "http://a:0/",
        "http://a:99999/",
        "http://a:b/",
        "http://a b/",
        "http://é/",
        "http://a/é",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "gopher://a:25/x",
        "//a/",
        "http://a\\b/",
        "http://a<b/",
    ] {
        assert!(Target::parse(url).is_err(), "{url:?}");
    }
    for url in ["http://u@a/", "http://u:p@a/", "http://127.0.0.1@a/"] {
        assert_eq!(Target::parse(url), Err(RequestError::Credentials), "{url}");
    }
    let shown = Target::parse("https://a:443/p?token=secret#part").unwrap();
    assert_eq!((shown.shown().as_str(), shown.url().as_str()), ("https://a/p", "https://a/p?token=secret"));
}

#[test]
fn what_is_ours_to_say_is_taken_out_or_refused() {
    let headers = "connection: close\nkeep-alive: 1\nte: trailers\nupgrade: h2c\nexpect: 100-continue\ntrailer: x";
    let text = format!("POST http://a:81/ HTTP/1.1\nHost: A:81\ncontent-length: 2\n{headers}\nx: y\n\nab");
    let request = of(&text).unwrap();
    assert_eq!((request.headers.len(), value(&request, "x")), (1, Some("y")));
    for wrong in [
        "host: b",
        "host: a\nhost: b",
        "content-length: 3",
        "content-length: 2\ncontent-length: 3",
        "content-length: +2",
        "transfer-encoding: chunked",
    ] {
        let text = format!("POST http://a/ HTTP/1.1\n{wrong}\n\nab");
        assert!(matches!(of(&text), Err(RequestError::Foreign { .. })), "{wrong}");
    }
    for method in ["CONNECT", "TRACE", "G(T", ""] {
        assert!(of(&format!(r#"{{"url": "http://a/", "method": "{method}"}}"#)).is_err(), "{method}");
    }
}

#[test]
fn heads_have_an_end() {
    let long = |text: &str| of(&format!("GET http://a/{text}")) == Err(RequestError::TooLong { limit: 1024 });
    assert!(long(&"x".repeat(2000)) && long(&format!("\nx: {}\n\n", "y".repeat(2000))));
    assert!(long(&format!("\n{}\n", "a: b\n".repeat(500))) && long(&"\nx: y".repeat(300)));
    assert!(of(&format!("POST http://a/\n\n{}", "x".repeat(100_000))).is_ok());
    let many: String = (0..200).map(|at| format!(r#""h{at}": "v","#)).collect();
    assert!(of(&format!(r#"{{"headers": {{{many} "z": "z"}}, "url": "http://a/"}}"#)).is_err());
}

impl PartialEq for Request {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}
