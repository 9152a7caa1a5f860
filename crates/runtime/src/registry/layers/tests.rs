//! Layers on a disk of their own.

use super::*;
use crate::codestore::{CodeConfig, CodeStore};
use serde_json::json;

fn open(folder: &std::path::Path) -> Registry {
    let code = CodeStore::open(&folder.join("code"), CodeConfig { durable: false, ..CodeConfig::default() }).unwrap();
    Registry::open(&folder.join("registry.db"), code).unwrap()
}

fn id(name: &str) -> LayerId {
    LayerId { account: "000000000000".into(), region: "us-east-1".into(), name: name.into() }
}

fn content(text: &str) -> LayerContent {
    let value = json!({ "Description": text }).as_object().unwrap().clone();
    LayerContent { value, code: CodeId::of(text.as_bytes()), code_bytes: 7 }
}

#[test]
fn versions_survive_a_restart_and_numbers_are_used_once() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path());
    let [one, two] = ["1", "2"].map(|text| registry.publish_layer(id("l"), content(text)).unwrap());
    assert_eq!((one.number, two.number), (1, 2));
    assert_eq!(one.arn(), "arn:aws:lambda:us-east-1:000000000000:layer:l:1");
    let allow = json!({ "Statement": [] }).as_object().cloned();
    let changed = registry.change_layer_policy(&id("l"), 1, |_| Ok::<_, ()>(allow)).unwrap();
    assert!(
        registry.delete_layer_version(&id("l"), 2).unwrap() && !registry.delete_layer_version(&id("l"), 2).unwrap()
    );
    drop(registry);
    let registry = open(folder.path());
    assert_eq!(registry.layer_version(&id("l"), 1), Some(changed));
    assert_eq!(registry.layer_version(&id("l"), 2), None);
    assert_eq!(registry.publish_layer(id("l"), content("3")).unwrap().number, 3);
    let numbers: Vec<u64> = registry.layer_versions(&id("l")).iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 3]);
}

#[test]
fn names_are_an_accounts_in_a_region() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path());
    for name in ["b", "a", "gone"] {
        registry.publish_layer(id(name), content(name)).unwrap();
    }
    registry.publish_layer(LayerId { region: "eu-west-1".into(), ..id("far") }, content("far")).unwrap();
    registry.delete_layer_version(&id("gone"), 1).unwrap();
    assert_eq!(registry.layer_names("000000000000", "us-east-1"), ["a", "b"]);
    assert_eq!(registry.layer_names("000000000000", "eu-west-1"), ["far"]);
    assert!(registry.layer_names("111111111111", "us-east-1").is_empty());
}

#[test]
fn a_policy_of_what_is_not_there_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path());
    let refused = registry.change_layer_policy(&id("l"), 1, |_| Ok::<_, ()>(None)).unwrap_err();
    assert_eq!(refused.to_string(), "Layer version arn:aws:lambda:us-east-1:000000000000:layer:l:1 does not exist.");
    registry.publish_layer(id("l"), content("1")).unwrap();
    assert!(matches!(registry.change_layer_policy(&id("l"), 1, |_| Err(7)), Err(PolicyError::Refused(7))));
    assert_eq!(registry.layer_version(&id("l"), 1).unwrap().policy, None);
}

#[test]
fn code_stays_for_layers_and_for_the_functions_that_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path());
    let upload = |name: &str| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        registry.code().admit(&zip.finish().unwrap().into_inner()).unwrap()
    };
    let held = [upload("app.py"), upload("a"), upload("b")];
    let [code, a, b] = held.each_ref().map(|held| held.id());
    let bundle = registry.code().bundle(&[a, b]).unwrap().unwrap();
    let folder_of_bundle = registry.code().folder(bundle.id());
    registry.publish_layer(id("a"), LayerContent { code: a, ..content("a") }).unwrap();
    let layers =
        json!([{ "Arn": "a", "CodeSize": 1, "Code": a.hex() }, { "Arn": "b", "CodeSize": 1, "Code": b.hex() }]);
    let settings = json!({ "Runtime": "python3.11", "Handler": "app.handler", "Layers": layers });
    let settings = settings.as_object().unwrap().clone();
    let function = super::super::FunctionId { account: "0".into(), region: "r".into(), name: "f".into() };
    let content = super::super::Content { settings, tags: Map::new(), code, code_bytes: 1, reserved: None };
    let entry = registry.create(function.clone(), content).unwrap();
    assert_eq!(entry.function.layers.as_ref(), Some(&folder_of_bundle));
    drop((held, bundle));
    // The second layer was never published: only the function has it, in its bundle.
    assert_eq!(registry.sweep().unwrap(), 2);
    assert!(folder_of_bundle.join("a").is_file() && folder_of_bundle.join("b").is_file());
    assert!(registry.code().folder(a).is_dir() && !registry.code().folder(b).exists());
    registry.delete(&function).unwrap();
    drop(entry);
    registry.delete_layer_version(&id("a"), 1).unwrap();
    assert!(registry.sweep().unwrap() > 0 && !folder_of_bundle.exists() && !registry.code().folder(a).exists());
}
