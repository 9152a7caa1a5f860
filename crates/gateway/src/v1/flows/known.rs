//! What a flow's text may name on this node: I/O functions, functions, and flows that were deployed by themselves.
//!
//! A flow is read together with those that it applies, as if they stood in its text: so a text is looked at with what it
//! names in mind when it is put, and read anew when any flow has changed ([`super::text::Programs`]). One that comes to
//! apply itself by way of others is refused when the last of them is put.

use super::text::Text;
use crate::gateway::Gateway;
use crate::lambda::name;
use crate::lambda::scope::Scope;
use flow::{Known, Lookup, Signature};
use runtime::function::Function;
use runtime::registry::{ResourceId, ResourceKind};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Flows that apply flows of other texts, at most.
const DEEPEST: usize = 16;

/// Whose flows.
pub struct Flows<'a> {
    gateway: &'a Gateway,
    scope: Scope<'a>,
    /// Those that are being read, outer ones first.
    path: RefCell<Vec<String>>,
    seen: RefCell<HashMap<String, Lookup>>,
}

impl<'a> Flows<'a> {
    /// `outer` is the flow that is read itself, where it has a name.
    pub fn new(gateway: &'a Gateway, scope: Scope<'a>, outer: Option<&str>) -> Self {
        let path = outer.map(str::to_owned).into_iter().collect();
        Self { gateway, scope, path: RefCell::new(path), seen: RefCell::default() }
    }

    fn named(&self, name: &str) -> Option<Lookup> {
        let (account, region) = (self.scope.account.to_string(), self.scope.region.to_string());
        let id = ResourceId { account, region, kind: ResourceKind::Flow, name: name.to_owned() };
        let resource = self.gateway.registry.resource(&id)?;
        if let Some(seen) = self.seen.borrow().get(name) {
            return Some(seen.clone());
        }
        let lookup = match Text::of(&resource) {
            Some(text) => self.read(name, &text),
            None => Lookup::Unfit("it is a chain, whose functions hand on what flows know nothing of".to_owned()),
        };
        self.seen.borrow_mut().insert(name.to_owned(), lookup.clone());
        Some(lookup)
    }

    fn read(&self, name: &str, text: &Text<'_>) -> Lookup {
        if self.path.borrow().iter().any(|outer| outer == name) {
            return Lookup::Unfit("it comes to apply itself".to_owned());
        }
        if self.path.borrow().len() >= DEEPEST {
            return Lookup::Unfit(format!("flows within flows are more than {DEEPEST} deep there"));
        }
        self.path.borrow_mut().push(name.to_owned());
        let program = text.read(name, self);
        self.path.borrow_mut().pop();
        match program {
            Ok(program) => Lookup::Flow(Arc::new(program)),
            Err(fault) => Lookup::Unfit(fault.message().to_owned()),
        }
    }

    fn has_function(&self, name: &str) -> bool {
        self.gateway.registry.record(&self.scope.account, &self.scope.region, name).is_some()
    }
}

/// For a text that was taken before: whether its functions are still there, a run finds out.
impl Known for Flows<'_> {
    fn lookup(&self, name: &str) -> Lookup {
        if fetch::Function::named(name).is_some() || self.has_function(name) {
            return Lookup::Open;
        }
        self.named(name).unwrap_or(Lookup::Open)
    }
}

/// For a text that is put, or looked at: its functions have to be there too.
pub struct Registered<'a>(pub Flows<'a>);

impl Known for Registered<'_> {
    fn lookup(&self, name: &str) -> Lookup {
        if let Some(io) = fetch::Function::named(name) {
            let aliases =
                io.aliases().iter().map(|(alias, meant)| ((*alias).to_owned(), (*meant).to_owned())).collect();
            return Lookup::Exact(Signature { aliases, ..Signature::new(io.inputs(), io.outputs()) });
        }
        let target = name::resolve(name.into(), None, self.0.scope.clone());
        match target.and_then(|target| target.find(self.0.gateway)) {
            Ok(entry) => signature(&entry.function),
            Err(_) => self.0.named(name).unwrap_or(Lookup::Missing),
        }
    }

    fn names(&self) -> Vec<String> {
        let Flows { gateway, scope, .. } = &self.0;
        let own = |id: &runtime::registry::FunctionId| id.account == scope.account && id.region == scope.region;
        let registered = gateway.registry.all();
        let functions = registered.iter().filter(|entry| own(&entry.id)).map(|entry| entry.id.name.clone());
        let flows = gateway.registry.resources(&scope.account, &scope.region, ResourceKind::Flow);
        let flows = flows.iter().map(|flow| flow.id.name.clone());
        functions.chain(flows).chain(fetch::Function::ALL.map(|io| io.name().to_owned())).collect()
    }
}

/// Handlers take and give what they like; a pure function may say what it does.
fn signature(function: &Function) -> Lookup {
    let (inputs, outputs) = (function.pure.inputs.clone(), function.pure.outputs.clone());
    if inputs.is_empty() || outputs.is_empty() {
        Lookup::Open
    } else {
        Lookup::Exact(Signature { inputs, outputs, aliases: Vec::new() })
    }
}
