//! One application against the signature of its target: the sets it takes and gives, `by`, `on error`.

use super::{Found, World, of_program, signature};
use crate::graph::{Join, Mode};
use crate::language::Signature;
use crate::language::ast::{Application, Name};
use crate::language::diagnostic::Findings;
use crate::language::near;

pub fn check(world: &World<'_>, application: &Application, findings: &mut Findings<'_>) {
    let target = &application.target;
    let signature = match world.find(&target.text) {
        Found::Flow(index) => {
            no_on_error(application, findings);
            let flow = &world.module.flows[index];
            Some(signature(&flow.inputs, &flow.outputs))
        }
        Found::Deployed(program) => {
            no_on_error(application, findings);
            Some(of_program(&program))
        }
        Found::Unfit(reason) => {
            findings
                .error(&target.span, format!("the flow `{}` cannot be applied here: {reason}", target.text))
                .hint("put that flow right, or apply its functions instead");
            None
        }
        Found::Function(signature) => {
            if signature.is_none() {
                undeclared(world, target, findings);
            }
            signature
        }
        Found::Missing(declared) => {
            let names = world.names.get_or_init(|| world.known.names());
            let known: Vec<&str> = declared.into_iter().chain(names.iter().map(String::as_str)).collect();
            findings.error(&target.span, format!("there is no function or flow `{}`", target.text)).hint_near(
                &target.text,
                &known,
                "deploy it first, or declare it",
            );
            None
        }
    };
    parameters(application, signature.as_ref(), findings);
    results(application, signature.as_ref(), findings);
    joins(application, findings);
}

fn no_on_error(application: &Application, findings: &mut Findings<'_>) {
    if let Some(on_error) = &application.on_error {
        findings
            .error(&on_error.span, "`on error` goes with functions, and this is a flow")
            .hint("write it at the functions within that flow");
    }
}

/// A name that is nearly a declared one was probably meant to be it.
fn undeclared(world: &World<'_>, target: &Name, findings: &mut Findings<'_>) {
    if let Some(near) = findings.nearest(&target.text, &world.declared()) {
        findings
            .warn(&target.span, format!("`{}` is not declared in this text", target.text))
            .hint(format!("did you mean `{near}`?"));
    }
}

fn parameters(application: &Application, signature: Option<&Signature>, findings: &mut Findings<'_>) {
    let target = &application.target;
    for (place, input) in application.inputs.iter().enumerate() {
        let name = &input.parameter;
        if application.inputs[..place].iter().any(|before| before.parameter.text == name.text) {
            findings.error(&name.span, format!("`{}` is given twice", name.text)).hint("leave one of them out");
        }
        let Some(signature) = signature else { continue };
        if signature.input(&name.text).is_none() {
            let known: Vec<&str> = signature.inputs.iter().map(String::as_str).collect();
            findings.error(&name.span, format!("`{}` takes no set `{}`", target.text, name.text)).hint_near(
                &name.text,
                &known,
                "it takes none",
            );
        }
    }
    let missing = signature.into_iter().flat_map(|signature| {
        signature.inputs.iter().filter(|name| {
            let mut given = application.inputs.iter();
            !given.any(|input| signature.input(&input.parameter.text) == Some(name.as_str()))
        })
    });
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    if !missing.is_empty() {
        let sets = if missing.len() == 1 { "its set" } else { "its sets" };
        findings
            .error(&target.span, format!("`{}` is not given {sets} {}", target.text, near::list(&missing)))
            .hint(format!("add `{} = all SET`; what may be empty is `optional all SET`", missing[0]));
    }
}

fn results(application: &Application, signature: Option<&Signature>, findings: &mut Findings<'_>) {
    let Some(signature) = signature else { return };
    let known: Vec<&str> = signature.outputs.iter().map(String::as_str).collect();
    for output in &application.outputs {
        let name = &output.result;
        if signature.outputs.contains(&name.text) {
            continue;
        }
        // `result = SET` is the order that other languages have.
        let finding = findings.error(&name.span, format!("`{}` gives no set `{}`", application.target.text, name.text));
        if signature.outputs.contains(&output.set.text) {
            finding.hint(format!("the flow's set stands first: `{} = {}`", name.text, output.set.text));
        } else {
            finding.hint_near(&name.text, &known, "it gives none");
        }
    }
}

/// Which input a name in `by` means: the function's set of that name, else the one input that is given the flow's set.
pub fn joined(application: &Application, name: &str) -> Option<usize> {
    let parameter = application.inputs.iter().position(|input| input.parameter.text == name);
    let mut sets = application.inputs.iter().enumerate().filter(|(_, input)| input.set.text == name);
    parameter.or_else(|| sets.next().filter(|_| sets.next().is_none()).map(|(index, _)| index))
}

fn joins(application: &Application, findings: &mut Findings<'_>) {
    let mut seen = Vec::new();
    let mut before = None;
    for (name, join) in &application.by {
        let Some(index) = joined(application, &name.text) else {
            let known: Vec<&str> = application.inputs.iter().map(|input| input.parameter.text.as_str()).collect();
            let message = format!("`{}` is no input of this application, or more than one", name.text);
            findings.error(&name.span, message).hint_near(&name.text, &known, "it has no inputs");
            continue;
        };
        let input = &application.inputs[index];
        if seen.contains(&index) {
            findings.error(&name.span, format!("`{}` is joined twice", name.text)).hint("name each input once");
        }
        if input.mode == Mode::All {
            findings
                .error(&name.span, format!("`{}` is given as a whole, which has no key to join by", name.text))
                .hint(format!("write `{} = keyed {}`", input.parameter.text, input.set.text));
        }
        seen.push(index);
        if let Some(join) = *join {
            outer(application, before, (name, index), join, findings);
        }
        before = Some(index);
    }
    if application.by.len() == 1 {
        findings
            .error(&application.by[0].0.span, "one input is no join")
            .hint("write `by a inner b`, or leave `by` out");
    }
    unjoined(application, &seen, findings);
}

/// An outer join is there for keys that one side lacks; that side may then lack all of them.
fn outer(
    application: &Application,
    before: Option<usize>,
    (name, index): (&Name, usize),
    join: Join,
    findings: &mut Findings<'_>,
) {
    let sides = match join {
        Join::Left => [None, Some(index)],
        Join::Right => [before, None],
        Join::Full => [before, Some(index)],
        Join::Inner | Join::Cross => [None, None],
    };
    for input in sides.into_iter().flatten().map(|side| &application.inputs[side]).filter(|input| !input.optional) {
        let parameter = &input.parameter.text;
        findings
            .warn(&name.span, format!("where `{}` is empty, nothing runs, whatever the join", input.set.text))
            .hint(format!("write `{parameter} = optional {} {}`", input.mode.word(), input.set.text));
    }
}

fn unjoined(application: &Application, joined: &[usize], findings: &mut Findings<'_>) {
    let keyed = |(index, mode): (usize, Mode)| mode == Mode::Keyed && !joined.contains(&index);
    let inputs = application.inputs.iter().enumerate();
    let keyed: Vec<_> = inputs.filter(|(index, input)| keyed((*index, input.mode))).map(|(_, input)| input).collect();
    if let [first, second, ..] = keyed.as_slice() {
        let (a, b) = (&first.parameter.text, &second.parameter.text);
        findings
            .warn(&second.parameter.span, format!("every key of `{a}` meets every key of `{b}`"))
            .hint(format!("for equal keys write `by {a} inner {b}`; if this is meant, `by {a} cross {b}`"));
    }
}
