//! An account in a region: its limits, which are the node's, and what it uses of them.

use super::concurrency;
use super::scope;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use serde_json::json;

pub const ROUTES: &[Route] = &[route!(GET "/2016-08-19/account-settings" GetAccountSettings => settings)];

/// Bytes of code that AWS lets an account have. A node has what its disk has, and clients want a number.
const CODE_MAX: u64 = 80_530_636_800;

async fn settings(exchange: Exchange) -> Answer {
    let config = &exchange.gateway.config;
    let scope = scope::of(&exchange.head, &config.node);
    let records = exchange.gateway.registry.records();
    let here = records.iter().filter(|record| {
        let id = &record.latest.id;
        id.account == scope.account && id.region == scope.region
    });
    let (mut functions, mut bytes) = (0u64, 0);
    for record in here {
        functions += 1;
        bytes += record.entries().map(|entry| entry.content.code_bytes).sum::<u64>();
    }
    let layers = exchange.gateway.registry.layer_bytes(&scope.account, &scope.region);
    // What is taken is taken on the node, by whomever.
    let taken = records.iter().map(|record| concurrency::taken(record)).sum();
    let total = u64::from(config.dispatch.concurrency);
    let shown = json!({
        "AccountLimit": {
            "TotalCodeSize": CODE_MAX,
            "CodeSizeUnzipped": config.code.unzipped_max,
            "CodeSizeZipped": config.code.zip_max,
            "ConcurrentExecutions": total,
            "UnreservedConcurrentExecutions": total.saturating_sub(taken),
        },
        "AccountUsage": { "TotalCodeSize": bytes + layers, "FunctionCount": functions },
    });
    Ok(answer::json(StatusCode::OK, &shown))
}
