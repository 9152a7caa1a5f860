//! The ledger's thread: gathers bills, writes them in batches, and throws old ones away.

use super::{LedgerConfig, Message, schema};
use crate::billing::Bill;
use crate::dispatch::StartKind;
use crate::function::FunctionKey;
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

/// How long a bill waits for others.
const GATHER: Duration = Duration::from_millis(250);
/// As many bills as are written at once.
const BATCH: usize = 4096;
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// The same complaint is not repeated sooner.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 86_400_000;

/// A day's total of one function.
#[derive(Default)]
struct Total {
    invocations: i64,
    failures: i64,
    cold: i64,
    stem: i64,
    duration_us: i64,
    billed_ms: i64,
    mib_ms: i64,
    cost_micros: i64,
}

pub struct Writer {
    connection: Connection,
    config: LedgerConfig,
    /// The names of the PUs, by their numbers.
    pus: Vec<String>,
    lost: Arc<AtomicU64>,
    batch: Vec<Bill>,
    pruned: Option<Instant>,
    complained: Option<Instant>,
}

impl Writer {
    pub fn new(connection: Connection, config: LedgerConfig, pus: Vec<String>, lost: Arc<AtomicU64>) -> Self {
        Self { connection, config, pus, lost, batch: Vec::new(), pruned: None, complained: None }
    }

    /// Runs until nobody can send a bill any more. Its thread is to be unparked when somebody waits.
    pub fn run(mut self, mut bills: Receiver<Message>) {
        while let Some(first) = bills.blocking_recv() {
            if matches!(first, Message::Rest) {
                self.rest();
                continue;
            }
            let waiting = self.take(first).or_else(|| self.gather(&mut bills));
            self.write();
            if let Some(waiting) = waiting {
                // Whoever asked may have lost patience.
                let _ = waiting.send(());
            }
        }
    }

    /// Takes what comes for a while, or until somebody waits for it to be written. It sleeps beside the queue and not in it:
    /// whoever sends a bill has nobody to wake.
    fn gather(&mut self, bills: &mut Receiver<Message>) -> Option<SyncSender<()>> {
        let deadline = Instant::now() + GATHER;
        while self.batch.len() < BATCH {
            match bills.try_recv() {
                Ok(message) => match self.take(message) {
                    None => {}
                    waiting => return waiting,
                },
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => match deadline.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => break,
                    left => std::thread::park_timeout(left),
                },
            }
        }
        None
    }

    fn take(&mut self, message: Message) -> Option<SyncSender<()>> {
        match message {
            Message::Bill(bill) => {
                self.batch.push(bill);
                None
            }
            Message::Flush(waiting) => Some(waiting),
            // There is something to do again.
            Message::Rest => None,
        }
    }

    /// Gives back what the next bills can do without: pages of the file, and the room in which bills gather.
    fn rest(&mut self) {
        self.batch = Vec::new();
        // It stays where it is if not.
        let _ = self.connection.execute_batch("PRAGMA shrink_memory");
        os::resident::spare_heap();
    }

    fn write(&mut self) {
        if let Err(error) = self.write_batch().and_then(|()| self.prune()) {
            self.lost.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
            if self.complained.is_none_or(|at| at.elapsed() > COMPLAIN_EVERY) {
                self.complained = Some(Instant::now());
                tracing::error!(%error, lost = self.lost.load(Ordering::Relaxed), "bills could not be written");
            }
        }
        self.batch.clear();
    }

    fn write_batch(&mut self) -> rusqlite::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        {
            let mut add = transaction.prepare_cached(schema::ADD_BILL)?;
            let name = |pu: u8| self.pus.get(usize::from(pu)).map_or("", String::as_str);
            self.batch.iter().try_for_each(|bill| add_bill(&mut add, bill, name(bill.pu)))?;
            let mut add = transaction.prepare_cached(schema::ADD_USAGE)?;
            for ((day, function), total) in totals(&self.batch) {
                add_usage(&mut add, &api::time::rfc3339(day * DAY_MS)[..10], function, &total)?;
            }
        }
        transaction.commit()?;
        // What is written is not lost when pruning fails.
        self.batch.clear();
        Ok(())
    }

    fn prune(&mut self) -> rusqlite::Result<()> {
        if self.pruned.is_some_and(|at| at.elapsed() < PRUNE_EVERY) {
            return Ok(());
        }
        self.pruned = Some(Instant::now());
        let rows = i64::try_from(self.config.keep_rows).unwrap_or(i64::MAX);
        self.connection.execute(schema::PRUNE_ROWS, [rows])?;
        let oldest = api::time::now_ms().saturating_sub(u64::from(self.config.keep_days) * DAY_MS);
        self.connection.execute(schema::PRUNE_DAYS, [oldest as i64]).map(drop)
    }
}

fn word(start: StartKind) -> &'static str {
    match start {
        StartKind::Cold => "cold",
        StartKind::Warm => "warm",
        StartKind::Stem => "stem",
    }
}

fn add_bill(add: &mut rusqlite::CachedStatement<'_>, bill: &Bill, pu: &str) -> rusqlite::Result<()> {
    let FunctionKey { account, region, name, version } = &*bill.function;
    add.execute(params![
        bill.at_unix_ms as i64,
        account,
        region,
        name,
        version,
        bill.request_id,
        word(bill.start),
        bill.failed,
        bill.duration.as_micros() as i64,
        bill.billed_ms as i64,
        bill.memory_mib,
        bill.memory_peak as i64,
        bill.init.map(|init| init.as_micros() as i64),
        pu,
        bill.price.micros() as i64,
        bill.cost_micros() as i64,
    ])
    .map(drop)
}

fn totals(bills: &[Bill]) -> HashMap<(u64, &FunctionKey), Total> {
    let mut totals: HashMap<_, Total> = HashMap::new();
    for bill in bills {
        let total = totals.entry((bill.at_unix_ms / DAY_MS, &*bill.function)).or_default();
        total.invocations += 1;
        total.failures += i64::from(bill.failed);
        total.cold += i64::from(bill.start == StartKind::Cold);
        total.stem += i64::from(bill.start == StartKind::Stem);
        total.duration_us += bill.duration.as_micros() as i64;
        total.billed_ms += bill.billed_ms as i64;
        total.cost_micros += bill.cost_micros() as i64;
        total.mib_ms += bill.billed_ms as i64 * i64::from(bill.memory_mib);
    }
    totals
}

fn add_usage(
    add: &mut rusqlite::CachedStatement<'_>,
    day: &str,
    function: &FunctionKey,
    total: &Total,
) -> rusqlite::Result<()> {
    let FunctionKey { account, region, name, version } = function;
    let Total { invocations, failures, cold, stem, duration_us, billed_ms, mib_ms, cost_micros } = total;
    let row = params![
        day,
        account,
        region,
        name,
        version,
        invocations,
        failures,
        cold,
        stem,
        duration_us,
        billed_ms,
        mib_ms,
        cost_micros
    ];
    add.execute(row).map(drop)
}
