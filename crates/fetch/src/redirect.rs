//! What follows an answer that leads elsewhere: the next request, as browsers make it.
//!
//! 301 and 302 make a POST a GET, 303 makes everything but HEAD one; 307 and 308 change nothing. What proves who somebody
//! is goes to nobody else: another scheme, host or port gets no credentials.

use crate::request::{Request, RequestError, Target};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, COOKIE};
use hyper::header::{LOCATION, PROXY_AUTHORIZATION};
use hyper::{HeaderMap, Method, StatusCode};

/// Headers that are for one origin. What else a request has, its author meant for whoever is asked.
const CREDENTIALS: [hyper::header::HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
const OF_BODIES: [hyper::header::HeaderName; 4] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION];

/// The next request; nothing where the answer is the last.
pub fn next(request: &Request, status: StatusCode, headers: &HeaderMap) -> Result<Option<Request>, RequestError> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = headers.get(LOCATION) else { return Ok(None) };
    let target = Target::parse(&resolve(&request.target, &escaped(location.as_bytes())))?;
    let mut next = Request { target, ..request.clone() };
    if !next.target.is_same_origin(&request.target) {
        CREDENTIALS.iter().for_each(|name| drop(next.headers.remove(name)));
    }
    let becomes_get = match status.as_u16() {
        301 | 302 => request.method == Method::POST,
        303 => request.method != Method::HEAD && request.method != Method::GET,
        _ => false,
    };
    if becomes_get {
        (next.method, next.body) = (Method::GET, Bytes::new());
        OF_BODIES.iter().for_each(|name| drop(next.headers.remove(name)));
    }
    Ok(Some(next))
}

/// Many servers write what people read: bytes that no URL has, as which browsers know them all the same.
fn escaped(location: &[u8]) -> String {
    let mut escaped = String::with_capacity(location.len());
    for byte in location {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f.. => {
                escaped.push_str(&format!("%{byte:02X}"));
            }
            _ => escaped.push(char::from(*byte)),
        }
    }
    escaped
}

/// A reference, seen from a URL (RFC 3986, 5.2).
fn resolve(base: &Target, reference: &str) -> String {
    let reference = reference.split('#').next().unwrap_or_default();
    let origin = Target { path: "/".to_owned(), ..base.clone() }.shown();
    let origin = origin.trim_end_matches('/');
    let base_path = base.path.split('?').next().unwrap_or_default();
    if has_scheme(reference) {
        return reference.to_owned();
    }
    if let Some(rest) = reference.strip_prefix("//") {
        return format!("{}//{rest}", &origin[..origin.find('/').unwrap_or(0)]);
    }
    let (path, query) = match reference.find('?') {
        Some(at) => reference.split_at(at),
        None => (reference, ""),
    };
    let path = match path {
        "" if query.is_empty() => return format!("{origin}{}", base.path),
        "" => base_path.to_owned(),
        _ if path.starts_with('/') => without_dots(path),
        _ => without_dots(&format!("{}{path}", &base_path[..=base_path.rfind('/').unwrap_or(0)])),
    };
    format!("{origin}{path}{query}")
}

