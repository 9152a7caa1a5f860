//! What is kept of a function and changes nothing on this node: its recursion, runtime management and scaling
//! configurations.

use super::attach;
use super::fault::Fault;
use super::function::read_object;
use super::name;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use hyper::StatusCode;
use runtime::registry::Facet;
use serde_json::{Map, Value, json};

pub const ROUTES: &[Route] = &[
    route!(GET "/2024-08-31/functions/*/recursion-config" GetFunctionRecursionConfig => recursion),
    route!(PUT "/2024-08-31/functions/*/recursion-config" PutFunctionRecursionConfig => put_recursion),
    route!(GET "/2021-07-20/functions/*/runtime-management-config" GetRuntimeManagementConfig => runtime),
    route!(PUT "/2021-07-20/functions/*/runtime-management-config" PutRuntimeManagementConfig => put_runtime),
    route!(GET "/2025-11-30/functions/*/function-scaling-config" GetFunctionScalingConfig => scaling),
    route!(PUT "/2025-11-30/functions/*/function-scaling-config" PutFunctionScalingConfig => put_scaling),
];

async fn recursion(exchange: Exchange) -> Answer {
    let record = name::function_of_path(&exchange)?.record(&exchange.gateway)?;
    let kept = record.attached(Facet::Recursion, LATEST).map(|kept| kept.text("RecursiveLoop"));
    Ok(answer::json(StatusCode::OK, &json!({ "RecursiveLoop": kept.unwrap_or("Terminate") })))
}

async fn put_recursion(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "PutFunctionRecursionConfig").await?;
    let id = name::function_of_path(&exchange)?.id();
    let kept = keep(&request, &["RecursiveLoop"]);
    let kept = attach::put(&exchange, id, (Facet::Recursion, LATEST.to_owned()), |_, _| Ok(kept)).await?;
    Ok(answer::json(StatusCode::OK, &Value::Object(kept.value.clone())))
}

async fn runtime(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let record = target.record(&exchange.gateway)?;
    let place = target.place(&record)?;
    let kept = record.attached(Facet::RuntimeManagement, &place).map(|kept| kept.value.clone());
    let mut shown = kept.unwrap_or_else(|| Map::from_iter([("UpdateRuntimeOn".to_owned(), "Auto".into())]));
    shown.insert("FunctionArn".into(), target.arn().into());
    Ok(answer::json(StatusCode::OK, &Value::Object(shown)))
}

async fn put_runtime(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "PutRuntimeManagementConfig").await?;
    let target = name::of_path(&exchange)?;
    let place = target.place(&*target.record(&exchange.gateway)?)?;
    let is_manual = request.get("UpdateRuntimeOn").is_some_and(|mode| mode == "Manual");
    if is_manual != request.get("RuntimeVersionArn").is_some_and(|arn| !arn.is_null()) {
        let message = "RuntimeVersionArn goes with UpdateRuntimeOn Manual, and with no other. Give both or neither.";
        return Err(Fault::invalid_parameter(message));
    }
    let kept = keep(&request, &["UpdateRuntimeOn", "RuntimeVersionArn"]);
    let kept = attach::put(&exchange, target.id(), (Facet::RuntimeManagement, place), |_, _| Ok(kept)).await?;
    let mut shown = kept.value.clone();
    shown.insert("FunctionArn".into(), target.arn().into());
    Ok(answer::json(StatusCode::OK, &Value::Object(shown)))
}

async fn scaling(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let record = target.record(&exchange.gateway)?;
    let place = target.place(&record)?;
    let mut shown = json!({ "FunctionArn": format!("{}:{place}", target.id().arn()) });
    if let Some(config) = record.attached(Facet::Scaling, &place) {
        let config = Value::Object(config.value.clone());
        shown["AppliedFunctionScalingConfig"] = config.clone();
        shown["RequestedFunctionScalingConfig"] = config;
    }
    Ok(answer::json(StatusCode::OK, &shown))
}

async fn put_scaling(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "PutFunctionScalingConfig").await?;
    let target = name::of_path(&exchange)?;
    let place = target.place(&*target.record(&exchange.gateway)?)?;
    let config = request.get("FunctionScalingConfig").and_then(Value::as_object).cloned();
    attach::attach(&exchange, target.id(), (Facet::Scaling, place), |_, _| Ok(config)).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &json!({ "FunctionState": "Active" })))
}

fn keep(request: &Map<String, Value>, members: &[&str]) -> Map<String, Value> {
    let given = request.iter().filter(|(name, value)| members.contains(&name.as_str()) && !value.is_null());
    given.map(|(name, value)| (name.clone(), value.clone())).collect()
}
