//! The store as a whole.

use super::*;
use std::task::Waker;

fn group(name: &str) -> Arc<LogGroup> {
    Arc::new(LogGroup { account: "0".into(), region: "r".into(), name: name.into() })
}

fn entry(group: &Arc<LogGroup>, text: &str) -> Entry {
    Entry {
        group: group.clone(),
        stream: "s".into(),
        request_id: "id".into(),
        at_ms: 7,
        text: text.as_bytes().to_vec(),
    }
}

async fn texts(store: &Arc<LogStore>, group: &LogGroup) -> Vec<String> {
    let records = store.read(group, Query::default()).await.unwrap();
    records.into_iter().map(|record| record.text.into()).collect()
}

#[tokio::test]
async fn what_was_appended_is_read_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let store = LogStore::open(folder.path(), LogConfig::default()).unwrap();
    let (a, b) = (group("/aws/lambda/a"), group("/aws/lambda/b"));
    store.append(entry(&a, "one\ntwo\n\n"));
    store.append(entry(&b, "other"));
    store.append(entry(&a, "three"));
    assert_eq!(texts(&store, &a).await, ["one", "two", "", "three"]);
    assert_eq!(texts(&store, &b).await, ["other"]);
    store.remove(&a);
    assert_eq!(texts(&store, &a).await, [""; 0]);
    store.append(entry(&a, "again"));
    drop(store);
    let store = LogStore::open(folder.path(), LogConfig::default()).unwrap();
    assert_eq!(texts(&store, &a).await, ["again"], "logs survive their store");
}

#[tokio::test]
async fn followers_hear_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let store = LogStore::open(folder.path(), LogConfig::default()).unwrap();
    let a = group("a");
    store.append(entry(&a, "before"));
    store.flush().await;
    let mut follower = store.follow(&a);
    store.append(entry(&group("b"), "other"));
    store.append(entry(&a, "one\ntwo"));
    let mut hear = async || follower.recv().await.unwrap().text;
    assert_eq!([&*hear().await, &*hear().await], ["one", "two"]);
}

#[tokio::test]
async fn there_is_room_again_when_the_writer_has_written() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::default();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(queue.poll_room(&mut cx).is_ready());
    (0..9).for_each(|_| queue.push(entry(&group("a"), &"x".repeat(1 << 20))));
    assert!(queue.poll_room(&mut cx).is_pending());
    assert!(matches!(queue.next(std::time::Duration::ZERO), queue::Wake::Write(batch) if batch.entries.len() == 9));
    assert!(queue.poll_room(&mut cx).is_ready());

    let store = LogStore::open(folder.path(), LogConfig::default()).unwrap();
    for _ in 0..40 {
        std::future::poll_fn(|cx| store.poll_room(cx)).await;
        store.append(entry(&group("a"), &"x".repeat(1 << 20)));
    }
    assert_eq!(texts(&store, &group("a")).await.len(), 40);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_loses_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = LogStore::open(folder.path(), LogConfig::default()).unwrap();
    std::fs::write(folder.path().join("0"), "a file where a folder is needed").unwrap();
    store.append(entry(&group("a"), "text"));
    store.flush().await;
    assert!(store.lost_bytes() > 0);
}

#[tokio::test]
async fn one_group_that_cannot_be_written_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = LogStore::open(folder.path(), LogConfig::default()).unwrap();
    std::fs::write(folder.path().join("1"), "a file where a folder is needed").unwrap();
    let put = |account: &str| {
        let group = LogGroup { account: account.into(), ..(*group("a")).clone() };
        store.put(LogStore::put_into(group, "s", vec![(7, "text".into())]))
    };
    let (well, ill, again) = tokio::join!(put("0"), put("1"), put("0"));
    assert!(well.is_ok() && ill.is_err() && again.is_ok());
    assert_eq!(texts(&store, &group("a")).await, ["text", "text"]);
}

#[test]
fn a_folder_that_cannot_be_had_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(LogStore::open(file.path(), LogConfig::default()).is_err());
}
