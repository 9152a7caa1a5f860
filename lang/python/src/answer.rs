//! From an event's bytes to an answer's, for one invocation. It knows no channel, so a template can rehearse it.

use crate::object::{Object, Raised};
use crate::prepared::Prepared;
use cfork::invocation::Invocation;

/// What to send.
pub struct Answer {
    pub succeeded: bool,
    /// A `str` or `bytes`.
    pub body: Object,
}

/// Runs the handler, calling `begin` just before. An error is one that ends the process.
pub fn answer(
    prepared: &Prepared,
    handler: &Object,
    response_max: usize,
    invocation: &Invocation<'_>,
    event: &[u8],
    begin: impl FnOnce(),
) -> Result<Answer, Raised> {
    let request_id = prepared.text(invocation.request_id)?;
    prepared.log.insert(&prepared.request_id, &request_id)?;
    if !invocation.tenant_id.is_empty() {
        prepared.log.insert(&Object::name(c"tenant_id")?, &Object::text(invocation.tenant_id.as_bytes())?)?;
    }
    match run(prepared, handler, invocation, &request_id, event, begin) {
        Ok(body) if body.contents()?.len() > response_max => too_large(prepared, response_max),
        Ok(body) => Ok(Answer { succeeded: true, body }),
        Err(raised) => {
            let error = raised.catch()?;
            let body = prepared.failed.call([&error, &request_id])?;
            Ok(Answer { succeeded: false, body })
        }
    }
}

/// What is answered instead of an answer beyond the limit.
pub fn too_large(prepared: &Prepared, limit: usize) -> Result<Answer, Raised> {
    let body = prepared.too_large.call([&Object::number(limit as u64)?])?;
    Ok(Answer { succeeded: false, body })
}

fn run(
    prepared: &Prepared,
    handler: &Object,
    invocation: &Invocation<'_>,
    request_id: &Object,
    event: &[u8],
    begin: impl FnOnce(),
) -> Result<Object, Raised> {
    let context = prepared.context.call([
        &prepared.settings,
        &Object::number(invocation.deadline_unix_ms)?,
        request_id,
        &prepared.text(invocation.function_arn)?,
        &prepared.text(invocation.client_context)?,
        &prepared.text(invocation.cognito_identity)?,
        &prepared.text(invocation.tenant_id)?,
    ])?;
    let event = decode(prepared, event)?;
    begin();
    let value = handler.call([&event, &context])?;
    encode(prepared, value)
}

impl Prepared {
    fn text(&self, text: &str) -> Result<Object, Raised> {
        if text.is_empty() { Ok(self.empty.clone()) } else { Object::text(text.as_bytes()) }
    }
}

/// A JSON text's value. No text at all is an empty object.
fn decode(prepared: &Prepared, event: &[u8]) -> Result<Object, Raised> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let Some(start) = event.iter().position(|byte| !is_space(byte)) else { return Object::dict() };
    let trailing = event.iter().rev().take_while(|byte| is_space(byte)).count();
    let text = Object::text(event)?;
    let first = if start == 0 { prepared.zero.clone() } else { Object::number(start as u64)? };
    match prepared.scan.call([&text, &first]) {
        Ok(found) if found.item(1)?.as_number()? as usize + trailing >= text.chars() => found.item(0),
        Ok(_) => prepared.decode.call([&text]),
        Err(raised) => {
            raised.forget()?;
            prepared.decode.call([&text])
        }
    }
}

/// The text of a value, or the value where it is bytes.
fn encode(prepared: &Prepared, value: Object) -> Result<Object, Raised> {
    if value.is_bytes() {
        return Ok(value);
    }
    let parts = prepared.encode_parts.call([&value, &prepared.zero]);
    let text = parts.and_then(|parts| prepared.empty.join(&parts));
    match text.and_then(|text| text.contents().map(drop).map(|()| text)) {
        Ok(text) => Ok(text),
        Err(raised) => {
            raised.forget()?;
            prepared.markers.clear();
            prepared.encode.call([&value])
        }
    }
}
