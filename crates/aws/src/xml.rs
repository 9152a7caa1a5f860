//! As much of XML as answers of S3 and SNS need: the text of the first element of a name. No attributes, no nesting.

/// The text of the first element of this name, its escapes resolved.
pub fn text(xml: &str, element: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{element}>"))?;
    let (text, _) = rest.split_once(&format!("</{element}>"))?;
    let escapes = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(escapes.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>a &amp;lt; b</Message></Error>";
        assert_eq!(
            (text(xml, "Code"), text(xml, "Message")),
            (Some("NoSuchKey".to_owned()), Some("a &lt; b".to_owned()))
        );
        assert_eq!((text(xml, "Key"), text("<Code>", "Code")), (None, None));
    }
}