fn has_scheme(reference: &str) -> bool {
    let scheme = reference.split(['/', '?']).next().unwrap_or_default().split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut is_folder = false;
    for part in path.split('/').skip(1) {
        is_folder = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(part),
        }
    }
    format!("/{}{}", kept.join("/"), if is_folder && !kept.is_empty() { "/" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request;

    fn base(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn references() {
        let from = base("http://a.example:81/b/c/d?q");
        let known = [
            ("http://x/y", "http://x/y"),
            ("HTTPS://x", "HTTPS://x"),
            ("//g/h", "http://g/h"),
            ("/g", "http://a.example:81/g"),
            ("g", "http://a.example:81/b/c/g"),
            ("g?y#s", "http://a.example:81/b/c/g?y"),
            ("?y", "http://a.example:81/b/c/d?y"),
            ("", "http://a.example:81/b/c/d?q"),
            ("#s", "http://a.example:81/b/c/d?q"),
            ("../g", "http://a.example:81/b/g"),
            ("../../../g", "http://a.example:81/g"),
            ("./", "http://a.example:81/b/c/"),
            ("..", "http://a.example:81/b/"),
            ("/./g/../h", "http://a.example:81/h"),
            ("g:80/x", "g:80/x"),
            ("./g:80", "http://a.example:81/b/c/g:80"),
        ];
        for (reference, url) in known {
            assert_eq!(resolve(&from, reference), url, "{reference}");
        }
        assert_eq!(resolve(&base("https://[2606::1]/"), "/x"), "https://[2606::1]/x");
    }

    fn sent(text: &'static str) -> Request {
        request::read(&Bytes::from_static(text.as_bytes()), 4096).unwrap()
    }

    fn led(request: &Request, status: u16, location: &str) -> Result<Option<Request>, RequestError> {
        let location = hyper::header::HeaderValue::from_bytes(location.as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(LOCATION, location)]);
        next(request, StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn methods_change_as_in_browsers() {
        let post = sent("POST http://a/ HTTP/1.1\ncontent-type: text/plain\nx: y\n\nbody");
        for (status, method) in [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")] {
            let next = led(&post, status, "/x").unwrap().unwrap();
            assert_eq!(next.method, method, "{status}");
            assert_eq!(
                (next.body.is_empty(), next.headers.contains_key("content-type")),
                (method == "GET", method != "GET")
            );
            assert_eq!((next.target.path.as_str(), next.headers.len()), ("/x", if method == "GET" { 1 } else { 2 }));
        }
        for (method, status, then) in
            [("PUT", 301, "PUT"), ("PUT", 303, "GET"), ("HEAD", 303, "HEAD"), ("GET", 307, "GET")]
        {
            let request = Request { method: method.parse().unwrap(), ..post.clone() };
            assert_eq!(led(&request, status, "/x").unwrap().unwrap().method, then, "{method} {status}");
        }
        for status in [200, 300, 304, 404] {
            assert!(led(&post, status, "/x").unwrap().is_none(), "{status}");
        }
        assert!(next(&post, StatusCode::FOUND, &HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn credentials_stay_where_they_belong() {
        let text = "GET https://a.example/ HTTP/1.1\nauthorization: s\ncookie: s\nproxy-authorization: s\nx: y\n\n";
        let request = sent(text);
        assert_eq!(led(&request, 302, "/x").unwrap().unwrap().headers.len(), 4);
        assert_eq!(led(&request, 302, "https://A.example:443/x").unwrap().unwrap().headers.len(), 4);
        for elsewhere in ["https://b.example/", "http://a.example/", "https://a.example:444/", "//sub.a.example/"] {
            let headers = led(&request, 302, elsewhere).unwrap().unwrap().headers;
            assert_eq!((headers.len(), headers.contains_key("x")), (1, true), "{elsewhere}");
        }
    }

    #[test]
    fn locations_are_read_as_they_are_written() {
        let request = sent("http://a/");
        let path = |location: &str| led(&request, 302, location).unwrap().unwrap().target.path;
        assert_eq!(path("/wiki/Öl und <b>"), "/wiki/%C3%96l%20und%20%3Cb%3E");
        assert_eq!(path("http://b/x?q={ä}%20[1]"), "/x?q=%7B%C3%A4%7D%20[1]");
        // Names of hosts have forms of their own, which bytes in `%` are none of.
        for location in ["http://bücher.example/", "http://a b/", "http:\\\\b\\"] {
            assert!(led(&request, 302, location).is_err(), "{location}");
        }
    }

    #[test]
    fn what_cannot_be_followed() {
        for location in ["ftp://a/", "file:///etc/passwd", "javascript:x", "http://", "http://u:p@a/", "http://a:0/"] {
            assert!(led(&sent("http://a/"), 302, location).is_err(), "{location}");
        }
    }
}
