//! What runs leave behind: nothing. Alone in its process, since it counts all that this has.
#![cfg(target_arch = "x86_64")]

mod leaks;
mod native;

use engine::RunError;
use engine::process::Process;
use leaks::{descriptors, pages, secrets_are_gone};
use native::Fixture;
use std::fs;
use std::time::Duration;

/// Runs of each kind.
const RUNS: usize = 10_000;
/// Those that take their time, by what they touch.
const SLOW_RUNS: usize = 300;

/// Children of this thread, dead or alive.
fn children() -> usize {
    let own = std::process::id();
    let states =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    states
        .filter(|stat| stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)) == Some(&own.to_string()))
        .count()
}

#[test]
fn nothing_is_left() {
    let mut fixture = Fixture::new(|arena| Box::new(Process::new(arena).unwrap()), native::guest());
    fixture.limits.memory = 4 << 20;
    let is_well = |fixture: &mut Fixture| {
        assert!(fixture.run("e", &[]).outcome.is_ok());
        fixture.program.clear();
    };
    is_well(&mut fixture);
    let before = (descriptors(), fixture.arena.held());
    for (order, runs) in [
        ("e", RUNS),
        ("u", RUNS),
        ("n", RUNS),
        ("s2", RUNS),
        ("x7", RUNS),
        ("r", SLOW_RUNS),
        ("4", SLOW_RUNS),
        ("B99999999999", RUNS),
        ("k100000", RUNS),
        ("m", SLOW_RUNS),
    ] {
        for _ in 0..runs {
            drop(fixture.run(order, &[]));
            fixture.program.clear();
        }
        is_well(&mut fixture);
        // The zygote, and the blanks that wait or come.
        assert!(children() <= 8, "{order}: {} processes are left", children());
        assert_eq!((descriptors() <= before.0 + 4, fixture.arena.held()), (true, before.1), "{order}");
        assert!(pages(&fixture.arena) < 3 << 20, "{order}: {} bytes are left in memory", pages(&fixture.arena));
    }
    fixture.deadline = Duration::from_millis(1);
    for _ in 0..SLOW_RUNS {
        assert_eq!(fixture.error("l"), RunError::Timeout);
    }
    fixture.deadline = Duration::from_secs(20);
    is_well(&mut fixture);
    assert!(children() <= 8);
    secrets_are_gone(&mut fixture);
    drop(fixture);
    assert_eq!(children(), 0);
}

#[test]
fn whoever_kills_the_engine_ends_all_that_it_has_made() {
    // The engine in a process of its own: this program once more, told to do nothing but that.
    if std::env::var_os("LICHEN_TEST_ENGINE").is_some() {
        let mut fixture = Fixture::new(|arena| Box::new(Process::new(arena).unwrap()), native::guest());
        println!("ready");
        drop(fixture.run("l", &[]));
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "whoever_kills_the_engine_ends_all_that_it_has_made", "--nocapture"]);
    let mut child = command.env("LICHEN_TEST_ENGINE", "1").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut output, &mut line).unwrap() > 0, "the engine did not come up");
    }
    let group = |own: u32| -> Vec<i32> {
        let all =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let parent = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit(')').next()?.split(' ').nth(2)?.parse::<u32>().ok()
        };
        all.filter(|pid| parent(pid) == Some(own)).collect()
    };
    // The zygote, a guest that never ends, and blanks.
    let mut made = group(child.id());
    while made.len() < 4 {
        std::thread::yield_now();
        made = group(child.id());
    }
    let descriptors: Vec<_> = made.iter().filter_map(|pid| os::pidfd::open(*pid).ok()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for process in &descriptors {
        let mut wait = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
        let most = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut wait, Some(&most)).unwrap(), 1, "a process outlives its engine");
    }
}
