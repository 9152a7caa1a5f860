//! Requests' bodies: read whole, within a limit, within a time, and within the memory that all of them may use.
//!
//! A body that arrives in one piece is not copied. Its share of the memory is given back when the last reference to it
//! goes, wherever in the node that is.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bodies up to this length are not counted: connections bound their number.
const FREE: usize = 64 * 1024;
const KIB: usize = 1024;

/// Why a request has no body.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("the request's body is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("the request's body stood still for {0:?}")]
    Stalled(Duration),
    #[error("the connection broke before the request's body had come")]
    Broken(#[source] hyper::Error),
    #[error("other requests' bodies take all the memory there is for them: try again")]
    NoMemory,
}

/// The most that is read of a body that nobody wants, so that its client, who may still be sending, gets its answer.
const UNWANTED_MAX: usize = 16 << 20;

/// A request's body that may be read. What is not read is left for whoever has [`Left`].
pub struct Unread {
    body: Option<Incoming>,
    left: Left,
    /// All of it, where somebody has read it already.
    whole: Bytes,
}

/// What was not read of a body.
#[derive(Clone, Default)]
pub struct Left(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    pub fn new(body: Incoming, left: Left) -> Self {
        Self { body: Some(body), left, whole: Bytes::new() }
    }

    /// A body that has been read, to be read again.
    pub fn whole(bytes: Bytes) -> Self {
        Self { body: None, left: Left::default(), whole: bytes }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        *self.left.slot() = self.body.take();
    }
}

impl Left {
    fn slot(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all of the body was read.
    pub fn is_empty(&self) -> bool {
        self.slot().as_ref().is_none_or(Body::is_end_stream)
    }
}

/// What all bodies share.
pub struct Bodies {
    /// KiB.
    memory: Arc<Semaphore>,
    kib: usize,
    stall: Duration,
}

/// A body and its share of the memory.
struct Counted {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    pub fn new(mib: u32, stall: Duration) -> Self {
        let kib = (mib as usize * KIB).min(Semaphore::MAX_PERMITS);
        Self { memory: Arc::new(Semaphore::new(kib)), kib, stall }
    }

    /// Reads a body of up to `limit` bytes, of which `copies` will be in memory at once.
    pub async fn read(&self, mut body: Unread, limit: usize, copies: usize) -> Result<Bytes, BodyError> {
        let Some(body) = &mut body.body else {
            let whole = std::mem::take(&mut body.whole);
            return if whole.len() > limit { Err(BodyError::TooLong { limit }) } else { Ok(whole) };
        };
        let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLong { limit });
        }
        let most = announced.unwrap_or(limit);
        let share = if most > FREE { Some(self.share(most.saturating_mul(copies)).await?) } else { None };
        let bytes = self.collect(body, announced, limit).await?;
        Ok(match share {
            Some(share) => Bytes::from_owner(Counted { bytes, _share: share }),
            None => bytes,
        })
    }

    /// Reads what is left of a body, and forgets it; whether that was all. A connection with more on the way is at its end.
    pub async fn discard(&self, left: &Left) -> bool {
        let Some(mut body) = left.slot().take() else { return true };
        let mut read = 0;
        while !body.is_end_stream() {
            if body.size_hint().lower() > (UNWANTED_MAX - read) as u64 {
                return false;
            }
            match timeout(self.stall, body.frame()).await {
                Ok(Some(Ok(frame))) => read += frame.data_ref().map_or(0, Bytes::len),
                Ok(None) => return true,
                Ok(Some(Err(_))) | Err(_) => return false,
            }
            if read > UNWANTED_MAX {
                return false;
            }
        }
        true
    }

    async fn share(&self, bytes: usize) -> Result<OwnedSemaphorePermit, BodyError> {
        // One body may be larger than all the memory for bodies: then it is alone.
        let kib = u32::try_from(bytes.div_ceil(KIB).min(self.kib)).unwrap_or(u32::MAX);
        let share = timeout(self.stall, self.memory.clone().acquire_many_owned(kib)).await;
        share.map_err(|_| BodyError::NoMemory)?.map_err(|_| BodyError::NoMemory)
    }

    async fn collect(&self, body: &mut Incoming, announced: Option<usize>, limit: usize) -> Result<Bytes, BodyError> {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        loop {
            let frame = timeout(self.stall, body.frame()).await.map_err(|_| BodyError::Stalled(self.stall))?;
            let Some(frame) = frame.transpose().map_err(BodyError::Broken)? else { break };
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + rest.len() + data.len() > limit {
                return Err(BodyError::TooLong { limit });
            }
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.reserve(announced.unwrap_or(0).max(first.len() + data.len()));
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&data);
            }
            if body.is_end_stream() {
                break;
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }
}
