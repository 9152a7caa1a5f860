//! The header: constants, types and calls in C.

use super::parse::{Call, Field, Item, snake};
use anyhow::{Result, bail};
use std::fmt::Write;

const WIDTH: usize = 116;

pub fn header(items: &[Item]) -> Result<String> {
    let mut out = String::from(
        "/*\n * XPUcalls of Lichen, for C. Link with -llichen_xpu. A man page per call is in crates/capi/man.\n *\n * Made by \
         `cargo xtask header` from crates/capi/src: change it there.\n */\n#ifndef LICHEN_XPU_H\n#define LICHEN_XPU_H\n\n\
         #include <stddef.h>\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n",
    );
    for item in items {
        match item {
            Item::Constant { name, value, doc } => {
                let value = if value.starts_with('-') { format!("({value})") } else { value.clone() };
                write!(out, "\n{}#define {name} {value}\n", comment(doc, ""))?;
            }
            Item::Opaque { name, doc } => write!(out, "\n{}struct {name};\n", comment(doc, ""))?,
            Item::Struct { name, doc, fields } => {
                write!(out, "\n{}struct {name} {{\n", comment(doc, ""))?;
                for field in fields {
                    writeln!(out, "{}    {};", comment(&field.doc, "    "), declared(field)?)?;
                }
                out.push_str("};\n");
            }
            Item::Call(call) => write!(out, "\n{}{}\n", comment(&call.doc, ""), prototype(call)?)?,
        }
    }
    out.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    Ok(out)
}

/// `int name(struct xpu *xpu, uint64_t fifo);`
pub fn prototype(call: &Call) -> Result<String> {
    let arguments = call.arguments.iter().map(declared).collect::<Result<Vec<_>>>()?;
    let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
    let answer = kind(&call.answer)?;
    let space = if answer.ends_with('*') { "" } else { " " };
    let line = format!("{answer}{space}{}({arguments});", call.name);
    if line.len() <= WIDTH {
        return Ok(line);
    }
    let margin = " ".repeat(line.find('(').unwrap_or(0) + 1);
    Ok(fill(&line, WIDTH - 4).join(&format!("\n{margin}")))
}

fn declared(field: &Field) -> Result<String> {
    let kind = kind(&field.kind)?;
    let space = if kind.ends_with('*') { "" } else { " " };
    Ok(format!("{kind}{space}{}", field.name))
}

/// A type of Rust's as C writes it.
fn kind(rust: &str) -> Result<String> {
    if let Some(to) = rust.strip_prefix("*const ") {
        // What a pointer to pointers points to is constant itself.
        let inner = kind(to)?;
        return Ok(if inner.ends_with('*') { format!("{inner}const *") } else { format!("const {inner} *") });
    }
    if let Some(to) = rust.strip_prefix("*mut ") {
        let inner = kind(to)?;
        return Ok(if inner.ends_with('*') { format!("{inner}*") } else { format!("{inner} *") });
    }
    Ok(match rust {
        "()" | "c_void" => "void".to_owned(),
        "c_int" => "int".to_owned(),
        "c_char" => "char".to_owned(),
        "u64" => "uint64_t".to_owned(),
        "i64" => "int64_t".to_owned(),
        "usize" => "size_t".to_owned(),
        name if name.starts_with('X') => format!("struct {}", snake(name)),
        other => bail!("`{other}` has no C type here"),
    })
}

fn comment(doc: &str, margin: &str) -> String {
    let text = doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('`', "");
    let lines = fill(&text, WIDTH - 6 - margin.len());
    match &lines[..] {
        [] => String::new(),
        [line] => format!("{margin}/* {line} */\n"),
        lines => format!("{margin}/* {} */\n", lines.join(&format!("\n{margin} * "))),
    }
}

/// Words in lines of up to `width`.
pub fn fill(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_c_writes_them() {
        for (rust, c) in [
            ("*const c_char", "const char *"),
            ("*mut *mut Xpu", "struct xpu **"),
            ("*const *const c_char", "const char *const *"),
            ("*const XfifoLimits", "const struct xfifo_limits *"),
            ("*mut c_void", "void *"),
            ("usize", "size_t"),
        ] {
            assert_eq!(kind(rust).unwrap(), c);
        }
        assert!(kind("bool").is_err());
    }
}
