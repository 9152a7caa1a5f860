//! Sets as an answer, in the form that the client would rather have.
//!
//! | `Accept` | a single item | anything else |
//! |---|---|---|
//! | none, `*/*` | its bytes, as JSON, text or octets, whichever they are | JSON: `{"sets": …}` |
//! | `application/json` first | its bytes where they are JSON, else `{"sets": …}` | the same |
//! | `application/octet-stream` or `text/…` first | its bytes | the same |
//! | `multipart/form-data` first | a form: each item a part | the same |
//!
//! `?as=sets` asks for `{"sets": …}` whatever there is. What a client would rather not have is still better than nothing:
//! no answer is withheld for its form. Forms, and JSON that is long, are written as they are taken, and never in one piece.

use crate::http::Response;
use crate::http::answer::{self, Body, Source, header};
use crate::route::Exchange;
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use sets::{Item, Set, Sets, multipart};
use std::io;
use std::task::{Context, Poll};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OCTETS: &str = "application/octet-stream";
/// Bytes of items that are too much to be written at once.
const LONG: usize = 1 << 20;

/// What a client would rather have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Any,
    Json,
    Bytes,
    Form,
}

/// The answer that these sets are to this request.
pub fn answer(request: &Exchange, sets: Sets<Bytes>) -> Response {
    shaped(&request.head.headers, sets, wants_sets(request))
}

/// The same of sets whose last item's data lies where its engine can still write to it: it goes to the client from there, or is copied
/// before anybody looks at it.
pub fn answer_lent(request: &Exchange, mut sets: Sets<Bytes>) -> Response {
    let wish = header(&request.head.headers, ACCEPT).map_or(Wish::Any, wish);
    let as_it_is = [Wish::Any, Wish::Bytes].contains(&wish) && !wants_sets(request);
    let alone = single(&sets).filter(|_| as_it_is);
    if let Some((bytes, kind)) = alone.and_then(|bytes| Some((bytes, type_of_lent(bytes)?))) {
        return answer::with(StatusCode::OK, HeaderValue::from_static(kind), bytes.clone());
    }
    if let Some(last) = sets.last_mut().and_then(|set| set.items.last_mut()) {
        last.data = Bytes::copy_from_slice(&last.data);
    }
    answer(request, sets)
}

fn wants_sets(request: &Exchange) -> bool {
    request.query("as").as_deref() == Some("sets")
}

/// What bytes are that may change while they are looked at: it is said of what they were in one moment, and harms nobody but the function if
/// they are something else then. None where that is not to be told without a copy of them all.
fn type_of_lent(bytes: &[u8]) -> Option<&'static str> {
    let (mut piece, mut from, mut kept) = ([0; 4096], 0, 0);
    loop {
        let more = (bytes.len() - from).min(piece.len() - kept);
        piece[kept..kept + more].copy_from_slice(&bytes[from..from + more]);
        let read = &piece[..kept + more];
        if from == 0 && may_be_json(read) {
            return None;
        }
        from += more;
        let left = match std::str::from_utf8(read) {
            Ok(_) => read.len()..read.len(),
            // The beginning of a character.
            Err(error) if error.error_len().is_none() && from < bytes.len() => error.valid_up_to()..read.len(),
            Err(_) => return Some(OCTETS),
        };
        if from == bytes.len() {
            return Some(TEXT);
        }
        kept = left.len();
        piece.copy_within(left, 0);
    }
}

