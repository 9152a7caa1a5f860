//! What is written is read again; what nobody wrote is refused, at no cost. `SEED=…`: others than in every run.

use bytes::Bytes;

use crate::multipart::{self, Part, PartError};
use crate::wire::{self, Data, DecodeError, EncodeError, Held};
use crate::{Item, Limits, NameError, OverLimit, Set, Sets, json, name};

/// Cases of each test with random ones.
const CASES: usize = 20_000;

/// Xorshift: enough to be different, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        Self(std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number but 0")))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn sets(&mut self) -> Sets<Data<Bytes>> {
        let count = self.below(4);
        (0..count).map(|place| self.set(place)).collect()
    }

    fn set(&mut self, place: u64) -> Set<Data<Bytes>> {
        let items = (0..self.below(5)).map(|_| {
            let name = "é".repeat(1 + self.below(127) as usize);
            let key = self.next() >> self.below(64);
            let held = Held { engine: self.next() as u32, id: self.next(), len: self.below(1 << 20) };
            let bytes: Vec<u8> = (0..self.below(300)).map(|_| self.next() as u8).collect();
            let data = if self.below(3) == 0 { Data::Held(held) } else { Data::Inline(Bytes::from(bytes)) };
            Item { name, key, data }
        });
        let items = items.collect();
        Set { name: format!("set {place}"), items }
    }

    /// Changes a few bytes of `bytes`: lost, doubled, overwritten by others or by what breaks things.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len().max(1) as u64) as usize;
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.next() as u8),
                2 if at < bytes.len() => bytes[at] = [0, 0xff, b'"', b'{', b'[', 0x7f][self.below(6) as usize],
                _ if at < bytes.len() => bytes[at] = self.next() as u8,
                _ => {}
            }
        }
    }
}

fn encoded(sets: &Sets<Data<Bytes>>) -> Bytes {
    let mut out = Vec::new();
    wire::encode(sets, &mut out).unwrap();
    assert_eq!(out.len(), wire::encoded_len(sets));
    Bytes::from(out)
}

