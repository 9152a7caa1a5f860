//! Lists in pages: `Marker` and `MaxItems` in, `NextMarker` out. A marker is the key of the last item, in base64; items are
//! in the order of their keys, so that what comes and goes between two pages shifts nothing.

use super::fault::Fault;
use crate::route::Exchange;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// As many items as AWS puts on a page, whatever was asked for.
const PAGE: usize = 50;

/// Which part of a list is wanted.
pub struct Page {
    after: String,
    limit: usize,
}

impl Page {
    /// What a request asks for. The model has checked it.
    pub fn of(exchange: &Exchange) -> Result<Self, Fault> {
        let limit = exchange.query("MaxItems").and_then(|text| text.parse().ok()).unwrap_or(PAGE).clamp(1, PAGE);
        let after = match exchange.query("Marker").filter(|marker| !marker.is_empty()) {
            None => Some(String::new()),
            Some(marker) => URL_SAFE_NO_PAD.decode(marker.as_bytes()).ok().and_then(|key| String::from_utf8(key).ok()),
        };
        let after = after.ok_or_else(|| Fault::invalid_parameter("Invalid pagination marker"))?;
        Ok(Self { after, limit })
    }

    /// How far a list has to be looked through from the last page's end: an item more than the page has says that there
    /// is another page, and the last page's own last item may be among them.
    pub fn reach(&self) -> usize {
        self.limit + 2
    }

    /// The key of the last page's last item; empty for the first page.
    pub fn after(&self) -> &str {
        &self.after
    }

    /// The page of a list whose items come with their keys, in their order.
    pub fn cut<T>(&self, member: &str, items: impl Iterator<Item = (String, T)>, show: impl Fn(T) -> Value) -> Value {
        let mut items = items.filter(|(key, _)| *key > self.after);
        let (mut shown, mut last) = (Vec::new(), String::new());
        for (key, item) in items.by_ref().take(self.limit) {
            shown.push(show(item));
            last = key;
        }
        let mut page = json!({ (member): shown });
        if items.next().is_some() {
            page["NextMarker"] = URL_SAFE_NO_PAD.encode(last).into();
        }
        page
    }
}
