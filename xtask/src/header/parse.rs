//! What the C interface consists of, read from the lines of its files.

use anyhow::{Context, Result, bail};

/// Something that the header declares, with its comment.
#[derive(Debug)]
pub enum Item {
    Constant { name: String, value: String, doc: String },
    Opaque { name: String, doc: String },
    Struct { name: String, doc: String, fields: Vec<Field> },
    Call(Call),
}

/// A field or an argument: its type is Rust's.
#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub kind: String,
    pub doc: String,
}

#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub arguments: Vec<Field>,
    /// `()` where there is none.
    pub answer: String,
    pub doc: String,
    /// What its caller promises.
    pub promises: String,
}

impl Item {
    pub fn call(&self) -> Option<&Call> {
        if let Self::Call(call) = self { Some(call) } else { None }
    }
}

/// The items of a file, in its order.
pub fn items(text: &str) -> Result<Vec<Item>> {
    let (mut items, mut comment, mut exported) = (Vec::new(), String::new(), false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim();
        if let Some(text) = code.strip_prefix("///") {
            comment.push_str(text.trim_start());
            comment.push('\n');
            continue;
        }
        if code.starts_with("#[") {
            exported |= code == "#[unsafe(no_mangle)]" || code == "#[repr(C)]";
            continue;
        }
        let (doc, is_exported) = (std::mem::take(&mut comment), std::mem::take(&mut exported));
        if let Some((name, value, doc)) = status(code) {
            items.push(Item::Constant { name, value, doc });
        } else if let Some(rest) = code.strip_prefix("pub const ") {
            items.push(constant(rest, doc)?);
        } else if let Some(name) = code.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "}").collect();
            items.push(structure(name, doc, is_exported.then_some(&body[..]))?);
        } else if is_exported {
            let mut head = code.to_owned();
            while !head.ends_with('{') {
                head.push_str(lines.next().context("a function has a body")?.trim());
            }
            items.push(Item::Call(call(&head, &doc)?));
        }
    }
    Ok(items)
}

/// `NAME = -1, "text";`, as statuses are listed.
fn status(code: &str) -> Option<(String, String, String)> {
    let (name, rest) = code.strip_suffix("\";")?.split_once(" = ")?;
    let (value, text) = rest.split_once(", \"")?;
    name.starts_with("XPU_").then(|| (name.to_owned(), value.to_owned(), text.to_owned()))
}

/// `NAME: c_int = 1;`
fn constant(rest: &str, doc: String) -> Result<Item> {
    let (name, value) = rest.strip_suffix(';').and_then(|rest| rest.split_once(": c_int = ")).context("an int")?;
    Ok(Item::Constant { name: name.to_owned(), value: value.to_owned(), doc })
}

fn structure(name: &str, doc: String, body: Option<&[&str]>) -> Result<Item> {
    let name = snake(name);
    let Some(body) = body else { return Ok(Item::Opaque { name, doc }) };
    let (mut fields, mut comment) = (Vec::new(), String::new());
    for line in body {
        if let Some(text) = line.trim().strip_prefix("/// ") {
            comment.push_str(text);
            continue;
        }
        let line =
            line.trim().strip_prefix("pub ").and_then(|line| line.strip_suffix(',')).context("a public field")?;
        fields.push(field(line, std::mem::take(&mut comment))?);
    }
    Ok(Item::Struct { name, doc, fields })
}

/// `pub unsafe extern "C" fn NAME(a: T, b: U) -> V {`
fn call(head: &str, doc: &str) -> Result<Call> {
    let (_, rest) = head.split_once("extern \"C\" fn ").context("an exported function")?;
    let (name, rest) = rest.split_once('(').context("a function has arguments")?;
    let (arguments, rest) = rest.rsplit_once(')').context("arguments end")?;
    let answer = rest.trim().trim_end_matches('{').trim().strip_prefix("-> ").unwrap_or("()").to_owned();
    let arguments = arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty());
    let arguments = arguments.map(|argument| field(argument, String::new())).collect::<Result<_>>()?;
    let (doc, promises) = doc.split_once("# Safety").unwrap_or((doc, ""));
    let (doc, promises) = (doc.trim().to_owned(), promises.trim().to_owned());
    if doc.is_empty() {
        bail!("{name} has no comment");
    }
    Ok(Call { name: name.to_owned(), arguments, answer, doc, promises })
}

fn field(text: &str, doc: String) -> Result<Field> {
    let (name, kind) = text.split_once(": ").with_context(|| format!("`{text}` has a type"))?;
    Ok(Field { name: name.to_owned(), kind: kind.to_owned(), doc })
}

/// `XfifoLimits` as C writes it.
pub fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_with_its_comment() {
        let text = "/// Does it.\n///\n/// # Safety\n/// `a` is a thing.\n#[unsafe(no_mangle)]\n\
            pub unsafe extern \"C\" fn do_it(\n    a: *const Xpu,\n    b: u64,\n) -> c_int {\n}\n";
        let items = items(text).unwrap();
        let call = items[0].call().unwrap();
        assert_eq!((call.name.as_str(), call.answer.as_str()), ("do_it", "c_int"));
        assert_eq!((call.doc.as_str(), call.promises.as_str()), ("Does it.", "`a` is a thing."));
        let arguments: Vec<_> = call.arguments.iter().map(|a| (a.name.as_str(), a.kind.as_str())).collect();
        assert_eq!(arguments, [("a", "*const Xpu"), ("b", "u64")]);
    }

    #[test]
    fn statuses_constants_and_structs_are_read() {
        let text = "    XPU_E = -1, \"bad\";\n/// One.\npub const XPU_A: c_int = 1;\n/// Hidden.\npub struct Xpu {\n    \
            a: u8,\n}\n#[repr(C)]\npub struct XfifoOne {\n    /// It.\n    pub a: u64,\n}\n";
        let items = items(text).unwrap();
        assert!(
            matches!(&items[0], Item::Constant { name, value, doc } if name == "XPU_E" && value == "-1" && doc == "bad")
        );
        assert!(matches!(&items[1], Item::Constant { value, .. } if value == "1"));
        assert!(matches!(&items[2], Item::Opaque { name, .. } if name == "xpu"));
        assert!(
            matches!(&items[3], Item::Struct { name, fields, .. } if name == "xfifo_one" && fields[0].doc == "It.")
        );
    }
}
