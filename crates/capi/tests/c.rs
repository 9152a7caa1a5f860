//! The library as C has it: its header, its symbols, and a program that uses all of it.

use shim::control::{Report, Supervisor};
use shim::{Config, Shim};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use xpucall::id::PuId;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where cargo has put the library: beside this test's program.
fn libraries() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().to_owned()
}

fn ran(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    output
}

/// The names of the functions that the header declares.
fn declared() -> Vec<String> {
    let header = std::fs::read_to_string(repository().join("include/lichen_xpu.h")).unwrap();
    let code = header.lines().filter(|line| !line.starts_with(['#', '/', ' ']) && line.contains('('));
    let mut names: Vec<String> = code
        .map(|line| {
            let name = line.split('(').next().unwrap();
            name.rsplit([' ', '*']).next().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn the_header_is_c_and_cpp() {
    let folder = tempfile::tempdir().unwrap();
    for (name, standard) in [("one.c", "-std=c99"), ("one.cc", "-std=c++11")] {
        let source = folder.path().join(name);
        std::fs::write(&source, "#include <lichen_xpu.h>\nint main(void) { return XPU_OK; }\n").unwrap();
        let strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", standard];
        ran(Command::new("gcc").args(strict).arg("-I").arg(repository().join("include")).arg(source));
    }
}

/// What it exports is what it declares: nothing of another library's, and nothing that is declared is missing.
#[test]
fn the_library_exports_what_the_header_declares() {
    let library = libraries().join("liblichen_xpu.so");
    let output = ran(Command::new("nm").args(["--dynamic", "--defined-only", "--format=posix"]).arg(library));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut exported: Vec<String> = text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    exported.sort();
    assert_eq!(exported, declared());
    assert!(exported.len() > 10);
}

#[test]
fn a_c_program_starts_itself_and_reads_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("greetings");
    let strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
    let path = format!("-Wl,-rpath,{}", libraries().display());
    let mut compiler = Command::new("gcc");
    compiler.args(strict).arg("-I").arg(repository().join("include"));
    compiler.arg(repository().join("crates/capi/examples/greetings.c")).arg("-L").arg(libraries());
    ran(compiler.args(["-llichen_xpu", &path, "-o"]).arg(&program));

    let socket = folder.path().join("shim.sock");
    let (supervisor, control) = Supervisor::pair().unwrap();
    let mut config = Config::new(PuId(0), socket.clone());
    config.memory = Some(folder.path().join("term"));
    let shim = std::thread::spawn(move || {
        let mut shim = Shim::open(config).unwrap();
        shim.obey(control).unwrap();
        shim.run();
    });
    assert!(matches!(supervisor.hear().unwrap(), Some(Report::Serving { .. })));
    let output = ran(Command::new(&program).arg(&socket));
    let text = String::from_utf8(output.stdout).unwrap();
    let ends = ["the process at the other end has ended\n", "the other end, or the FIFO, was closed\n"];
    let last = text.strip_prefix("greetings\n1000000\n").unwrap_or_else(|| panic!("{text}"));
    assert!(ends.contains(&last), "{text}");
    drop(supervisor);
    shim.join().unwrap();
}
