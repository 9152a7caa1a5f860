//! A man page per call, in section 3.

use super::c;
use super::parse::{Call, Item};
use anyhow::Result;
use std::fmt::Write;

pub fn page(call: &Call, items: &[Item]) -> Result<String> {
    let text = call.doc.split_whitespace().collect::<Vec<_>>().join(" ");
    let summary = text.split_once(". ").map_or(text.as_str(), |(first, _)| first).trim_end_matches('.');
    let mut out = format!(
        ".\\\" Made by `cargo xtask header` from crates/capi/src: change it there.\n.TH {} 3 \"\" Lichen \"XPUcalls\"\n.SH NAME\n{} \
         \\- {}\n.SH LIBRARY\nXPUcalls of Lichen\n.RI ( liblichen_xpu \", \" -llichen_xpu )\n.SH SYNOPSIS\n.nf\n.B #include \
         <lichen_xpu.h>\n.PP\n.B {}\n.fi\n.SH DESCRIPTION\n{}\n",
        call.name.to_uppercase(),
        call.name,
        plain(&lowered(summary)),
        c::prototype(call)?.replace('\n', "\n.B "),
        c::fill(&plain(&text), 100).join("\n"),
    );
    if !call.promises.is_empty() {
        write!(out, ".SH CAVEATS\n{}\n", c::fill(&plain(&call.promises), 100).join("\n"))?;
    }
    if matches!(call.answer.as_str(), "c_int" | "i64") {
        out.push_str(
            ".SH RETURN VALUE\n0 or more if the call did what it was asked, else one of these, of which\n.BR xpu_strerror (3)\ngives \
             the text.\n",
        );
        for item in items {
            if let Item::Constant { name, doc, .. } = item
                && name.starts_with("XPU_E")
            {
                write!(out, ".TP\n.B {name}\n{}\n", plain(doc))?;
            }
        }
    }
    let others = items.iter().filter_map(Item::call).filter(|other| other.name != call.name);
    let others: Vec<String> = others.map(|other| format!(".BR {} (3)", other.name)).collect();
    write!(out, ".SH SEE ALSO\n{}\n", others.join(",\n"))?;
    Ok(out)
}

fn lowered(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Without marks of Rust's, and without what troff would take for its own.
fn plain(text: &str) -> String {
    text.replace('`', "").replace('\\', "\\e").replace('-', "\\-")
}
