//! Finds out which language a folder is written in and which function is its handler, and says so.
//!
//! It looks at names and at lines that define functions; it runs nothing and parses nothing. What it cannot tell, it asks
//! for.

use super::files::Files;
use std::fmt;
use std::io;
use thiserror::Error;

/// What Lambda calls the program that is a function's own runtime.
pub const BOOTSTRAP: &str = "bootstrap";

/// A language that handlers are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
    /// The function brings its own runtime: a program named `bootstrap`.
    Provided,
    /// A pure function: a WebAssembly program.
    Wasm,
    /// A pure function: a static program for the node's processor.
    Native,
}

impl Language {
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["py"],
            Self::Node => &["js", "mjs", "cjs"],
            Self::Provided | Self::Native => &[],
            Self::Wasm => &["wasm"],
        }
    }

    /// Names that handlers' files usually have, the likeliest first.
    fn usual_files(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["app", "lambda_function", "main", "handler", "index", "function"],
            Self::Node => &["index", "app", "main", "handler", "function", "lambda"],
            Self::Provided | Self::Wasm | Self::Native => &[],
        }
    }

    /// Names that handlers usually have, the likeliest first.
    fn usual_functions(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["handler", "lambda_handler", "main"],
            Self::Node => &["handler", "lambdaHandler", "main"],
            Self::Provided | Self::Wasm | Self::Native => &[],
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Python => "Python",
            Self::Node => "Node.js",
            Self::Provided => "its own runtime",
            Self::Wasm => "WebAssembly",
            Self::Native => "native code",
        })
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Guess {
    pub language: Language,
    pub handler: String,
    /// What was guessed; nothing where everything was said.
    pub remark: Option<String>,
}

/// Why nothing could be found.
#[derive(Debug, Error)]
pub enum GuessError {
    #[error(
        "there is neither a .py nor a .js, .mjs or .cjs file at the top of it, nor a program named bootstrap: is it the \
         function's folder?"
    )]
    NoCode,
    #[error("its bootstrap is not executable: chmod +x bootstrap")]
    NotExecutable,
    #[error("its bootstrap is a program for {0}, and this machine is none")]
    OtherMachine(&'static str),
    #[error("there are both Python and Node.js files: say --runtime python or --runtime node")]
    Ambiguous,
    #[error("--handler {handler} names the file {stem}, and there is no {candidates}")]
    NoSuchFile { handler: String, stem: String, candidates: String },
    #[error("--handler {0} is not of the form FILE.FUNCTION, such as app.handler")]
    MalformedHandler(String),
    #[error("no {language} file defines {functions}: say which function to call with --handler FILE.FUNCTION")]
    NoHandler { language: Language, functions: String },
    #[error("it holds {0} programs that could be the function: name one with --handler FILE")]
    NoProgram(usize),
    #[error("--handler {0} names no file of it")]
    NoSuchProgram(String),
    #[error("{0} is not a WebAssembly program: those begin with \\0asm")]
    NotWasm(String),
    #[error("{0} is not a program for this machine")]
    NotNative(String),
    #[error("a file cannot be read")]
    Unreadable(#[from] io::Error),
}

/// Finds out what was not said.
pub fn guess(files: &Files, language: Option<Language>, handler: Option<&str>) -> Result<Guess, GuessError> {
    let found_language = match (language, handler) {
        (Some(language), _) => language,
        (None, None) if files.has(BOOTSTRAP) => Language::Provided,
        (None, _) if is_all_wasm(files) => Language::Wasm,
        (None, handler) => guess_language(files, handler)?,
    };
    if matches!(found_language, Language::Wasm | Language::Native) {
        let found_handler = pure_program(files, found_language, handler)?;
        let remark = language.is_none().then(|| format!("{found_language}, {found_handler}"));
        return Ok(Guess { language: found_language, handler: found_handler, remark });
    }
    if found_language == Language::Provided {
        check_bootstrap(files)?;
        let remark = language.is_none().then(|| found_language.to_string());
        let handler = handler.unwrap_or(BOOTSTRAP).to_owned();
        return Ok(Guess { language: found_language, handler, remark });
    }
    let found_handler = match handler {
        Some(handler) => checked(files, found_language, handler)?,
        None => guess_handler(files, found_language)?,
    };
    let guessed = language.is_none() || handler.is_none();
    let remark = guessed.then(|| format!("{found_language}, handler {found_handler}"));
    Ok(Guess { language: found_language, handler: found_handler, remark })
}

/// Whether the only programs at the top are WebAssembly's.
fn is_all_wasm(files: &Files) -> bool {
    let is_code = |name: &str, language| stem(name, language).is_some();
    files.top().any(|name| is_code(name, Language::Wasm))
        && !files.top().any(|name| is_code(name, Language::Python) || is_code(name, Language::Node))
}

/// The file that is a pure function: the one that was named, or the only one that can be.
fn pure_program(files: &Files, language: Language, handler: Option<&str>) -> Result<String, GuessError> {
    let name = match handler {
        Some(handler) if files.has(handler) => handler.to_owned(),
        Some(handler) => return Err(GuessError::NoSuchProgram(handler.to_owned())),
        None => {
            let mut found = Vec::new();
            for name in files.top().filter(|name| language == Language::Native || stem(name, language).is_some()) {
                let start = files.start(name)?.unwrap_or_default();
                if language == Language::Wasm || start.starts_with(b"\x7fELF") {
                    found.push(name.to_owned());
                }
            }
            // The one file that there is, is what is meant: what it is not, is said below.
            let all: Vec<&str> = files.top().collect();
            match (<[String; 1]>::try_from(found), all.as_slice()) {
                (Ok([name]), _) => name,
                (Err(_), [only]) => (*only).to_owned(),
                (Err(found), _) => return Err(GuessError::NoProgram(found.len())),
            }
        }
    };
    let start = files.start(&name)?.unwrap_or_default();
    match language {
        Language::Wasm if !start.starts_with(b"\0asm") => Err(GuessError::NotWasm(name)),
        Language::Native if machine(&start) != Some(std::env::consts::ARCH) => Err(GuessError::NotNative(name)),
        _ => Ok(name),
    }
}

/// A layer may bring the program: then the function has none.
fn check_bootstrap(files: &Files) -> Result<(), GuessError> {
    if files.is_executable(BOOTSTRAP) == Some(false) {
        return Err(GuessError::NotExecutable);
    }
    let machine = files.start(BOOTSTRAP)?.as_deref().and_then(machine).filter(|name| *name != std::env::consts::ARCH);
    machine.map_or(Ok(()), |machine| Err(GuessError::OtherMachine(machine)))
}

/// The kind of machine that a program is for, as Rust names it; nothing for scripts, and for what nobody has heard of.
pub fn machine(start: &[u8]) -> Option<&'static str> {
    let header = start.strip_prefix(b"\x7fELF")?;
    match header.get(14..16)? {
        [62, 0] => Some("x86_64"),
        [183, 0] => Some("aarch64"),
        [243, 0] => Some("riscv64"),
        _ => None,
    }
}

