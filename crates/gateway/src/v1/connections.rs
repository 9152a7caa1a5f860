//! Connections of programs under `lichen socket run`, as the broker of the node's user knows them. It is asked when somebody asks
//! here.

use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange};
use api::node::Sockets;
use hyper::StatusCode;

pub async fn connections(exchange: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &census(&exchange.gateway).await))
}

/// What the broker knows; nothing where there is none.
pub async fn census(gateway: &Gateway) -> Sockets {
    let Some(broker) = gateway.broker.get().cloned() else { return Sockets::default() };
    let asked = tokio::task::spawn_blocking(move || net::broker::ask(&broker)).await;
    let answer = asked.map_err(std::io::Error::from).and_then(|answer| answer);
    answer.unwrap_or_else(|error| {
        tracing::debug!(%error, "the broker of sockets does not answer");
        Sockets::default()
    })
}
