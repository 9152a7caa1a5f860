//! Which of a group's events make a page: by time, stream and pattern, from a place on, forwards or backwards.
//!
//! Events have no numbers. Their place is their time, and how many of the same time were written before them: it stays
//! what it is, whatever is appended.

use super::pattern::Pattern;
use super::record::Line;
use super::segments;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a page, and what each event counts beside its text.
const PAGE_MAX: usize = 1 << 20;
const EVENT_EXTRA: usize = 26;

/// Where an event is among all of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub at_ms: u64,
    /// Events of the same time that were written before.
    pub nth: u32,
}

impl Place {
    /// Right behind this one.
    pub fn next(self) -> Self {
        Self { nth: self.nth.saturating_add(1), ..self }
    }
}

/// Of which streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Streams {
    Named(Vec<String>),
    /// The empty one is that of all.
    Prefix(String),
}

/// From where on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The earliest that are not before this place.
    OnwardsFrom(Place),
    /// The latest that are before this place.
    BackwardsFrom(Place),
}

/// Which events.
#[derive(Clone, Debug)]
pub struct Selection {
    pub streams: Streams,
    /// Milliseconds since 1970.
    pub times: Range<u64>,
    pub pattern: Pattern,
    pub from: From,
    pub limit: usize,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub place: Place,
    pub ingested_ms: u64,
    pub stream: Arc<str>,
    pub text: String,
}

impl Event {
    /// What it takes of a page.
    fn bytes(&self) -> usize {
        self.text.len() + EVENT_EXTRA
    }
}

/// Events in the order of their times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub events: Vec<Event>,
    /// Whether there are others in the same direction.
    pub more: bool,
}

/// What is known of a stream that has events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub created_ms: u64,
    pub first_ms: u64,
    pub last_ms: u64,
    pub ingested_ms: u64,
}

impl Selection {
    fn wants(&self, line: &Line<'_>) -> bool {
        let of_stream = match &self.streams {
            Streams::Named(names) => names.iter().any(|name| name == line.stream),
            Streams::Prefix(prefix) => line.stream.starts_with(prefix.as_str()),
        };
        of_stream && self.times.contains(&line.at_ms) && self.pattern.matches(&line.message())
    }

    fn is_ahead(&self, place: Place) -> bool {
        match self.from {
            From::OnwardsFrom(from) => place >= from,
            From::BackwardsFrom(from) => place < from,
        }
    }
}

/// The page of the group in `folder`.
pub(super) fn page(folder: &Path, selection: &Selection) -> io::Result<Page> {
    let mut seen: HashMap<u64, u32> = HashMap::new();
    let (mut found, mut bytes): (BTreeMap<Place, Event>, usize) = (BTreeMap::new(), 0);
    segments::visit(folder, selection.times.start, |line| {
        let nth = seen.entry(line.at_ms).or_insert(0);
        let place = Place { at_ms: line.at_ms, nth: *nth };
        *nth += 1;
        if !selection.is_ahead(place) || !selection.wants(line) {
            return;
        }
        let (stream, text) = (line.stream.into(), line.message().into_owned());
        let event = Event { place, ingested_ms: line.ingested_ms(), stream, text };
        bytes += event.bytes();
        found.insert(place, event);
        // One more than a page has tells that there are more; the others need not be kept.
        loop {
            let farthest = match selection.from {
                From::OnwardsFrom(_) => found.last_entry(),
                From::BackwardsFrom(_) => found.first_entry(),
            };
            let Some(farthest) = farthest else { break };
            let without = bytes - farthest.get().bytes();
            let (place, surplus) = (*farthest.key(), without > PAGE_MAX);
            if found.len() <= selection.limit + 1 && !(surplus && found.len() > 2) {
                break;
            }
            found.remove(&place);
            bytes = without;
        }
    })?;
    Ok(cut(found.into_values().collect(), selection))
}

/// As many as fit on a page, one at least.
fn cut(mut events: Vec<Event>, selection: &Selection) -> Page {
    let backwards = matches!(selection.from, From::BackwardsFrom(_));
    if backwards {
        events.reverse();
    }
    let mut bytes = 0;
    let fits = |event: &&Event| {
        bytes += event.bytes();
        bytes <= PAGE_MAX
    };
    let fitting = events.iter().take(selection.limit).take_while(fits).count().max(1).min(events.len());
    let more = events.len() > fitting;
    events.truncate(fitting);
    if backwards {
        events.reverse();
    }
    Page { events, more }
}

