//! `latency = "low"`: while requests flow, idle cores are kept from sleeping deeply, by holding `/dev/cpu_dma_latency`
//! open with a bound of zero. It is let go a second after the last request.

use super::config::Latency;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::Handle;

const DEVICE: &str = "/dev/cpu_dma_latency";
/// After so long without a request it is let go.
const LINGER: Duration = Duration::from_secs(1);

/// Holds the device, or not.
#[derive(Debug)]
pub(super) struct Wakefulness {
    device: PathBuf,
    wanted: AtomicBool,
    held: AtomicBool,
    /// When the last request came.
    last: AtomicU64,
}

impl Wakefulness {
    pub fn new(latency: Latency) -> Arc<Self> {
        Self::on(DEVICE.into(), latency)
    }

    fn on(device: PathBuf, latency: Latency) -> Arc<Self> {
        let wanted = AtomicBool::new(latency == Latency::Low);
        Arc::new(Self { device, wanted, held: AtomicBool::new(false), last: AtomicU64::new(0) })
    }

    /// A request has come.
    pub fn touch(self: &Arc<Self>, runtime: &Handle, now: u64) {
        if !self.wanted.load(Relaxed) {
            return;
        }
        self.last.store(now, Relaxed);
        if self.held.swap(true, Relaxed) {
            return;
        }
        match self.hold() {
            Ok(device) => drop(runtime.spawn(self.clone().let_go(device))),
            Err(error) => {
                self.wanted.store(false, Relaxed);
                tracing::warn!(%error, device = %self.device.display(), "latency = \"low\" has no effect: this needs root");
            }
        }
    }

    fn hold(&self) -> io::Result<File> {
        let mut device = File::options().write(true).open(&self.device)?;
        device.write_all(&0i32.to_ne_bytes())?;
        Ok(device)
    }

    /// Waits until no request has come for long enough, and closes the device.
    async fn let_go(self: Arc<Self>, device: File) {
        loop {
            let idle = os::monotonic_ns().saturating_sub(self.last.load(Relaxed));
            let Some(rest) = LINGER.checked_sub(Duration::from_nanos(idle)).filter(|rest| !rest.is_zero()) else {
                break;
            };
            tokio::time::sleep(rest).await;
        }
        // A request that comes just now holds it anew.
        self.held.store(false, Relaxed);
        drop(device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_held_while_requests_come_and_let_go_after() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let wakefulness = Wakefulness::on(file.path().to_owned(), Latency::Low);
        let long_ago = os::monotonic_ns().saturating_sub(2 * LINGER.as_nanos() as u64);
        wakefulness.touch(&Handle::current(), long_ago);
        assert!(wakefulness.held.load(Relaxed));
        assert_eq!(std::fs::read(file.path()).unwrap(), [0; 4]);
        // The linger is over: letting go is the next thing that runs.
        while wakefulness.held.load(Relaxed) {
            tokio::task::yield_now().await;
        }
        wakefulness.touch(&Handle::current(), os::monotonic_ns());
        assert!(wakefulness.held.load(Relaxed));
    }

    #[tokio::test]
    async fn a_device_that_cannot_be_had_is_asked_for_once() {
        let wakefulness = Wakefulness::on("/dev/null/none".into(), Latency::Low);
        wakefulness.touch(&Handle::current(), 1);
        assert!(!wakefulness.wanted.load(Relaxed));
        let normal = Wakefulness::on("/dev/null/none".into(), Latency::Normal);
        normal.touch(&Handle::current(), 1);
        assert!(!normal.held.load(Relaxed));
    }
}
