//! A FIFO as its creator has it: released when dropped.
//!
//! Others know it by its id and connect through their own [`Process`]. Nothing is read or written here.

use crate::error::{ConnectError, CreateError, GrantError, RevokeError};
use crate::id::{FifoId, Rights, XpuPid};
use crate::process::{Limits, Process};
use crate::reader::Reader;
use crate::writer::Writer;

/// A FIFO that this process has created.
#[derive(Debug)]
pub struct Fifo {
    process: Process,
    id: FifoId,
}

impl Fifo {
    /// Makes a FIFO with an id that the shim gives.
    pub fn create(process: &Process, limits: Limits) -> Result<Self, CreateError> {
        Ok(Self { id: process.create(None, limits)?, process: process.clone() })
    }

    /// Makes a FIFO with this id, which no other FIFO on any PU has.
    pub fn create_as(process: &Process, id: FifoId, limits: Limits) -> Result<Self, CreateError> {
        Ok(Self { id: process.create(Some(id), limits)?, process: process.clone() })
    }

    pub fn id(&self) -> FifoId {
        self.id
    }

    /// Gives rights on it to another process.
    pub fn grant(&self, pid: XpuPid, rights: Rights) -> Result<(), GrantError> {
        self.process.grant(pid, self.id, rights)
    }

    /// Takes rights on it from another process: see [`Process::revoke`].
    pub fn revoke(&self, pid: XpuPid, rights: Rights) -> Result<(), RevokeError> {
        self.process.revoke(pid, self.id, rights)
    }

    /// Connects this process as its reader.
    pub fn reader(&self) -> Result<Reader, ConnectError> {
        self.process.connect_reader(self.id)
    }

    /// Connects this process as a writer.
    pub fn writer(&self) -> Result<Writer, ConnectError> {
        self.process.connect_writer(self.id)
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        // One that somebody else has released, or that ended with the attachment, is gone as well.
        let _ = self.process.release(self.id);
    }
}
