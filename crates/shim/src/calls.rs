//! A process's calls: taken out of its hands, checked for what only this shim can know, and given to the node.

use crate::admission::{Class, Kind};
use crate::config::{Quota, RING};
use crate::process::{About, Flight, Way};
use crate::protocol::call::{Call, FifoLimits, Side};
use crate::shim::Shim;
use crate::slots::Slot;
use xpucall::abi::{Reply, Request, call, status};
use xpucall::id::{FifoId, PuId, Rights, XpuPid};
use xpucall::wire;

/// A refusal.
pub(crate) fn refuse(status: u32) -> Reply {
    Reply { status, ..Reply::default() }
}

/// A refusal for want of something.
pub(crate) fn lacking(status: u32, value: u64) -> Reply {
    Reply { status, values: [value, 0, 0, 0], ..Reply::default() }
}

fn answer(value: u64) -> Reply {
    Reply { values: [value, 0, 0, 0], ..Reply::default() }
}

fn rights(argument: u64) -> Option<Rights> {
    u8::try_from(argument).ok().and_then(Rights::from_bits)
}

impl Shim {
    /// Takes the call that lies in a process's call region, if there is one.
    #[inline]
    pub(crate) fn look_at(&mut self, key: u64) -> bool {
        let Some(process) = self.processes.get_mut(&key) else { return false };
        // One call at a time: another that is made meanwhile waits in its line.
        if process.flight.is_some() {
            return false;
        }
        let Some((number, request)) = process.calls.take() else { return false };
        self.call(key, number, Way::Memory, request, None);
        true
    }

    /// Does what a process asks, or has the node do it.
    pub(crate) fn call(&mut self, key: u64, number: u32, way: Way, request: Request, program: Option<wire::Program>) {
        let Some(process) = self.processes.get(&key) else { return };
        let (pid, quota, class) = (process.pid, process.identity.quota(&self.config.quotas), process.identity.class);
        let [first, second, third, _] = request.arguments;
        let (about, call) = match request.call {
            call::IDENTIFY => return self.identify(key, number, way, pid, request),
            call::CREATE => match limits(&quota, second, third) {
                Some(limits) => (About::Create, Call::Create { fifo: (first != 0).then_some(FifoId(first)), limits }),
                None => return self.reply(key, number, way, refuse(status::INVALID), &[]),
            },
            call::GRANT | call::REVOKE => match rights(third) {
                Some(rights) => (About::Nothing, authority(request.call, XpuPid(first), FifoId(second), rights)),
                None => return self.reply(key, number, way, refuse(status::INVALID), &[]),
            },
            call::READER => (About::Connect, Call::Connect { fifo: FifoId(first), side: Side::Reader }),
            call::WRITER => (About::Connect, Call::Connect { fifo: FifoId(first), side: Side::Writer }),
            call::CLOSE => return self.close(key, number, way, first),
            call::RELEASE => (About::Release, Call::Release { fifo: FifoId(first) }),
            call::SPAWN if class == Class::Guest => {
                return self.reply(key, number, way, refuse(status::NOT_PERMITTED), &[]);
            }
            call::SPAWN => match (u8::try_from(first), program) {
                (Ok(pu), Some(program)) => (About::Nothing, spawn(PuId(pu), program)),
                _ => return self.reply(key, number, way, refuse(status::INVALID), &[]),
            },
            _ => return self.reply(key, number, way, refuse(status::INVALID), &[]),
        };
        if let Err(kind) = self.charge(key, about) {
            return self.reply(key, number, way, lacking(status::QUOTA, kind.word()), &[]);
        }
        self.ask(key, Flight { number, way, about }, call);
    }

    fn charge(&mut self, key: u64, about: About) -> Result<(), Kind> {
        let kind = match about {
            About::Create => Kind::Fifo,
            About::Connect => Kind::End,
            About::Nothing | About::Release | About::Close(_) => return Ok(()),
        };
        let Some(process) = self.processes.get_mut(&key) else { return Ok(()) };
        let fits = self.admission.take(&process.identity, &mut process.usage, kind, 1);
        fits.then_some(()).ok_or(kind)
    }

    /// The only call that the node need not hear of.
    #[inline]
    fn identify(&mut self, key: u64, number: u32, way: Way, pid: XpuPid, request: Request) {
        let [fifo, wanted, ..] = request.arguments;
        let reply = match rights(wanted) {
            _ if fifo == 0 => answer(pid.0),
            Some(rights) if self.node.may(pid, FifoId(fifo), rights) => answer(pid.0),
            Some(_) => refuse(status::NOT_PERMITTED),
            None => refuse(status::INVALID),
        };
        self.reply(key, number, way, reply, &[]);
    }

    /// A process has done with a slot.
    fn close(&mut self, key: u64, number: u32, way: Way, slot: u64) {
        let done = refuse(status::DONE);
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Ok(slot) = u32::try_from(slot) else { return self.reply(key, number, way, refuse(status::INVALID), &[]) };
        let end = match process.slots.get(slot) {
            Slot::Reader(reader) => reader.end,
            Slot::Writer { lane } => *lane,
            Slot::Lane { .. } => {
                self.leave_lane(key, slot);
                return self.reply(key, number, way, done, &[]);
            }
            Slot::Over { counted } => {
                let counted = *counted;
                process.slots.take(slot);
                if counted {
                    self.refund(key, About::Close(slot));
                }
                return self.reply(key, number, way, done, &[]);
            }
            Slot::Free => return self.reply(key, number, way, refuse(status::INVALID), &[]),
        };
        self.ask(key, Flight { number, way, about: About::Close(slot) }, Call::Close { end });
    }
}

fn authority(which: u32, pid: XpuPid, fifo: FifoId, rights: Rights) -> Call {
    if which == call::GRANT { Call::Grant { to: pid, fifo, rights } } else { Call::Revoke { from: pid, fifo, rights } }
}

/// What a FIFO is made with, where its creator may have that.
fn limits(quota: &Quota, message_max: u64, ring: u64) -> Option<FifoLimits> {
    let default = u64::from(crate::config::MESSAGE_MAX.min(quota.message_max));
    let message_max = if message_max == 0 { default } else { message_max };
    let ring = if ring == 0 { RING.into() } else { ring };
    let allowed = interconnect::lane::layout::RING_MIN as u64..=interconnect::lane::layout::RING_MAX as u64;
    let fits = message_max <= quota.message_max.into() && ring.is_power_of_two() && allowed.contains(&ring);
    fits.then_some(FifoLimits {
        ring: ring as u32,
        message_max: message_max as u32,
        lanes: quota.writers,
        capabilities: quota.capabilities,
    })
}

fn spawn(pu: PuId, program: wire::Program) -> Call {
    let wire::Program { path, arguments, environment, capabilities } = program;
    let envp = environment.into_iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect();
    let argv = arguments.into_iter().map(String::into_bytes).collect();
    let program = crate::protocol::Program { path: path.into_bytes(), argv, envp };
    Call::Spawn { pu, program, capabilities }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Quotas;

    #[test]
    fn limits_are_what_the_quota_allows() {
        let quota = Quotas::default().guest;
        assert_eq!(limits(&quota, 0, 0).unwrap().message_max, quota.message_max);
        assert_eq!(limits(&quota, 1, 4096).unwrap().ring, 4096);
        assert!(limits(&quota, u64::from(quota.message_max) + 1, 0).is_none());
        for ring in [1, 4097, 1 << 24, u64::MAX] {
            assert!(limits(&quota, 0, ring).is_none());
        }
    }
}
