//! Keeps idle processors awake while requests flow, by holding `/dev/cpu_dma_latency` open with a bound of zero: an idle
//! processor looks for work instead of halting, and is there ten times as fast. Whoever dies lets go of it.
//!
//! | `latency` | where | let go after the last request |
//! |---|---|---|
//! | `saving` | nowhere | |
//! | `normal` | where idle processors halt into a hypervisor, up to [`FEW`] of them | [`BRIEFLY`] |
//! | `low` | everywhere | [`LONG`] |

use super::config::Latency;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

const DEVICE: &str = "/dev/cpu_dma_latency";
/// What makes processors idle here.
const DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";
/// The driver of guests: to halt is to leave for the hypervisor, and to be woken up is to be let in again.
const OF_GUESTS: &str = "haltpoll";
/// All idle processors poll, or none.
const FEW: usize = 8;
/// Longer than from one request of a client that calls in a row to its next.
const BRIEFLY: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(1);

const AWAKE: i32 = 0;
/// What the kernel takes for no bound at all.
const ANY: i32 = -1;

/// Holds the device, or not.
#[derive(Debug)]
pub(super) struct Wakefulness {
    device: PathBuf,
    /// Nanoseconds after the last request; zero: it is not held at all.
    linger: AtomicU64,
    held: AtomicBool,
    /// When the last request came.
    last: AtomicU64,
    /// The device while it is not held: to open it takes as long as to hold it.
    spare: Mutex<Option<File>>,
}

impl Wakefulness {
    pub fn new(latency: Latency) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::on(DEVICE.into(), linger(latency, Path::new(DRIVER), cores))
    }

    fn on(device: PathBuf, linger: Duration) -> Arc<Self> {
        let linger = AtomicU64::new(u64::try_from(linger.as_nanos()).unwrap_or(u64::MAX));
        Arc::new(Self {
            device,
            linger,
            held: AtomicBool::new(false),
            last: AtomicU64::new(0),
            spare: Mutex::default(),
        })
    }

    /// A request has come. The device is held by a task, so after what the request itself sets off at once.
    pub fn touch(self: &Arc<Self>, runtime: &Handle, now: u64) {
        if self.linger.load(Relaxed) == 0 {
            return;
        }
        // Who lets go looks at `last` once more after `held`: either it sees this, or this sees that it lets go.
        self.last.store(now, SeqCst);
        if !self.held.load(SeqCst) && !self.held.swap(true, SeqCst) {
            runtime.spawn(self.clone().hold());
        }
    }

    /// Holds the device until no request has come for long enough.
    async fn hold(self: Arc<Self>) {
        let device = match self.bound() {
            Ok(device) => device,
            Err(error) => {
                self.linger.store(0, Relaxed);
                tracing::info!(%error, device = %self.device.display(), "idle processors cannot be kept awake: this needs root");
                return;
            }
        };
        while let Some(rest) = self.rest() {
            tokio::time::sleep(rest).await;
        }
        self.unbound(device);
    }

    /// How long it is to be held from now on, if at all.
    fn rest(&self) -> Option<Duration> {
        let rest = || {
            let idle = os::monotonic_ns().saturating_sub(self.last.load(SeqCst));
            self.linger.load(Relaxed).checked_sub(idle).filter(|rest| *rest > 0).map(Duration::from_nanos)
        };
        rest().or_else(|| {
            self.held.store(false, SeqCst);
            rest().filter(|_| !self.held.swap(true, SeqCst))
        })
    }

    fn bound(&self) -> io::Result<File> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut device = spare.map_or_else(|| File::options().write(true).open(&self.device), Ok)?;
        device.write_all(&AWAKE.to_ne_bytes())?;
        Ok(device)
    }

    fn unbound(&self, mut device: File) {
        // One that cannot be written any more is closed, which lets go as well.
        if device.write_all(&ANY.to_ne_bytes()).is_ok() {
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
        }
    }
}

/// For how long a request keeps processors awake.
fn linger(latency: Latency, driver: &Path, cores: usize) -> Duration {
    let halts = || std::fs::read_to_string(driver).is_ok_and(|driver| driver.trim() == OF_GUESTS);
    match latency {
        Latency::Low => LONG,
        Latency::Normal if cores <= FEW && halts() => BRIEFLY,
        Latency::Normal | Latency::Saving => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn written(file: &tempfile::NamedTempFile) -> Vec<i32> {
        let bytes = std::fs::read(file.path()).unwrap();
        bytes.chunks(4).map(|word| i32::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[tokio::test]
    async fn it_is_held_while_requests_come_and_let_go_after() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let wakefulness = Wakefulness::on(file.path().to_owned(), LONG);
        let long_ago = os::monotonic_ns().saturating_sub(2 * LONG.as_nanos() as u64);
        for held in [vec![AWAKE, ANY], vec![AWAKE, ANY, AWAKE, ANY]] {
            wakefulness.touch(&Handle::current(), long_ago);
            assert!(wakefulness.held.load(SeqCst));
            // The linger is over: letting go is the next thing that runs.
            while wakefulness.held.load(SeqCst) {
                tokio::task::yield_now().await;
            }
            assert_eq!(written(&file), held);
        }
        // A request that comes before it is let go keeps it.
        wakefulness.touch(&Handle::current(), os::monotonic_ns());
        tokio::task::yield_now().await;
        wakefulness.touch(&Handle::current(), os::monotonic_ns());
        tokio::task::yield_now().await;
        assert_eq!(written(&file), [AWAKE, ANY, AWAKE, ANY, AWAKE]);
    }

    #[tokio::test]
    async fn a_device_that_cannot_be_had_is_asked_for_once() {
        let wakefulness = Wakefulness::on("/dev/null/none".into(), LONG);
        wakefulness.touch(&Handle::current(), 1);
        while wakefulness.linger.load(Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        wakefulness.touch(&Handle::current(), 2);
        assert_eq!(wakefulness.last.load(Relaxed), 1);
    }

    #[test]
    fn what_is_normal_depends_on_the_machine() {
        let driver = |name: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().write_all_at(name.as_bytes(), 0).unwrap();
            file
        };
        let (guest, metal) = (driver("haltpoll\n"), driver("intel_idle\n"));
        assert_eq!(linger(Latency::Normal, guest.path(), FEW), BRIEFLY);
        assert_eq!(linger(Latency::Normal, guest.path(), FEW + 1), Duration::ZERO);
        assert_eq!(linger(Latency::Normal, metal.path(), 2), Duration::ZERO);
        assert_eq!(linger(Latency::Normal, Path::new("/dev/null/none"), 2), Duration::ZERO);
        assert_eq!(linger(Latency::Low, metal.path(), 64), LONG);
        assert_eq!(linger(Latency::Saving, guest.path(), 2), Duration::ZERO);
    }
}
