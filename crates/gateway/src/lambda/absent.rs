//! Resources that this node does not have: lists of them are empty, one of them is not found, and whoever would make one is
//! told that it cannot be made here. Every operation of Lambda's that no other module has is in this table.

use super::fault::Fault;
use super::scope;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use serde_json::json;

pub const ROUTES: &[Route] = &[
    route!(GET "/2020-04-22/code-signing-configs" ListCodeSigningConfigs => no_signing_configs),
    route!(POST "/2020-04-22/code-signing-configs" CreateCodeSigningConfig => no_signing),
    route!(GET "/2020-04-22/code-signing-configs/*" GetCodeSigningConfig => no_such_signing_config),
    route!(PUT "/2020-04-22/code-signing-configs/*" UpdateCodeSigningConfig => no_such_signing_config),
    route!(DELETE "/2020-04-22/code-signing-configs/*" DeleteCodeSigningConfig => no_such_signing_config),
    route!(GET "/2020-04-22/code-signing-configs/*/functions" ListFunctionsByCodeSigningConfig => no_such_signing_config),
    route!(GET "/2015-03-31/event-source-mappings" ListEventSourceMappings => no_mappings),
    route!(POST "/2015-03-31/event-source-mappings" CreateEventSourceMapping => no_sources),
    route!(GET "/2015-03-31/event-source-mappings/*" GetEventSourceMapping => no_such_resource),
    route!(PUT "/2015-03-31/event-source-mappings/*" UpdateEventSourceMapping => no_such_resource),
    route!(DELETE "/2015-03-31/event-source-mappings/*" DeleteEventSourceMapping => no_such_resource),
    route!(GET "/2025-11-30/capacity-providers" ListCapacityProviders => no_providers),
    route!(POST "/2025-11-30/capacity-providers" CreateCapacityProvider => no_capacity),
    route!(GET "/2025-11-30/capacity-providers/*" GetCapacityProvider => no_such_provider),
    route!(PUT "/2025-11-30/capacity-providers/*" UpdateCapacityProvider => no_such_provider),
    route!(DELETE "/2025-11-30/capacity-providers/*" DeleteCapacityProvider => no_such_provider),
    route!(GET "/2018-10-31/layers" ListLayers => layers),
    route!(GET "/2018-10-31/layers/*/versions" ListLayerVersions => no_layer_versions),
    route!(POST "/2018-10-31/layers/*/versions" PublishLayerVersion => no_layers),
    route!(GET "/2018-10-31/layers/*/versions/*" GetLayerVersion => no_such_resource),
    // One that is not there is deleted already.
    route!(DELETE "/2018-10-31/layers/*/versions/*" DeleteLayerVersion => deleted),
    route!(GET "/2018-10-31/layers/*/versions/*/policy" GetLayerVersionPolicy => no_such_layer),
    route!(POST "/2018-10-31/layers/*/versions/*/policy" AddLayerVersionPermission => no_such_layer),
    route!(DELETE "/2018-10-31/layers/*/versions/*/policy/**" RemoveLayerVersionPermission => no_such_layer),
];

async fn no_signing_configs(_: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &json!({ "CodeSigningConfigs": [] })))
}

async fn no_mappings(_: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &json!({ "EventSourceMappings": [] })))
}

async fn no_providers(_: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &json!({ "CapacityProviders": [] })))
}

/// Also `?find=LayerVersion&Arn=…`, GetLayerVersionByArn.
async fn layers(exchange: Exchange) -> Answer {
    match exchange.query("find") {
        Some(find) if find == "LayerVersion" => no_such_resource(exchange).await,
        _ => Ok(answer::json(StatusCode::OK, &json!({ "Layers": [] }))),
    }
}

async fn no_layer_versions(_: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &json!({ "LayerVersions": [] })))
}

async fn deleted(_: Exchange) -> Answer {
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn no_such_layer(exchange: Exchange) -> Answer {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let (layer, version) = (exchange.capture(0), exchange.capture(1));
    let layer = match layer.starts_with("arn:") {
        true => layer.into_owned(),
        false => format!("arn:aws:lambda:{}:{}:layer:{layer}", scope.region, scope.account),
    };
    Err(Fault::not_found(format!("Layer version {layer}:{version} does not exist.")))
}

async fn no_such_signing_config(exchange: Exchange) -> Answer {
    let message = format!("The Lambda code signing configuration {} can not be found.", exchange.capture(0));
    Err(Fault::not_found(message))
}

async fn no_such_resource(_: Exchange) -> Answer {
    Err(Fault::not_found("The resource you requested does not exist."))
}

async fn no_such_provider(exchange: Exchange) -> Answer {
    Err(Fault::not_found(format!("Capacity provider not found: {}", exchange.capture(0))))
}

async fn no_signing(_: Exchange) -> Answer {
    refused("Code is not signed on this node, and so no code signing configuration can be made. Deploy without one.")
}

async fn no_layers(_: Exchange) -> Answer {
    refused(
        "Layers are not available on this node yet: none was published. Put their files into the function's package.",
    )
}

async fn no_sources(_: Exchange) -> Answer {
    refused("Event sources are not available on this node yet: no mapping was made. Invoke the function directly.")
}

async fn no_capacity(_: Exchange) -> Answer {
    refused("This node is all the capacity that there is: no capacity provider was made. Deploy without one.")
}

fn refused(why: &str) -> Answer {
    Err(Fault::not_implemented(why))
}