fn guess_language(files: &Files, handler: Option<&str>) -> Result<Language, GuessError> {
    let languages = [Language::Python, Language::Node];
    let with_files = |language: &Language| files.top().any(|name| stem(name, *language).is_some());
    let mut candidates: Vec<Language> = languages.into_iter().filter(with_files).collect();
    if let (Some(handler), true) = (handler, candidates.len() != 1) {
        candidates = languages.into_iter().filter(|&language| checked(files, language, handler).is_ok()).collect();
    }
    if candidates.len() == 2 {
        // A build script beside a handler is common: only a usual name counts.
        let usual = |l: &Language| l.usual_files().iter().any(|stem| file_of(files, *l, stem).is_some());
        candidates.retain(usual);
    }
    match candidates[..] {
        [language] => Ok(language),
        [] => Err(GuessError::NoCode),
        _ => Err(GuessError::Ambiguous),
    }
}

/// The handler that was named, if its file is there.
fn checked(files: &Files, language: Language, handler: &str) -> Result<String, GuessError> {
    let (stem, function) = handler.rsplit_once('.').unwrap_or_default();
    if stem.is_empty() || function.is_empty() {
        return Err(GuessError::MalformedHandler(handler.to_owned()));
    }
    // Python's handlers may be named by module, `pkg.app.handler`, as well as by path.
    let by_path = if language == Language::Python { stem.replace('.', "/") } else { stem.to_owned() };
    let is_package = language == Language::Python && files.has(&format!("{by_path}/__init__.py"));
    if is_package || file_of(files, language, &by_path).is_some() {
        return Ok(handler.to_owned());
    }
    let candidates: Vec<String> = language.extensions().iter().map(|extension| format!("{stem}.{extension}")).collect();
    Err(GuessError::NoSuchFile {
        handler: handler.to_owned(),
        stem: stem.to_owned(),
        candidates: candidates.join(" or "),
    })
}

