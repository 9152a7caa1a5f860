//! Sets of a WebAssembly program: folders and files, by `std`.
//!
//! ```text
//! /in/SET/ITEM, /in/SET/ITEM@KEY      what there is to read
//! /out/SET/ITEM, /out/SET/ITEM@KEY    what the function leaves
//! ```
//! What lies in a folder within a set's has `%2F` in its name.
//!
//! An item's bytes are read when it is asked for, and stay for the rest of the run: memory is the run's own.

use crate::{Error, Failure, Item, name};
use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// The input sets.
#[derive(Debug)]
pub struct Inputs(());

/// An input set.
#[derive(Debug, Clone)]
pub struct Set<'a> {
    name: &'a str,
    files: &'a [String],
}

/// What the function leaves.
#[derive(Debug)]
pub struct Outputs<'a> {
    put: BTreeMap<String, usize>,
    inputs: core::marker::PhantomData<&'a ()>,
}

/// What is in a folder: names, and whether they are folders'.
fn list(path: &str) -> io::Result<Vec<(String, bool)>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok((name, entry.file_type()?.is_dir()))
    };
    fs::read_dir(path)?.map(entry).collect()
}

/// The paths below a set's folder of all files in it, however deep they lie.
fn files(set: &str) -> Result<&'static [String], Error> {
    let mut found = list(&format!("/in/{set}")).map_err(|_| Error::NoSet)?;
    let mut files = Vec::new();
    while !found.is_empty() {
        let mut deeper = Vec::new();
        for (path, is_folder) in found {
            if !is_folder {
                files.push(path);
                continue;
            }
            let within = list(&format!("/in/{set}/{path}")).map_err(|_| Error::Refused)?;
            deeper.extend(within.into_iter().map(|(name, is_folder)| (format!("{path}/{name}"), is_folder)));
        }
        found = deeper;
    }
    Ok(files.leak())
}

impl Inputs {
    /// The input set of this name.
    pub fn set(&self, name: &str) -> Result<Set<'_>, Error> {
        Ok(Set { name: name.to_owned().leak(), files: files(name)? })
    }

    /// All input sets.
    pub fn sets(&self) -> impl Iterator<Item = Set<'_>> {
        let names = list("/in").unwrap_or_default();
        names.into_iter().filter_map(|(name, _)| self.set(&name).ok())
    }
}

impl<'a> Set<'a> {
    pub fn name(&self) -> &'a str {
        self.name
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn item(&self, index: usize) -> Option<Result<Item<'a>, Error>> {
        self.files.get(index).map(|file| read(self.name, file))
    }

    pub fn items(&self) -> impl Iterator<Item = Result<Item<'a>, Error>> + use<'a> {
        let set = self.name;
        self.files.iter().map(move |file| read(set, file))
    }
}

fn read<'a>(set: &str, file: &'a str) -> Result<Item<'a>, Error> {
    let data = fs::read(format!("/in/{set}/{file}")).map_err(|_| Error::Refused)?;
    let (name, key) = name::of_path(file);
    let name = match name {
        Cow::Borrowed(name) => name,
        Cow::Owned(name) => name.leak(),
    };
    Ok(Item { name, key, data: data.leak() })
}

impl<'a> Outputs<'a> {
    /// Adds an item. One without a name is named by its number in the set.
    pub fn put(&mut self, set: &str, item: &str, key: u64, data: impl Into<Cow<'a, [u8]>>) -> Result<(), Error> {
        if !name::is_good(set) {
            return Err(Error::NoSet);
        }
        let count = self.put.entry(set.to_owned()).or_default();
        let item = if item.is_empty() { count.to_string() } else { item.to_owned() };
        if !name::is_good(&item) {
            return Err(Error::Name);
        }
        let file = Path::new("/out").join(set).join(name::path(&item, key).ok_or(Error::Name)?);
        *count += 1;
        let data: Cow<'_, [u8]> = data.into();
        match fs::write(&file, &data) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = file.parent().unwrap_or(&file);
                fs::create_dir_all(folder).and_then(|()| fs::write(&file, &data)).map_err(|_| Error::Refused)
            }
            written => written.map_err(|_| Error::Refused),
        }
    }
}

/// Runs the function.
pub fn start(run: impl FnOnce(&'static Inputs, &mut Outputs<'static>) -> Result<(), Failure>) -> i32 {
    static INPUTS: Inputs = Inputs(());
    crate::code(run(&INPUTS, &mut Outputs { put: BTreeMap::new(), inputs: core::marker::PhantomData }))
}
