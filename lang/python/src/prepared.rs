//! What a template has made ready for its children: the Python objects that Rust calls or fills in, looked up once.
//!
//! The usual course of a start and of an invocation runs here in Rust, because every line of Python that a new child
//! runs costs it page faults. What is unusual (an error, a package, a number that JSON does not know) goes to Python.

use crate::object::{Object, Raised};

/// All of it. The names are those of `lichen_prepared.py`.
pub struct Prepared {
    /// Text and index to value and end: json's own scanner.
    pub scan: Object,
    /// Text to value, or the error that Lambda has for it.
    pub decode: Object,
    /// Value and level to the parts of its text: json's own encoder, which forbids circles by `markers`.
    pub encode_parts: Object,
    pub markers: Object,
    /// Value to text or bytes, or the error that Lambda has for it.
    pub encode: Object,
    /// The class of a handler's second argument, and its first argument.
    pub context: Object,
    pub settings: Object,
    /// Exception and request id to the error object's text; it also writes to the log.
    pub failed: Object,
    /// A limit to the error object's text.
    pub too_large: Object,
    /// Tells the environment the id of the trace.
    pub set_trace: Object,
    /// Called where variables change more than the environment, or layers are there.
    pub settled: Object,
    /// The names of the module that stamps log lines with the request's id.
    pub log: Object,
    /// What `os.environ` shows.
    pub environ: Object,
    /// A handler's name to the handler, by the usual machinery.
    pub load: Object,
    /// Runs what a function has registered for a snapshot and for its restore.
    pub snapshot: Object,
    /// Exception and module to what Lambda makes of it.
    pub explain: Object,
    /// A handler that does what most do, for rehearsals.
    pub rehearsed: Object,
    /// Goes once through what a start does after it knows its function.
    pub rehearse_start: Object,
    /// A module's specification and its loader, to be filled in.
    pub spec: Object,
    pub loader: Object,
    pub compile: Object,
    pub unmarshal: Object,
    /// What begins a file of bytecode, and what ends its name.
    pub magic: Vec<u8>,
    pub bytecode_suffix: String,
    /// What the names of extension modules end with.
    pub extension_suffixes: Vec<String>,
    pub empty: Object,
    pub zero: Object,
    pub request_id: Object,
    pub flush: Object,
}

impl Prepared {
    /// From a dict of them.
    pub fn from_dict(dict: &Object) -> Result<Self, Raised> {
        let list = |key| -> Result<Vec<String>, Raised> {
            Ok(dict.value(key)?.string()?.split_ascii_whitespace().map(str::to_owned).collect())
        };
        Ok(Self {
            scan: dict.value(c"scan")?,
            decode: dict.value(c"decode")?,
            encode_parts: dict.value(c"encode_parts")?,
            markers: dict.value(c"markers")?,
            encode: dict.value(c"encode")?,
            context: dict.value(c"context")?,
            settings: dict.value(c"settings")?,
            failed: dict.value(c"failed")?,
            too_large: dict.value(c"too_large")?,
            set_trace: dict.value(c"set_trace")?,
            settled: dict.value(c"settled")?,
            log: dict.value(c"log")?,
            environ: dict.value(c"environ")?,
            load: dict.value(c"load")?,
            snapshot: dict.value(c"snapshot")?,
            explain: dict.value(c"explain")?,
            rehearsed: dict.value(c"rehearsed")?,
            rehearse_start: dict.value(c"rehearse_start")?,
            spec: dict.value(c"spec")?,
            loader: dict.value(c"loader")?,
            compile: dict.value(c"compile")?,
            unmarshal: dict.value(c"unmarshal")?,
            magic: dict.value(c"magic")?.contents()?.to_vec(),
            bytecode_suffix: dict.value(c"bytecode_suffix")?.string()?,
            extension_suffixes: list(c"extension_suffixes")?,
            empty: Object::name(c"")?,
            zero: Object::number(0)?,
            request_id: Object::name(c"request_id")?,
            flush: Object::name(c"flush")?,
        })
    }
}
