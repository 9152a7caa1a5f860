//! How much a text may have of everything. Names are looked up among all others of their kind, so that a text of nothing
//! but declarations would otherwise keep its reader for minutes.

use crate::language::ast::{Flow, Module, Name};
use crate::language::diagnostic::{Findings, MOST};

/// Sets that one function or flow takes, or gives: what a request can bring, too.
const SETS: usize = 64;
/// Functions, flows, sets of fixed items and applications, of each kind.
const ALIKE: usize = 1024;

/// Nothing where there is too much of something: what else may be wrong is not looked for then.
pub fn check(module: &Module, findings: &mut Findings<'_>) -> Option<()> {
    let statics = module.flows.iter().flat_map(|flow| &flow.statics).chain(&module.statics);
    let applications = || module.flows.iter().flat_map(|flow| &flow.applications);
    let kinds = [
        ("functions", module.functions.iter().map(|function| &function.name).nth(ALIKE)),
        ("flows", module.flows.iter().map(|flow| &flow.name).nth(ALIKE)),
        ("sets of fixed items", statics.map(|fixed| &fixed.name).nth(ALIKE)),
        ("applications", applications().map(|application| &application.target).nth(ALIKE)),
    ];
    for (kind, beyond) in kinds {
        let Some(name) = beyond else { continue };
        findings
            .error(&name.span, format!("with `{}`, there are more than {ALIKE} {kind} in this text", name.text))
            .hint("deploy parts of it as flows of their own");
    }
    let lists = module.functions.iter().flat_map(|function| [&function.inputs, &function.outputs]);
    let lists = lists.chain(module.flows.iter().flat_map(|flow: &Flow| [&flow.inputs, &flow.outputs]));
    let taken = applications().filter_map(|application| application.inputs.get(SETS).map(|input| &input.parameter));
    let given = applications().filter_map(|application| application.outputs.get(SETS).map(|output| &output.set));
    let beyond: Vec<&Name> = lists.filter_map(|list| list.get(SETS)).chain(taken).chain(given).take(MOST).collect();
    for name in beyond {
        findings
            .error(&name.span, format!("with `{}`, there are more than {SETS} sets in this list", name.text))
            .hint("items of one set can be told apart by their names and keys");
    }
    (!findings.has_errors()).then_some(())
}
