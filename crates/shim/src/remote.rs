//! Shims on other machines: at the head those that come, at a member the head that is called.
//!
//! Handshakes and names are other threads' work (`interconnect::link::tcp`); here a link arrives ready, and is one like any
//! other. A member calls again when its link has ended.

use crate::poller::{Name, READ};
use crate::shim::Shim;
use interconnect::link::tcp::dialer::{Dialer, Dialled};
use interconnect::link::tcp::listen::Listener;
use std::io;
use xpucall::id::PuId;

/// Where links with other machines come from.
#[derive(Default)]
pub struct Remote {
    listener: Option<Listener>,
    dialer: Option<Dialer>,
}

impl Shim {
    /// Of the head: whoever comes here is linked as the PU that it has proved to be.
    pub fn expect(&mut self, listener: Listener) -> io::Result<()> {
        self.poller.add(listener.poll_fd(), Name::Remote, READ)?;
        self.remote.listener = Some(listener);
        Ok(())
    }

    /// Of a member: the head is there.
    pub fn dial(&mut self, dialer: Dialer) -> io::Result<()> {
        self.poller.add(dialer.poll_fd(), Name::Remote, READ)?;
        self.remote.dialer = Some(dialer);
        Ok(())
    }

    /// The link with this PU is over.
    pub(crate) fn call_again(&mut self, pu: PuId) {
        if let Some(dialer) = self.remote.dialer.as_ref().filter(|_| pu == PuId::HEAD) {
            dialer.again();
        }
    }

    pub(crate) fn look_at_remote(&mut self) {
        while let Some(arrival) = self.remote.listener.as_mut().and_then(Listener::take) {
            self.link(PuId(arrival.pu), Box::new(arrival.link));
        }
        while let Some(outcome) = self.remote.dialer.as_mut().and_then(Dialer::take) {
            match outcome {
                Dialled::Link(link) => self.link(PuId::HEAD, link),
                Dialled::Failed(error) => tracing::warn!(%error, "the head's shim cannot be reached"),
                Dialled::Refused(error) => tracing::error!(%error, "the head's shim refuses this one"),
            }
        }
    }
}
