//! The form of sets for people and for handlers:
//!
//! ```json
//! {"sets": {"Words": ["a bare string", {"name": "x", "key": 7, "text": "…"}, {"data": "<base64>"}, {"json": {"any": 1}}]}}
//! ```
//!
//! An item's name is its place in the set and its key is 0 where it gives none. What is written has `name`, `key`, and
//! `text` where the data is UTF-8, else `data`. Not here: bodies that are no sets; what these mean is the caller's to say.

use std::borrow::Cow;
use std::fmt::{self, Formatter};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde_json::value::RawValue;

use crate::limits::Room;
use crate::{Item, Limits, Set, Sets, name};

#[derive(Debug, thiserror::Error)]
#[error(
    "the body is not sets ({0}); what is asked for is {{\"sets\": {{\"NAME\": [item, …]}}}}, where an item is a string or has one of `text`, `json`, `data` (base64)"
)]
pub struct JsonError(#[from] serde_json::Error);

/// Reads `{"sets": …}`.
pub fn decode(body: &[u8], limits: Limits) -> Result<Sets<Bytes>, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let sets = Whole(Room::new(limits)).deserialize(&mut reader)?;
    reader.end()?;
    Ok(sets)
}

/// Whether `body` is an object whose first member is `sets`: meant as sets, however wrong the rest of it may be.
pub fn is_sets(body: &[u8]) -> bool {
    let rest = body.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    rest.is_some_and(|rest| rest.starts_with(b"\"sets\""))
}

/// Writes `{"sets": …}`.
pub fn encode<D: AsRef<[u8]>>(sets: &[Set<D>]) -> Vec<u8> {
    let mut out = Vec::new();
    // Nothing of it can fail to be JSON, and a Vec takes everything.
    serde_json::to_writer(&mut out, &Body(sets)).expect("sets are JSON");
    out
}

/// Writes what [`encode`] does piece by piece: for what is too much to be in memory twice.
pub fn pieces<D: AsRef<[u8]>>(sets: Sets<D>) -> impl Iterator<Item = Vec<u8>> + use<D> {
    Pieces { sets: sets.into_iter(), items: None, lead: Some("{\"sets\":{") }
}

/// About as many bytes, unless one item has more.
const PIECE: usize = 64 << 10;

struct Pieces<D> {
    sets: std::vec::IntoIter<Set<D>>,
    /// What is left of the set that was begun.
    items: Option<std::vec::IntoIter<Item<D>>>,
    /// What precedes whatever comes next; none when all is written.
    lead: Option<&'static str>,
}

impl<D: AsRef<[u8]>> Iterator for Pieces<D> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < PIECE
            && let Some(lead) = self.lead
        {
            match &mut self.items {
                Some(items) => match items.next() {
                    Some(item) => {
                        out.extend_from_slice(lead.as_bytes());
                        serde_json::to_writer(&mut out, &ItemOut(&item)).expect("an item is JSON");
                        self.lead = Some(",");
                    }
                    None => {
                        out.push(b']');
                        (self.items, self.lead) = (None, Some(","));
                    }
                },
                None => self.begin(lead, &mut out),
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

impl<D> Pieces<D> {
    /// The next set, or the end of all.
    fn begin(&mut self, lead: &str, out: &mut Vec<u8>) {
        match self.sets.next() {
            Some(set) => {
                out.extend_from_slice(lead.as_bytes());
                serde_json::to_writer(&mut *out, &set.name).expect("a name is JSON");
                out.extend_from_slice(b":[");
                (self.items, self.lead) = (Some(set.items.into_iter()), Some(""));
            }
            None => {
                // Without any set its beginning is still to be written.
                let is_first = lead.len() > 1;
                out.extend_from_slice(if is_first { lead.as_bytes() } else { b"" });
                out.extend_from_slice(b"}}");
                self.lead = None;
            }
        }
    }
}

/// Sets that are written as `{"sets": …}`, to be part of something larger.
pub struct Body<'a, D>(pub &'a [Set<D>]);

impl<D: AsRef<[u8]>> Serialize for Body<'_, D> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut body = out.serialize_struct("Body", 1)?;
        body.serialize_field("sets", &SetsOut(self.0))?;
        body.end()
    }
}

struct SetsOut<'a, D>(&'a [Set<D>]);

impl<D: AsRef<[u8]>> Serialize for SetsOut<'_, D> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(Some(self.0.len()))?;
        for set in self.0 {
            map.serialize_entry(&set.name, &ItemsOut(&set.items))?;
        }
        map.end()
    }
}

struct ItemsOut<'a, D>(&'a [Item<D>]);

impl<D: AsRef<[u8]>> Serialize for ItemsOut<'_, D> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut list = out.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            list.serialize_element(&ItemOut(item))?;
        }
        list.end()
    }
}

struct ItemOut<'a, D>(&'a Item<D>);

