//! `lichen run FILE.wasm`: a WASI program as a pure function, as if it were a command: arguments, environment, standard
//! streams, exit code. Folders are copied in, and back out when it has ended well.
//!
//! No node is started. The program is compiled once for each of its versions (`~/.cache/lichen/programs`, where what
//! nobody has run for a month is removed) and runs in a confined process, of which nothing is left.

use crate::mirror::{LARGEST, Mirror, MirrorError};
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use sandbox::pure::alone::{Alone, AloneError, Failed, Left, Order};
use sandbox::spec::Kind;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Bytes of memory where nothing is said: a person's own machine is less thrifty than a node.
const MEMORY_MIB: u32 = 1024;
/// Where nothing is said, a program may take as long as it likes.
const NO_HURRY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of the files that it makes, at most: what an engine holds.
const OUTPUTS: u64 = 192 << 20;

/// Compiled programs that nobody has run for so long are removed when another one is compiled.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a program is given.
#[derive(Debug)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// A folder here, and where the program sees it.
    pub folders: Vec<(PathBuf, String)>,
    pub memory_mib: Option<u32>,
    pub timeout_s: Option<u32>,
}

/// `HOST::GUEST`, or one path for both.
pub fn parse_folder(text: &str) -> Result<(PathBuf, String), String> {
    let (host, guest) = text.split_once("::").unwrap_or((text, text));
    let parts: Vec<&str> = guest.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if host.is_empty() || parts.is_empty() || parts.contains(&"..") {
        return Err("not of the form HOST::GUEST, such as ./data::/data".to_owned());
    }
    if ["in", "out"].contains(&parts[0]) {
        return Err("/in and /out are the program's sets: choose another place for it, such as /data".to_owned());
    }
    Ok((host.into(), format!("/{}", parts.join("/"))))
}

/// Whether this is a program to be run in this way.
pub fn is_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\0asm"
}

pub fn act(program: Program) -> Verdict {
    let mut room = LARGEST;
    let mut mirrors = Vec::new();
    let mut order = order(&program);
    for (number, (host, guest)) in program.folders.iter().enumerate() {
        let mirror = Mirror::read(host, &mut room).map_err(usage)?;
        let set = format!("folder{number}");
        order.inputs.push(sets::Set::new(&set, mirror.items()));
        order.folders.push(engine::Folder { set, path: guest.clone() });
        mirrors.push(mirror);
    }
    let kept = crate::package::cache()?.join("programs");
    // The processes get an empty root: some folder of ours is what they cover with it, for themselves alone.
    let stage = kept.join("stage");
    fs::create_dir_all(&stage).with_context(|| format!("cannot make {}", stage.display()))?;
    let alone = Alone::new(&stage).map_err(failed)?;
    let left = run(&alone, &kept, &program.path, &order)?;
    if let Some(failure) = left.failed {
        return end(&program.path, failure);
    }
    for (number, mirror) in mirrors.iter().enumerate() {
        let set = left.outputs.iter().find(|set| set.name == format!("folder{number}"));
        mirror.write(set.map_or(&[], |set| &set.items)).map_err(anyhow::Error::new)?;
    }
    Ok(Exit::Done)
}

fn order(program: &Program) -> Order {
    let name = program.path.file_name().map_or_else(|| "program".to_owned(), |name| name.to_string_lossy().into());
    Order {
        inputs: Vec::new(),
        folders: Vec::new(),
        arguments: [name].into_iter().chain(program.arguments.iter().cloned()).collect(),
        environment: program.environment.clone(),
        limits: engine::Limits {
            memory: u64::from(program.memory_mib.unwrap_or(MEMORY_MIB)) << 20,
            output_bytes: OUTPUTS,
            output_items: 1 << 20,
            text_bytes: 0,
        },
        timeout: program.timeout_s.map_or(NO_HURRY, |seconds| Duration::from_secs(seconds.into())),
    }
}

/// Compiles it, unless that was done before, and runs it.
fn run(alone: &Alone, kept: &Path, path: &Path, order: &Order) -> anyhow::Result<Left> {
    let code = fs::read(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
    let digest = Sha256::digest(&code);
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let artefact = kept.join(format!("{hash}.wasm"));
    for attempt in 0..2 {
        if attempt > 0 || !artefact.is_file() {
            compile(alone, path, &artefact)?;
        }
        let compiled = File::open(&artefact).with_context(|| format!("cannot read {}", artefact.display()))?;
        // Somebody else's cache can be read without being kept fresh.
        let _ = compiled.set_modified(SystemTime::now());
        match alone.run(compiled, order) {
            Err(AloneError::Stale) if attempt == 0 => {}
            done => return done.map_err(failed),
        }
    }
    Err(failed(AloneError::Stale))
}

fn compile(alone: &Alone, path: &Path, artefact: &Path) -> anyhow::Result<()> {
    let folder = artefact.parent().unwrap_or(artefact);
    let mut staged = tempfile::NamedTempFile::new_in(folder).context("cannot make a file for what is compiled")?;
    let code = File::open(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
    alone.compile(Kind::Wasm, code, staged.as_file_mut()).map_err(|error| match error {
        AloneError::Refused(reason) => wrong(format!("{}: {reason}", path.display())),
        error => failed(error),
    })?;
    staged.persist(artefact).context("cannot keep what was compiled")?;
    sweep(folder, SystemTime::now());
    Ok(())
}

/// Removes what was not used for long, and what compilers left that were killed. What can't be removed now can be later.
fn sweep(folder: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let age = meta.modified().ok().and_then(|modified| now.duration_since(modified).ok());
        if meta.is_file() && age.is_some_and(|age| age > KEPT) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Its own exit code where it has one: that is what the caller's script looks at.
fn end(path: &Path, failure: Failed) -> Verdict {
    match failure.exit {
        // Codes of which a shell sees nothing are failures too.
        Some(code) => Ok(Exit::Program(u8::try_from(code).ok().filter(|code| *code != 0).unwrap_or(1))),
        None => {
            eprintln!("lichen: {}: {}", path.display(), failure.message);
            Ok(if failure.is_platforms { Exit::PlatformFailed } else { Exit::FunctionFailed })
        }
    }
}

fn failed(error: AloneError) -> anyhow::Error {
    anyhow::Error::new(error).context("the program could not be run")
}

fn usage(error: MirrorError) -> anyhow::Error {
    match &error {
        MirrorError::Read(path, source) => wrong(format!("--dir: cannot read {}: {source}", path.display())),
        _ => wrong(format!("--dir: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_kept_for_a_month() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (name, age) in [("old", KEPT + KEPT / 30), ("used", KEPT - KEPT / 30), ("new", Duration::ZERO)] {
            File::create(folder.path().join(name)).unwrap().set_modified(now - age).unwrap();
        }
        fs::create_dir(folder.path().join("stage")).unwrap();
        sweep(folder.path(), now + KEPT / 60);
        let left = ["old", "used", "new", "stage"].map(|name| folder.path().join(name).exists());
        assert_eq!(left, [false, true, true, true]);
    }

    #[test]
    fn folders_have_two_places() {
        let parsed = |text: &str| parse_folder(text).unwrap();
        assert_eq!(parsed("a/b::/data"), ("a/b".into(), "/data".into()));
        assert_eq!(parsed("./a::data/./x/"), ("./a".into(), "/data/x".into()));
        assert_eq!(parsed("a"), ("a".into(), "/a".into()));
        for bad in ["", "::/x", "a::", "a::/", "../a", "a::/x/../y", "a::/in", "a::/out/x"] {
            assert!(parse_folder(bad).is_err(), "{bad}");
        }
    }
}
