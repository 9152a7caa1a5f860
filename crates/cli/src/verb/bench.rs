//! `lichen bench`: the figures, measured on this machine with throw-away nodes.

use crate::print::{self, Format, Output, Table};
use crate::progress::Step;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use bench::figure::Figure;
use bench::{BENCHES, Bench, Plan, plot, table};
use clap::Args;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Arguments {
    /// What to measure: see --list
    #[arg(value_name = "NAME", required_unless_present = "list")]
    names: Vec<String>,
    /// List what can be measured
    #[arg(long)]
    list: bool,
    /// Write each figure as JSON and as an SVG picture into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take few samples, to see that it works
    #[arg(long)]
    quick: bool,
    /// Of what is drawn by lot: who is killed when
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Of a measurement with several figures, this one alone: its name in what is printed and written
    #[arg(long, value_name = "FIGURE")]
    only: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub fn act(arguments: Arguments) -> Verdict {
    if arguments.list {
        return list(arguments.output.format);
    }
    let benches = arguments.names.iter().map(|name| find(name)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(only) = &arguments.only {
        benches.iter().try_for_each(|bench| has(bench, only))?;
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    if let Some(folder) = &arguments.out {
        fs::create_dir_all(folder).map_err(|error| wrong(format!("--out {}: {error}", folder.display())))?;
    }
    let mut exit = Exit::Done;
    for bench in benches {
        let step = Step::begin(&format!("measuring {}", bench.name), false);
        let tell = |what: &str| step.part(what);
        let (program, only) = (program.clone(), arguments.only.clone());
        let plan = Plan { program, quick: arguments.quick, seed: arguments.seed, only, tell: &tell };
        let figures = bench.run(&plan)?;
        drop(step);
        for figure in &figures {
            if let Some(folder) = &arguments.out {
                write(figure, folder)?;
            }
            for fault in &figure.faults {
                eprintln!("lichen: {}: {fault}", figure.figure);
                exit = Exit::PlatformFailed;
            }
        }
        figures.iter().try_for_each(|figure| show(figure, arguments.output.format))?;
    }
    Ok(exit)
}

fn find(name: &str) -> anyhow::Result<&'static Bench> {
    let names: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
    bench::find(name)
        .ok_or_else(|| wrong(format!("nothing called {name} can be measured: there is {}", names.join(", "))))
}

/// Whether a figure can be measured alone.
fn has(bench: &Bench, figure: &str) -> anyhow::Result<()> {
    match bench.parts {
        [] => Err(wrong(format!("--only {figure}: {} is measured as a whole", bench.name))),
        parts if parts.contains(&figure) => Ok(()),
        parts => Err(wrong(format!("--only {figure}: {} has {}", bench.name, parts.join(", ")))),
    }
}

fn list(format: Format) -> Verdict {
    match format {
        Format::Json => {
            let all: Vec<_> = BENCHES.iter().map(|bench| json!({ "name": bench.name, "what": bench.what })).collect();
            print::json(&all.into())?;
        }
        Format::Table => {
            let mut table = Table::new(&["NAME", "WHAT"]);
            BENCHES.iter().for_each(|bench| table.row([bench.name.to_owned(), bench.what.to_owned()]));
            print::bytes(table.render().as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

fn show(figure: &Figure, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => print::json(&serde_json::to_value(figure)?)?,
        Format::Table => print::line(&table::render(figure))?,
    }
    Ok(())
}

fn write(figure: &Figure, folder: &Path) -> anyhow::Result<()> {
    let files = [("json", serde_json::to_string_pretty(figure)? + "\n"), ("svg", plot::render(figure))];
    for (extension, text) in files {
        let path = folder.join(format!("{}.{extension}", figure.figure));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
