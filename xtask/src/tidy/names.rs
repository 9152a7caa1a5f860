//! `name`: words that say nothing about the thing they name, in names of files, modules and types.
//!
//! Functions and variables are left to the reader.

use super::tree::{File, Language};
use super::{Finding, scan};

const EMPTY_WORDS: [&str; 9] =
    ["manager", "managers", "util", "utils", "utilities", "common", "commons", "helper", "helpers"];

pub fn check(file: &File) -> Vec<Finding> {
    if !file.language.is_source() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let Some(part) = file.path.split('/').find(|part| is_empty_name(part)) {
        findings.push(file.finding(0, "name", format!("`{part}` says nothing: name the file after what is in it")));
    }
    let keywords: &[&str] = match file.language {
        Language::Rust => &["mod", "struct", "enum", "trait", "type", "union"],
        Language::Python | Language::JavaScript => &["class"],
        _ => &[],
    };
    let items = scan::words(&file.code).zip(scan::words(&file.code).skip(1));
    let named = items.filter(|((_, keyword), (_, name))| keywords.contains(keyword) && is_empty_name(name));
    findings.extend(named.map(|(_, (at, name))| {
        file.finding(at, "name", format!("`{name}` says nothing: name it after what it is or does (DESIGN section 2)"))
    }));
    findings
}

fn is_empty_name(name: &str) -> bool {
    words_of(name).iter().any(|word| EMPTY_WORDS.contains(&word.as_str()))
}

/// `SlotManager`, `slot_manager` and `slot-manager.rs` are all made of the words slot and manager.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || (letter.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("never empty").extend(letter.to_lowercase());
        }
        after_lower = letter.is_lowercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&File::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn empty_words_are_found_in_files_modules_and_types() {
        assert_eq!(lines("crates/os/src/utils.rs", ""), [1]);
        assert_eq!(lines("crates/os/tests/common/mod.rs", ""), [1]);
        assert_eq!(lines("a.rs", "//! A.\nmod helpers;\nstruct SlotManager;\nenum ForkUtil {}\n"), [2, 3, 4]);
        assert_eq!(lines("a.py", "\nclass SlotManager:\n    pass\n"), [2]);
    }

    #[test]
    fn other_names_and_other_places_pass() {
        assert_eq!(lines("crates/runtime/src/utilisation.rs", "//! A.\nstruct Commonwealth;\n"), [0; 0]);
        assert_eq!(lines("a.rs", "// a struct Manager\nconst S: &str = \"mod utils\"; fn manager() {}\n"), [0; 0]);
        assert_eq!(lines("docs/common-errors.md", ""), [0; 0]);
    }
}
