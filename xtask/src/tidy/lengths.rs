//! `file-length` and `fn-length`: what is too long to be held in the head.
//!
//! Tests count like everything else. Functions are measured in Rust only.

use super::tree::{File, Language};
use super::{Finding, scan};

const FILE_LINES_MAX: usize = 600;
const FN_LINES_MAX: usize = 70;

pub fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if file.language.is_source() && lines > FILE_LINES_MAX {
        let advice = format!("{lines} lines, at most {FILE_LINES_MAX}: split the file where its subject changes");
        findings.push(file.finding(0, "file-length", advice));
    }
    if file.language == Language::Rust {
        findings.extend(scan::functions(&file.code).filter_map(|function| long_function(file, &function)));
    }
    findings
}

fn long_function(file: &File, function: &scan::Function<'_>) -> Option<Finding> {
    let lines = file.code[function.extent.clone()].lines().count();
    let advice = format!("`{}` has {lines} lines, at most {FN_LINES_MAX}: name a part of it", function.name);
    (lines > FN_LINES_MAX).then(|| file.finding(function.extent.start, "fn-length", advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(usize, &'static str)> {
        check(&File::new(path, text)).iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn files_of_600_lines_pass_and_longer_ones_do_not() {
        assert_eq!(rules("a.rs", &"//! A.\n".repeat(600)), []);
        assert_eq!(rules("a.rs", &"//! A.\n".repeat(601)), [(1, "file-length")]);
        assert_eq!(rules("a.py", &"pass\n".repeat(601)), [(1, "file-length")]);
        assert_eq!(rules("a.sh", &":\n".repeat(601)), [(1, "file-length")]);
        assert_eq!(rules("Cargo.lock", &"x\n".repeat(601)), []);
    }

    #[test]
    fn functions_of_70_lines_pass_and_longer_ones_do_not() {
        let function = |body: usize| format!("//! A.\n\nfn f() {{\n{}}}\n", "    g(\"}\");\n".repeat(body));
        assert_eq!(rules("a.rs", &function(68)), []);
        assert_eq!(rules("a.rs", &function(69)), [(3, "fn-length")]);
    }

    #[test]
    fn test_modules_count_and_long_strings_do_not_open_functions() {
        let test = format!("#[cfg(test)]\nmod tests {{\n    fn f() {{\n{}    }}\n}}\n", "        g();\n".repeat(70));
        assert_eq!(rules("a.rs", &test), [(3, "fn-length")]);
        let string = format!("const S: &str = r\"fn f() {{\n{}}}\";\n", "g();\n".repeat(80));
        assert_eq!(rules("a.rs", &string), []);
    }
}
