//! The textual form, as Dandelion's functions write it: lines end with LF or CRLF, the first empty one ends the head.

use super::{Request, RequestError, Target, Version, header, method};
use bytes::Bytes;
use hyper::HeaderMap;

pub(super) fn read(item: &Bytes, head_max: usize) -> Result<Request, RequestError> {
    let mut rest = item.clone();
    let mut taken = 0;
    let mut line = || {
        let end = rest.iter().take(head_max + 1).position(|byte| *byte == b'\n');
        let whole = rest.len();
        let line = rest.split_to(end.unwrap_or(whole));
        if end.is_some() {
            drop(rest.split_to(1));
        }
        taken += line.len() + 1;
        let over = taken > head_max + 1;
        let line = line.strip_suffix(b"\r").map_or(line.clone(), |short| line.slice_ref(short));
        if over { Err(RequestError::TooLong { limit: head_max }) } else { Ok((line, end.is_some())) }
    };
    let (first, mut more) = line()?;
    let first = std::str::from_utf8(&first).map_err(|_| RequestError::Line)?.to_owned();
    let (mut headers, mut number) = (HeaderMap::new(), 1);
    while more {
        number += 1;
        let (text, is_ended) = line()?;
        more = is_ended;
        if text.is_empty() {
            break;
        }
        let wrong = || RequestError::Header { line: number };
        let colon = text.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let name = std::str::from_utf8(&text[..colon]).map_err(|_| wrong())?;
        header(&mut headers, name, &text[colon + 1..], wrong())?;
    }
    let body = rest;
    let (method, target, version) = first_line(&first)?;
    Ok(Request { method, target, headers, body, version, redirects: None, timeout: None })
}

fn first_line(line: &str) -> Result<(hyper::Method, Target, Version), RequestError> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (word, url, version) = match words[..] {
        [url] => ("GET", url, None),
        [word, url] => (word, url, None),
        [word, url, version] => (word, url, Some(version)),
        _ => return Err(RequestError::Line),
    };
    let version = match version {
        None => Version::Any,
        Some("HTTP/1.0" | "HTTP/1.1") => Version::One,
        Some("HTTP/2" | "HTTP/2.0") => Version::Two,
        Some(_) => return Err(RequestError::Version),
    };
    Ok((method(word)?, Target::parse(url)?, version))
}
