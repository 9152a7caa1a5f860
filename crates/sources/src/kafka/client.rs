//! A connection to a broker, and the three questions that are asked of it. Their versions are those that every broker since
//! 0.11 knows, 4 included.

use super::records::{self, Record, RecordsError};
use super::wire::{Malformed, Reader, Writer};
use std::io;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const CLIENT: &str = "lichen";
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes; and what is asked for, which brokers exceed by one batch at most.
const ANSWER_MAX: usize = 64 << 20;
const FETCH_MAX: i32 = 4 << 20;
/// Milliseconds for which a broker waits for records.
const FETCH_WAIT_MS: i32 = 500;

const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// Why a broker did not answer as asked.
#[derive(Debug, Error)]
pub enum BrokerError {
    #[error("Connection error. Please check your event source connection configuration. {address}: {source}")]
    Unreachable { address: String, source: io::Error },
    #[error("the connection to the broker broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the broker did not answer within {ANSWER_PATIENCE:?}")]
    Silent,
    #[error("the broker's answer of {0} bytes is too long")]
    TooLong(usize),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the broker has no such topic, or refuses it (error {0})")]
    Topic(i16),
    #[error("the broker refused the request (error {0})")]
    Refused(i16),
    #[error("no broker leads partition {0}")]
    NoLeader(i32),
    #[error("records were gone before they could be read")]
    Gone,
}

/// A partition, and the address of the broker that leads it, where one does at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    pub leader: Option<String>,
}

/// A connection.
pub struct Broker {
    stream: TcpStream,
    asked: i32,
}

impl Broker {
    pub async fn connect(address: &str) -> Result<Self, BrokerError> {
        let unreachable = |source| BrokerError::Unreachable { address: address.to_owned(), source };
        let connecting = timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await;
        let stream = connecting.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?.map_err(unreachable)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, asked: 0 })
    }

    /// The partitions of a topic.
    pub async fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>, BrokerError> {
        let answer = self.ask(METADATA, 1, Writer::default().i32(1).text(topic)).await?;
        let mut reader = Reader(&answer);
        let brokers = reader.list(|broker| {
            let (id, host, port) = (broker.i32()?, broker.text()?.unwrap_or_default(), broker.i32()?);
            broker.text()?;
            Ok((id, format!("{host}:{port}")))
        })?;
        reader.i32()?;
        let topics = reader.list(|topic| {
            let (error, name) = (topic.i16()?, topic.text()?.unwrap_or_default().to_owned());
            topic.i8()?;
            let partitions = topic.list(|partition| {
                partition.i16()?;
                let (index, leader) = (partition.i32()?, partition.i32()?);
                // Replicas, and those in sync.
                partition.list(|replica| replica.i32())?;
                partition.list(|replica| replica.i32())?;
                Ok((index, leader))
            })?;
            Ok((error, name, partitions))
        })?;
        let Some((error, _, partitions)) = topics.into_iter().find(|(_, name, _)| name == topic) else {
            return Err(Malformed.into());
        };
        if error != 0 {
            return Err(BrokerError::Topic(error));
        }
        let leader = |id: i32| brokers.iter().find(|(known, _)| *known == id).map(|(_, address)| address.clone());
        Ok(partitions.into_iter().map(|(index, id)| Partition { index, leader: leader(id) }).collect())
    }

    /// The first offset at or after a moment; -2 stands for the first of all, -1 for the next.
    pub async fn offset(&mut self, topic: &str, partition: i32, moment: i64) -> Result<i64, BrokerError> {
        let request = Writer::default().i32(-1).i32(1).text(topic).i32(1).i32(partition).i64(moment);
        let answer = self.ask(LIST_OFFSETS, 1, request).await?;
        let found = Reader(&answer).list(|topic| {
            topic.text()?;
            topic.list(|partition| {
                partition.i32()?;
                let (error, _, offset) = (partition.i16()?, partition.i64()?, partition.i64()?);
                Ok((error, offset))
            })
        })?;
        match found.into_iter().flatten().next() {
            Some((0, offset)) => Ok(offset),
            Some((error, _)) => Err(BrokerError::Refused(error)),
            None => Err(Malformed.into()),
        }
    }

    /// Up to `most` records of a partition from an offset on, and the offset at which to go on. Waits a moment where there
    /// are none.
    pub async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
        most: usize,
    ) -> Result<(Vec<Record>, i64), BrokerError> {
        let request = Writer::default().i32(-1).i32(FETCH_WAIT_MS).i32(1).i32(FETCH_MAX).i8(0);
        let request = request.i32(1).text(topic).i32(1).i32(partition).i64(from).i32(FETCH_MAX);
        let answer = self.ask(FETCH, 4, request).await?;
        let mut reader = Reader(&answer);
        reader.i32()?;
        let found = reader.list(|topic| {
            topic.text()?;
            topic.list(|partition| {
                partition.i32()?;
                let error = partition.i16()?;
                // Ends of the partition, and transactions that were given up.
                partition.take(16)?;
                partition.list(|transaction| transaction.take(16))?;
                Ok((error, partition.bytes()?))
            })
        })?;
        match found.into_iter().flatten().next() {
            Some((0, bytes)) => Ok(records::read(bytes, from, most)?),
            Some((OFFSET_OUT_OF_RANGE, _)) => Err(BrokerError::Gone),
            Some((error, _)) => Err(BrokerError::Refused(error)),
            None => Err(Malformed.into()),
        }
    }

    async fn ask(&mut self, question: i16, version: i16, request: Writer) -> Result<Vec<u8>, BrokerError> {
        timeout(ANSWER_PATIENCE, self.exchange(question, version, request)).await.unwrap_or(Err(BrokerError::Silent))
    }

    async fn exchange(&mut self, question: i16, version: i16, request: Writer) -> Result<Vec<u8>, BrokerError> {
        self.asked = self.asked.wrapping_add(1);
        let head = Writer::default().i16(question).i16(version).i32(self.asked).text(CLIENT).0;
        let length = i32::try_from(head.len() + request.0.len()).unwrap_or(i32::MAX);
        self.stream.write_all(&[&length.to_be_bytes()[..], &head, &request.0].concat()).await?;
        let length = usize::try_from(self.stream.read_i32().await?).map_err(|_| Malformed)?;
        if length > ANSWER_MAX {
            return Err(BrokerError::TooLong(length));
        }
        if length < 4 || self.stream.read_i32().await? != self.asked {
            return Err(Malformed.into());
        }
        // Grows with what comes, not with what was announced.
        let mut answer = Vec::new();
        let read = (&mut self.stream).take(length as u64 - 4).read_to_end(&mut answer).await?;
        if read + 4 < length { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(answer) }
    }
}