fn guess_handler(files: &Files, language: Language) -> Result<String, GuessError> {
    let named: Vec<String> = main_of_package(files, language)?.into_iter().collect();
    let usual = language.usual_files().iter().map(|&stem| stem.to_owned());
    let others = files.top().filter_map(|name| stem(name, language)).map(str::to_owned);
    for stem in named.into_iter().chain(usual).chain(others) {
        let Some(file) = file_of(files, language, &stem) else { continue };
        let text = files.text(&file)?.unwrap_or_default();
        let function = language.usual_functions().iter().find(|name| defines(&text, language, name));
        if let Some(function) = function {
            return Ok(format!("{stem}.{function}"));
        }
    }
    Err(GuessError::NoHandler { language, functions: language.usual_functions().join(", ") })
}

/// The file that package.json calls main, without its extension.
fn main_of_package(files: &Files, language: Language) -> Result<Option<String>, GuessError> {
    let text = if language == Language::Node { files.text("package.json")? } else { None };
    let manifest: serde_json::Value = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let main = manifest["main"].as_str().map(|main| main.trim_start_matches("./"));
    Ok(main.map(|main| stem(main, language).unwrap_or(main).to_owned()))
}

fn stem(name: &str, language: Language) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    language.extensions().contains(&extension).then_some(stem)
}

fn file_of(files: &Files, language: Language, stem: &str) -> Option<String> {
    language.extensions().iter().map(|extension| format!("{stem}.{extension}")).find(|name| files.has(name))
}

/// Whether a line at the left margin makes this name a function that others can call.
fn defines(text: &str, language: Language, name: &str) -> bool {
    text.lines().any(|line| match language {
        Language::Python => {
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("def ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
                || line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with("= "))
        }
        Language::Node => exports(line, name),
        Language::Provided | Language::Wasm | Language::Native => false,
    })
}

fn exports(line: &str, name: &str) -> bool {
    let ends_name = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
    let names =
        |text: &str| text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).any(|word| word == name);
    if let Some(at) = line.find("exports.") {
        return line[at + "exports.".len()..].strip_prefix(name).is_some_and(ends_name);
    }
    if let Some(rest) = line.strip_prefix("export ") {
        let rest = ["async ", "function* ", "function ", "const ", "let ", "var "]
            .iter()
            .fold(rest, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
        return rest.strip_prefix(name).is_some_and(ends_name) || (rest.starts_with('{') && names(rest));
    }
    line.contains("module.exports") && names(line)
}

#[cfg(test)]
mod tests {
    use super::super::files::Content;
    use super::*;

    fn files(texts: &[(&str, &str)]) -> Files {
        Files::of_entries(texts.iter().map(|&(name, text)| (name.to_owned(), Content::Bytes(text.as_bytes().to_vec()))))
    }

    fn handler(texts: &[(&str, &str)]) -> String {
        guess(&files(texts), None, None).unwrap().handler
    }

    #[test]
    fn usual_projects_need_no_words() {
        let py = "import os\n\ndef helper():\n    pass\n\ndef handler(event, context):\n    return 1\n";
        assert_eq!(handler(&[("app.py", py), ("z.py", "")]), "app.handler");
        assert_eq!(
            handler(&[("lambda_function.py", "def lambda_handler(e, c): pass")]),
            "lambda_function.lambda_handler"
        );
        assert_eq!(handler(&[("resize.py", "def handler(e, c): pass")]), "resize.handler");
        assert_eq!(handler(&[("main.py", "app = Mangum(x)\nhandler = Mangum(app)")]), "main.handler");
        assert_eq!(handler(&[("index.js", "exports.handler = async () => 1")]), "index.handler");
        assert_eq!(handler(&[("app.mjs", "export const lambdaHandler = async () => 1")]), "app.lambdaHandler");
        assert_eq!(handler(&[("index.mjs", "export async function handler(e) {}")]), "index.handler");
        assert_eq!(handler(&[("index.mjs", "async function handler(e) {}\nexport { handler };")]), "index.handler");
        assert_eq!(handler(&[("index.cjs", "module.exports = { other, handler };")]), "index.handler");
        let manifest = r#"{"main": "./src/start.js"}"#;
        assert_eq!(
            handler(&[("package.json", manifest), ("src/start.js", "exports.handler = f"), ("x.js", "")]),
            "src/start.handler"
        );
    }

