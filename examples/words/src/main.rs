//! Counts words: `{"text": "to be or not to be"}` becomes `{"words": 6, "longest": "not"}`.
//!
//! ```sh
//! cargo build --release
//! lichen deploy target/release/bootstrap --name words
//! ```

#![forbid(unsafe_code)]

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Request {
    text: String,
}

#[derive(Serialize)]
struct Answer {
    words: usize,
    longest: String,
    request: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(count)).await
}

async fn count(event: LambdaEvent<Request>) -> Result<Answer, Error> {
    let text = event.payload.text;
    if text.is_empty() {
        return Err("there is no text".into());
    }
    let longest = text.split_whitespace().max_by_key(|word| word.len()).unwrap_or_default().to_owned();
    Ok(Answer { words: text.split_whitespace().count(), longest, request: event.context.request_id })
}
