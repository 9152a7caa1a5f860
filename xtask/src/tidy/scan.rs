//! Finding items in masked Rust code: words, blocks and functions by counting brackets.
//!
//! It is no parser: it needs code that compiles and is formatted, which other checks make sure of.

use std::ops::Range;

use super::mask::is_word;

/// Every word (identifier or keyword) with its offset, in order.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = code.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        at += bytes[at..].iter().position(|&byte| is_word(byte))?;
        let length = bytes[at..].iter().take_while(|&&byte| is_word(byte)).count();
        let word = (at, &code[at..at + length]);
        at += length;
        Some(word)
    })
}

/// The block that belongs to the item whose head begins at `from`: from its `{` to past its `}`. None for an item that
/// ends with `;`.
pub fn block(code: &str, from: usize) -> Option<Range<usize>> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(at..closing(code, at)),
            _ => {}
        }
    }
    None
}

fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// A function with a body: its name and its extent from `fn` to past the closing brace.
#[derive(Debug, PartialEq)]
pub struct Function<'a> {
    pub name: &'a str,
    pub extent: Range<usize>,
}

pub fn functions(code: &str) -> impl Iterator<Item = Function<'_>> {
    let named = words(code).zip(words(code).skip(1)).filter(|((_, word), _)| *word == "fn");
    named.filter_map(|((at, _), (name_at, name))| {
        // `fn(u8)` is a type and `fn $name` a macro's pattern: nothing but blanks lies between `fn` and a name.
        let is_named = code[at + 2..name_at].bytes().all(|byte| byte.is_ascii_whitespace());
        let body = block(code, name_at).filter(|_| is_named)?;
        Some(Function { name, extent: at..body.end })
    })
}

/// The blocks that exist only in tests: what follows `#[cfg(test)]` or `#[cfg(all(test, …))]`.
pub fn test_blocks(code: &str) -> Vec<Range<usize>> {
    let marks = code.match_indices("#[cfg(").filter_map(|(at, _)| {
        let end = at + code[at..].find(']')?;
        let has = |name| words(&code[at..end]).any(|(_, word)| word == name);
        (has("test") && !has("not")).then_some(end + 1)
    });
    marks.filter_map(|end| block(code, end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_with_their_bodies_only() {
        let code = "trait T { fn a(&self); fn b(&self) { fn c() {} } }\ntype F = fn(u8) -> u8;\nfn d(x: [u8; { 4 }]) -> u8 { 1 }";
        let names: Vec<&str> = functions(code).map(|function| function.name).collect();
        assert_eq!(names, ["b", "c", "d"]);
        let last = functions(code).last().expect("d has a body");
        assert!(code[last.extent].ends_with("{ 1 }"));
    }

    #[test]
    fn macro_patterns_are_no_functions() {
        assert_eq!(functions("macro_rules! m { ($n:ident) => { fn $n() {} } }").count(), 0);
    }

    #[test]
    fn test_blocks_cover_test_modules_and_nothing_else() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\n#[cfg(all(test, unix))]\nmod more { }\n#[cfg(test)]\nmod file;\n#[cfg(not(test))] mod c { }";
        let blocks = test_blocks(code);
        assert_eq!(blocks.len(), 2);
        assert_eq!(&code[blocks[0].clone()], "{ fn b() {} }");
    }
}