impl<D: AsRef<[u8]>> Serialize for ItemOut<'_, D> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut item = out.serialize_struct("Item", 3)?;
        item.serialize_field("name", &self.0.name)?;
        item.serialize_field("key", &self.0.key)?;
        match std::str::from_utf8(self.0.data.as_ref()) {
            Ok(text) => item.serialize_field("text", text)?,
            Err(_) => item.serialize_field("data", &BASE64.encode(self.0.data.as_ref()))?,
        }
        item.end()
    }
}

/// The object around the sets. Counts while it reads, so that a short text cannot become much memory.
struct Whole(Room);

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = Sets<Bytes>;

    fn deserialize<R: de::Deserializer<'de>>(self, reader: R) -> Result<Self::Value, R::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole {
    type Value = Sets<Bytes>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `sets`")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut sets = None;
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match field.as_ref() {
                "sets" if sets.is_none() => sets = Some(map.next_value_seed(SetsIn(&mut self.0))?),
                "sets" => return Err(de::Error::duplicate_field("sets")),
                other => return Err(de::Error::unknown_field(other, &["sets"])),
            }
        }
        sets.ok_or_else(|| de::Error::missing_field("sets"))
    }
}

struct SetsIn<'a>(&'a mut Room);

impl<'de> DeserializeSeed<'de> for SetsIn<'_> {
    type Value = Sets<Bytes>;

    fn deserialize<R: de::Deserializer<'de>>(self, reader: R) -> Result<Self::Value, R::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SetsIn<'_> {
    type Value = Sets<Bytes>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list of items under the name of each set")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut sets: Sets<Bytes> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            self.0.set().map_err(de::Error::custom)?;
            name::check(&name).map_err(de::Error::custom)?;
            if sets.iter().any(|set| set.name == name) {
                return Err(de::Error::custom(format_args!("set '{name}' is there twice")));
            }
            let items = map.next_value_seed(ItemsIn(self.0))?;
            sets.push(Set { name, items });
        }
        Ok(sets)
    }
}

struct ItemsIn<'a>(&'a mut Room);

impl<'de> DeserializeSeed<'de> for ItemsIn<'_> {
    type Value = Vec<Item<Bytes>>;

    fn deserialize<R: de::Deserializer<'de>>(self, reader: R) -> Result<Self::Value, R::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsIn<'_> {
    type Value = Vec<Item<Bytes>>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(ItemIn { index: items.len(), room: self.0 })? {
            items.push(item);
        }
        Ok(items)
    }
}

struct ItemIn<'a> {
    index: usize,
    room: &'a mut Room,
}

impl ItemIn<'_> {
    fn finish<E: de::Error>(self, name: Option<String>, key: u64, data: Bytes) -> Result<Item<Bytes>, E> {
        let name = name.unwrap_or_else(|| self.index.to_string());
        name::check(&name).map_err(de::Error::custom)?;
        self.room.item().map_err(de::Error::custom)?;
        self.room.bytes(data.len() as u64).map_err(de::Error::custom)?;
        Ok(Item { name, key, data })
    }
}

impl<'de> DeserializeSeed<'de> for ItemIn<'_> {
    type Value = Item<Bytes>;

    fn deserialize<R: de::Deserializer<'de>>(self, reader: R) -> Result<Self::Value, R::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemIn<'_> {
    type Value = Item<Bytes>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an object with one of `text`, `json`, `data`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.finish(None, 0, Bytes::copy_from_slice(text.as_bytes()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut name, mut key, mut data) = (None, None, None);
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            let taken = match field.as_ref() {
                "name" => name.replace(map.next_value::<String>()?).is_some(),
                "key" => key.replace(map.next_value::<u64>()?).is_some(),
                "text" => data.replace(Bytes::from(map.next_value::<String>()?)).is_some(),
                "json" => {
                    // As it was sent: bytes that a function compares should not depend on who passed them on.
                    let value = map.next_value::<Box<RawValue>>()?;
                    data.replace(Bytes::from(Box::<str>::from(value).into_boxed_bytes())).is_some()
                }
                "data" => {
                    let text = map.next_value::<Cow<'de, str>>()?;
                    let bytes = BASE64.decode(text.as_bytes()).map_err(|error| {
                        de::Error::custom(format_args!("`data` of item {} is not base64: {error}", self.index))
                    })?;
                    data.replace(Bytes::from(bytes)).is_some()
                }
                other => return Err(de::Error::unknown_field(other, &["name", "key", "text", "json", "data"])),
            };
            if taken {
                return Err(de::Error::custom(format_args!(
                    "item {} has `{field}` and another of its kind: one of `text`, `json`, `data`, and nothing twice",
                    self.index
                )));
            }
        }
        let data = data
            .ok_or_else(|| de::Error::custom(format_args!("item {} has none of `text`, `json`, `data`", self.index)))?;
        self.finish(name, key.unwrap_or(0), data)
    }
}
