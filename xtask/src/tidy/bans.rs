//! Things that must not be in the repository: unfinished code, notes to oneself, tests that are skipped or that sleep,
//! and paths of somebody's own machine.
//!
//! A test that needs what the machine lacks prints a skip with its reason; it is not switched off.

use std::ops::Range;

use super::tree::{File, Language};
use super::{Finding, scan};

const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];
const MARKERS: [&str; 3] = ["TODO", "FIXME", "XXX"];
/// Folders that a repository on its own knows nothing about.
const MACHINE_FOLDERS: [&str; 3] = ["root", "work", "home"];

pub fn check(file: &File) -> Vec<Finding> {
    let rust = file.language == Language::Rust;
    let mut findings = markers(file);
    findings.extend(machine_paths(file));
    findings.extend(if rust { rust_sleeps(file) } else { script_sleeps(file) });
    if rust {
        findings.extend(unfinished(file));
        findings.extend(ignored_tests(file));
    }
    findings
}

fn unfinished(file: &File) -> impl Iterator<Item = Finding> {
    let macros = scan::words(&file.code)
        .filter(|(at, word)| UNFINISHED.contains(word) && file.code[at + word.len()..].starts_with('!'));
    macros.map(|(at, word)| {
        file.finding(at, "unfinished", format!("`{word}!` is for drafts: finish it or return an error"))
    })
}

fn markers(file: &File) -> Vec<Finding> {
    let marks = scan::words(&file.comments).filter(|(_, word)| MARKERS.contains(word));
    marks
        .map(|(at, word)| file.finding(at, "marker", format!("{word} in a comment: do it now or open an issue")))
        .collect()
}

fn ignored_tests(file: &File) -> impl Iterator<Item = Finding> {
    let advice = "a test that cannot run here prints a skip with the reason, and returns";
    let marks = file.code.match_indices("#[ignore").map(|(at, _)| at);
    marks.map(move |at| file.finding(at, "ignored-test", advice))
}

const SLEEP_ADVICE: &str = "a test waits for the event itself (a reply, a descriptor, a paused clock), not for time";

fn rust_sleeps(file: &File) -> Vec<Finding> {
    let all: Range<usize> = 0..file.code.len();
    let blocks = if file.is_test() { vec![all] } else { scan::test_blocks(&file.code) };
    let calls =
        scan::words(&file.code).filter(|(at, word)| word.starts_with("sleep") && is_sleep(&file.code, *at, word));
    let in_tests = calls.filter(|(at, _)| blocks.iter().any(|block| block.contains(at)));
    in_tests.map(|(at, _)| file.finding(at, "test-sleep", SLEEP_ADVICE)).collect()
}

/// A sleep that holds its caller up: the thread's, or one that is awaited. One that is raced against the event, or polled
/// by hand, is a time limit.
fn is_sleep(code: &str, at: usize, word: &str) -> bool {
    let before = code[..at].trim_end();
    let known = matches!(word, "sleep" | "sleep_ms" | "sleep_until");
    known && (before.ends_with("thread::") || (!before.ends_with('.') && is_awaited(code, at + word.len())))
}

/// Whether the call whose arguments begin at `open` is awaited where it stands.
fn is_awaited(code: &str, open: usize) -> bool {
    let mut depth = 0_i32;
    let end = code[open..].bytes().position(|byte| {
        depth += i32::from(byte == b'(') - i32::from(byte == b')');
        depth == 0
    });
    end.is_some_and(|end| end > 0 && code[open + end + 1..].trim_start().starts_with(".await"))
}

fn script_sleeps(file: &File) -> Vec<Finding> {
    if !file.is_test() {
        return Vec::new();
    }
    let sleeps = |line: &str| match file.language {
        // `sleep(0)` gives way to others; it waits for nothing.
        Language::Python => line.contains("sleep(") && !line.contains("sleep(0)"),
        Language::JavaScript => {
            line.contains("await ") && ["setTimeout(", "sleep("].iter().any(|call| line.contains(call))
        }
        Language::Shell => shell_sleeps(line),
        Language::Rust | Language::Settings | Language::Prose => false,
    };
    let lines = file.code.split_inclusive('\n').scan(0, |at, line| {
        *at += line.len();
        Some((*at - line.len(), line))
    });
    lines.filter(|(_, line)| sleeps(line)).map(|(at, _)| file.finding(at, "test-sleep", SLEEP_ADVICE)).collect()
}

fn shell_sleeps(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_start = |at: usize| {
        at == 0
            || matches!(words[at - 1], "do" | "then" | "else" | "&&" | "||" | "{" | "(")
            || words[at - 1].ends_with(';')
    };
    (0..words.len()).any(|at| words[at] == "sleep" && is_start(at))
}

