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
use tokio::time::{Instant, timeout, timeout_at};

/// Bodies up to this length are not counted: connections bound their number.
const FREE: usize = 64 * 1024;
const KIB: usize = 1024;
/// A piece of a body that is shorter is put together with others.
const PIECE_MIN: usize = 16 * KIB;

/// Why a request has no body.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("the request's body is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("the request's body stood still for {0:?}")]
    Stalled(Duration),
    #[error("the request's body came slower than {0} bytes a second")]
    Slow(u32),
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

    /// How long it is, where its sender has said so.
    pub fn announced(&self) -> Option<usize> {
        match &self.body {
            Some(body) => body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX)),
            None => Some(self.whole.len()),
        }
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
    /// Bytes a second.
    rate_min: u32,
}

/// How fast a body comes: it may stand still for a while, but over all of it, that while aside, it keeps a rate. Else a
/// byte now and then would keep its share of the memory for ever.
struct Pace {
    stall: Duration,
    rate_min: u32,
    begun: Instant,
    received: usize,
}

impl Pace {
    /// Until when more has to have come.
    fn deadline(&self, now: Instant) -> (Instant, BodyError) {
        let earned = Duration::from_secs_f64(self.received as f64 / f64::from(self.rate_min.max(1)));
        let slow = self.begun + self.stall + earned;
        let stalled = now + self.stall;
        match self.rate_min {
            0 => (stalled, BodyError::Stalled(self.stall)),
            _ if stalled <= slow => (stalled, BodyError::Stalled(self.stall)),
            rate => (slow, BodyError::Slow(rate)),
        }
    }

    /// The next piece of a body; nothing at its end.
    async fn next(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
        loop {
            let (deadline, late) = self.deadline(Instant::now());
            let frame = timeout_at(deadline, body.frame()).await.map_err(|_| late)?;
            let Some(frame) = frame.transpose().map_err(BodyError::Broken)? else { return Ok(None) };
            if let Ok(data) = frame.into_data() {
                self.received += data.len();
                return Ok(Some(data));
            }
        }
    }
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

/// A body as it comes. Small pieces are put together: each would cost more than its bytes.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    small: BytesMut,
}

impl Pieces {
    fn push(&mut self, data: Bytes) {
        let is_first = self.done.is_empty() && self.small.is_empty();
        if data.len() < PIECE_MIN && !is_first {
            return self.small.extend_from_slice(&data);
        }
        self.flush();
        self.done.push(data);
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.done.push(self.small.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.done
    }
}

/// A body in the pieces in which it came, and its share of the memory.
#[derive(Debug, Default)]
pub struct Gathered {
    pieces: Vec<Bytes>,
    share: Option<OwnedSemaphorePermit>,
}

impl From<Bytes> for Gathered {
    fn from(bytes: Bytes) -> Self {
        Self { pieces: vec![bytes], share: None }
    }
}

impl Gathered {
    /// Its first byte that is no white space.
    pub fn first(&self) -> Option<u8> {
        self.pieces.iter().flatten().find(|byte| !byte.is_ascii_whitespace()).copied()
    }

    /// As it lies; its share goes with the last of them.
    pub fn into_pieces(self) -> Vec<Bytes> {
        let Self { mut pieces, share } = self;
        let last = pieces.pop().map(|last| counted(last, share));
        pieces.extend(last);
        pieces
    }

    /// In one piece.
    pub fn whole(self) -> Bytes {
        let Self { mut pieces, share } = self;
        if pieces.len() <= 1 {
            return counted(pieces.pop().unwrap_or_default(), share);
        }
        let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
        pieces.into_iter().for_each(|piece| whole.extend_from_slice(&piece));
        counted(whole.freeze(), share)
    }
}

fn counted(bytes: Bytes, share: Option<OwnedSemaphorePermit>) -> Bytes {
    match share {
        Some(share) => Bytes::from_owner(Counted { bytes, _share: share }),
        None => bytes,
    }
}

impl Bodies {
    pub fn new(mib: u32, stall: Duration, rate_min: u32) -> Self {
        let kib = (mib as usize * KIB).min(Semaphore::MAX_PERMITS);
        Self { memory: Arc::new(Semaphore::new(kib)), kib, stall, rate_min }
    }

    fn pace(&self) -> Pace {
        Pace { stall: self.stall, rate_min: self.rate_min, begun: Instant::now(), received: 0 }
    }

