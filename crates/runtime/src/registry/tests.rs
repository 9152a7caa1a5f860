//! The registry on a disk of its own.

use super::*;
use crate::codestore::{CodeConfig, Held};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::sync::mpsc::{Receiver, sync_channel};

struct Node {
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = open(folder.path()).unwrap();
        Self { folder, registry }
    }

    fn restart(self) -> Self {
        let Self { folder, registry } = self;
        drop(registry);
        let registry = open(folder.path()).unwrap();
        Self { folder, registry }
    }

    fn upload(&self, text: &str) -> Held {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("app.py", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
        self.registry.code().admit(&zip.finish().unwrap().into_inner()).unwrap()
    }

    fn create(&self, name: &str, text: &str) -> Arc<Entry> {
        self.registry.create(id(name), content(&self.upload(text))).unwrap()
    }

    fn observe(&self) -> Receiver<String> {
        let (sender, receiver) = sync_channel(100);
        self.registry.observe(move |change| {
            sender
                .send(match change {
                    Change::Deployed(function) => format!("+{}", function.key.name),
                    Change::Withdrawn(key) => format!("-{}", key.name),
                })
                .unwrap();
        });
        receiver
    }
}

fn open(folder: &Path) -> Result<Registry, OpenError> {
    let code = CodeStore::open(&folder.join("code"), CodeConfig::default()).unwrap();
    Registry::open(&folder.join("registry.db"), code)
}

fn id(name: &str) -> FunctionId {
    FunctionId { account: "000000000000".into(), region: "us-east-1".into(), name: name.into() }
}

