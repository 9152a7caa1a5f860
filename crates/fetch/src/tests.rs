//! The functions against servers of the tests' own, well-behaved and otherwise.

mod http;
mod limits;
mod policy;
mod server;

use crate::names::{Lookup, Names};
use crate::{Fetch, FetchConfig, FetchError, Function, Terms};
use aws::Aws;
use bytes::Bytes;
use sets::{Item, Set, Sets};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

const ALL: &[&str] = &["headers", "bodies", "responses", "status"];

/// Names that mean what the test says: one answer after the other, the last for ever.
#[derive(Default)]
struct Known(Mutex<HashMap<String, Vec<Vec<IpAddr>>>>);

impl Names for Known {
    fn look_up(&self, host: &str) -> Lookup {
        let mut known = self.0.lock().unwrap();
        let found =
            known.get_mut(host).map(|answers| if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() });
        Box::pin(async move { found.ok_or_else(|| std::io::ErrorKind::NotFound.into()) })
    }
}

/// A node whose functions may reach this machine, with the names that a test knows.
fn fetch(change: impl FnOnce(&mut FetchConfig), names: &[(&str, &[&[&str]])]) -> Fetch {
    let mut config = FetchConfig { allow: rules(&["127.0.0.0/8", "[::1]"]), ..FetchConfig::default() };
    change(&mut config);
    let parsed =
        |answers: &[&[&str]]| answers.iter().map(|list| list.iter().map(|it| it.parse().unwrap()).collect()).collect();
    let known = names.iter().map(|(name, answers)| ((*name).to_owned(), parsed(answers))).collect();
    Fetch::over(&config, Aws::default(), "us-east-1", Box::new(Known(Mutex::new(known)))).unwrap()
}

fn rules(texts: &[&str]) -> Vec<crate::policy::Rule> {
    texts.iter().map(|text| (*text).to_owned().try_into().unwrap()).collect()
}

fn requests(texts: &[String]) -> Sets<Bytes> {
    let items = texts.iter().enumerate().map(|(at, text)| Item::new(format!("r{at}"), at as u64, text.clone().into()));
    vec![Set::new("requests", items.collect())]
}

async fn run(fetch: &Fetch, texts: &[String], outputs: &[&str]) -> Result<Sets<Bytes>, FetchError> {
    let terms = Terms { deadline: Instant::now() + Duration::from_secs(30), outputs };
    fetch.run(Function::Http, requests(texts), terms).await
}

/// What one request came to: its body where it came to something, else the kind of its failure.
async fn one(fetch: &Fetch, text: impl Into<String>) -> Result<String, &'static str> {
    match run(fetch, &[text.into()], &["bodies"]).await {
        Ok(sets) => Ok(String::from_utf8_lossy(&sets[0].items[0].data).into_owned()),
        Err(FetchError::Item { source, .. }) => Err(source.kind()),
        Err(other) => panic!("{other}"),
    }
}
