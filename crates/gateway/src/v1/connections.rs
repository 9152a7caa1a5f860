//! Connections of programs under `lichen socket run`, as the broker of the node's user knows them, and those of networks of which that
//! user is one, or root. They are asked when somebody asks here.

use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange};
use api::node::Sockets;
use hyper::StatusCode;
use net::broker::doors;
use std::path::Path;

pub async fn connections(exchange: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &census(&exchange.gateway).await))
}

/// What the brokers know; nothing where there is none.
pub async fn census(gateway: &Gateway) -> Sockets {
    let Some(broker) = gateway.broker.get().cloned() else { return Sockets::default() };
    let all = move || {
        let user = rustix::process::geteuid().as_raw();
        let networks = doors::all(Path::new(doors::FOLDER), user);
        net::broker::ask_all(&[vec![broker], networks].concat())
    };
    let asked = tokio::task::spawn_blocking(all).await;
    let answer = asked.map_err(std::io::Error::from).and_then(|answer| answer);
    answer.unwrap_or_else(|error| {
        tracing::debug!(%error, "the broker of sockets does not answer");
        Sockets::default()
    })
}
