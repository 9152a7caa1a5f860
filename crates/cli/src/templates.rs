//! What `lichen new` can make: the files of each template, as they lie in `guest/templates`, and the libraries that pure
//! functions are written with, as they lie in `guest/c` and `guest/rust`.
//!
//! A folder that was made is complete: nothing in it refers to where this binary was built.

use clap::ValueEnum;

/// A kind of function to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// A handler in Python, as AWS Lambda's
    Python,
    /// A handler in Node.js, as AWS Lambda's
    Node,
    /// A pure function in Rust, as WebAssembly
    RustWasm,
    /// A pure function in Rust, as a static program
    RustNative,
    /// A pure function in C, as WebAssembly
    CWasm,
    /// A pure function in C, as a static program
    CNative,
    /// A pure function in Python, run by a CPython that is WebAssembly
    PythonWasm,
}

/// A file's path in the folder, and what it holds.
pub type Entry = (&'static str, &'static str);

/// What stands for what in the files of a template: `{{name}}` and the like.
pub type Words = [(&'static str, String); 6];

macro_rules! entries {
    ($($path:literal: $from:literal),+ $(,)?) => { &[$(($path, include_str!(concat!("../../../guest/", $from)))),+] };
}

const PYTHON: &[Entry] = entries!["app.py": "templates/python/app.py", "README.md": "templates/python/README.md"];

const NODE: &[Entry] = entries![
    "index.js": "templates/node/index.js",
    "package.json": "templates/node/package.json",
    "README.md": "templates/node/README.md",
];

const RUST: &[Entry] = entries![
    "Cargo.toml": "templates/rust/Cargo.toml",
    ".cargo/config.toml": "templates/rust/cargo-config.toml",
    "src/main.rs": "templates/rust/src/main.rs",
    "function.toml": "templates/function.toml",
    "README.md": "templates/pure.md",
    "lichen-guest/Cargo.toml": "rust/Cargo.toml",
    "lichen-guest/README.md": "rust/README.md",
    "lichen-guest/src/lib.rs": "rust/src/lib.rs",
    "lichen-guest/src/name.rs": "rust/src/name.rs",
    "lichen-guest/src/elf.rs": "rust/src/elf.rs",
    "lichen-guest/src/heap.rs": "rust/src/heap.rs",
    "lichen-guest/src/memory.rs": "rust/src/memory.rs",
    "lichen-guest/src/wasi.rs": "rust/src/wasi.rs",
    "lichen-guest/examples/echo.rs": "rust/examples/echo.rs",
    "lichen-guest/examples/matmul.rs": "rust/examples/matmul.rs",
];

const C: &[Entry] = entries![
    "main.c": "templates/c/main.c",
    "Makefile": "templates/c/Makefile",
    "function.toml": "templates/function.toml",
    "README.md": "templates/pure.md",
    "lichen/README.md": "c/README.md",
    "lichen/lichen.h": "c/lichen.h",
    "lichen/lichen.c": "c/lichen.c",
    "lichen/names.c": "c/names.c",
    "lichen/heap.c": "c/heap.c",
    "lichen/elf.c": "c/elf.c",
    "lichen/wasi.c": "c/wasi.c",
];

const PYTHON_WASM: &[Entry] = entries![
    "app/main.py": "templates/python-wasm/main.py",
    "build.sh": "templates/python-wasm/build.sh",
    "function.toml": "templates/python-wasm/function.toml",
    "README.md": "templates/python-wasm/README.md",
];

/// What is made of sources does not belong to them.
const IGNORED: Entry = (".gitignore", "/build\n/target\n");

impl Template {
    pub fn entries(self) -> impl Iterator<Item = Entry> {
        let made: &[Entry] = match self {
            Self::Python => PYTHON,
            Self::Node => NODE,
            Self::RustWasm | Self::RustNative => RUST,
            Self::CWasm | Self::CNative => C,
            Self::PythonWasm => PYTHON_WASM,
        };
        made.iter().copied().chain([IGNORED])
    }

    /// The words of this template, for a function of this name.
    pub fn words(self, name: &str) -> Words {
        let (runtime, build, program) = match self {
            Self::RustWasm => ("wasm", cargo("wasm32-wasip1"), "target/wasm32-wasip1/release/function.wasm"),
            Self::RustNative => {
                ("native", cargo("x86_64-unknown-linux-gnu"), "target/x86_64-unknown-linux-gnu/release/function")
            }
            Self::CWasm => ("wasm", r#"["make", "build/function.wasm"]"#.to_owned(), "build/function.wasm"),
            Self::CNative => ("native", r#"["make", "build/function.elf"]"#.to_owned(), "build/function.elf"),
            Self::Python | Self::Node | Self::PythonWasm => ("", String::new(), ""),
        };
        let (language, library) = match self {
            Self::RustWasm | Self::RustNative => ("Rust", "lichen-guest"),
            _ => ("C", "lichen"),
        };
        [
            ("{{name}}", name.to_owned()),
            ("{{runtime}}", runtime.to_owned()),
            ("{{build}}", build),
            ("{{program}}", program.to_owned()),
            ("{{language}}", language.to_owned()),
            ("{{library}}", library.to_owned()),
        ]
    }
}

/// The folder is said: a target folder that is set elsewhere would not be where `program` looks.
fn cargo(target: &str) -> String {
    format!(r#"["cargo", "build", "--quiet", "--release", "--target", "{target}", "--target-dir", "target"]"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_known() {
        for template in Template::value_variants() {
            let words = template.words("f");
            for (path, text) in template.entries() {
                let left = words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
                assert!(!left.contains("{{name") && !left.contains("{{r"), "{template:?} {path}");
            }
            let paths: Vec<&str> = template.entries().map(|(path, _)| path).collect();
            assert!(paths.contains(&"README.md") && paths.contains(&".gitignore"), "{template:?}");
        }
    }
}
