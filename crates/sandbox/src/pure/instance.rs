//! One instance of a pure function, as the worker sees it: a channel that an engine serves.

use super::engine::EngineProcess;
use super::lock;
use super::program::Program;
use super::template::Instances;
use crate::spec::End;
use crate::{Answer, Instance, Usage};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

pub(super) struct PureInstance {
    id: u64,
    engine: Arc<EngineProcess>,
    /// The code stays loaded as long as this does.
    _program: Arc<Program>,
    told: Option<oneshot::Receiver<End>>,
    end: End,
    /// Its template's.
    instances: Arc<Mutex<Instances>>,
}

impl PureInstance {
    pub fn new(
        id: u64,
        engine: Arc<EngineProcess>,
        program: Arc<Program>,
        told: oneshot::Receiver<End>,
        instances: Arc<Mutex<Instances>>,
    ) -> Self {
        Self { id, engine, _program: program, told: Some(told), end: End::Lost, instances }
    }

    async fn end(&mut self) -> End {
        if let Some(told) = &mut self.told {
            self.end = told.await.unwrap_or(End::Lost);
            self.told = None;
        }
        self.end
    }
}

impl Instance for PureInstance {
    /// Each run has a memory of its own, and its engine says with the answer how much that was.
    fn memory_gauge(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn kill(&self) {
        self.engine.detach(self.id);
    }

    fn ended(&mut self) -> Answer<'_, End> {
        Box::pin(self.end())
    }

    fn retire(mut self: Box<Self>) -> Answer<'static, Usage> {
        Box::pin(async move {
            self.kill();
            self.end().await;
            Usage::default()
        })
    }
}

impl Drop for PureInstance {
    fn drop(&mut self) {
        lock(&self.instances).remove(&self.id);
        if self.told.is_some() {
            self.kill();
        }
    }
}
