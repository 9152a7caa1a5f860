//! The node's answers, as a process gets them.

use crate::calls::{lacking, refuse};
use crate::process::{About, Way};
use crate::protocol::call::{
    Answer, CloseError, ConnectError, CreateError, GrantError, ReleaseError, RevokeError, SpawnError, StartError,
};
use crate::protocol::{CallId, EndId};
use crate::shim::Shim;
use crate::slots::Slot;
use std::os::fd::AsFd;
use xpucall::abi::{Reply, quota, status};

fn value(value: u64) -> Reply {
    lacking(status::DONE, value)
}

impl Shim {
    /// Tells a process what became of its call.
    pub(crate) fn answer(&mut self, id: CallId, answer: Answer) {
        let Some((key, flight)) = self.land(id) else { return };
        let reply = match answer {
            Answer::Created(result) => result.map(|fifo| value(fifo.0)).map_err(create),
            Answer::Granted(result) => result.map(|()| value(0)).map_err(grant),
            Answer::Revoked(result) => result.map(|()| value(0)).map_err(revoke),
            Answer::Released(result) => result.map(|()| value(0)).map_err(release),
            Answer::Spawned(result) => result.map(|pid| value(pid.0)).map_err(spawn),
            Answer::Closed(result) => self.closed(key, flight.about, result),
            Answer::Connected(Ok(end)) => return self.connected(key, flight.number, flight.way, end),
            Answer::Connected(Err(error)) => Err(connect(error)),
        };
        // Taken before it was asked for, and given back where nothing came of it; or given back by what was asked.
        let takes = matches!(flight.about, About::Create | About::Connect);
        if takes == reply.is_err() {
            self.refund(key, flight.about);
        }
        self.reply(key, flight.number, flight.way, reply.unwrap_or_else(|refusal| refusal), &[]);
        // The next call may have been made meanwhile, without a ring.
        self.look_at(key);
    }

    fn closed(&mut self, key: u64, about: About, result: Result<(), CloseError>) -> Result<Reply, Reply> {
        if let (About::Close(slot), Some(process)) = (about, self.processes.get_mut(&key)) {
            match process.slots.take(slot) {
                Slot::Reader(reader) => self.forget_reader(&reader),
                // Its lane may go on until its reader has what was written.
                Slot::Writer { lane } => self.leave_side(lane, crate::protocol::Side::Writer),
                _ => {}
            }
        }
        match result {
            // It had ended before: that is what the process wants.
            Ok(()) | Err(CloseError::NoSuchEnd) => Ok(value(0)),
            Err(CloseError::Fenced) => Err(refuse(status::FENCED)),
        }
    }

    /// Hands a process its end.
    fn connected(&mut self, key: u64, number: u32, way: Way, end: EndId) {
        let made = match self.lanes.all.get(&end) {
            Some(lane) => self.writer_reply(key, lane),
            None => self.reader_reply(key, end),
        };
        let (reply, descriptors) = match made {
            Ok(made) => made,
            Err(error) => {
                let reply = lacking(status::RESOURCES, error.raw_os_error().unwrap_or_default() as u64);
                self.refund(key, About::Connect);
                self.give_up(key, end);
                return self.reply(key, number, way, reply, &[]);
            }
        };
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.reply(key, number, way, reply, &descriptors);
        self.look_at(key);
    }
}

fn create(error: CreateError) -> Reply {
    match error {
        CreateError::Exists => refuse(status::EXISTS),
        CreateError::NoId => refuse(status::INVALID),
        CreateError::Quota => lacking(status::QUOTA, quota::FIFOS),
        CreateError::Fenced => refuse(status::FENCED),
    }
}

fn grant(error: GrantError) -> Reply {
    match error {
        GrantError::NoSuchFifo => refuse(status::NO_SUCH_FIFO),
        GrantError::NoSuchProcess => refuse(status::NO_SUCH_PROCESS),
        GrantError::NotPermitted => refuse(status::NOT_PERMITTED),
        GrantError::Quota => lacking(status::QUOTA, quota::CAPABILITIES),
        GrantError::Fenced => refuse(status::FENCED),
    }
}

fn revoke(error: RevokeError) -> Reply {
    match error {
        RevokeError::NoSuchFifo => refuse(status::NO_SUCH_FIFO),
        RevokeError::NotPermitted => refuse(status::NOT_PERMITTED),
        RevokeError::Quota => lacking(status::QUOTA, quota::CALLS),
        RevokeError::Fenced => refuse(status::FENCED),
    }
}

fn connect(error: ConnectError) -> Reply {
    match error {
        ConnectError::NoSuchFifo => refuse(status::NO_SUCH_FIFO),
        ConnectError::NotPermitted => refuse(status::NOT_PERMITTED),
        ConnectError::Busy => refuse(status::BUSY),
        ConnectError::Quota => lacking(status::QUOTA, quota::LANES),
        ConnectError::NoMemory => lacking(status::QUOTA, quota::MEMORY),
        ConnectError::Lost => refuse(status::LOST),
        ConnectError::Fenced => refuse(status::FENCED),
    }
}

fn release(error: ReleaseError) -> Reply {
    match error {
        ReleaseError::NoSuchFifo => refuse(status::NO_SUCH_FIFO),
        ReleaseError::NotPermitted => refuse(status::NOT_PERMITTED),
        ReleaseError::Fenced => refuse(status::FENCED),
    }
}

fn spawn(error: SpawnError) -> Reply {
    match error {
        SpawnError::NoSuchPu => refuse(status::LOST),
        SpawnError::NoSuchFifo => refuse(status::NO_SUCH_FIFO),
        SpawnError::NotPermitted => refuse(status::NOT_PERMITTED),
        SpawnError::TooLong => refuse(status::INVALID),
        SpawnError::Quota => lacking(status::QUOTA, quota::CHILDREN),
        SpawnError::NotStarted(StartError::Os(error)) => lacking(status::NOT_STARTED, error as u64),
        SpawnError::NotStarted(StartError::Refused) => lacking(status::QUOTA, quota::CHILDREN),
        SpawnError::Fenced => refuse(status::FENCED),
    }
}