fn text(name: &str, key: u64, text: &str) -> Item<Bytes> {
    Item::new(name, key, Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn wire_comes_back_as_it_went_and_its_data_is_not_copied() {
    let mut chance = Chance::new();
    for _ in 0..500 {
        let sets = chance.sets();
        let message = encoded(&sets);
        let back = wire::decode(&message, Limits::default()).unwrap();
        assert_eq!(back, sets);
        let items = back.iter().flat_map(|set| &set.items);
        for item in items {
            if let Data::Inline(bytes) = &item.data {
                assert!(bytes.is_empty() || message.as_ptr_range().contains(&bytes.as_ptr()));
            }
        }
        assert!(wire::decode(&message.as_ref(), Limits::default()).is_ok());
    }
}

#[test]
fn wire_may_have_its_last_data_apart() {
    let mut chance = Chance::new();
    let (mut apart, mut together) = (0, 0);
    for _ in 0..500 {
        let sets = chance.sets();
        let Some(last) = wire::last(&sets).filter(|last| !last.is_empty()) else {
            together += 1;
            continue;
        };
        apart += 1;
        let mut front = Vec::new();
        wire::encode_front(&sets, &mut front).unwrap();
        assert_eq!([&front, last].concat(), encoded(&sets), "the same message");
        let tail = Bytes::copy_from_slice(last);
        let decode = |front: &[u8], tail: &Bytes| {
            let message = wire::Split { front: Bytes::copy_from_slice(front), tail: Some(tail.clone()) };
            wire::decode(&message, Limits::default())
        };
        let back = decode(&front, &tail).unwrap();
        assert_eq!((&back, wire::last(&back).map(<[u8]>::as_ptr)), (&sets, Some(tail.as_ptr())));
        let whole = wire::Split { front: encoded(&sets), tail: None };
        assert_eq!(wire::decode(&whole, Limits::default()).unwrap(), sets);
        let bounds = [decode(&front, &tail.slice(1..)), decode(&front[..front.len() - 1], &tail)];
        assert!(bounds.iter().all(Result::is_err), "{bounds:?}");
        assert_eq!(decode(&whole.front, &tail), Err(DecodeError::Trailing(tail.len())));
    }
    assert!(apart > 100 && together > 10, "{apart}, {together}");
}

#[test]
fn wire_refuses_what_is_cut_off_anywhere() {
    let sets = vec![Set::new("in", vec![Item::new("x", 7, Data::Inline(Bytes::from_static(b"data")))])];
    let message = encoded(&sets);
    for end in 0..message.len() {
        assert!(matches!(wire::decode(&message.slice(..end), Limits::default()), Err(DecodeError::Short(_))));
    }
    let mut longer = message.to_vec();
    longer.push(0);
    assert_eq!(wire::decode(&Bytes::from(longer), Limits::default()), Err(DecodeError::Trailing(1)));
}

#[test]
fn wire_keeps_to_its_limits() {
    let item = || Item::new("x", 0, Data::<Bytes>::Held(Held { engine: 0, id: 1, len: u64::MAX }));
    let refused = |sets: Sets<Data<Bytes>>, limits: Limits| wire::decode(&encoded(&sets), limits).unwrap_err();
    let limits = Limits { sets: 1, items: 2, bytes: 100 };
    let many = vec![Set::new("a", vec![]), Set::new("b", vec![])];
    assert_eq!(refused(many, limits), DecodeError::Limit(OverLimit::Sets(1)));
    assert_eq!(refused(vec![Set::new("a", vec![item()])], limits), DecodeError::Limit(OverLimit::Bytes(100)));
    let empty = || Item::new("x", 0, Data::Inline(Bytes::new()));
    let three = vec![Set::new("a", vec![empty(), empty(), empty()])];
    assert_eq!(refused(three, limits), DecodeError::Limit(OverLimit::Items(2)));
    let bad = vec![Set::new("a/b", vec![empty()])];
    let error = wire::encode(&bad, &mut Vec::new()).unwrap_err();
    assert_eq!(error, EncodeError::Name { name: "a/b".into(), error: NameError::Character });
}

#[test]
fn wire_survives_garbage() {
    let mut chance = Chance::new();
    for _ in 0..CASES {
        let mut bytes = encoded(&chance.sets()).to_vec();
        chance.spoil(&mut bytes);
        if let Ok(sets) = wire::decode(&Bytes::from(bytes.clone()), Limits::default()) {
            assert_eq!(encoded(&sets), bytes, "what is read says everything that was written");
        }
    }
}

#[test]
fn json_has_all_the_forms_of_an_item() {
    let body = r#" {"sets": {"A": ["plain", {"name": "x", "key": 9, "text": "t"}, {"data": "/w=="}, {"json": {"b":1, "a":[]}}], "B": []}}"#;
    let sets = json::decode(body.as_bytes(), Limits::default()).unwrap();
    let a = vec![
        text("0", 0, "plain"),
        text("x", 9, "t"),
        Item::new("2", 0, Bytes::from_static(b"\xff")),
        text("3", 0, r#"{"b":1, "a":[]}"#),
    ];
    assert_eq!(sets, vec![Set::new("A", a), Set::new("B", vec![])]);
    let out = String::from_utf8(json::encode(&sets)).unwrap();
    assert!(out.starts_with(r#"{"sets":{"A":[{"name":"0","key":0,"text":"plain"},{"name":"x","key":9,"text":"t"},{"name":"2","key":0,"data":"/w=="}"#), "{out}");
    assert_eq!(json::decode(out.as_bytes(), Limits::default()).unwrap(), sets);
    assert!(json::is_sets(body.as_bytes()) && !json::is_sets(b"{\"set\": 1}") && !json::is_sets(b"[]"));
}

#[test]
fn json_in_pieces_is_the_same_text() {
    let item = |len: usize| Item::new("x\"", 7, Bytes::from(vec![b'x'; len]));
    let cases: [Sets<Bytes>; 5] = [
        Vec::new(),
        vec![Set::new("a\"", Vec::new())],
        vec![Set::new("a", Vec::new()), Set::new("b", Vec::new())],
        vec![Set::new("a", vec![item(1), item(0)]), Set::new("b", Vec::new()), Set::new("c", vec![item(2)])],
        vec![Set::new("a", vec![item(100_000); 3]), Set::new("b", vec![item(10); 9000])],
    ];
    for sets in cases {
        let pieces: Vec<Vec<u8>> = json::pieces(sets.clone()).collect();
        assert_eq!(pieces.concat(), json::encode(&sets));
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() < 200_000));
    }
}

#[test]
fn json_says_what_is_wrong() {
    let refused = |body: &str| {
        let limits = Limits { sets: 2, items: 3, bytes: 8 };
        json::decode(body.as_bytes(), limits).unwrap_err().to_string()
    };
    let cases = [
        ("[]", "an object with `sets`"),
        ("{}", "missing field `sets`"),
        (r#"{"sets": {}, "more": 1}"#, "unknown field `more`"),
        (r#"{"sets": {"A": "x"}}"#, "a list of items"),
        (r#"{"sets": {"A": [1]}}"#, "a string, or an object"),
        (r#"{"sets": {"A": [{"name": "n"}]}}"#, "none of `text`"),
        (r#"{"sets": {"A": [{"text": "n", "data": ""}]}}"#, "another of its kind"),
        (r#"{"sets": {"A": [{"data": "!"}]}}"#, "not base64"),
        (r#"{"sets": {"A": [{"name": "..", "text": ""}]}}"#, "folders"),
        (r#"{"sets": {"A": [{"key": -1, "text": ""}]}}"#, "u64"),
        (r#"{"sets": {"": []}}"#, "empty"),
        (r#"{"sets": {"A": [], "A": []}}"#, "twice"),
        (r#"{"sets": {"A": [], "B": [], "C": []}}"#, "more than 2 sets"),
        (r#"{"sets": {"A": ["", "", "", ""]}}"#, "more than 3 items"),
        (r#"{"sets": {"A": ["123456789"]}}"#, "more than 8 bytes"),
        (r#"{"sets": {}} x"#, "trailing"),
    ];
    for (body, expected) in cases {
        let message = refused(body);
        assert!(message.contains(expected), "{body}: {message}");
    }
}

#[test]
fn json_survives_garbage() {
    let mut chance = Chance::new();
    let whole =
        r#"{"sets": {"A": ["plain", {"name": "x", "key": 9, "text": "\u00e9"}, {"data": "/w=="}, {"json": [1]}]}}"#;
    for _ in 0..CASES {
        let mut body = whole.as_bytes().to_vec();
        chance.spoil(&mut body);
        if let Ok(sets) = json::decode(&body, Limits::default()) {
            assert_eq!(json::decode(&json::encode(&sets), Limits::default()).unwrap(), sets);
        }
    }
}

#[test]
fn parts_of_forms_are_items() {
    let mut sets: Sets<u8> = Vec::new();
    multipart::place(&mut sets, Part { name: "A", file_name: Some("a.txt"), key: Some("5") }, 1).unwrap();
    multipart::place(&mut sets, Part { name: "A", file_name: None, key: None }, 2).unwrap();
    multipart::place(&mut sets, Part { name: "A", file_name: Some("C:\\x\\b"), key: None }, 3).unwrap();
    let items = vec![Item::new("a.txt", 5, 1), Item::new("1", 0, 2), Item::new("b", 0, 3)];
    assert_eq!(sets, vec![Set::new("A", items)]);
    let bad = multipart::place(&mut sets, Part { name: "A", file_name: None, key: Some("x") }, 4);
    assert_eq!(bad, Err(PartError::Key { part: "A".into(), key: "x".into() }));
    let bad = multipart::place(&mut sets, Part { name: "a/b", file_name: None, key: None }, 4);
    assert_eq!(bad, Err(PartError::Set { part: "a/b".into(), error: NameError::Character }));
    let head = multipart::head("B", "A", &Item::new("a\"\r\nx", 3, ()), false);
    assert!(head.contains("filename=\"a%22%0D%0Ax\"\r\n") && head.ends_with("Item-Key: 3\r\n\r\n"), "{head}");
}

#[test]
fn names_are_those_of_files() {
    assert_eq!(name::check("a b.txt"), Ok(()));
    assert_eq!(name::check(&"x".repeat(256)), Err(NameError::Long(256)));
    assert_eq!([name::check(""), name::check("..")], [Err(NameError::Empty), Err(NameError::Folder)]);
    assert_eq!(name::check("a\0"), Err(NameError::Character));
}

#[test]
fn a_request_may_ask_for_something() {
    let mut chance = Chance::new();
    for _ in 0..200 {
        let (sets, mut plain, mut asking) = (chance.sets(), Vec::new(), Vec::new());
        let ask = wire::Ask { run: std::array::from_fn(|_| chance.next() as u8), from: chance.next() as u32 };
        wire::encode(&sets, &mut plain).unwrap();
        wire::encode_asking(ask, &sets, &mut asking).unwrap();
        let read = |bytes: &[u8]| wire::decode_asking(&Bytes::copy_from_slice(bytes), Limits::default());
        assert_eq!(read(&plain).unwrap(), (None, sets.clone()));
        assert_eq!(read(&asking).unwrap(), (Some(ask), sets));
        // Answers ask for nothing.
        assert_eq!(wire::decode(&Bytes::from(asking.clone()), Limits::default()), Err(DecodeError::Version(2)));
        for end in 0..asking.len().min(40) {
            assert!(read(&asking[..end]).is_err());
        }
    }
}
