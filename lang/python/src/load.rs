//! A function's handler: the usual case, a single file, without the import machinery.
//!
//! `importlib` would find the same file and run the same code, after touching some hundred pages. Whatever is not plainly
//! a source file `NAME.py` in the function's folder, new to this process, is left to it.

use crate::object::{self, Object, Raised};
use crate::place::TASK_ROOT;
use crate::prepared::Prepared;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The handler of that name, its module imported. Python has an error for whatever goes wrong.
pub fn handler(prepared: &Prepared, name: &str) -> Result<Object, Raised> {
    if let Some((module, function)) = name.rsplit_once('.').filter(|(module, _)| is_plain(module)) {
        let module_name = Object::text(module.as_bytes())?;
        let imported = import(prepared, TASK_ROOT, module, &module_name).or_else(|raised| {
            let error = raised.catch()?;
            Err(prepared.explain.call([&error, &module_name])?.raise())
        });
        if let Some(module) = imported? {
            match module.attribute(&Object::text(function.as_bytes())?) {
                Ok(handler) => return Ok(handler),
                // The usual machinery says it in Lambda's words.
                Err(raised) => raised.forget()?,
            }
        }
    }
    prepared.load.call([&Object::text(name.as_bytes())?])
}

fn is_plain(module: &str) -> bool {
    !module.is_empty() && module.bytes().all(|byte| byte == b'_' || byte == b'-' || byte.is_ascii_alphanumeric())
}

/// Imports `FOLDER/NAME.py` as `importlib` would; nothing where that is not what `importlib` would do.
pub fn import(prepared: &Prepared, folder: &str, name: &str, name_object: &Object) -> Result<Option<Object>, Raised> {
    let modules = object::modules()?;
    let built_in = object::sys(c"builtin_module_names").ok_or(Raised::Already)?;
    if modules.get(name_object).is_some() || built_in.contains(name_object)? {
        return Ok(None);
    }
    let Some(file) = File::find(prepared, folder, name) else { return Ok(None) };
    let code = match file.bytecode(prepared) {
        Some(bytecode) => prepared.unmarshal.call([&Object::bytes(&bytecode)?])?,
        None => file.compiled(prepared)?,
    };
    let (module, names) = object::module(name_object)?;
    describe(prepared, &names, name_object, &file)?;
    modules.insert(name_object, &module)?;
    match code.run_in(&names) {
        // A module may put something else in its place.
        Ok(_) => Ok(modules.get(name_object)),
        Err(raised) => {
            // The exception goes on, whatever becomes of the entry.
            let error = raised.catch()?;
            if let Err(absent) = modules.remove(name_object) {
                absent.forget()?;
            }
            Err(error.raise())
        }
    }
}

fn describe(prepared: &Prepared, names: &Object, name: &Object, file: &File) -> Result<(), Raised> {
    let path = Object::text(file.source.as_bytes())?;
    prepared.loader.set_attribute(c"name", name)?;
    prepared.loader.set_attribute(c"path", &path)?;
    prepared.spec.set_attribute(c"name", name)?;
    prepared.spec.set_attribute(c"origin", &path)?;
    names.insert(&Object::name(c"__file__")?, &path)?;
    names.insert(&Object::name(c"__cached__")?, &Object::text(file.cached.as_bytes())?)?;
    names.insert(&Object::name(c"__package__")?, &prepared.empty)?;
    names.insert(&Object::name(c"__loader__")?, &prepared.loader)?;
    names.insert(&Object::name(c"__spec__")?, &prepared.spec)
}

/// A source file, and where its bytecode would be.
struct File {
    source: String,
    cached: String,
    /// Of the source: its bytecode must have been made from just that.
    modified: u32,
    size: u32,
}

impl File {
    /// The file, unless a package or an extension module of that name comes before it.
    fn find(prepared: &Prepared, folder: &str, name: &str) -> Option<Self> {
        let source = format!("{folder}/{name}.py");
        let about = fs::metadata(&source).ok().filter(fs::Metadata::is_file)?;
        let rivals = prepared.extension_suffixes.iter().map(String::as_str).chain([""]);
        if rivals.into_iter().any(|suffix| Path::new(&format!("{folder}/{name}{suffix}")).exists()) {
            return None;
        }
        let cached = format!("{folder}/__pycache__/{name}{}", prepared.bytecode_suffix);
        Some(Self { source, cached, modified: about.mtime() as u32, size: about.size() as u32 })
    }

    /// Its bytecode, where there is some that Python would use without looking at the source's text.
    fn bytecode(&self, prepared: &Prepared) -> Option<Vec<u8>> {
        let file = fs::read(&self.cached).ok()?;
        let (header, code) = file.split_at_checked(16)?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let valid = match word(4) {
            // Valid for a source of this age and size.
            0 => (word(8), word(12)) == (self.modified, self.size),
            // Valid for good, as its maker has said.
            1 => true,
            _ => false,
        };
        (header[..4] == prepared.magic && valid).then(|| code.to_vec())
    }

    fn compiled(&self, prepared: &Prepared) -> Result<Object, Raised> {
        let text = fs::read(&self.source).map_err(|e| object::because(&self.source)(&e))?;
        let path = Object::text(self.source.as_bytes())?;
        let inherit_nothing = Object::number(1)?;
        prepared.compile.call([
            &Object::bytes(&text)?,
            &path,
            &Object::name(c"exec")?,
            &prepared.zero,
            &inherit_nothing,
        ])
    }
}
