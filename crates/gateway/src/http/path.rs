//! Paths and queries as they come over the wire: percent-encoded.

use std::borrow::Cow;

/// What a path's segment means; nothing when its encoding is broken or it is no text.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    decode_bytes(text, false)
}

/// What a query's name or value means: as in a form, a plus sign is a space.
pub fn decode_query(text: &str) -> Option<Cow<'_, str>> {
    decode_bytes(text, true)
}

fn decode_bytes(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    let is_plain = |byte: u8| byte != b'%' && !(plus_is_space && byte == b'+');
    if text.bytes().all(is_plain) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => (digit(bytes.next()?)? << 4) | digit(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            _ => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Names and values of a query, decoded, in their order. What cannot be decoded is left out.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.filter_map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decode_query(name)?, decode_query(value)?))
    })
}

/// The first value of this name in a query.
pub fn query<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    pairs(query?).find(|(known, _)| known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        assert_eq!(decode("arn%3Aaws%3alambda").as_deref(), Some("arn:aws:lambda"));
        assert_eq!(decode("a+b").as_deref(), Some("a+b"));
        assert_eq!(decode_query("a+b%2B").as_deref(), Some("a b+"));
        assert_eq!(decode("%C3%A4").as_deref(), Some("ä"));
        for broken in ["%", "%4", "%4g", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn queries() {
        assert_eq!(query(Some("a=1&Qualifier=%24LATEST&a=2"), "Qualifier").as_deref(), Some("$LATEST"));
        assert_eq!(query(Some("a=1&a=2"), "a").as_deref(), Some("1"));
        assert_eq!(query(Some("follow"), "follow").as_deref(), Some(""));
        assert_eq!(query(None, "a"), None);
        assert_eq!(pairs("&&a&=b&").count(), 2);
    }
}