fn shaped(request: &HeaderMap, sets: Sets<Bytes>, whole: bool) -> Response {
    let wish = header(request, ACCEPT).map_or(Wish::Any, wish);
    match single(&sets).filter(|_| !whole) {
        _ if wish == Wish::Form => form(sets),
        Some(bytes) if wish != Wish::Json || content_type(bytes) == JSON => {
            answer::with(StatusCode::OK, HeaderValue::from_static(content_type(bytes)), bytes.clone())
        }
        _ if bytes(&sets) > LONG => {
            let pieces = Pieces(sets::json::pieces(sets).map(Bytes::from));
            let mut response = Response::new(Body::Made(Box::new(pieces)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
            response
        }
        _ => answer::json_text(StatusCode::OK, sets::json::encode(&sets)),
    }
}

/// For Lambda's API, whose answers are JSON: a single item that is JSON, or its text, else all sets.
pub fn json(sets: &Sets<Bytes>) -> Bytes {
    match single(sets) {
        Some(item) if content_type(item) == JSON => item.clone(),
        Some(item) => match std::str::from_utf8(item) {
            Ok(text) => serde_json::Value::from(text).to_string().into(),
            Err(_) => sets::json::encode(sets).into(),
        },
        None => sets::json::encode(sets).into(),
    }
}

fn bytes(sets: &Sets<Bytes>) -> usize {
    sets.iter().flat_map(|set| &set.items).map(|item| item.data.len()).sum()
}

/// The first of the types that a client likes best.
fn wish(accept: &str) -> Wish {
    let mut best = (0.0, Wish::Any);
    for entry in accept.split(',') {
        let mut parameters = entry.split(';');
        let kind = parameters.next().unwrap_or_default().trim().to_ascii_lowercase();
        let weight = parameters.find_map(|parameter| parameter.trim().strip_prefix("q=")?.trim().parse().ok());
        let wish = match kind.as_str() {
            "multipart/form-data" => Wish::Form,
            JSON => Wish::Json,
            OCTETS => Wish::Bytes,
            _ if kind.starts_with("text/") => Wish::Bytes,
            _ => Wish::Any,
        };
        let weight: f32 = weight.unwrap_or(1.0);
        if weight > best.0 {
            best = (weight, wish);
        }
    }
    best.1
}

/// The only item of all sets.
fn single(sets: &Sets<Bytes>) -> Option<&Bytes> {
    let mut items = sets.iter().flat_map(|set| &set.items);
    let first = items.next()?;
    items.next().is_none().then_some(&first.data)
}

/// What bytes are, as far as they show it themselves.
fn content_type(bytes: &[u8]) -> &'static str {
    if may_be_json(bytes) && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return JSON;
    }
    if std::str::from_utf8(bytes).is_ok() { TEXT } else { OCTETS }
}

/// By how they begin.
fn may_be_json(bytes: &[u8]) -> bool {
    let first = bytes.trim_ascii_start().first();
    first.is_none_or(|first| b"{[\"-0123456789tfn".contains(first))
}

fn form(sets: Sets<Bytes>) -> Response {
    // Nobody who writes an item knows it.
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let content_type = format!("multipart/form-data; boundary={boundary}");
    let items =
        sets.into_iter().flat_map(|Set { name, items }| items.into_iter().map(move |item| (name.clone(), item)));
    let parts = Parts { boundary, items, data: None, is_first: true, is_over: false };
    let mut response = Response::new(Body::Made(Box::new(Pieces(parts))));
    // Letters and digits, all of it.
    response.headers_mut().extend(HeaderValue::try_from(content_type).map(|value| (CONTENT_TYPE, value)));
    response
}

/// A body whose pieces are there as soon as they are wanted.
struct Pieces<I>(I);

impl<I: Iterator<Item = Bytes>> Source for Pieces<I> {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

/// A form, piece by piece.
struct Parts<I> {
    boundary: String,
    items: I,
    data: Option<Bytes>,
    is_first: bool,
    is_over: bool,
}

impl<I: Iterator<Item = (String, Item<Bytes>)>> Iterator for Parts<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(data) = self.data.take().filter(|data| !data.is_empty()) {
            return Some(data);
        }
        if let Some((set, item)) = self.items.next() {
            let head = multipart::head(&self.boundary, &set, &item, std::mem::take(&mut self.is_first));
            self.data = Some(item.data);
            return Some(head.into());
        }
        let was_over = std::mem::replace(&mut self.is_over, true);
        (!was_over).then(|| multipart::tail(&self.boundary, self.is_first).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::form as forms;

    #[test]
    fn wishes() {
        let known = [
            ("*/*", Wish::Any),
            ("application/json", Wish::Json),
            ("application/json, text/plain", Wish::Json),
            ("text/plain;q=0.5, Multipart/Form-Data", Wish::Form),
            ("multipart/form-data;q=0, application/octet-stream;q=0.1", Wish::Bytes),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Wish::Bytes),
            ("", Wish::Any),
            ("application/json;q=nonsense", Wish::Json),
        ];
        for (accept, expected) in known {
            assert_eq!(wish(accept), expected, "{accept}");
        }
    }

