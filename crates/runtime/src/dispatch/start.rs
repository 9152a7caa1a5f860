//! Starting an instance: what it needs was made ahead and lies with its worker ([`super::kits`]), which is told which of it
//! to use. Nothing is waited for: the instance finds the first request in its channel when it comes to life.

use super::call::{Call, PlatformError};
use super::instance::{Instance, Parts};
use super::journal::Journal;
use super::link::Said;
use super::ticket::Ticket;
use super::{Dispatcher, lines, spec};
use crate::logs::LogGroup;
use cfork::protocol::PAYLOAD_MAX;
use sandbox::spec::StartSpec;
use std::sync::Arc;
use worker::protocol::Ordered;

/// A request to send along.
pub(super) struct FirstRequest<'a> {
    pub call: &'a Call,
    pub head: &'a [u8],
}

impl Dispatcher {
    /// Starts the instance for which `ticket` is.
    pub(super) fn start(
        &self,
        ticket: &mut Ticket,
        request: Option<FirstRequest<'_>>,
    ) -> Result<Box<Instance>, PlatformError> {
        let permit = ticket.permit().clone();
        let function = &permit.function;
        let stream = permit.stream.clone().unwrap_or_else(|| spec::log_stream(function).into());
        let code = permit.stream.is_none().then(|| spec::code(function, permit.version, &stream, &self.config));
        if let Some(code) = code.as_ref().filter(|code| code.config.len() > PAYLOAD_MAX) {
            let reason = format!("its configuration has {} bytes, and {PAYLOAD_MAX} are possible", code.config.len());
            return Err(PlatformError::NotStarted { reason });
        }
        let kit = permit.link.kit()?;
        let group = LogGroup {
            account: function.key.account.clone(),
            region: function.key.region.clone(),
            name: function.log_group.clone(),
        };
        let limit = self.config.log_max_mib << 20;
        let mut journal = Journal::new(kit.log, self.logs.clone(), group.into(), stream, limit);
        let mut wire = kit.wire;
        if function.kind.is_pure() {
            wire.keep_bodies();
        }
        if let Some(FirstRequest { call, head }) = request {
            match function.kind.is_pure() {
                true => journal.begin(&call.request_id, call.log_tail),
                false => {
                    journal.begin_with(&call.request_id, call.log_tail, lines::init_start(function, permit.version));
                }
            }
            let sent = wire.send(cfork::invocation::INVOKE, head, call.parts());
            // Lengths were checked when the invocation was admitted, and nobody else has the channel yet.
            debug_assert_eq!(sent, Ok(()));
        }
        let instance = Instance::new(Parts {
            shared: permit.shared.clone(),
            link: Arc::downgrade(&permit.link),
            clock: self.clock.clone(),
            farewells: self.farewells.clone(),
            wire,
            journal,
            response_max: self.config.response_max,
        });
        let spec = StartSpec {
            instance: permit.shared.id,
            code,
            limits: spec::limits(function),
            class: permit.shared.terms.class,
            apart: permit.apart,
        };
        ticket.told();
        permit.link.tell(Said::Start { template: permit.template, start: Ordered { kit: kit.number, spec } });
        Ok(Box::new(instance))
    }
}
