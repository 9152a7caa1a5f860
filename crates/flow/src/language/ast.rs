//! A text as it was written: nothing of it is checked but its grammar.

use std::ops::Range;

use crate::graph::{Join, Mode};

pub type Span = Range<usize>;

/// A word, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

#[derive(Debug, Default)]
pub struct Module {
    pub functions: Vec<Function>,
    pub flows: Vec<Flow>,
    /// Static sets that all flows see.
    pub statics: Vec<Static>,
}

/// `function NAME(in, …) => (out, …);`
#[derive(Debug)]
pub struct Function {
    pub name: Name,
    pub inputs: Vec<Name>,
    pub outputs: Vec<Name>,
}

/// `flow NAME(in, …) => (out, …) { … }`
#[derive(Debug)]
pub struct Flow {
    pub name: Name,
    pub inputs: Vec<Name>,
    pub outputs: Vec<Name>,
    pub statics: Vec<Static>,
    pub applications: Vec<Application>,
}

/// `set NAME = item, …;`
#[derive(Debug)]
pub struct Static {
    pub name: Name,
    pub items: Vec<StaticItem>,
}

/// `["name":] ("text" | file "path") [key N]`
#[derive(Debug)]
pub struct StaticItem {
    pub name: Option<Name>,
    pub key: u64,
    pub content: Content,
}

#[derive(Debug)]
pub enum Content {
    Text(String),
    /// A path, seen from the text's own folder, to be read by whoever deploys it.
    File(String),
}

/// `NAME(in, …) => (out, …) [by …] [on error …];`
#[derive(Debug)]
pub struct Application {
    pub target: Name,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    pub by: Vec<(Name, Option<Join>)>,
    pub on_error: Option<OnError>,
    pub span: Span,
}

/// `PARAMETER = [optional] MODE SET`
#[derive(Debug)]
pub struct Input {
    pub parameter: Name,
    pub optional: bool,
    pub mode: Mode,
    pub set: Name,
}

/// `SET = RETURN`
#[derive(Debug)]
pub struct Output {
    pub set: Name,
    pub result: Name,
}

#[derive(Debug)]
pub struct OnError {
    pub kind: OnErrorKind,
    pub span: Span,
}

#[derive(Debug)]
pub enum OnErrorKind {
    Fail,
    Skip,
    /// Reports go into this set.
    Into(Name),
}
