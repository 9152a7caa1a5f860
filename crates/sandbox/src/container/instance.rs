//! One instance in its slot, as the worker sees it.

use super::template::Shared;
use crate::spec::End;
use crate::{Answer, Instance, Usage};
use os::cgroup::Group;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::oneshot;

pub(super) struct ContainerInstance {
    shared: Arc<Shared>,
    slot: u64,
    /// Process 1 of the slot: what ends with it ends wholly.
    process: OwnedFd,
    group: Option<Group>,
    gauge: Option<OwnedFd>,
    told: Option<oneshot::Receiver<End>>,
    end: End,
}

impl ContainerInstance {
    pub(super) fn new(
        shared: Arc<Shared>,
        slot: u64,
        process: OwnedFd,
        group: Option<Group>,
        told: oneshot::Receiver<End>,
    ) -> Self {
        let gauge = group.as_ref().and_then(|group| group.peak_gauge().ok());
        Self { shared, slot, process, group, gauge, told: Some(told), end: End::Lost }
    }

    async fn end(&mut self) -> End {
        if let Some(told) = &mut self.told {
            self.end = told.await.unwrap_or(End::Lost);
            self.told = None;
            let out_of_memory = self.group.as_ref().is_some_and(|group| group.out_of_memory_kills() > 0);
            if self.end == End::Signal(libc::SIGKILL) && out_of_memory {
                self.end = End::OutOfMemory;
            }
        }
        self.end
    }
}

impl Instance for ContainerInstance {
    fn memory_gauge(&self) -> Option<BorrowedFd<'_>> {
        self.gauge.as_ref().map(AsFd::as_fd)
    }

    fn kill(&self) {
        let _ = os::pidfd::kill(&self.process);
    }

    fn ended(&mut self) -> Answer<'_, End> {
        Box::pin(self.end())
    }

    fn retire(mut self: Box<Self>) -> Answer<'static, Usage> {
        Box::pin(async move {
            self.kill();
            self.end().await;
            Usage { memory_peak: self.group.as_ref().map_or(0, Group::peak) }
        })
    }
}

impl Drop for ContainerInstance {
    fn drop(&mut self) {
        self.kill();
        self.shared.bury(self.slot, self.group.take());
    }
}
