//! Shims for tests: each a thread of this process with a supervisor's socket, in a folder of its own.

use shim::control::{Report, Supervisor};
use shim::{Config, Shim};
use std::path::PathBuf;
use std::thread::JoinHandle;
use xpucall::id::PuId;
use xpucall::wire::Transport;
use xpucall::{Event, Process, Reader};

/// A computer: one shim for each PU, linked to the head.
pub struct Bed {
    pub folder: tempfile::TempDir,
    pub pus: Vec<Pu>,
}

pub struct Pu {
    pub socket: PathBuf,
    pub supervisor: Option<Supervisor>,
    thread: Option<JoinHandle<()>>,
}

impl Bed {
    pub fn new(pus: u8) -> Self {
        Self::with(pus, |_| {})
    }

    pub fn with(pus: u8, adjust: impl Fn(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bed = Self { folder, pus: Vec::new() };
        for pu in 0..pus {
            let socket = bed.folder.path().join(format!("{pu}.sock"));
            let mut config = Config::new(PuId(pu), socket.clone());
            config.memory = (pu == 0).then(|| bed.folder.path().join("term"));
            adjust(&mut config);
            let (supervisor, control) = Supervisor::pair().unwrap();
            let thread = std::thread::spawn(move || {
                let mut shim = Shim::open(config).unwrap();
                shim.obey(control).unwrap();
                shim.run();
            });
            if let Some(head) = bed.pus.first() {
                head.supervisor().link(&supervisor, PuId(0), PuId(pu)).unwrap();
            }
            assert!(matches!(supervisor.hear().unwrap(), Some(Report::Serving { .. })));
            bed.pus.push(Pu { socket, supervisor: Some(supervisor), thread: Some(thread) });
        }
        bed
    }

    /// A process of that PU.
    pub fn attach(&self, pu: usize) -> Process {
        Process::attach(&self.pus[pu].socket, Transport::Adaptive).unwrap()
    }
}

impl Pu {
    pub fn supervisor(&self) -> &Supervisor {
        self.supervisor.as_ref().unwrap()
    }

    /// Ends the shim.
    pub fn end(&mut self) {
        drop(self.supervisor.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.pus.iter_mut().rev().for_each(Pu::end);
        }
    }
}

/// The next event, which must come soon.
pub fn event(reader: &mut Reader) -> Event {
    reader.event_by(soon()).unwrap()
}

/// By when what must happen has happened.
pub fn soon() -> std::time::Instant {
    std::time::Instant::now() + std::time::Duration::from_secs(10)
}