    #[test]
    fn bytes_show_what_they_are() {
        assert_eq!(content_type(br#" {"a": [1]}"#), JSON);
        assert_eq!((content_type(b"-1.5"), content_type(b"true")), (JSON, JSON));
        assert_eq!((content_type(b"{a"), content_type(b"")), (TEXT, TEXT));
        assert_eq!(content_type(&[0xff, 0]), OCTETS);
    }

    #[test]
    fn bytes_that_may_change_are_the_same() {
        let long = |text: &str| text.repeat(3000).into_bytes();
        let cut = |mut bytes: Vec<u8>| {
            bytes.pop();
            bytes
        };
        let wrong = |mut bytes: Vec<u8>, at: usize| {
            bytes[at] = 0xff;
            bytes
        };
        let texts = [long("é"), long("aé"), long("abcé€😀"), b"Text".to_vec(), long("x ")];
        for text in &texts {
            assert_eq!((type_of_lent(text), content_type(text)), (Some(TEXT), TEXT));
        }
        for octets in [cut(long("é")), cut(long("ab€")), wrong(long("é"), 5000), wrong(long("x "), 4096), vec![0xc3]]
        {
            assert_eq!((type_of_lent(&octets), content_type(&octets)), (Some(OCTETS), OCTETS));
        }
        for either in [&b"  [1]"[..], b"{", b"", &[b' '; 9000]] {
            assert_eq!(type_of_lent(either), None);
        }
    }

    fn sets() -> Sets<Bytes> {
        let item = |name: &str, key, data: &'static [u8]| Item::new(name, key, Bytes::from_static(data));
        vec![
            Set::new("a\"b", vec![item("x", 7, b"one"), item("y\r\n", 0, b"")]),
            Set::new("none", Vec::new()),
            Set::new("c", vec![item("z", 0, b"--\r\n\0\xff")]),
        ]
    }

    fn made(response: Response) -> Vec<u8> {
        let Body::Made(mut source) = response.into_body() else { panic!("it is made piece by piece") };
        let mut whole = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(piece)) = source.poll_piece(&mut cx) {
            whole.extend_from_slice(&piece.unwrap());
        }
        whole
    }

    #[test]
    fn what_is_long_is_written_in_pieces() {
        let long: Sets<Bytes> = vec![Set::new("o", vec![Item::new("x", 0, Bytes::from(vec![b'x'; LONG + 1])); 2])];
        let expected = sets::json::encode(&long);
        assert_eq!(made(shaped(&HeaderMap::new(), long, false)), expected);
    }

    #[test]
    fn lambda_is_answered_with_json() {
        let one = |data: &'static [u8]| {
            vec![Set::new("A", vec![Item::new("x", 0, Bytes::from_static(data))]), Set::new("B", vec![])]
        };
        assert_eq!(json(&one(b"{\"a\": 1}")), "{\"a\": 1}");
        assert_eq!(json(&one(b"text")), "\"text\"");
        assert!(json(&one(b"\xff")).starts_with(b"{\"sets\":{\"A\":[{\"name\":\"x\",\"key\":0,\"data\":\"/w==\"}]"));
        assert_eq!(json(&Vec::new()), "{\"sets\":{}}");
        let whole = shaped(&HeaderMap::new(), one(b"text"), true);
        assert_eq!(whole.headers()[CONTENT_TYPE], JSON);
    }

    #[test]
    fn a_form_is_read_as_what_was_written() {
        for sets in [sets(), Vec::new()] {
            let response = form(sets.clone());
            let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
            let whole = made(response);
            let boundary = forms::boundary(&content_type).unwrap().unwrap();
            let mut read = Sets::new();
            for part in forms::parts(&whole.into(), &boundary, multipart::KEY_HEADER, 99).unwrap() {
                let (name, file_name, key) = (part.name.as_str(), part.file_name.as_deref(), part.extra.as_deref());
                multipart::place(&mut read, multipart::Part { name, file_name, key }, part.data).unwrap();
            }
            let written: Sets<Bytes> = sets.into_iter().filter(|set| !set.items.is_empty()).collect();
            assert_eq!(read, written);
        }
    }

    #[test]
    fn an_answer_is_what_is_wished_for() {
        let of = |accept: Option<&str>, sets: Sets<Bytes>| {
            let accept = accept.map(|accept| (ACCEPT, HeaderValue::from_str(accept).unwrap()));
            let response = shaped(&HeaderMap::from_iter(accept), sets, false);
            response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned()
        };
        let one = |data: &'static [u8]| vec![Set::new("o", vec![Item::new("x", 0, Bytes::from_static(data))])];
        assert_eq!((of(None, one(b"text")), of(Some("*/*"), one(b"{}"))), (TEXT.into(), JSON.into()));
        assert_eq!((of(Some(JSON), one(b"text")), of(Some(OCTETS), one(b"\xff"))), (JSON.into(), OCTETS.into()));
        assert_eq!((of(None, sets()), of(Some("text/plain"), Vec::new())), (JSON.into(), JSON.into()));
        assert!(of(Some("multipart/form-data"), one(b"{}")).starts_with("multipart/form-data; boundary="));
    }
}
