//! `head` and `unsafe`: what a Rust file must open with.
//!
//! Whether a head says anything useful is for the reader to judge.

use super::Finding;
use super::tree::{File, Language};

/// The crates that speak to the kernel, to shared memory or to a language runtime (DESIGN section 3). There, lints ask
/// for a SAFETY comment at each block instead.
const UNSAFE_CRATES: [&str; 12] = [
    "crates/os/",
    "crates/interconnect/",
    "crates/cfork/",
    "crates/engine/",
    "crates/sandbox/",
    "crates/xpucall/",
    "crates/capi/",
    "crates/rfork/",
    "crates/preload/",
    "crates/socket/",
    "lang/",
    "guest/",
];

pub fn check(file: &File) -> Vec<Finding> {
    if file.language != Language::Rust {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    if first.strip_prefix("//!").is_none_or(|head| head.trim().is_empty()) {
        findings.push(file.finding(
            0,
            "head",
            "open the file with `//!`: what it is for, and what it deliberately does not do",
        ));
    }
    if is_crate_root(&file.path) && !may_be_unsafe(&file.path) && !file.code.contains("#![forbid(unsafe_code)]") {
        findings.push(file.finding(
            0,
            "unsafe",
            "write `#![forbid(unsafe_code)]` below the head, or move the unsafe part to `os`",
        ));
    }
    findings
}

fn is_crate_root(path: &str) -> bool {
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("src/bin/")
}

fn may_be_unsafe(path: &str) -> bool {
    UNSAFE_CRATES.iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&File::new(path, text)).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn every_rust_file_has_a_head() {
        assert_eq!(rules("crates/os/src/ns.rs", "\n//! Namespaces.\n"), [""; 0]);
        assert_eq!(rules("crates/os/src/ns.rs", "//!\nuse std::fs;\n"), ["head"]);
        assert_eq!(rules("crates/os/src/ns.rs", "/// No head.\nfn f() {}\n"), ["head"]);
        assert_eq!(rules("a.py", "import os\n"), [""; 0]);
    }

    #[test]
    fn crates_off_the_list_forbid_unsafe_code() {
        assert_eq!(rules("crates/runtime/src/lib.rs", "//! R.\n"), ["unsafe"]);
        assert_eq!(rules("crates/runtime/src/lib.rs", "//! R.\n// #![forbid(unsafe_code)]\n"), ["unsafe"]);
        assert_eq!(rules("crates/runtime/src/lib.rs", "//! R.\n#![forbid(unsafe_code)]\n"), [""; 0]);
        assert_eq!(rules("crates/runtime/src/registry.rs", "//! R.\n"), [""; 0]);
        assert_eq!(rules("crates/os/src/lib.rs", "//! O.\n"), [""; 0]);
        assert_eq!(rules("lang/node/src/lib.rs", "//! N.\n"), [""; 0]);
    }
}
