//! `cargo xtask TASK`: the tasks of this repository that are neither building nor testing. A table of contents.
//!
//! It runs no compiler and no test: those have `cargo` and the `Makefile`.
#![forbid(unsafe_code)]

mod header;
mod model;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy [FOLDER]\n       cargo xtask model [FILE]\n       cargo xtask header\n\n  tidy    check the house rules of the \
    repository, one line per finding\n  model   make the gateway's table of AWS's operations from botocore's model of them\n  header  make the C header of \
    the XPUcalls, and their man pages, from the code of crates/capi";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (Some("tidy"), folder, None) => report(tidy::run(&folder.map_or_else(repository, PathBuf::from))),
        (Some("model"), file, None) => match model::write(&repository(), file.map(PathBuf::from)) {
            Ok(table) => {
                println!("{}", table.display());
                ExitCode::SUCCESS
            }
            Err(error) => failed("model", &error),
        },
        (Some("header"), None, None) => match header::write(&repository()) {
            Ok(header) => {
                println!("{}", header.display());
                ExitCode::SUCCESS
            }
            Err(error) => failed("header", &error),
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn report(outcome: anyhow::Result<tidy::Report>) -> ExitCode {
    match outcome {
        Ok(report) => {
            report.findings.iter().for_each(|finding| println!("{finding}"));
            eprintln!("tidy: {} files, {} findings", report.files, report.findings.len());
            if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => failed("tidy", &error),
    }
}

fn failed(task: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{task}: {error:#}");
    ExitCode::from(3)
}

/// The folder above this crate; Cargo names the crate's folder to what it runs.
fn repository() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), |xtask| PathBuf::from(xtask).join(".."))
}
