//! What tests of pollers play on: a mapping with its surroundings, and a service of the test's own.

use crate::invoker::{Invoked, Invoker, NotTaken, Promise};
use crate::mapping::{Kind, Mapping};
use crate::store::Store;
use crate::work::{Progress, Work};
use aws::config::Endpoint;
use aws::{Aws, AwsConfig};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A mapping at work, until it is told to stop.
pub struct Stage {
    pub work: Work,
    pub stop: watch::Sender<bool>,
    _folder: TempDir,
}

impl Stage {
    pub fn new(source: &str, settings: Value, aws: Aws, invoker: Arc<dyn Invoker>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mapping = Mapping {
            uuid: "u".into(),
            account: String::new(),
            region: String::new(),
            function: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
            kind: Kind::of(source).unwrap(),
            source: source.into(),
            settings: settings.as_object().unwrap().clone(),
            tags: Map::new(),
            enabled: true,
            created_ms: 0,
            modified_ms: 0,
        };
        let (stop, stopped) = watch::channel(false);
        let work = Work {
            filters: mapping.filters().into(),
            mapping: Arc::new(mapping),
            aws: Arc::new(aws),
            invoker,
            store: Arc::new(Store::open(&folder.path().join("s.db")).unwrap()),
            progress: Arc::new(Progress::new()),
            stop: stopped,
        };
        Self { work, stop, _folder: folder }
    }
}

/// Does well whatever it is given.
pub struct Eater;

impl Invoker for Eater {
    fn invoke(&self, _: &str, _: String, _: Bytes) -> Promise<Invoked> {
        Box::pin(async { Invoked::Answered { body: "null".into(), failed: false, version: "1".into() } })
    }

    fn tell(&self, _: &str, _: Bytes) -> Promise<Result<(), NotTaken>> {
        Box::pin(async { Ok(()) })
    }

    fn role(&self, _: &str) -> String {
        String::new()
    }

    fn event_max(&self) -> usize {
        6 << 20
    }
}

/// Operations that a service was asked for, with what they were asked with.
pub type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A client of a service that answers each operation as this function says: status and body.
pub async fn service(answer: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static) -> (Aws, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let asked = Asked::default();
    let noted = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Whoever was cut off asks nothing.
            let Some((operation, request)) = read(&mut stream).await else { continue };
            let (status, body) = answer(&operation, &request);
            noted.lock().unwrap().push((operation, request));
            let body = body.to_string();
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (Aws::open(AwsConfig { endpoint, retries: 0, ..AwsConfig::default() }).unwrap(), asked)
}

async fn read(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        if header("content-length: ").is_some_and(|length| length == body.len().to_string()) {
            let (_, operation) = header("x-amz-target: ")?.split_once('.')?;
            return Some((operation.to_owned(), serde_json::from_str(body).ok()?));
        }
    }
}
