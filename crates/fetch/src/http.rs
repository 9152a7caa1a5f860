//! The function `http`: request items in, answer items out.

use crate::answer::{Made, Status, Taken, head};
use crate::exchange::{Answer, Exchanger};
use crate::failure::Failure;
use crate::redirect;
use crate::request::{self, Request};
use bytes::Bytes;
use sets::Item;
use std::time::Duration;
use tokio::time::timeout;

/// What the function needs.
pub struct Http {
    pub exchanger: Exchanger,
    pub redirects: u32,
    pub total: Duration,
}

impl Http {
    /// One item: a request, redirects and all.
    pub async fn run(&self, item: &Item<Bytes>, taken: Taken) -> Result<Made, Failure> {
        let request = request::read(&item.data, self.exchanger.head_max)?;
        let patience = request.timeout.map_or(self.total, |own| own.min(self.total));
        let begun = std::time::Instant::now();
        let followed = timeout(patience, self.follow(request)).await;
        let (answer, last, redirects) = followed.map_err(|_| Failure::Timeout { patience })??;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (status, url) = (answer.status.as_u16(), last.target.shown());
        tracing::debug!(method = %last.method, %url, status, redirects, bytes = answer.body.len(), us = took, "fetched");
        self.made(item, &answer, Status::answered(status, url, redirects), taken)
    }

    /// The last answer, the request that it is to, and how many there were before.
    async fn follow(&self, mut request: Request) -> Result<(Answer, Request, u32), Failure> {
        let limit = request.redirects.map_or(self.redirects, |own| own.min(self.redirects));
        // Who wants no redirect followed wants to see it.
        let follows = request.redirects != Some(0);
        for redirects in 0.. {
            let answer = self.exchanger.exchange(&request).await?;
            let next = if follows { redirect::next(&request, answer.status, &answer.headers) } else { Ok(None) };
            let lost = |source| Failure::Redirect { host: request.target.host.clone(), source };
            match next.map_err(lost)? {
                None => return Ok((answer, request, redirects)),
                Some(_) if redirects == limit => break,
                Some(next) => request = next,
            }
        }
        Err(Failure::Redirects { limit })
    }

    fn made(&self, item: &Item<Bytes>, answer: &Answer, status: Status<'_>, taken: Taken) -> Result<Made, Failure> {
        let mut made = Vec::with_capacity(4);
        let mut put = |set, data| made.push((set, Item::new(item.name.clone(), item.key, data)));
        if taken.has("headers") {
            put("headers", head(answer).freeze());
        }
        if taken.has("responses") {
            let mut text = head(answer);
            text.extend_from_slice(&answer.body);
            put("responses", self.exchanger.room.whole(text.freeze(), usize::MAX)?);
        }
        if taken.has("bodies") {
            put("bodies", answer.body.clone());
        }
        if taken.has_status() {
            made.push(status.item(&item.name, item.key));
        }
        Ok(made)
    }
}
