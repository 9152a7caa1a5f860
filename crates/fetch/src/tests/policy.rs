//! What is not reached: by address, by name, by redirect, by a name that changes its mind.

use super::server::{Server, echo};
use super::*;
use http_body_util::Full;
use hyper::Response;

fn strict(names: &[(&str, &[&[&str]])]) -> Fetch {
    fetch(|config| (config.allow, config.ports) = (Vec::new(), Vec::new()), names)
}

#[tokio::test]
async fn this_machine_is_not_reached_in_whatever_form_it_is_written() {
    let server = Server::plain(echo).await;
    // Forms of IPv4 that `getaddrinfo` knows are names here: those go to the system.
    let system = Fetch::open(&FetchConfig { ports: Vec::new(), ..FetchConfig::default() }, Aws::default(), "").unwrap();
    let forms = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST.",
    ];
    for form in forms {
        let refused = one(&system, format!("http://{form}:{}/", server.port)).await.unwrap_err();
        assert!(refused == "Denied" || refused == "Resolve", "{form}: {refused}");
    }
    assert_eq!(one(&system, "http://127.0.0.1/").await, Err("Denied"));
    for address in
        ["169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "100.64.0.1", "[fe80::1]", "[ff02::1]", "224.0.0.1"]
    {
        assert_eq!(one(&system, format!("http://{address}/latest/meta-data")).await, Err("Denied"), "{address}");
    }
    assert_eq!(server.made(), 0);
}

#[tokio::test]
async fn a_name_is_what_its_addresses_are() {
    let server = Server::plain(echo).await;
    let strict = strict(&[("evil.test", &[&["127.0.0.1", "10.0.0.1"]])]);
    assert_eq!(one(&strict, format!("http://evil.test:{}/", server.port)).await, Err("Denied"));
    let url = format!("http://both.test:{}/", server.port);
    // Of both kinds: what is allowed is tried, what is not is not.
    let both = fetch(|config| config.allow = rules(&["127.0.0.2"]), &[("both.test", &[&["127.0.0.1", "127.0.0.2"]])]);
    assert_eq!(one(&both, &url[..]).await, Err("Connect"));
    let both =
        fetch(|config| config.allow = rules(&["127.0.0.1"]), &[("both.test", &[&["10.0.0.1", "127.0.0.1", "::1"]])]);
    assert!(one(&both, &url[..]).await.is_ok());
    assert_eq!(one(&both, "http://nowhere.test/").await, Err("Resolve"));
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_asked_once_for_each_connection() {
    let server = Server::plain(echo).await;
    // First what may be reached and is not there; then what may not be reached and is.
    let answers: &[&[&str]] = &[&["127.0.0.9"], &["127.0.0.1"]];
    let rebinding = fetch(|config| config.allow = rules(&["127.0.0.9"]), &[("rebind.test", answers)]);
    let url = format!("http://rebind.test:{}/", server.port);
    assert_eq!(one(&rebinding, &url[..]).await, Err("Connect"));
    assert_eq!(one(&rebinding, &url[..]).await, Err("Denied"));
    assert_eq!(server.made(), 0);
}

fn to_query(head: hyper::http::request::Parts, _: Bytes) -> Response<Full<Bytes>> {
    let location = head.uri.query().unwrap_or_default();
    Response::builder().status(307).header("location", location).body(Full::default()).unwrap()
}

#[tokio::test]
async fn redirects_are_checked_like_requests() {
    let (server, inner) = (Server::plain(to_query).await, Server::plain(echo).await);
    let port = server.port.to_string();
    let allow = rules(&[&format!("127.0.0.1:{port}")]);
    let fetch = fetch(|config| config.allow = allow, &[("inner.test", &[&["127.0.0.1"]])]);
    let places = [inner.url("/"), format!("//localhost:{}/", inner.port), format!("http://inner.test:{}/", inner.port)];
    for place in places.into_iter().chain(["http://169.254.169.254/latest".to_owned()]) {
        let refused = one(&fetch, server.url(&format!("/?{place}"))).await.unwrap_err();
        assert!(refused == "Denied" || refused == "Resolve", "{place}: {refused}");
    }
    assert_eq!(inner.made(), 0);
}

#[tokio::test]
async fn a_connection_is_kept_under_the_name_that_it_was_checked_for() {
    let server = Server::plain(echo).await;
    let allow = rules(&[&format!("api.internal:{}", server.port)]);
    let names: &[(&str, &[&[&str]])] = &[("api.internal", &[&["127.0.0.1"]]), ("evil.test", &[&["127.0.0.1"]])];
    let fetch = fetch(|config| config.allow = allow, names);
    let at = |host: &str| format!("http://{host}:{}/", server.port);
    assert!(one(&fetch, at("api.internal")).await.is_ok());
    for host in ["evil.test", "127.0.0.1"] {
        assert_eq!(one(&fetch, at(host)).await, Err("Denied"), "{host}");
    }
    let spoof = format!("GET {} HTTP/1.1\nhost: evil.test\n\n", at("api.internal"));
    assert_eq!(one(&fetch, spoof).await, Err("Request"));
    assert_eq!(server.made(), 1);
}

#[tokio::test]
async fn refusals_do_not_say_what_private_names_mean() {
    let strict = strict(&[("db.corp", &[&["10.20.30.40"]])]);
    let sets = run(&strict, &["http://db.corp/?token=hush".to_owned()], &["status"]).await.unwrap();
    let status = String::from_utf8_lossy(&sets[0].items[0].data).into_owned();
    assert!(status.contains("a private address") && !status.contains("10.20") && !status.contains("hush"), "{status}");
}
