//! Starting an instance: everything it needs is made here and sent to the worker, the first request included. Nothing is
//! waited for: the instance finds the request when it comes to life.

use super::call::{Call, PlatformError};
use super::instance::{Instance, Parts};
use super::journal::Journal;
use super::link::Said;
use super::ticket::Ticket;
use super::{Dispatcher, lines, spec};
use crate::logs::LogGroup;
use cfork::protocol::PAYLOAD_MAX;
use interconnect::channel::{Channel, Descriptors};
use sandbox::spec::StartSpec;
use std::sync::Arc;

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
        let body_max = self.config.payload_max.max(self.config.response_max);
        let (mut channel, Descriptors { region, down, up }) =
            Channel::create(body_max).map_err(PlatformError::Channel)?;
        let (pipe, printer) = std::io::pipe().map_err(PlatformError::Descriptors)?;
        let group = LogGroup {
            account: function.key.account.clone(),
            region: function.key.region.clone(),
            name: function.log_group.clone(),
        };
        let mut journal = Journal::new(pipe, self.logs.clone(), group.into(), stream, self.config.log_max_mib << 20)
            .map_err(PlatformError::Descriptors)?;
        if let Some(FirstRequest { call, head }) = request {
            journal.begin_with(&call.request_id, call.log_tail, lines::init_start(function, permit.version));
            let sent = channel.sender.send(cfork::invocation::INVOKE, head, &call.payload);
            // Lengths were checked when the invocation was admitted, and nobody else has the channel yet.
            debug_assert_eq!(sent, Ok(()));
        }
        let instance = Instance::new(Parts {
            shared: permit.shared.clone(),
            link: Arc::downgrade(&permit.link),
            clock: self.clock.clone(),
            farewells: self.farewells.clone(),
            channel,
            journal,
            response_max: self.config.response_max,
        });
        let instance = instance.map_err(PlatformError::Descriptors)?;
        let start = StartSpec { instance: permit.shared.id, code, limits: spec::limits(function) };
        let descriptors = [region, down, up, printer.into()];
        ticket.told();
        permit.link.tell(Said::Start { template: permit.template, start, descriptors });
        Ok(Box::new(instance))
    }
}