fn machine_paths(file: &File) -> Vec<Finding> {
    let found = MACHINE_FOLDERS.iter().flat_map(|folder| {
        let path = format!("/{folder}/");
        let starts: Vec<usize> = file.text.match_indices(&path).map(|(at, _)| at).collect();
        starts.into_iter().filter(|&at| is_path_start(&file.text[..at])).map(move |at| (at, path.clone()))
    });
    let advice = |path: &str| {
        format!("`{path}…` exists on one machine only: take the path from an argument, or from beside this file")
    };
    found.map(|(at, path)| file.finding(at, "machine-path", advice(&path))).collect()
}

/// A slash after a name, a dot, a brace or another slash continues a path or a URL.
fn is_path_start(before: &str) -> bool {
    !before.ends_with(|c: char| c.is_alphanumeric() || "._-/{}$*+~".contains(c)) || before.ends_with("file://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(usize, &'static str)> {
        let mut rules: Vec<_> =
            check(&File::new(path, text)).iter().map(|finding| (finding.line, finding.rule)).collect();
        rules.sort_unstable();
        rules
    }

    #[test]
    fn drafts_are_found_in_code_only() {
        assert_eq!(
            rules("a.rs", "fn f() { todo!() }\nfn g() { dbg!(1); unimplemented!() }"),
            [(1, "unfinished"), (2, "unfinished"), (2, "unfinished")]
        );
        assert_eq!(rules("a.rs", "// todo!()\nconst S: &str = \"dbg!(1)\"; fn dbg() {} fn todo_list() {}"), []);
    }

    #[test]
    fn markers_are_found_in_comments_only() {
        assert_eq!(rules("a.rs", "// TODO: later\n/* XXX */"), [(1, "marker"), (2, "marker")]);
        assert_eq!(rules("a.py", "x = 1  # FIXME\n"), [(1, "marker")]);
        assert_eq!(rules("a.toml", "# TODO\n"), [(1, "marker")]);
        assert_eq!(rules("a.rs", "const S: &str = \"TODO\"; // XXXX is no marker"), []);
        assert_eq!(rules("a.sh", "mktemp -d build.XXXXXX\n"), []);
    }

    #[test]
    fn tests_are_not_switched_off() {
        assert_eq!(rules("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), [(2, "ignored-test")]);
        assert_eq!(rules("a.rs", "#[test]\nfn ignore() { assert!(!\"#[ignore]\".is_empty()) }"), []);
    }

    #[test]
    fn rust_tests_do_not_sleep() {
        let test = |call: &str| format!("#[cfg(test)]\nmod tests {{\n{call}\n}}\n");
        for call in [
            "std::thread::sleep(d);",
            "sleep(d(1)).await;",
            "time::sleep(d)\n.await;",
            "use std::thread::sleep;",
            "sleep_until(t).await;",
        ] {
            assert_eq!(rules("a.rs", &test(call)), [(3, "test-sleep")], "{call}");
            assert_eq!(rules("crates/os/tests/ns.rs", call), [(1, "test-sleep")], "{call}");
            assert_eq!(rules("a.rs", call), [], "{call}");
        }
        for call in [
            "instance.sleep();",
            "fn sleep() {}",
            "f(\"thread::sleep\");",
            "// thread::sleep",
            "let sleepers = 1;",
            "futex::sleep(w);",
            "() = tokio::time::sleep(limit) => {}",
            "page.sleep(1).await;",
            "use tokio::time::sleep;",
        ] {
            assert_eq!(rules("a.rs", &test(call)), [], "{call}");
        }
    }

    #[test]
    fn script_tests_do_not_sleep() {
        assert_eq!(rules("tests/test_a.py", "import time\ntime.sleep(1)\n"), [(2, "test-sleep")]);
        assert_eq!(rules("tests/e2e/run.sh", "while :; do sleep 1; done\n"), [(1, "test-sleep")]);
        assert_eq!(rules("tests/a.mjs", "await new Promise(r => setTimeout(r, 50))\n"), [(1, "test-sleep")]);
        for (path, text) in [
            ("tests/test_a.py", "HANDLER = '''\ntime.sleep(1)\n'''\nawait asyncio.sleep(0)\n"),
            ("tests/fixtures/slow/app.py", "time.sleep(1)\n"),
            ("examples/app.py", "time.sleep(1)\n"),
            ("tests/e2e/run.sh", "echo sleep # sleep 1\nrun 'sleep 1'\n"),
            ("tests/a.mjs", "setTimeout(tick, 50)\n"),
        ] {
            assert_eq!(rules(path, text), [], "{text}");
        }
    }

    #[test]
    fn paths_of_one_machine_are_found_everywhere() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(rules("a.rs", &format!("\nconst P: &str = \"/{folder}/x\";")), [(2, "machine-path")]);
            assert_eq!(rules("a.md", &format!("see /{folder}/x\n")), [(1, "machine-path")]);
            assert_eq!(rules("a.toml", &format!("p = \"file:///{folder}/x\"\n")), [(1, "machine-path")]);
            for text in [
                format!("https://host/{folder}/x"),
                format!("crates/{folder}/x"),
                format!("{{dir}}/{folder}/x"),
                format!("/{folder}less"),
            ] {
                assert_eq!(rules("a.md", &text), [], "{text}");
            }
        }
    }
}