/// The streams of the group in `folder` that have events from `since_ms` on.
pub(super) fn streams(folder: &Path, since_ms: u64) -> io::Result<BTreeMap<String, Span>> {
    let mut found: BTreeMap<String, Span> = BTreeMap::new();
    segments::visit(folder, since_ms, |line| {
        if line.at_ms < since_ms {
            return;
        }
        let (at_ms, ingested_ms) = (line.at_ms, line.ingested_ms());
        match found.get_mut(line.stream) {
            Some(span) => {
                span.first_ms = span.first_ms.min(at_ms);
                span.last_ms = span.last_ms.max(at_ms);
                span.ingested_ms = span.ingested_ms.max(ingested_ms);
            }
            None => {
                let span = Span { created_ms: ingested_ms, first_ms: at_ms, last_ms: at_ms, ingested_ms };
                found.insert(line.stream.to_owned(), span);
            }
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::segments::Segments;

    /// Times, streams and texts, in the order in which they were written.
    fn folder(lines: &[(u64, &str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = Segments::open(folder.path().to_owned(), 1 << 20).unwrap();
        let mut file = Vec::new();
        for (at_ms, stream, text) in lines {
            Line { at_ms: *at_ms, stream, request_id: "", put_ms: Some(100), text: text.as_bytes() }.write(&mut file);
        }
        segments.append(&file).unwrap();
        folder
    }

    fn all(from: From, limit: usize) -> Selection {
        Selection {
            streams: Streams::Prefix(String::new()),
            times: 0..u64::MAX,
            pattern: Pattern::default(),
            from,
            limit,
        }
    }

    fn texts(page: &Page) -> Vec<&str> {
        page.events.iter().map(|event| event.text.as_str()).collect()
    }

    const LINES: [(u64, &str, &str); 5] =
        [(5, "a", "5a"), (3, "b", "3b"), (5, "b", "5b"), (4, "a", "4a"), (9, "a", "9a")];

    #[test]
    fn pages_go_on_where_the_last_ended_both_ways() {
        let folder = folder(&LINES);
        let first = page(folder.path(), &all(From::OnwardsFrom(Place::default()), 3)).unwrap();
        assert_eq!((texts(&first), first.more), (vec!["3b", "4a", "5a"], true));
        let next = first.events[2].place.next();
        let second = page(folder.path(), &all(From::OnwardsFrom(next), 3)).unwrap();
        assert_eq!((texts(&second), second.more), (vec!["5b", "9a"], false));
        let back = page(folder.path(), &all(From::BackwardsFrom(next), 2)).unwrap();
        assert_eq!((texts(&back), back.more), (vec!["4a", "5a"], true));
        let end = page(folder.path(), &all(From::BackwardsFrom(Place::default()), 2)).unwrap();
        assert_eq!((texts(&end), end.more), (vec![], false));
    }

    #[test]
    fn streams_times_and_patterns() {
        let folder = folder(&LINES);
        let with = |change: &dyn Fn(&mut Selection)| {
            let mut selection = all(From::OnwardsFrom(Place::default()), 10);
            change(&mut selection);
            texts(&page(folder.path(), &selection).unwrap()).join(" ")
        };
        assert_eq!(with(&|s| s.streams = Streams::Named(vec!["a".into()])), "4a 5a 9a");
        assert_eq!(with(&|s| s.streams = Streams::Prefix("b".into())), "3b 5b");
        assert_eq!(with(&|s| s.times = 4..9), "4a 5a 5b");
        assert_eq!(with(&|s| s.pattern = Pattern::parse("?3b ?9a").unwrap()), "3b 9a");
    }

    #[test]
    fn a_page_ends_at_a_mebibyte_and_has_one_event_at_least() {
        let long = "x".repeat(700_000);
        let folder = folder(&[(1, "a", &long), (2, "a", &long), (3, "a", "short")]);
        let first = page(folder.path(), &all(From::OnwardsFrom(Place::default()), 10)).unwrap();
        assert_eq!((first.events.len(), first.more), (1, true));
        let next = page(folder.path(), &all(From::OnwardsFrom(first.events[0].place.next()), 10)).unwrap();
        assert_eq!((next.events.len(), next.more), (2, false));
        let last = page(folder.path(), &all(From::BackwardsFrom(Place { at_ms: 9, nth: 0 }), 10)).unwrap();
        assert_eq!((last.events.len(), last.events[1].text.as_str(), last.more), (2, "short", true));
    }

    #[test]
    fn streams_span_their_events() {
        let folder = folder(&LINES);
        let found = streams(folder.path(), 4).unwrap();
        let span = |first_ms, last_ms| Span { created_ms: 100, first_ms, last_ms, ingested_ms: 100 };
        assert_eq!(found, [("a".to_owned(), span(4, 9)), ("b".to_owned(), span(5, 5))].into());
    }
}