    /// Reads a body of up to `limit` bytes, of which `copies` will be in memory at once.
    pub async fn read(&self, mut body: Unread, limit: usize, copies: usize) -> Result<Bytes, BodyError> {
        let announced = body.announced();
        let Some(body) = &mut body.body else {
            let whole = std::mem::take(&mut body.whole);
            return if whole.len() > limit { Err(BodyError::TooLong { limit }) } else { Ok(whole) };
        };
        if announced.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLong { limit });
        }
        let most = announced.unwrap_or(limit);
        let share = if most > FREE { Some(self.share(most.saturating_mul(copies)).await?) } else { None };
        let bytes = self.collect(body, announced, limit).await?;
        Ok(counted(bytes, share))
    }

    /// As [`read`](Self::read), in pieces that are left where they came.
    pub async fn gather(&self, mut body: Unread, limit: usize, copies: usize) -> Result<Gathered, BodyError> {
        let announced = body.announced();
        if body.body.is_none() {
            return Ok(self.read(body, limit, copies).await?.into());
        }
        let Some(body) = &mut body.body else { return Ok(Gathered::default()) };
        if announced.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLong { limit });
        }
        let most = announced.unwrap_or(limit);
        let share = if most > FREE { Some(self.share(most.saturating_mul(copies)).await?) } else { None };
        let (mut pieces, mut pace) = (Pieces::default(), self.pace());
        while let Some(data) = pace.next(body).await? {
            if pace.received > limit {
                return Err(BodyError::TooLong { limit });
            }
            pieces.push(data);
            if body.is_end_stream() {
                break;
            }
        }
        Ok(Gathered { pieces: pieces.finish(), share })
    }

    /// Reads what is left of a body, and forgets it; whether that was all. A connection with more on the way is at its end.
    pub async fn discard(&self, left: &Left) -> bool {
        let Some(mut body) = left.slot().take() else { return true };
        let mut pace = self.pace();
        while !body.is_end_stream() {
            if body.size_hint().lower() > (UNWANTED_MAX - pace.received) as u64 {
                return false;
            }
            match pace.next(&mut body).await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
            if pace.received > UNWANTED_MAX {
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
        let mut pace = self.pace();
        while let Some(data) = pace.next(body).await? {
            if pace.received > limit {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_pieces_stay_where_they_are_and_short_ones_come_together() {
        let long = Bytes::from(vec![7; PIECE_MIN]);
        let mut pieces = Pieces::default();
        let came = ["a".into(), "bc".into(), "d".into(), long.clone(), "e".into(), "f".into()];
        came.into_iter().for_each(|data| pieces.push(data));
        let pieces = pieces.finish();
        let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        assert_eq!((lengths, pieces[2].as_ptr()), (vec![1, 3, PIECE_MIN, 2], long.as_ptr()));
        let gathered = |pieces| Gathered { pieces, share: None };
        let all = gathered(pieces).whole();
        assert_eq!((all.len(), &all[..4], &all[4 + PIECE_MIN..]), (PIECE_MIN + 6, &b"abcd"[..], &b"ef"[..]));
        assert_eq!(
            (gathered(Vec::new()).whole().len(), Gathered::from(long.clone()).whole().as_ptr()),
            (0, long.as_ptr())
        );
    }

    #[test]
    fn a_share_lasts_as_long_as_the_last_piece() {
        let memory = Arc::new(Semaphore::new(1));
        let gathered = || Gathered {
            pieces: vec![Bytes::from_static(b" \n"), Bytes::from_static(b" {")],
            share: memory.clone().try_acquire_owned().ok(),
        };
        assert_eq!((gathered().first(), Gathered::default().first()), (Some(b'{'), None));
        let mut pieces = gathered().into_pieces();
        drop(pieces.remove(0));
        assert_eq!((pieces[0].as_ref(), memory.available_permits()), (&b" {"[..], 0));
        drop(pieces);
        let whole = gathered().whole();
        assert_eq!((whole.as_ref(), memory.available_permits()), (&b" \n {"[..], 0));
        drop(whole);
        assert_eq!(memory.available_permits(), 1);
    }

    #[test]
    fn a_body_may_stand_still_for_a_while_and_keeps_its_rate() {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let late = |rate_min, received, at: u32| {
            let pace = Pace { stall: 30 * second, rate_min, begun, received };
            let (deadline, why) = pace.deadline(begun + at * second);
            (deadline.duration_since(begun).as_secs(), matches!(why, BodyError::Slow(_)))
        };
        assert_eq!(late(1000, 0, 0), (30, false));
        assert_eq!(late(1000, 10_000, 29), (40, true));
        assert_eq!(late(1000, 29_000, 29), (59, false));
        // A byte now and then earns nothing.
        assert_eq!(late(1000, 2, 29), (30, true));
        assert_eq!(late(0, 2, 2900), (2930, false));
    }
}