fn content(code: &Held) -> Content {
    Content {
        settings: object(json!({ "Runtime": "python3.11", "Handler": "app.handler", "Novelty": { "B": 1, "A": 2 } })),
        tags: object(json!({ "team": "blue" })),
        code: code.id(),
        code_bytes: code.zip_bytes(),
        reserved: None,
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn set(content: &mut Content, member: &str, value: Value) -> Result<(), ()> {
    content.settings.insert(member.into(), value);
    Ok(())
}

#[test]
fn functions_survive_a_restart_with_members_that_nobody_knows() {
    let node = Node::new();
    let before = node.create("resize", "1");
    let node = node.restart();
    let after = node.registry.find("000000000000", "us-east-1", "resize").unwrap();
    assert_eq!(
        (&after.content, &after.revision, after.modified_ms),
        (&before.content, &before.revision, before.modified_ms)
    );
    assert_eq!(after.function, before.function);
    assert_eq!(serde_json::to_string(&after.content.settings["Novelty"]).unwrap(), r#"{"B":1,"A":2}"#);
    assert!(after.function.code.join("app.py").is_file());
    assert_eq!((after.function.memory_mib, after.function.timeout_s, after.function.tmp_mib), (128, 3, 512));
    assert_eq!(after.function.log_group, "/aws/lambda/resize");
}

#[test]
fn names_are_per_account_and_region() {
    let node = Node::new();
    node.create("f", "1");
    let elsewhere = FunctionId { region: "eu-west-1".into(), ..id("f") };
    node.registry.create(elsewhere.clone(), content(&node.upload("2"))).unwrap();
    assert!(matches!(node.registry.create(id("f"), content(&node.upload("3"))), Err(CreateError::Exists(_))));
    assert_eq!(node.registry.named("f").len(), 2);
    assert!(node.registry.find("111111111111", "us-east-1", "f").is_none());
    node.registry.delete(&elsewhere).unwrap().unwrap();
    assert!(node.registry.delete(&elsewhere).unwrap().is_none());
    let node = node.restart();
    assert_eq!(node.registry.all().into_iter().map(|entry| entry.id.clone()).collect::<Vec<_>>(), [id("f")]);
}

#[test]
fn an_update_changes_the_revision_and_only_a_real_one_the_generation() {
    let node = Node::new();
    let first = node.create("f", "1");
    let limited = node.registry.update(&id("f"), None, |content| -> Result<(), ()> {
        content.reserved = Some(3);
        Ok(())
    });
    let limited = limited.unwrap();
    assert_ne!(limited.revision, first.revision);
    assert_eq!((limited.function.max_concurrency, &limited.function.revision), (Some(3), &first.function.revision));
    let bigger = node.registry.update(&id("f"), Some(&limited.revision), |c| set(c, "MemorySize", json!(256))).unwrap();
    assert_eq!((bigger.function.memory_mib, &bigger.function.revision), (256, &bigger.revision));
}

#[test]
fn an_update_that_is_refused_changes_nothing() {
    let node = Node::new();
    let first = node.create("f", "1");
    let stale = node.registry.update(&id("f"), Some("another"), |_| Ok::<(), ()>(()));
    assert!(matches!(stale, Err(UpdateError::Revision { .. })));
    assert!(matches!(node.registry.update(&id("f"), None, |_| Err("no")), Err(UpdateError::Refused("no"))));
    assert!(matches!(node.registry.update(&id("g"), None, |_| Ok::<(), ()>(())), Err(UpdateError::NotFound(_))));
    let cobol = node.registry.update(&id("f"), None, |c| set(c, "Runtime", json!("cobol")));
    assert!(matches!(cobol, Err(UpdateError::Settings(SettingsError::UnknownRuntime(_)))));
    let malformed = node.registry.update(&id("f"), None, |c| set(c, "Timeout", json!("soon")));
    assert!(matches!(malformed, Err(UpdateError::Settings(SettingsError::Malformed(_)))));
    let node = node.restart();
    assert_eq!(node.registry.find("000000000000", "us-east-1", "f").unwrap().revision, first.revision);
}

#[test]
fn observers_learn_of_what_is_there_and_of_every_change() {
    let node = Node::new();
    node.create("a", "1");
    node.create("b", "1");
    let changes = node.observe();
    node.create("c", "1");
    node.registry.update(&id("a"), None, |c| set(c, "Timeout", json!(9))).unwrap();
    node.registry.delete(&id("b")).unwrap();
    assert_eq!(changes.try_iter().collect::<Vec<_>>(), ["+a", "+b", "+c", "+a", "-b"]);
}

#[test]
fn code_goes_when_no_function_has_it_and_nobody_runs_it() {
    let node = Node::new();
    let (first, shared) = (node.create("f", "1"), node.create("g", "1"));
    let old = first.function.code.clone();
    let second = node.upload("2");
    let update = |name: &str| {
        node.registry.update(&id(name), None, |content| -> Result<(), ()> {
            content.code = second.id();
            Ok(())
        })
    };
    update("f").unwrap();
    assert_eq!(node.registry.sweep().unwrap(), 0);
    update("g").unwrap();
    drop(shared);
    assert_eq!(node.registry.sweep().unwrap(), 0, "an instance of the first state may still run");
    assert!(old.is_dir());
    drop(first);
    assert_eq!(node.registry.sweep().unwrap(), 2);
    assert!(!old.exists());
}

#[test]
fn a_newer_registry_and_a_broken_one_are_refused() {
    let Node { folder, registry } = Node::new();
    drop(registry);
    let path = folder.path().join("registry.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", schema::LATEST + 1).unwrap();
    assert!(matches!(open(folder.path()), Err(OpenError::Newer { .. })));
    std::fs::write(&path, "this is no database, whatever its name says".repeat(100)).unwrap();
    assert!(matches!(open(folder.path()), Err(OpenError::Database { .. })));
}

#[test]
fn a_function_that_cannot_be_read_does_not_hide_the_others() {
    let node = Node::new();
    node.create("good", "1");
    node.create("bad", "1");
    node.registry.writer().connection.execute("UPDATE functions SET settings = '{}' WHERE name = 'bad'", []).unwrap();
    let node = node.restart();
    assert_eq!(node.registry.all().len(), 1);
}

#[test]
fn code_of_a_function_that_cannot_be_read_stays_and_another_of_its_name_begins_anew() {
    let node = Node::new();
    node.create("f", "1");
    publish(&node, "f");
    attach(&node, Facet::Policy, api::lambda::LATEST, json!({ "Version": "2012-10-17" }));
    let settings = "UPDATE functions SET settings = '{}' WHERE name = 'f'";
    node.registry.writer().connection.execute(settings, []).unwrap();
    let node = node.restart();
    assert_eq!(node.registry.sweep().unwrap(), 0);
    node.create("f", "2");
    assert_eq!(node.registry.sweep().unwrap(), 2);
    let node = node.restart();
    assert!(record(&node, "f").attached(Facet::Policy, api::lambda::LATEST).is_none());
    assert_eq!(publish(&node, "f").0.version, Some(1));
}

#[test]
fn a_full_disk_is_told_and_changes_nothing() {
    let node = Node::new();
    let first = node.create("f", "1");
    {
        let writer = node.registry.writer();
        let pages: i64 = writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        writer.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    }
    let long = "x".repeat(1 << 20);
    let full = node.registry.update(&id("f"), None, |c| set(c, "Description", json!(long)));
    assert!(matches!(full, Err(UpdateError::Store(StoreError::DiskFull(_)))));
    let mut content = content(&node.upload("2"));
    content.tags.insert("long".into(), long.into());
    assert!(matches!(node.registry.create(id("g"), content), Err(CreateError::Store(StoreError::DiskFull(_)))));
    let node = node.restart();
    let all = node.registry.all();
    assert_eq!((all.len(), &all[0].revision), (1, &first.revision));
}

fn publish(node: &Node, name: &str) -> (Arc<Entry>, bool) {
    node.registry.publish(&id(name), Publication::default()).unwrap()
}

fn record(node: &Node, name: &str) -> Arc<Record> {
    node.registry.record("000000000000", "us-east-1", name).unwrap()
}

fn attach(node: &Node, facet: Facet, qualifier: &str, value: Value) {
    let change = |_: &Record, _: Option<&Attached>| Ok::<_, ()>(Some(object(value)));
    node.registry.attach(&id("f"), facet, qualifier, change).unwrap().unwrap();
}

#[test]
fn a_version_is_what_the_function_was() {
    let node = Node::new();
    let first = node.create("f", "1");
    let (one, is_new) = publish(&node, "f");
    assert!(is_new && !publish(&node, "f").1, "nothing has changed since");
    node.registry.update(&id("f"), None, |c| set(c, "MemorySize", json!(256))).unwrap();
    let description = Some("two".to_owned());
    let (two, _) = node.registry.publish(&id("f"), Publication { description, ..Publication::default() }).unwrap();
    let names = [&one, &two].map(|entry| entry.function.arn.rsplit(':').next().unwrap().to_owned());
    assert_eq!((names, [one.version, two.version]), (["1".to_owned(), "2".to_owned()], [Some(1), Some(2)]));
    assert_eq!([one.function.memory_mib, two.function.memory_mib], [128, 256]);
    assert_ne!(one.revision, first.revision);
    let node = node.restart();
    let found = record(&node, "f");
    assert_eq!(found.version("1").unwrap().function, one.function);
    assert_eq!(found.version("2").unwrap().content.settings["Description"], "two");
    assert_eq!(found.latest.content.settings.get("Description"), None);
    assert!(found.version("3").is_none() && found.version("live").is_none());
}

#[test]
fn a_publication_of_what_its_caller_does_not_know_is_refused() {
    let node = Node::new();
    node.create("f", "1");
    let stale = Publication { revision: Some("another".into()), ..Publication::default() };
    assert!(matches!(node.registry.publish(&id("f"), stale), Err(PublishError::Revision { .. })));
    let other = Publication { code: Some(vec![1; 32]), ..Publication::default() };
    assert!(matches!(node.registry.publish(&id("f"), other), Err(PublishError::Code { .. })));
    assert!(matches!(node.registry.publish(&id("g"), Publication::default()), Err(PublishError::NotFound(_))));
}

#[test]
fn numbers_of_versions_are_used_once() {
    let node = Node::new();
    node.create("f", "1");
    publish(&node, "f");
    attach(&node, Facet::Policy, "1", json!({}));
    attach(&node, Facet::Alias, "live", json!({ "FunctionVersion": "1" }));
    assert!(matches!(node.registry.delete_version(&id("f"), "1"), Err(RemoveError::Aliased { .. })));
    assert!(node.registry.delete_alias(&id("f"), "live").unwrap());
    node.registry.delete_version(&id("f"), "1").unwrap();
    assert!(matches!(node.registry.delete_version(&id("f"), "1"), Err(RemoveError::NotFound(..))));
    let node = node.restart();
    assert!(record(&node, "f").attached.is_empty());
    assert_eq!(publish(&node, "f").0.version, Some(2));
}

#[test]
fn code_stays_for_versions() {
    let node = Node::new();
    let first = node.create("f", "1");
    publish(&node, "f");
    let second = node.upload("2").id();
    let changed = node.registry.update(&id("f"), None, |content| -> Result<(), ()> {
        content.code = second;
        Ok(())
    });
    changed.unwrap();
    let code = first.function.code.clone();
    drop(first);
    assert_eq!(node.registry.sweep().unwrap(), 0);
    node.registry.delete_version(&id("f"), "1").unwrap();
    assert_eq!(node.registry.sweep().unwrap(), 2);
    assert!(!code.exists());
}

#[test]
fn an_alias_shares_its_traffic_by_weight() {
    let node = Node::new();
    node.create("f", "1");
    publish(&node, "f");
    node.registry.update(&id("f"), None, |c| set(c, "Timeout", json!(9))).unwrap();
    publish(&node, "f");
    let routing = json!({ "AdditionalVersionWeights": { "2": 0.25 } });
    attach(&node, Facet::Alias, "live", json!({ "FunctionVersion": "1", "RoutingConfig": routing }));
    let found = record(&node.restart(), "f");
    let chosen = |qualifier: &str, lot: f64| found.chosen(qualifier, lot).map(|entry| entry.version_name());
    assert_eq!(
        [0.0, 0.2499, 0.25, 0.9999].map(|lot| chosen("live", lot)),
        [Some("2"), Some("2"), Some("1"), Some("1")]
    );
    assert_eq!((chosen("2", 0.9), chosen("$LATEST", 0.0), chosen("other", 0.0)), (Some("2"), Some("$LATEST"), None));
    assert_eq!(found.qualified("live").unwrap().version, Some(1));
    assert_eq!((found.aliases_of("2").count(), found.aliases_of("3").count()), (1, 0));
}

#[test]
fn versions_share_what_is_reserved_and_are_told_of_when_they_are_provisioned() {
    let node = Node::new();
    node.create("f", "1");
    publish(&node, "f");
    let changes = node.observe();
    let reserve = node.registry.update(&id("f"), None, |content| -> Result<(), ()> {
        content.reserved = Some(3);
        Ok(())
    });
    reserve.unwrap();
    assert_eq!(record(&node, "f").version("1").unwrap().function.max_concurrency, Some(3));
    attach(&node, Facet::Alias, "live", json!({ "FunctionVersion": "1" }));
    assert_eq!(changes.try_iter().count(), 2, "there at first, and changed");
    attach(&node, Facet::Provisioned, "live", json!({ "ProvisionedConcurrentExecutions": 2 }));
    assert_eq!(record(&node, "f").version("1").unwrap().function.min_warm, 2);
    assert_eq!(changes.try_iter().collect::<Vec<_>>(), ["+f"]);
    node.registry.delete_alias(&id("f"), "live").unwrap();
    assert_eq!(record(&node, "f").version("1").unwrap().function.min_warm, 0);
    assert_eq!(changes.try_iter().collect::<Vec<_>>(), ["+f"]);
    node.registry.delete(&id("f")).unwrap();
    assert_eq!(changes.try_iter().collect::<Vec<_>>(), ["-f", "-f"]);
}

#[test]
fn a_url_is_found_by_its_id_as_long_as_it_is_there() {
    let node = Node::new();
    node.create("f", "1");
    attach(&node, Facet::Url, "$LATEST", json!({ "Id": "abc" }));
    let node = node.restart();
    let (found, qualifier) = node.registry.url("abc").unwrap();
    assert_eq!((found.latest.id.name.as_str(), qualifier.as_str()), ("f", "$LATEST"));
    node.registry.delete(&id("f")).unwrap();
    assert!(node.registry.url("abc").is_none());
    node.create("f", "1");
    assert!(record(&node, "f").attached.is_empty(), "a new function has nothing of an old one");
}

#[test]
fn a_registry_of_the_first_form_is_taken_over() {
    let node = Node::new();
    let first = node.create("f", "1");
    let undo =
        "DROP TABLE resources; DROP TABLE layers; DROP TABLE layer_versions; DROP TABLE versions; DROP TABLE facets;
        ALTER TABLE functions DROP COLUMN last_version;
        PRAGMA user_version = 1;";
    node.registry.writer().connection.execute_batch(undo).unwrap();
    let node = node.restart();
    assert_eq!(record(&node, "f").latest.revision, first.revision);
    assert_eq!(publish(&node, "f").0.version, Some(1));
}

#[test]
fn resources_survive_a_restart_and_are_an_accounts_in_a_region() {
    let node = Node::new();
    let id = |kind, name: &str| ResourceId { account: "0".into(), region: "r".into(), kind, name: name.into() };
    let made = |id: ResourceId| {
        let value = Some(object(json!({ "Tags": { "a": "1" } })));
        node.registry.change_resource(id, |old| if old.is_some() { Err("there") } else { Ok(value) })
    };
    let provider = id(ResourceKind::CapacityProvider, "p");
    let first = made(provider.clone()).unwrap().unwrap();
    assert_eq!(first.id.arn(), "arn:aws:lambda:r:0:capacity-provider:p");
    assert!(matches!(made(provider.clone()), Err(ChangeError::Refused("there"))));
    made(id(ResourceKind::CodeSigning, "p")).unwrap();
    made(id(ResourceKind::CapacityProvider, "q")).unwrap();
    let node = node.restart();
    assert_eq!(node.registry.resource(&provider), Some(first));
    let gone = node.registry.change_resource(provider.clone(), |_| Ok::<_, ()>(None)).unwrap();
    assert_eq!((gone, node.registry.resource(&provider)), (None, None));
    let named = |account: &str, kind| node.registry.resources(account, "r", kind).len();
    assert_eq!((named("0", ResourceKind::CapacityProvider), named("0", ResourceKind::CodeSigning)), (1, 1));
    assert_eq!(named("1", ResourceKind::CapacityProvider), 0);
}
