//! Function URLs as a resource: an address of its own for a function or an alias. What is asked of that address is answered
//! by [`crate::url`].

use super::attach;
use super::constraint;
use super::fault::Fault;
use super::function::read_object;
use super::name::{self, Target};
use super::page::Page;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use hyper::StatusCode;
use runtime::registry::{Attached, Facet, FunctionId, Qualified};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub const ROUTES: &[Route] = &[
    route!(POST "/2021-10-31/functions/*/url" CreateFunctionUrlConfig => create),
    route!(GET "/2021-10-31/functions/*/url" GetFunctionUrlConfig => get),
    route!(PUT "/2021-10-31/functions/*/url" UpdateFunctionUrlConfig => update),
    route!(DELETE "/2021-10-31/functions/*/url" DeleteFunctionUrlConfig => delete),
    route!(GET "/2021-10-31/functions/*/urls" ListFunctionUrlConfigs => list),
];

const QUALIFIER: &str = "((?!^\\d+$)^[0-9a-zA-Z-_]+$)";
const NO_RESOURCE: &str = "The resource you requested does not exist.";
const NO_FUNCTION: &str = "Function does not exist";
const MEMBERS: [&str; 3] = ["AuthType", "InvokeMode", "Cors"];

async fn create(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "CreateFunctionUrlConfig").await?;
    let target = target(&exchange)?;
    target.find(&exchange.gateway).map_err(|_| Fault::not_found(NO_FUNCTION))?;
    let arn = target.arn();
    let created = attach::put(&exchange, target.id(), place(&target), move |_, old| {
        if old.is_some() {
            return Err(Fault::conflict(format!(
                "Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists \
                 for this Lambda function"
            )));
        }
        let mut config = Map::new();
        config.insert("Id".into(), Uuid::new_v4().simple().to_string().into());
        config.insert("CreationTime".into(), api::time::lambda(api::time::now_ms()).into());
        config.extend(given(request));
        Ok(config)
    });
    let mut shown = written(&exchange, &target, &*created.await?);
    if let Value::Object(shown) = &mut shown {
        shown.shift_remove("LastModifiedTime");
    }
    Ok(answer::json(StatusCode::CREATED, &shown))
}

async fn update(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "UpdateFunctionUrlConfig").await?;
    let target = target(&exchange)?;
    target.find(&exchange.gateway).map_err(|_| Fault::not_found(NO_FUNCTION))?;
    let changed = attach::put(&exchange, target.id(), place(&target), move |_, old| {
        let mut config = old.ok_or_else(|| Fault::not_found(NO_RESOURCE))?.value.clone();
        config.extend(given(request));
        Ok(config)
    });
    Ok(answer::json(StatusCode::OK, &written(&exchange, &target, &*changed.await?)))
}

async fn get(exchange: Exchange) -> Answer {
    let target = target(&exchange)?;
    let missing = || Fault::not_found(NO_RESOURCE);
    let record = target.record(&exchange.gateway).map_err(|_| missing())?;
    let found = record.attached(Facet::Url, qualifier(&target)).ok_or_else(missing)?;
    Ok(answer::json(StatusCode::OK, &shown(&exchange, &target.id(), qualifier(&target), found)))
}

async fn delete(exchange: Exchange) -> Answer {
    let target = target(&exchange)?;
    target.record(&exchange.gateway).map_err(|_| Fault::not_found(NO_RESOURCE))?;
    let deleted = attach::attach(&exchange, target.id(), place(&target), |_, old| match old {
        Some(_) => Ok(None),
        None => Err(Fault::not_found(NO_RESOURCE)),
    });
    deleted.await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn list(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let target = name::function_of_path(&exchange)?;
    let record = target.record(&exchange.gateway).map_err(|_| Fault::not_found(NO_FUNCTION))?;
    let urls = record.all_attached(Facet::Url).map(|(on, url)| (on.to_owned(), (on, url)));
    let id = &record.latest.id;
    let page = page.cut("FunctionUrlConfigs", urls, |(on, url)| shown(&exchange, id, on, url));
    Ok(answer::json(StatusCode::OK, &page))
}

/// The function or alias that is meant: a version has no URL.
fn target(exchange: &Exchange) -> Result<Target<'_>, Fault> {
    let target = name::of_path(exchange)?;
    match target.qualifier.as_deref() {
        Some(qualifier) if !matches!(Qualified::of(qualifier), Qualified::Alias(_)) => {
            let rule = format!("Member must satisfy regular expression pattern: {QUALIFIER}");
            Err(constraint::violation("qualifier", qualifier, &rule))
        }
        _ => Ok(target),
    }
}

fn qualifier<'a>(target: &'a Target<'_>) -> &'a str {
    target.qualifier.as_deref().unwrap_or(LATEST)
}

fn place(target: &Target<'_>) -> (Facet, String) {
    (Facet::Url, qualifier(target).to_owned())
}

/// What a request says of a URL. An empty `Cors` stays: it says that there is none.
fn given(request: Map<String, Value>) -> impl Iterator<Item = (String, Value)> {
    request.into_iter().filter(|(name, value)| MEMBERS.contains(&&**name) && !value.is_null())
}

/// What is said to whoever has written a URL: of the mode only if somebody has chosen it.
fn written(exchange: &Exchange, target: &Target<'_>, config: &Attached) -> Value {
    let mut shown = shown(exchange, &target.id(), qualifier(target), config);
    if let (Value::Object(shown), None) = (&mut shown, config.value.get("InvokeMode")) {
        shown.shift_remove("InvokeMode");
    }
    shown
}

/// The shape `FunctionUrlConfig`.
fn shown(exchange: &Exchange, id: &FunctionId, qualifier: &str, config: &Attached) -> Value {
    let arn = match qualifier {
        LATEST => id.arn(),
        alias => format!("{}:{alias}", id.arn()),
    };
    let mut shape = config.value.clone();
    shape.shift_remove("Id");
    if shape.get("Cors").is_some_and(|cors| *cors == json!({})) {
        shape.shift_remove("Cors");
    }
    shape.entry("InvokeMode").or_insert_with(|| "BUFFERED".into());
    shape.insert("FunctionUrl".into(), address(exchange, config.text("Id"), &id.region).into());
    shape.insert("FunctionArn".into(), arn.into());
    shape.insert("LastModifiedTime".into(), api::time::lambda(config.modified_ms).into());
    shape.into()
}

/// Where a URL is: below the name by which the caller knows the node. Addresses have no names below them, `localhost` has.
fn address(exchange: &Exchange, url: &str, region: &str) -> String {
    let own = exchange.gateway.config.node.listen.to_string();
    let host = exchange.header("host").unwrap_or(&own);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, format!(":{port}")),
        _ => (host, String::new()),
    };
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let name = if is_address { "localhost" } else { name };
    format!("http://{url}.lambda-url.{region}.{name}{port}/")
}
