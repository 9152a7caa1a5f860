//! Files as people write them, right and wrong.

use super::*;
use crate::node::Node;
use crate::telemetry::{Format, Log};

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Kettle {
    litres: f64,
    keep_warm_s: u32,
}

impl Default for Kettle {
    fn default() -> Self {
        Self { litres: 1.5, keep_warm_s: 60 }
    }
}

fn read(text: &str) -> Result<(Node, Log, Kettle), ConfigError> {
    let source = Source::of("lichen.toml", text);
    let mut sections = source.parse()?;
    let read = (sections.take("node")?, sections.take("log")?, sections.take("kettle")?);
    sections.finish()?;
    Ok(read)
}

fn complaint(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_all_defaults() {
    let (node, log, kettle) = read("").unwrap();
    assert_eq!((node.listen.port(), node.region.as_str()), (9000, "us-east-1"));
    assert_eq!((log.format, kettle), (Format::Text, Kettle::default()));
}

#[test]
fn a_section_may_be_partial() {
    let (node, log, kettle) =
        read("[kettle]\nkeep_warm_s = 5\n[log]\nformat = \"json\"\n[node]\naccount = \"123456789012\"\n").unwrap();
    assert_eq!((kettle.litres, kettle.keep_warm_s), (1.5, 5));
    assert_eq!((log.format, node.account.as_str()), (Format::Json, "123456789012"));
}

#[test]
fn unknown_keys_are_refused_with_line_and_nearest_key() {
    assert_eq!(
        complaint("# a comment\n[kettle]\nlitres = 2\nkeep_warm = 5\n"),
        "lichen.toml:4: there is no key `keep_warm` in [kettle]: did you mean `keep_warm_s`?"
    );
    assert_eq!(
        complaint("[kettle]\ncolour = 1\n"),
        "lichen.toml:2: there is no key `colour` in [kettle]: it can be one of litres, keep_warm_s"
    );
}

#[test]
fn unknown_sections_are_refused() {
    assert_eq!(complaint("[kettel]\n"), "lichen.toml:1: there is no section [kettel]: did you mean `kettle`?");
    assert!(complaint("\nlisten = 3\n").starts_with("lichen.toml:2: there is no section [listen]"));
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    assert!(complaint("[kettle]\nkeep_warm_s = -1\n").starts_with("lichen.toml:2: the value in [kettle]"));
    assert!(complaint("[kettle]\n\nlitres = \"two\"\n").starts_with("lichen.toml:3: "));
    let account = complaint("[node]\naccount = \"12\"\n");
    assert!(account.starts_with("lichen.toml:2: ") && account.contains("12 digits"), "{account}");
    assert!(complaint("kettle = 3\n").starts_with("lichen.toml:1: "));
}

#[test]
fn broken_syntax_is_refused_with_its_line() {
    assert!(complaint("[node]\nlisten = \n").starts_with("lichen.toml:2: "));
    assert!(complaint("[node\n").starts_with("lichen.toml:1: "));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Source::read(Path::new("nowhere/lichen.toml")).unwrap_err();
    assert_eq!(error.to_string(), "the configuration \"nowhere/lichen.toml\" cannot be read");
}
