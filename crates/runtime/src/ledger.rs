//! The bills of a node, kept: one row for each invocation, for as long as the configuration says, and daily totals.
//!
//! A thread of its own writes them in batches, to a database of its own: neither an invocation nor a change of a function
//! ever waits for a bill. A bill that does not fit into the queue or onto the disk is lost, and counted.
//!
//! What a GB-second costs is the PU's to say, and stands in each bill.

mod schema;
#[cfg(test)]
mod tests;
mod writer;

use crate::billing::{Bill, BillSink};
use api::pu::Price;
use rusqlite::{Connection, OpenFlags, Row, params};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc;

/// Bills that wait to be written: some tenths of a second at the highest rates. Memory is taken for those that do.
const QUEUE: usize = 65_536;

/// `[bills]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerConfig {
    /// Days for which single bills are kept; daily totals stay.
    pub keep_days: u32,
    /// The most single bills that are kept.
    pub keep_rows: u64,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self { keep_days: 30, keep_rows: 1_000_000 }
    }
}

/// Why there is no ledger.
#[derive(Debug, Error)]
#[error("the ledger {path:?} cannot be opened")]
pub struct OpenError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// Why bills could not be read.
#[derive(Debug, Error)]
#[error("the ledger cannot be read")]
pub struct ReadError(#[from] rusqlite::Error);

enum Message {
    Bill(Bill),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
    /// There was nothing to do for a while.
    Rest,
}

/// The bills of a node. Clones are the same ledger; the last one that goes writes what is left.
#[derive(Clone)]
pub struct Ledger {
    queue: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
    writer: Thread,
    reader: Arc<Mutex<Connection>>,
}

impl Ledger {
    /// Opens the ledger at `path`, or makes a new one, and starts its thread.
    /// Bills name their PU by its number: `pus` are the names.
    pub fn open(path: &Path, config: LedgerConfig, pus: Vec<String>) -> Result<Self, OpenError> {
        let failed = |source| OpenError { path: path.to_owned(), source };
        let connection = schema::open(path).map_err(failed)?;
        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        let (queue, bills) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = writer::Writer::new(connection, config, pus, lost.clone());
        let writer = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(bills))
            .map_err(|error| failed(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        let writer = writer.thread().clone();
        Ok(Self { queue, lost, writer, reader: Arc::new(Mutex::new(reader)) })
    }

    /// Bills that were lost since the node's start, for want of room in the queue or on the disk.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until every bill so far is written; whether that was so in time. Not within asynchronous code.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, waiting) = sync_channel(1);
        let asked = self.queue.blocking_send(Message::Flush(done)).is_ok();
        self.writer.unpark();
        asked && waiting.recv_timeout(patience).is_ok()
    }

    /// To be called when nothing has happened for a while: gives memory back.
    pub fn rest(&self) {
        // One that has no room for this has something to do.
        let _ = self.queue.try_send(Message::Rest);
    }

    /// A function's latest bills, newest first. Blocks on the disk.
    pub fn latest(
        &self,
        account: &str,
        region: &str,
        name: &str,
        limit: u32,
    ) -> Result<Vec<api::node::Bill>, ReadError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = reader.prepare_cached(schema::LATEST_BILLS)?;
        let bills = statement.query_map(params![account, region, name, limit], |row| bill(row, name))?;
        Ok(bills.collect::<Result<_, _>>()?)
    }

    /// Totals of each day and function, newest first. Blocks on the disk.
    pub fn usage(&self) -> Result<Vec<api::node::Usage>, ReadError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = reader.prepare_cached(schema::USAGE)?;
        Ok(statement.query_map([], usage)?.collect::<Result<_, _>>()?)
    }
}

impl BillSink for Ledger {
    fn record(&self, bill: Bill) {
        if self.queue.try_send(Message::Bill(bill)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn bill(row: &Row<'_>, name: &str) -> rusqlite::Result<api::node::Bill> {
    Ok(api::node::Bill {
        time: row.get::<_, i64>("at_ms")? as u64,
        function: name.to_owned(),
        version: row.get("version")?,
        request: row.get("request")?,
        start: row.get("start")?,
        failed: row.get("failed")?,
        duration_us: row.get::<_, i64>("duration_us")? as u64,
        billed_ms: row.get::<_, i64>("billed_ms")? as u64,
        memory_mib: row.get("memory_mib")?,
        memory_peak: row.get::<_, i64>("memory_peak")? as u64,
        pu: row.get("pu")?,
        price: Price::from_micros(row.get::<_, i64>("price_micros")? as u64),
        cost_micros: row.get::<_, i64>("cost_micros")? as u64,
        init_us: row.get::<_, Option<i64>>("init_us")?.map(|init| init as u64),
    })
}

fn usage(row: &Row<'_>) -> rusqlite::Result<api::node::Usage> {
    let number = |column: &str| row.get::<_, i64>(column).map(|number| number as u64);
    Ok(api::node::Usage {
        day: row.get("day")?,
        account: row.get("account")?,
        region: row.get("region")?,
        function: row.get("name")?,
        version: row.get("version")?,
        invocations: number("invocations")?,
        failures: number("failures")?,
        cold: number("cold")?,
        stem: number("stem")?,
        duration_us: number("duration_us")?,
        billed_ms: number("billed_ms")?,
        mib_ms: number("mib_ms")?,
        cost_micros: number("cost_micros")?,
    })
}
