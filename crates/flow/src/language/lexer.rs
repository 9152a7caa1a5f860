//! Text to tokens. There are no reserved words: what `set` or `by` means is the place's to say, so that every name that
//! Dandelion takes is a name here.

use std::ops::Range;

use super::diagnostic::Findings;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Word,
    Text(String),
    Number(u64),
    /// One of `( ) { } , ; = :`.
    Sign(char),
    /// `=>`.
    Arrow,
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lexeme {
    pub token: Token,
    pub span: Range<usize>,
}

/// All tokens of `text`, the last of which is [`Token::End`]. What is no token is said and left out.
pub fn lex(text: &str, findings: &mut Findings<'_>) -> Vec<Lexeme> {
    // Some editors begin texts with a mark of their encoding.
    let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut lexer = Lexer { text, at, findings };
    let mut lexemes = Vec::new();
    loop {
        lexer.skip();
        let start = lexer.at;
        let Some(first) = lexer.peek() else { break };
        let token = lexer.token(first);
        lexemes.extend(token.map(|token| Lexeme { token, span: start..lexer.at }));
    }
    lexemes.push(Lexeme { token: Token::End, span: text.len()..text.len() });
    lexemes
}

struct Lexer<'a, 'f, 't> {
    text: &'a str,
    at: usize,
    findings: &'f mut Findings<'t>,
}

impl Lexer<'_, '_, '_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Over white space and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            let rest = &rest[blank..];
            let comment = if rest.starts_with("//") || rest.starts_with('#') {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(end) => end + 2,
                    None => {
                        let (start, all) = (self.at + blank, rest.len());
                        self.findings.error(&(start..start + 2), "this comment does not end").hint("end it with `*/`");
                        all
                    }
                }
            } else {
                0
            };
            self.at += blank + comment;
            if blank + comment == 0 {
                return;
            }
        }
    }

    fn token(&mut self, first: char) -> Option<Token> {
        match first {
            '=' if self.rest().starts_with("=>") => {
                self.at += 2;
                Some(Token::Arrow)
            }
            '(' | ')' | '{' | '}' | ',' | ';' | '=' | ':' => {
                self.at += 1;
                Some(Token::Sign(first))
            }
            '"' => self.string(),
            '0'..='9' => self.number(),
            _ if is_first(first) => {
                self.at += self.rest().find(|c| !is_later(c)).unwrap_or(self.rest().len());
                Some(Token::Word)
            }
            _ => {
                let span = self.at..self.at + first.len_utf8();
                self.findings
                    .error(&span, format!("{first:?} has no meaning here"))
                    .hint("names have letters, digits, `_`, `-` and `$`; texts stand in double quotes");
                self.at = span.end;
                None
            }
        }
    }

    fn number(&mut self) -> Option<Token> {
        let start = self.at;
        self.at += self.rest().find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
        match self.text[start..self.at].parse() {
            Ok(number) => Some(Token::Number(number)),
            Err(_) => {
                self.findings
                    .error(&(start..self.at), "this is no whole number below 2^64")
                    .hint("a name begins with a letter");
                Some(Token::Number(0))
            }
        }
    }

    fn string(&mut self) -> Option<Token> {
        let start = self.at;
        self.at += 1;
        let mut value = String::new();
        loop {
            let Some(c) = self.peek() else {
                self.findings.error(&(start..start + 1), "this text does not end").hint("end it with `\"`");
                return Some(Token::Text(value));
            };
            self.at += c.len_utf8();
            match c {
                '"' => return Some(Token::Text(value)),
                '\\' => value.extend(self.escape()),
                _ => value.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let start = self.at - 1;
        let c = self.peek();
        self.at += c.map_or(0, char::len_utf8);
        let plain = match c? {
            'n' => Some('\n'),
            't' => Some('\t'),
            'r' => Some('\r'),
            '0' => Some('\0'),
            c @ ('"' | '\\') => Some(c),
            'u' => self.code_point(),
            _ => None,
        };
        if plain.is_none() {
            self.findings
                .error(&(start..self.at), "no such escape")
                .hint(r#"there are \n \t \r \0 \" \\ and \u{…} with the number of a character"#);
        }
        plain
    }

    fn code_point(&mut self) -> Option<char> {
        let rest = self.rest().strip_prefix('{')?;
        // The largest has six digits: an end that is further away is another one's.
        let digits = &rest[..rest.bytes().take(7).position(|byte| byte == b'}')?];
        let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
        self.at += digits.len() + 2;
        Some(c)
    }
}

fn is_first(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn is_later(c: char) -> bool {
    is_first(c) || c.is_alphanumeric() || c == '-'
}
