//! `memory`: what one more idle instance adds that has used Pillow once, beside a container that has done the same.

use crate::Plan;
use crate::baseline::{Bundle, Interpreter, Language, Running, Start, has_crun, prepare_thread};
use crate::census::{self, Census, Part};
use crate::error::{BenchError, io};
use crate::figure::{Arm, Figure, Unit};
use crate::functions::{PILLOW, Shelf, hold_for};
use crate::http::Crowd;
use crate::machine::Machine;
use crate::node::{Node, Settings};
use crate::packages;
use std::fs;
use std::path::Path;
use std::time::Duration;

const MEMORY: u64 = 256;
const OPTIONS: &[&str] = &["--memory", "256", "--timeout", "300"];

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    (plan.tell)("installing Pillow");
    let path = packages::path_with(&["numpy", "pillow"])?;
    let python = Interpreter::find(Language::Python, &path);
    let python = python.ok_or(BenchError::NoInterpreter { language: Language::Python.as_str() })?;
    let machine = Machine { versions: vec![python.describe()], ..machine.clone() };
    let shelf = Shelf::new()?;
    let code = shelf.put(&PILLOW)?;
    let mut arms = Vec::new();
    for count in [16, plan.samples(100).max(16)] {
        (plan.tell)(&format!("{count} instances"));
        arms.extend(instances(plan, &path, &code, count)?);
        if has_crun() {
            (plan.tell)(&format!("{count} containers"));
            arms.extend(containers(&python, &code, count)?);
        }
    }
    let notes = [
        "Memory by share (PSS): a page that several processes have counts for each by its part. An instance is all \
         processes of its slot; a container is the function's process, without crun's own.",
        "\"of the machine\": by how much available memory fell, divided by their number: it holds what the kernel keeps \
         for each (page tables, namespaces, control groups), and the template.",
    ];
    Ok(vec![Figure::new("memory", "Molecule (ASPLOS '22), Figure 11b", &machine, arms).with_notes(notes)])
}

fn instances(plan: &Plan<'_>, path: &str, code: &Path, count: usize) -> Result<Vec<Arm>, BenchError> {
    let node = Node::start(
        &plan.program,
        &Settings { dispatch: "stems = 0".to_owned(), path: path.to_owned(), ..Settings::default() },
    )?;
    node.await_generic_template(Language::Python)?;
    let before = census::available_mib();
    node.deploy(PILLOW.name, code, OPTIONS)?;
    node.await_template(PILLOW.name)?;
    let event = hold_for(Duration::from_millis(2000 + 50 * count as u64));
    let crowd = Crowd { clients: count, request: node.invocation(PILLOW.name, &event) };
    let load = crowd.ask(1).map_err(|source| BenchError::Silent { who: "the node".into(), source })?;
    let all = Census::take(node.pid());
    let drop = (before - census::available_mib()) / count as f64;
    let each = all.instances_mib();
    if each.len() < count || load.latencies.len() < count {
        let (live, answered) = (each.len(), load.latencies.len());
        return Err(BenchError::Broken(format!("{count} instances were to live: {live} do, and {answered} answered")));
    }
    let templates: Vec<f64> = all.of(Part::Template).map(|process| census::pss_mib(process.pid)).collect();
    let arms = [
        Arm::of(format!("lichen, {count} instances"), Unit::Mebibytes, &each),
        Arm::of(format!("lichen, {count} instances, of the machine"), Unit::Mebibytes, &[drop]),
        Arm::of(format!("lichen, templates beside {count} instances"), Unit::Mebibytes, &templates),
    ];
    Ok(arms.into_iter().flatten().collect())
}

/// Containers that have answered once and wait for more. Started from a thread that crun accepts.
fn containers(python: &Interpreter, code: &Path, count: usize) -> Result<Vec<Arm>, BenchError> {
    let bundle = Bundle::new(python, code, MEMORY).map_err(io("a bundle for crun could not be made"))?;
    let start = Start::Crun(bundle);
    let measured = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            prepare_thread(&start)?;
            let before = census::available_mib();
            let mut all = Vec::new();
            for _ in 0..count {
                let mut container = Running::start(&start)?;
                container.ask(&hold_for(Duration::ZERO), true)?;
                all.push(container);
            }
            let each: Vec<f64> = all.iter().flat_map(|crun| children(crun.pid())).map(census::pss_mib).collect();
            std::io::Result::Ok((each, (before - census::available_mib()) / count as f64))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let (each, drop) = measured.map_err(io("containers of crun could not be run"))?;
    let arms = [
        Arm::of(format!("crun run, {count} containers"), Unit::Mebibytes, &each),
        Arm::of(format!("crun run, {count} containers, of the machine"), Unit::Mebibytes, &[drop]),
    ];
    Ok(arms.into_iter().flatten().collect())
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
