//! The ledger on a disk of its own.

use super::*;
use crate::dispatch::StartKind;
use crate::function::FunctionKey;

const PATIENCE: Duration = Duration::from_secs(30);

fn bill(name: &str, number: u64, start: StartKind) -> Bill {
    let [account, region, version] = ["000000000000", "us-east-1", "$LATEST"].map(str::to_owned);
    Bill {
        function: FunctionKey { account, region, name: name.to_owned(), version }.into(),
        request_id: format!("request-{number}"),
        start,
        at_unix_ms: api::time::now_ms(),
        duration: Duration::from_micros(1500),
        billed_ms: 2,
        pu: 1,
        price: Price::from_micros(400_000),
        memory_mib: 128,
        memory_peak: 1 << 20,
        init: (start == StartKind::Cold).then_some(Duration::from_micros(700)),
        failed: number.is_multiple_of(2),
    }
}

fn pus() -> Vec<String> {
    ["host", "dpu0"].map(str::to_owned).into()
}

fn latest(ledger: &Ledger, name: &str, limit: u32) -> Vec<api::node::Bill> {
    ledger.latest("000000000000", "us-east-1", name, limit).unwrap()
}

#[test]
fn bills_are_kept_and_summed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bills.db");
    let ledger = Ledger::open(&path, LedgerConfig::default(), pus()).unwrap();
    ledger.record(bill("f", 0, StartKind::Cold));
    (1..10).for_each(|number| ledger.record(bill("f", number, StartKind::Warm)));
    ledger.record(bill("g", 10, StartKind::Stem));
    assert!(ledger.flush(PATIENCE));
    drop(ledger);
    let ledger = Ledger::open(&path, LedgerConfig::default(), pus()).unwrap();
    let bills = latest(&ledger, "f", 100);
    assert_eq!((bills.len(), bills[0].request.as_str(), bills[9].start.as_str()), (10, "request-9", "cold"));
    assert_eq!((bills[9].init_us, bills[9].duration_us, bills[9].failed), (Some(700), 1500, true));
    // 2 ms of 128 MiB at 0.4 for a GB-second.
    assert_eq!((bills[0].pu.as_str(), bills[0].price.micros(), bills[0].cost_micros), ("dpu0", 400_000, 100));
    assert_eq!(latest(&ledger, "f", 3).len(), 3);
    // Midnight may fall between two bills.
    let usage: Vec<_> = ledger.usage().unwrap().into_iter().filter(|usage| usage.function == "f").collect();
    let sum = |of: fn(&api::node::Usage) -> u64| usage.iter().map(of).sum::<u64>();
    assert_eq!((sum(|u| u.invocations), sum(|u| u.failures), sum(|u| u.cold)), (10, 5, 1));
    assert_eq!((sum(|u| u.billed_ms), sum(|u| u.mib_ms), sum(|u| u.cost_micros)), (20, 2560, 1000));
    assert_eq!(ledger.lost(), 0);
}

#[test]
fn old_bills_go_and_totals_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bills.db");
    let config = LedgerConfig { keep_rows: 5, keep_days: 1 };
    let ledger = Ledger::open(&path, config.clone(), pus()).unwrap();
    let old = Bill { at_unix_ms: api::time::now_ms() - 2 * 86_400_000, ..bill("f", 0, StartKind::Warm) };
    ledger.record(old);
    assert!(ledger.flush(PATIENCE));
    assert_eq!(latest(&ledger, "f", 100).len(), 0);
    (0..20).for_each(|number| ledger.record(bill("f", number, StartKind::Warm)));
    assert!(ledger.flush(PATIENCE));
    drop(ledger);
    let ledger = Ledger::open(&path, config, pus()).unwrap();
    ledger.record(bill("f", 20, StartKind::Warm));
    assert!(ledger.flush(PATIENCE));
    let bills = latest(&ledger, "f", 100);
    assert_eq!((bills.len(), bills[0].request.as_str()), (5, "request-20"));
    assert_eq!(ledger.usage().unwrap().iter().map(|usage| usage.invocations).sum::<u64>(), 22);
}

#[test]
fn a_ledger_that_cannot_be_written_loses_bills_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bills.db");
    let ledger = Ledger::open(&path, LedgerConfig::default(), pus()).unwrap();
    Connection::open(&path).unwrap().execute_batch("DROP TABLE bills").unwrap();
    ledger.record(bill("f", 0, StartKind::Warm));
    assert!(ledger.flush(PATIENCE));
    assert_eq!(ledger.lost(), 1);
}

#[test]
fn a_ledger_of_an_older_form_is_one_of_this() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bills.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(schema::TABLES).unwrap();
    let day =
        "INSERT INTO usage VALUES ('2025-01-31', '000000000000', 'us-east-1', 'f', '$LATEST', 1, 0, 0, 0, 1, 2, 256)";
    old.execute_batch(day).unwrap();
    drop(old);
    for _ in 0..2 {
        let ledger = Ledger::open(&path, LedgerConfig::default(), pus()).unwrap();
        let usage = ledger.usage().unwrap();
        assert_eq!((usage.len(), usage[0].mib_ms, usage[0].cost_micros), (1, 256, 0));
    }
}
