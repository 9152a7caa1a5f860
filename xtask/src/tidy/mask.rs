//! Two views of a source text, byte for byte as long as the text itself: `code` has comments and literals blanked,
//! `comments` has all else blanked. A rule that searches a view cannot be fooled by a brace in a string or a word in a
//! comment, and an offset in a view is an offset in the text.
//!
//! It does not tokenise: a number, an identifier and an operator are all code.

pub struct Masked {
    pub code: String,
    pub comments: String,
}

/// What a language other than Rust calls comments and strings.
pub struct Syntax {
    comment: &'static str,
    /// The comment sign opens a comment only after a blank (`$#` in a shell is none).
    spaced: bool,
    block: Option<(&'static str, &'static str)>,
    /// Strings that may span lines; the others end with their line, so that a stray quote harms one line only.
    long: &'static [&'static str],
}

pub const PYTHON: Syntax = Syntax { comment: "#", spaced: false, block: None, long: &["\"\"\"", "'''"] };
pub const JAVASCRIPT: Syntax = Syntax { comment: "//", spaced: false, block: Some(("/*", "*/")), long: &["`"] };
/// Shells, TOML, YAML and make.
pub const HASH: Syntax = Syntax { comment: "#", spaced: true, block: None, long: &["\"\"\""] };

pub fn rust(text: &str) -> Masked {
    let mut painter = Painter::new(text);
    while let Some(&first) = painter.rest().first() {
        let rest = painter.rest();
        let (length, part) = if rest.starts_with(b"//") {
            (line_length(rest), Part::Comment)
        } else if rest.starts_with(b"/*") {
            (nested_comment_length(rest), Part::Comment)
        } else if let (false, Some(length)) = (painter.in_word(), raw_string_length(rest)) {
            (length, Part::Literal)
        } else if first == b'"' {
            (quoted_length(rest, true), Part::Literal)
        } else {
            char_length(rest).map_or((1, Part::Code), |length| (length, Part::Literal))
        };
        painter.paint(length, part);
    }
    painter.finish()
}

pub fn script(text: &str, syntax: &Syntax) -> Masked {
    let mut painter = Painter::new(text);
    while let Some(&first) = painter.rest().first() {
        let rest = painter.rest();
        let comments_here = rest.starts_with(syntax.comment.as_bytes()) && (!syntax.spaced || painter.after_blank());
        let block = syntax.block.filter(|(open, _)| rest.starts_with(open.as_bytes()));
        let long = syntax.long.iter().find(|quote| rest.starts_with(quote.as_bytes()));
        let (length, part) = if comments_here {
            (line_length(rest), Part::Comment)
        } else if let Some((open, close)) = block {
            (delimited_length(rest, open, close), Part::Comment)
        } else if let Some(quote) = long {
            (delimited_length(rest, quote, quote), Part::Literal)
        } else if first == b'"' || first == b'\'' {
            (quoted_length(rest, false), Part::Literal)
        } else {
            (1, Part::Code)
        };
        painter.paint(length, part);
    }
    painter.finish()
}

enum Part {
    Code,
    Comment,
    Literal,
}

struct Painter<'a> {
    source: &'a [u8],
    at: usize,
    code: Vec<u8>,
    comments: Vec<u8>,
}

impl<'a> Painter<'a> {
    fn new(text: &'a str) -> Self {
        let blank: Vec<u8> = text.bytes().map(|byte| if byte == b'\n' { byte } else { b' ' }).collect();
        Self { source: text.as_bytes(), at: 0, code: blank.clone(), comments: blank }
    }

    fn rest(&self) -> &'a [u8] {
        &self.source[self.at..]
    }

    fn in_word(&self) -> bool {
        self.at > 0 && is_word(self.source[self.at - 1])
    }

    fn after_blank(&self) -> bool {
        self.at == 0 || self.source[self.at - 1].is_ascii_whitespace()
    }

    fn paint(&mut self, length: usize, part: Part) {
        let span = self.at..(self.at + length).min(self.source.len());
        self.at = span.end;
        match part {
            Part::Code => self.code[span.clone()].copy_from_slice(&self.source[span]),
            Part::Comment => self.comments[span.clone()].copy_from_slice(&self.source[span]),
            Part::Literal => {}
        }
    }

    fn finish(self) -> Masked {
        // Parts begin and end at ASCII delimiters, so no character is ever cut in two.
        let text = |bytes| String::from_utf8(bytes).expect("parts end between characters");
        Masked { code: text(self.code), comments: text(self.comments) }
    }
}

pub fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
}

fn delimited_length(rest: &[u8], open: &str, close: &str) -> usize {
    find(&rest[open.len()..], close.as_bytes()).map_or(rest.len(), |at| open.len() + at + close.len())
}

fn nested_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// `r"…"`, `br#"…"#` and the like: ends at the quote that is followed by as many hashes as it opened with.
fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| rest.starts_with(prefix.as_bytes()))?.len();
    let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    let body = prefix + hashes + 1;
    (rest.get(body - 1) == Some(&b'"')).then(|| {
        let close = [b"\"", "#".repeat(hashes).as_bytes()].concat();
        find(&rest[body..], &close).map_or(rest.len(), |at| body + at + close.len())
    })
}

fn quoted_length(rest: &[u8], spans_lines: bool) -> usize {
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\n' if !spans_lines => return at,
            _ if byte == rest[0] => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a character literal; none for a lifetime or a label.
fn char_length(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'\'', b'\\', _, tail @ ..] => tail.iter().position(|&byte| byte == b'\'').map(|at| at + 4),
        [b'\'', first, ..] if *first != b'\'' => {
            let width = if first.is_ascii() { 1 } else { first.leading_ones() as usize };
            (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_literals_and_comments_leave_the_code() {
        let text = "let a = \"{ // \\\" }\"; /* { /* nested } */ */ let b = r#\"\" { \"#; // fn\nlet c = '{'; let d = b'\\''; 'x: loop {}";
        let masked = rust(text);
        assert_eq!(masked.code.len(), text.len());
        let squeezed: String = masked.code.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed, "let a = ; let b = ; let c = ; let d = b ; 'x: loop {}");
        assert_eq!(masked.comments.split_whitespace().collect::<Vec<_>>().join(" "), "/* { /* nested } */ */ // fn");
    }

    #[test]
    fn rust_lifetimes_raw_identifiers_and_wide_characters_stay_apart() {
        let masked = rust("fn f<'a>(x: &'a str, r#type: char) { g('é', '\\u{1F600}', for_r\"q\") }");
        assert_eq!(masked.code.matches(['{', '}']).count(), 2);
        assert!(masked.code.contains("<'a>(x: &'a str, r#type: char)"));
        assert!(masked.code.contains("for_r"));
    }

    #[test]
    fn scripts_have_their_own_comments_and_strings() {
        let python = script("x = '''\nsleep(1)\n''' # sleep(2)\ny = \"it's\"; sleep(3)\n", &PYTHON);
        assert_eq!(python.code.matches("sleep").count(), 1);
        assert!(python.code.contains("sleep(3)"));
        let shell = script("echo $# 'sleep 1' # sleep 2\nsleep 3\n", &HASH);
        assert_eq!(shell.code.matches("sleep").count(), 1);
        let javascript = script("const a = `\n{` /* { */ // {\n", &JAVASCRIPT);
        assert_eq!(javascript.code.trim_end(), "const a =");
    }

    #[test]
    fn a_stray_quote_in_a_script_harms_one_line_only() {
        assert!(script("/it's/.test(x)\nsleep(1)", &JAVASCRIPT).code.contains("sleep(1)"));
    }
}
