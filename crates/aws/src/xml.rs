//! As much of XML as answers of S3 and SNS need: the text of the first element of a name, and all elements of one.
//! No attributes, no element within another of its name.

/// The text of the first element of this name, its escapes resolved.
pub fn text(xml: &str, element: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{element}>"))?;
    let (text, _) = rest.split_once(&format!("</{element}>"))?;
    let escapes = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(escapes.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain)))
}

/// What is within each element of this name, as it is written.
pub fn elements<'a>(xml: &'a str, element: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, begun) = rest.split_once(&open)?;
        let (within, behind) = begun.split_once(&close)?;
        rest = behind;
        Some(within)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_elements() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>a &amp;lt; b</Message></Error>";
        assert_eq!(
            (text(xml, "Code"), text(xml, "Message")),
            (Some("NoSuchKey".to_owned()), Some("a &lt; b".to_owned()))
        );
        assert_eq!((text(xml, "Key"), text("<Code>", "Code")), (None, None));
        let list = "<L><C><K>a</K></C><C><K>b</K></C><C><K>c</K></L>";
        assert_eq!(elements(list, "C").collect::<Vec<_>>(), ["<K>a</K>", "<K>b</K>"]);
    }
}
