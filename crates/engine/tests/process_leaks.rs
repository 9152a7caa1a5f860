//! What runs leave behind: nothing. Alone in its process, since it counts all that this has.
#![cfg(target_arch = "x86_64")]

mod native;

use engine::process::Process;
use engine::{Arena, Blob, RunError};
use native::Fixture;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

/// Overwrites what is freed, as the allocator of an engine process does.
struct Wiping;

// SAFETY: all memory is the system allocator's; it is overwritten before it is given back, when nobody uses it any more.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the block has this length; passed on as it came. Volatile, lest the writes be found useless.
        unsafe {
            (0..layout.size()).for_each(|n| at.add(n).write_volatile(0));
            System.dealloc(at, layout);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

/// Runs of each kind.
const RUNS: usize = 10_000;
/// Those that take their time, by what they touch.
const SLOW_RUNS: usize = 300;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Children of this thread, dead or alive.
fn children() -> usize {
    let own = std::process::id();
    let states =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    states
        .filter(|stat| stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)) == Some(&own.to_string()))
        .count()
}

/// Bytes of memory files that this process maps, as far as pages are there.
fn pages(arena: &Arena) -> u64 {
    let seen = rustix::fs::fstat(arena.file()).unwrap();
    seen.st_blocks as u64 * 512
}

/// Where the secret lies in this process's memory, but for the buffer that it is looked for with.
fn found(secret: &[u8]) -> Vec<u64> {
    const STEP: u64 = 1 << 20;
    let mut memory = fs::File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut bytes = vec![0; STEP as usize + secret.len()];
    let own = bytes.as_ptr() as u64..bytes.as_ptr() as u64 + bytes.len() as u64;
    let mut found = Vec::new();
    for map in maps.lines().filter(|map| map.contains(" rw")) {
        let (start, end) = map.split(' ').next().unwrap().split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        // The arena is sparse: its pages are looked at through its file.
        for at in (start..end).step_by(STEP as usize).filter(|_| end - start < 1 << 30) {
            let part = &mut bytes[..(end - at).min(STEP + secret.len() as u64) as usize];
            if memory.seek(SeekFrom::Start(at)).is_ok() && memory.read_exact(part).is_ok() {
                let here = part.windows(secret.len()).enumerate().filter(|(_, bytes)| bytes == &secret);
                found.extend(here.map(|(n, _)| at + n as u64).filter(|at| !own.contains(at)));
            }
            part.fill(0);
        }
    }
    found
}

/// Whether any page of the arena has the secret.
fn in_arena(arena: &Arena, secret: &[u8]) -> bool {
    let file = fs::File::from(arena.file().try_clone_to_owned().unwrap());
    let mut at = 0;
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).unwrap();
        let mut bytes = vec![0; (hole - data) as usize];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, data).unwrap();
        if bytes.windows(secret.len()).any(|bytes| bytes == secret) {
            return true;
        }
        at = hole;
    }
    false
}

#[test]
fn nothing_is_left() {
    let mut fixture = Fixture::new(|arena| Box::new(Process::new(arena).unwrap()), native::guest());
    fixture.limits.memory = 4 << 20;
    let is_well = |fixture: &mut Fixture| assert!(fixture.run("e", &[]).outcome.is_ok());
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

/// A secret that a run was given, and left in all places that it could, is nowhere after it.
fn secrets_are_gone(fixture: &mut Fixture) {
    // Put together where no compiler sees it, and never in one piece but in the run's own item.
    let secret: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(37) ^ 0x5a).collect();
    for times in [1, 1000, 20_000] {
        let given = Blob::from(secret.repeat(times));
        let finished = fixture.run("e", std::slice::from_ref(&given));
        assert!(finished.outcome.as_ref().is_ok_and(|sets| sets[0].items[1].data == given));
        drop((finished, given));
        assert!(!in_arena(&fixture.arena, &secret), "{times}: in the arena");
        let own = secret.as_ptr() as u64;
        let elsewhere: Vec<_> = found(&secret).into_iter().filter(|at| *at != own).collect();
        assert!(elsewhere.is_empty(), "{times}: at {elsewhere:x?}");
    }
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
