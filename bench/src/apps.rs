//! `apps`: what FunctionBench and ServerlessBench have functions do, whole requests over HTTP, cold and warm.

mod shelf;

use crate::Plan;
use crate::baseline::{Bundle, Interpreter, Language, OneShot, Start, has_crun};
use crate::error::{BenchError, io};
use crate::figure::{Arm, Figure};
use crate::http::Request;
use crate::machine::Machine;
use crate::node::{Node, Settings};
use crate::packages;
use crate::series::{Pace, Series, measure};
use shelf::{APPS, App, Apps};
use std::path::Path;

/// Of every instance, Lichen's and crun's.
const MEMORY: u64 = 1024;
const FRESH: &[&str] = &["--isolation", "request", "--memory", "1024", "--timeout", "60"];
const KEPT: &[&str] = &["--memory", "1024", "--timeout", "60"];
const PACE: Pace = Pace::BackToBack(5);

/// Nodes with the apps, and what baselines need.
struct Stage {
    /// Has generic templates only: what is measured is fork and import.
    generic: Node,
    /// Has a template of each app.
    dedicated: Node,
    apps: Apps,
    python: Interpreter,
}

impl Stage {
    fn set(plan: &Plan<'_>) -> Result<Self, BenchError> {
        (plan.tell)("installing packages");
        let tools = packages::path_with(&["numpy", "pillow"])?;
        let apps = Apps::new(&tools)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let start = |dispatch: &str| {
            Node::start(
                &plan.program,
                &Settings { dispatch: dispatch.to_owned(), path: path.clone(), ..Settings::default() },
            )
        };
        let (generic, dedicated) =
            (start("memory_budget_mib = 0\nstems = 0")?, start("stems = 0\nmemory_budget_mib = 4096")?);
        generic.await_generic_template(Language::Python)?;
        for app in APPS {
            (plan.tell)(&format!("deploying {}", app.name));
            generic.deploy(app.name, &apps.folder(app), FRESH)?;
            dedicated.deploy(app.name, &apps.folder(app), FRESH)?;
            dedicated.deploy(&warm(app), &apps.folder(app), KEPT)?;
            dedicated.await_template(app.name)?;
            dedicated.await_template(&warm(app))?;
        }
        let python = Interpreter::find(Language::Python, &path);
        let python = python.ok_or(BenchError::NoInterpreter { language: Language::Python.as_str() })?;
        Ok(Self { generic, dedicated, apps, python })
    }

    /// The app as everybody starts it anew.
    fn cold(&self, app: &App) -> Result<(Vec<Series>, Vec<OneShot>), BenchError> {
        let event = self.apps.event(app);
        let ours = |kind: &str, node: &Node| {
            Series::new(format!("lichen {kind}, {}", app.name), node.invocation(app.name, event), Some("cold"))
        };
        let mut series = vec![ours("fork, dedicated", &self.dedicated), ours("fork, generic", &self.generic)];
        let servers = self.baselines(app, OneShot::serve)?;
        series.extend(beside(app, event, &servers));
        Ok((series, servers.into_iter().map(|(_, server)| server).collect()))
    }

    /// The app where it has run before.
    fn warm(&self, app: &App) -> Result<(Vec<Series>, Vec<OneShot>), BenchError> {
        let event = self.apps.event(app);
        let request = self.dedicated.invocation(&warm(app), event);
        let mut series = vec![Series::new(format!("lichen warm, {}", app.name), request, Some("warm"))];
        let servers = self.baselines(app, OneShot::serve_warm)?;
        series.extend(beside(app, event, &servers));
        Ok((series, servers.into_iter().map(|(_, server)| server).collect()))
    }

    fn baselines(
        &self,
        app: &App,
        serve: fn(Start) -> std::io::Result<OneShot>,
    ) -> Result<Vec<(&'static str, OneShot)>, BenchError> {
        let code = self.dedicated.code(app.name)?;
        let mut servers = Vec::new();
        if has_crun() {
            servers.push(("crun", self.container(&code)?));
        }
        let process = Start::process(&self.python, &code).map_err(io("a baseline could not be made"))?;
        servers.push(("process", process));
        let serve = |start| serve(start).map_err(io("a baseline's server could not be started"));
        servers.into_iter().map(|(name, start)| Ok((name, serve(start)?))).collect()
    }

    fn container(&self, code: &Path) -> Result<Start, BenchError> {
        let bundle = Bundle::new(&self.python, code, MEMORY);
        bundle.map(Start::Crun).map_err(io("a bundle for crun could not be made"))
    }
}

fn warm(app: &App) -> String {
    format!("{}-warm", app.name)
}

fn beside(app: &App, event: &[u8], servers: &[(&'static str, OneShot)]) -> Vec<Series> {
    let series = |(name, server): &(&'static str, OneShot)| {
        Series::new(format!("{name}, {}", app.name), Request::new(server.address, "POST", "/", &[], event), None)
    };
    servers.iter().map(series).collect()
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let stage = Stage::set(plan)?;
    let machine = Machine { versions: vec![stage.python.describe()], ..machine.clone() };
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for app in APPS {
        (plan.tell)(&format!("{}, cold", app.name));
        let (mut series, _servers) = stage.cold(app)?;
        measure(&mut series, plan.samples(100), PACE)?;
        cold.extend(series.iter().filter_map(Series::latency));
        drop(series);
        (plan.tell)(&format!("{}, warm", app.name));
        let (mut series, _servers) = stage.warm(app)?;
        measure(&mut series, plan.samples(100), PACE)?;
        warm.extend(series.iter().filter_map(Series::latency));
        drop(series);
    }
    Ok(vec![figure("apps-cold", 'a', &machine, cold), figure("apps-warm", 'b', &machine, warm)])
}

fn figure(name: &str, letter: char, machine: &Machine, arms: Vec<Arm>) -> Figure {
    let notes = [
        "From the request to the answer over HTTP, the event and the answer included, the arms of each app in turn.",
        "dedicated: forked from a template that has imported the app. generic: forked from a template that has imported \
         nothing; crun and process start the interpreter too. All run the same files.",
        "crun has neither a user namespace nor a system call filter, and process no isolation at all. A warm baseline is \
         a process that answers one client, event after event.",
    ];
    Figure::new(name, format!("Molecule (ASPLOS '22), Figure 14{letter}"), machine, arms).with_notes(notes)
}
