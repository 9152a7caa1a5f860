//! `cargo xtask model`: the table that the gateway checks requests by, made of AWS's service model.
//!
//! ```text
//! botocore's service-2.json.gz ──► operations: method, path, input           ──► crates/gateway/src/lambda/model.json
//!                                  shapes: type, bounds, pattern, words
//! ```
//!
//! Only what requests are made of is kept. Words of an enumeration stand in the order in which AWS names them, which is that
//! of a Java hash set; what AWS was recorded to do differently from its model is in [`RECORDED`]. Patterns that need to
//! look around are told apart into what must match and what must not: the gateway's engine does not look around.

mod words;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where the table is, below the repository.
const TABLE: &str = "crates/gateway/src/lambda/model.json";
const PACKAGES: &str = ".build/venv/lib";
const MODEL: &str = "site-packages/botocore/data/lambda/2015-03-31/service-2.json.gz";

/// Members of shapes as AWS was recorded to have them, where the model says otherwise.
const RECORDED: [(&str, &str, &str); 3] = [
    (
        "LayerVersionArn",
        "pattern",
        r#""(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)""#,
    ),
    ("EventSourcePosition", "enum", r#"["LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"]"#),
    ("InvokeMode", "enum", r#"["RESPONSE_STREAM", "BUFFERED"]"#),
];

/// Members that AWS was recorded to look at before the others of their structure.
const FIRST: [(&str, &str); 1] = [("PublishLayerVersionRequest", "CompatibleRuntimes")];

/// Patterns that look around: shape, what must match, what must not.
const LOOKING: [(&str, &str, Option<&str>); 7] = [
    ("Alias", "[a-zA-Z0-9-_]+", Some("[0-9]+")),
    ("CollectionName", "[_a-zA-Z0-9][^$]*", Some("(?s)system\\..*")),
    (
        "FunctionUrlFunctionName",
        "(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_]{1,64})(:[0-9a-zA-Z-_]+)?",
        Some(".*[^:0-9][^:]*:\\d+"),
    ),
    ("FunctionUrlQualifier", "[0-9a-zA-Z-_]+", Some("[0-9]+")),
    ("S3Bucket", "[0-9A-Za-z.\\-_]*", Some(".*\\.")),
    // Letters, numbers and spaces of all scripts: whatever is not ASCII, and of ASCII what is named.
    ("TagKey", "[^\\x00-\\x1f!-*,;<>?\\[-\\^`{-\\x7f]*", None),
    ("TagValue", "[^\\x00-\\x1f!-*,;<>?\\[-\\^`{-\\x7f]*", None),
];

/// Writes the table anew from the model of the tests' packages, or from another: where it is.
pub fn write(repository: &Path, model: Option<PathBuf>) -> Result<PathBuf> {
    let Some(model) = model.or_else(|| find(repository)) else {
        bail!("there is no model below {PACKAGES}: run `make e2e` once, or name a service-2.json.gz");
    };
    let table = repository.join(TABLE);
    fs::write(&table, table_of(&model)?).with_context(|| format!("{} cannot be written", table.display()))?;
    Ok(table)
}

/// The model in the packages of the end-to-end tests, where they are installed.
fn find(repository: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(repository.join(PACKAGES)).ok()?;
    versions.flatten().map(|version| version.path().join(MODEL)).find(|path| path.is_file())
}

/// The table of a model, as text.
fn table_of(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    let model: Value = serde_json::from_reader(GzDecoder::new(file))
        .with_context(|| format!("{} is no service model", path.display()))?;
    let operations = model["operations"].as_object().context("a service model has operations")?;
    let shapes = model["shapes"].as_object().context("a service model has shapes")?;
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut lines = vec!["{\n\"operations\": {".to_owned()];
    let told = operations.iter().map(|(name, operation)| {
        let input = operation["input"]["shape"].as_str().unwrap_or_default();
        reach(shapes, input, &mut wanted);
        let http = &operation["http"];
        let told = json!({ "method": http["method"], "path": http["requestUri"], "input": input });
        format!("{}: {told}", json!(name))
    });
    lines.push(told.collect::<Vec<_>>().join(",\n"));
    lines.push("},\n\"shapes\": {".to_owned());
    let told = wanted.iter().map(|name| Ok(format!("{}: {}", json!(name), shape(name, &shapes[name])?)));
    lines.push(told.collect::<Result<Vec<_>>>()?.join(",\n"));
    lines.push("}\n}\n".to_owned());
    Ok(lines.join("\n"))
}

/// Notes a shape, and all that it is made of.
fn reach(shapes: &Map<String, Value>, name: &str, wanted: &mut BTreeSet<String>) {
    let Some(shape) = shapes.get(name) else { return };
    if !wanted.insert(name.to_owned()) {
        return;
    }
    let members = shape["members"].as_object().into_iter().flat_map(|members| members.values());
    for part in members.chain([&shape["member"], &shape["key"], &shape["value"]]) {
        reach(shapes, part["shape"].as_str().unwrap_or_default(), wanted);
    }
}

/// What the gateway has to know of a shape.
fn shape(name: &str, shape: &Value) -> Result<Value> {
    let mut told = Map::new();
    for member in ["type", "required", "min", "max", "pattern", "sensitive"] {
        if let Some(value) = shape.get(member) {
            told.insert(member.to_owned(), value.clone());
        }
    }
    if let Some(words) = shape.get("enum").and_then(Value::as_array) {
        let words = words.iter().filter_map(Value::as_str).collect();
        told.insert("enum".to_owned(), json!(words::as_java_has_them(words)));
    }
    for part in ["member", "key", "value"] {
        if let Some(of) = shape.get(part) {
            told.insert(part.to_owned(), of["shape"].clone());
        }
    }
    if let Some(members) = shape.get("members").and_then(Value::as_object) {
        let is_first = |(member, _): &(&String, &Value)| FIRST.contains(&(name, member.as_str()));
        let (first, others): (Vec<_>, Vec<_>) = members.iter().partition(is_first);
        told.insert("members".to_owned(), first.into_iter().chain(others).map(member).collect::<Map<_, _>>().into());
    }
    for (_, member, value) in RECORDED.iter().filter(|(of, ..)| *of == name) {
        told.insert((*member).to_owned(), serde_json::from_str(value)?);
    }
    look(name, &mut told)?;
    Ok(told.into())
}

/// A member of a structure: its shape, and where it is when it is not in the body.
fn member((name, member): (&String, &Value)) -> (String, Value) {
    let mut told = json!({ "shape": member["shape"] });
    if let Some(location) = member.get("location") {
        told["in"] = location.clone();
        told["as"] = member["locationName"].clone();
    }
    (name.clone(), told)
}

/// Tells a pattern apart that looks around.
fn look(name: &str, told: &mut Map<String, Value>) -> Result<()> {
    let pattern = told.get("pattern").and_then(Value::as_str).unwrap_or_default();
    match LOOKING.iter().find(|(of, ..)| *of == name) {
        Some((_, matching, except)) => {
            told.insert("match".to_owned(), json!(matching));
            told.extend(except.map(|except| ("except".to_owned(), json!(except))));
        }
        None if ["(?!", "(?<", "\\p{"].iter().any(|look| pattern.contains(look)) => {
            bail!("the pattern of {name} looks around: add it to LOOKING in xtask/src/model/mod.rs ({pattern})");
        }
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_model() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let Some(model) = find(&repository) else {
            println!("skip: no service model below {PACKAGES}; `make e2e` installs it");
            return;
        };
        let table = fs::read_to_string(repository.join(TABLE)).unwrap();
        assert!(table == table_of(&model).unwrap(), "{TABLE} is not that of the model: run `cargo xtask model`");
    }

    #[test]
    fn a_pattern_that_looks_around_is_not_overlooked() {
        let mut told = json!({ "pattern": "(?!a)b" }).as_object().unwrap().clone();
        assert!(look("Novelty", &mut told).unwrap_err().to_string().contains("LOOKING"));
        assert!(look("Alias", &mut told).is_ok() && told["match"] == "[a-zA-Z0-9-_]+");
    }
}
