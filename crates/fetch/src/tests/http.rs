//! Requests that go well: sets, protocols, connections that are kept, redirects.

use super::server::{Authority, Server, echo};
use super::*;
use http_body_util::Full;
use hyper::Response;
use serde_json::Value;

fn text(set: &Set<Bytes>, at: usize) -> String {
    String::from_utf8(set.items[at].data.to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_comes_to_items_of_its_name_and_key() {
    let server = Server::plain(echo).await;
    let fetch = fetch(|_| {}, &[]);
    let texts = [format!("POST {} HTTP/1.1\nx: y\n\nbody", server.url("/a?b")), format!("GET {}", server.url("/c"))];
    let sets = run(&fetch, &texts, ALL).await.unwrap();
    assert_eq!(sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>(), ALL);
    for set in &sets {
        let items: Vec<_> = set.items.iter().map(|item| (item.name.as_str(), item.key)).collect();
        assert_eq!(items, [("r0", 0), ("r1", 1)], "{}", set.name);
    }
    let (head, body) = (text(&sets[0], 0), text(&sets[1], 0));
    assert!(
        head.starts_with("HTTP/1.1 200 OK\n") && head.contains("\nx-answer: yes\n") && head.ends_with("\n\n"),
        "{head}"
    );
    let host = format!("host: 127.0.0.1:{}", server.port);
    let agent = concat!("user-agent: lichen/", env!("CARGO_PKG_VERSION"));
    assert_eq!(body, format!("HTTP/1.1 POST /a?b\ncontent-length: 4\n{host}\n{agent}\nx: y\n\nbody"));
    assert_eq!(text(&sets[2], 0), format!("{head}{body}"));
    let status: Value = serde_json::from_str(&text(&sets[3], 0)).unwrap();
    assert_eq!(status, serde_json::json!({"ok": true, "status": 200, "url": server.url("/a"), "redirects": 0}));
}

#[tokio::test]
async fn only_what_is_taken_is_made() {
    let server = Server::plain(echo).await;
    let sets = run(&fetch(|_| {}, &[]), &[server.url("/")], &["bodies", "other"]).await.unwrap();
    assert_eq!((sets.len(), sets[0].name.as_str(), sets[0].items.len()), (1, "bodies", 1));
    assert!(run(&fetch(|_| {}, &[]), &[], &["headers"]).await.unwrap()[0].items.is_empty());
    let given = async |function, name| {
        let terms = Terms { deadline: Instant::now() + Duration::from_secs(9), outputs: &[] };
        fetch(|_| {}, &[]).run(function, vec![Set::new(name, Vec::new())], terms).await
    };
    assert!(given(Function::Http, "wishes").await.unwrap_err().to_string().contains("it takes requests"));
    assert!(given(Function::Http, "request").await.is_ok(), "its other name");
    assert!(given(Function::ObjectGet, "request").await.is_err());
}

#[tokio::test]
async fn failures_are_handed_on_where_status_is_taken() {
    let server = Server::plain(echo).await;
    let texts = [server.url("/"), "nonsense here and there".to_owned()];
    let sets = run(&fetch(|_| {}, &[]), &texts, &["bodies", "status"]).await.unwrap();
    assert_eq!((sets[0].items.len(), sets[1].items.len()), (1, 2));
    let status: Value = serde_json::from_str(&text(&sets[1], 1)).unwrap();
    assert_eq!(
        (&status["ok"], &status["error"], &status["transient"]),
        (&false.into(), &"Request".into(), &false.into())
    );
    let failed = run(&fetch(|_| {}, &[]), &texts, &["bodies"]).await.unwrap_err();
    assert_eq!(failed.error_type(), "Fetch.Request");
    assert!(matches!(failed, FetchError::Item { item, .. } if item == "r1"));
}

#[tokio::test]
async fn connections_are_kept_and_made_anew_where_they_ended() {
    let server = Server::plain(echo).await;
    let fetch = fetch(|config| config.each = 1, &[]);
    let texts = vec![server.url("/"); 20];
    assert_eq!(run(&fetch, &texts, &["bodies"]).await.unwrap()[0].items.len(), 20);
    assert_eq!((server.made(), server.asked()), (1, 20));

    // Says that it keeps the connection, and closes it.
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let closing = Server::raw(vec![head], true).await;
    for _ in 0..5 {
        assert_eq!(one(&fetch, closing.url("/")).await.unwrap(), "ok");
    }
    assert_eq!(closing.asked(), 5);
}

#[tokio::test]
async fn kept_connections_are_few_and_end() {
    let servers = [Server::plain(echo).await, Server::plain(echo).await, Server::plain(echo).await];
    let fetch = fetch(|config| (config.idle, config.idle_s) = (2, 0), &[]);
    let pool = &fetch.0.http.exchanger.pool;
    for server in &servers {
        one(&fetch, server.url("/")).await.unwrap();
        assert!(pool.len() <= 2);
    }
    tokio::time::timeout(Duration::from_secs(10), async {
        while pool.len() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn tls_with_http_2_where_both_speak_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let both = Server::tls(echo, &authority, &[b"h2", b"http/1.1"]).await;
    let old = Server::tls(echo, &authority, &[b"http/1.1"]).await;
    let names: &[(&str, &[&[&str]])] = &[("localhost", &[&["127.0.0.1"]]), ("other.test", &[&["127.0.0.1"]])];
    let trusting = fetch(|config| config.ca_file = authority.bundle(folder.path()), names);
    let spoken = |body: String| body.split(' ').next().unwrap().to_owned();
    for (server, version, spoke) in [(&both, "", "HTTP/2.0"), (&both, " HTTP/1.1", "HTTP/1.1"), (&old, "", "HTTP/1.1")]
    {
        let body = one(&trusting, format!("GET https://localhost:{}/x{version}", server.port)).await;
        assert_eq!(body.map(spoken).as_deref(), Ok(spoke));
    }
    assert_eq!(one(&trusting, format!("GET https://localhost:{}/ HTTP/2", old.port)).await, Err("Tls"));
    // Another name than the certificate's; an authority that nobody has heard of.
    assert_eq!(one(&trusting, format!("https://other.test:{}/", both.port)).await, Err("Tls"));
    let stranger = Authority::new();
    let unknown = fetch(|config| config.ca_file = stranger.bundle(folder.path()), names);
    assert_eq!(one(&unknown, format!("https://localhost:{}/", both.port)).await, Err("Tls"));
}

#[tokio::test]
async fn one_connection_of_http_2_serves_many() {
    let server = Server::plain_two(echo).await;
    let fetch = fetch(|_| {}, &[]);
    let text = format!("POST {} HTTP/2\na: b\n\nbody", server.url("/x"));
    let body = one(&fetch, text.clone()).await.unwrap();
    assert!(body.starts_with("HTTP/2.0 POST ") && body.ends_with("\n\nbody"), "{body}");
    run(&fetch, &vec![text; 50], &[]).await.unwrap();
    assert_eq!((server.made(), server.asked()), (1, 51));
}

/// `/N` leads to `/N-1`, `/0` answers; `/to?URL` leads there.
fn leading(head: hyper::http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
    let path = head.uri.path().trim_start_matches('/');
    let location = match (path, head.uri.query()) {
        ("to", Some(url)) => url.to_owned(),
        ("0" | "", _) => return echo(head, body),
        (number, _) => format!("/{}", number.parse::<u32>().unwrap() - 1),
    };
    Response::builder().status(302).header("location", location).body(Full::default()).unwrap()
}

#[tokio::test]
async fn redirects_are_followed_so_far() {
    let server = Server::plain(leading).await;
    let fetch = fetch(|_| {}, &[]);
    let sets = run(&fetch, &[server.url("/5")], &["status"]).await.unwrap();
    assert!(text(&sets[0], 0).contains(r#""redirects":5"#));
    assert_eq!(one(&fetch, server.url("/6")).await, Err("Redirect"));
    assert_eq!(one(&fetch, format!(r#"{{"url": "{}", "redirects": 1}}"#, server.url("/2"))).await, Err("Redirect"));
    assert!(one(&fetch, format!(r#"{{"url": "{}", "redirects": 9}}"#, server.url("/6"))).await.is_err());
    let seen =
        run(&fetch, &[format!(r#"{{"url": "{}", "redirects": 0}}"#, server.url("/2"))], &["headers"]).await.unwrap();
    assert!(text(&seen[0], 0).contains("location: /1\n"));
}

#[tokio::test]
async fn credentials_do_not_follow_to_others() {
    let (server, other) = (Server::plain(leading).await, Server::plain(echo).await);
    let fetch = fetch(|_| {}, &[]);
    let sent = |url: String| format!("GET {url} HTTP/1.1\nauthorization: secret\nx: y\n\n");
    let here = one(&fetch, sent(server.url("/1"))).await.unwrap();
    let there = one(&fetch, sent(server.url(&format!("/to?{}", other.url("/"))))).await.unwrap();
    assert!(here.contains("secret") && here.contains("x: y") && !there.contains("secret") && there.contains("x: y"));
}