    #[test]
    fn a_build_script_of_another_language_does_not_confuse() {
        assert_eq!(handler(&[("app.py", "def handler(e, c): pass"), ("gulpfile.js", "")]), "app.handler");
        let both = files(&[("app.py", "def handler(e, c): pass"), ("index.js", "exports.handler = f")]);
        assert!(matches!(guess(&both, None, None), Err(GuessError::Ambiguous)));
        let said = guess(&both, Some(Language::Node), None).unwrap();
        assert_eq!((said.handler.as_str(), said.remark.is_some()), ("index.handler", true));
        assert_eq!(guess(&both, None, Some("app.handler")).unwrap().language, Language::Python);
    }

    #[test]
    fn what_was_said_is_checked_and_not_repeated() {
        let files = files(&[("pkg/app.py", ""), ("pkg/__init__.py", ""), ("x.py", "")]);
        let said = guess(&files, Some(Language::Python), Some("pkg/app.run")).unwrap();
        assert_eq!(said, Guess { language: Language::Python, handler: "pkg/app.run".into(), remark: None });
        assert!(guess(&files, Some(Language::Python), Some("pkg.app.run")).is_ok());
        assert!(guess(&files, Some(Language::Python), Some("pkg.run")).is_ok());
        assert!(matches!(guess(&files, None, Some("nope.run")), Err(GuessError::NoSuchFile { .. })));
        assert!(matches!(guess(&files, None, Some("nope")), Err(GuessError::MalformedHandler(_))));
    }

    #[test]
    fn a_bootstrap_is_a_runtime() {
        let script = files(&[("bootstrap", "#!/bin/sh\n"), ("app.py", "def handler(e, c): pass")]);
        let found = guess(&script, None, None).unwrap();
        assert_eq!((found.language, found.handler.as_str()), (Language::Provided, "bootstrap"));
        assert_eq!(guess(&script, None, Some("app.handler")).unwrap().language, Language::Python);
        assert_eq!(guess(&script, Some(Language::Provided), Some("x.y")).unwrap().handler, "x.y");
        let elf = |machine: u8| format!("\x7fELF{}{}\0", "\x01".repeat(14), char::from(machine));
        let own = if cfg!(target_arch = "x86_64") { 62 } else { 0 };
        assert!(guess(&files(&[("bootstrap", &elf(own))]), None, None).is_ok());
        let riscv = [&b"\x7fELF"[..], &[1; 14], &[243, 0]].concat();
        let riscv = Files::of_entries([("bootstrap".to_owned(), Content::Bytes(riscv))]);
        assert!(matches!(guess(&riscv, None, None), Err(GuessError::OtherMachine("riscv64"))));
    }

    #[test]
    fn pure_functions_are_one_program() {
        let wasm = files(&[("count.wasm", "\0asm\x01"), ("README.md", "")]);
        let found = guess(&wasm, None, None).unwrap();
        assert_eq!((found.language, found.handler.as_str()), (Language::Wasm, "count.wasm"));
        let two = files(&[("a.wasm", "\0asm"), ("b.wasm", "(module)")]);
        assert!(matches!(guess(&two, None, None), Err(GuessError::NoProgram(2))));
        assert_eq!(guess(&two, None, Some("a.wasm")).unwrap().handler, "a.wasm");
        assert!(matches!(guess(&two, None, Some("b.wasm")), Err(GuessError::NotWasm(_))));
        assert!(matches!(guess(&two, Some(Language::Native), Some("b.wasm")), Err(GuessError::NotNative(_))));
        let text = files(&[("a.bin", "(module)")]);
        assert!(matches!(guess(&text, Some(Language::Wasm), None), Err(GuessError::NotWasm(_))));
        assert!(matches!(guess(&text, Some(Language::Native), None), Err(GuessError::NotNative(_))));
        let mixed = files(&[("a.wasm", "\0asm"), ("app.py", "def handler(e, c): pass")]);
        assert_eq!(guess(&mixed, None, None).unwrap().language, Language::Python);
    }

    #[test]
    fn what_cannot_be_told_is_asked_for() {
        assert!(matches!(guess(&files(&[("README.md", "")]), None, None), Err(GuessError::NoCode)));
        assert!(matches!(
            guess(&files(&[("app.py", "def other(): pass")]), None, None),
            Err(GuessError::NoHandler { .. })
        ));
    }
}
