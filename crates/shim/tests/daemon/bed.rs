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
    adjust: Box<dyn Fn(&mut Config)>,
}

pub struct Pu {
    pub socket: PathBuf,
    supervisor: Option<Supervisor>,
    thread: Option<JoinHandle<()>>,
}

impl Bed {
    pub fn new(pus: u8) -> Self {
        Self::with(pus, |_| {})
    }

    pub fn with(pus: u8, adjust: impl Fn(&mut Config) + 'static) -> Self {
        let mut bed = Self { folder: tempfile::tempdir().unwrap(), pus: Vec::new(), adjust: Box::new(adjust) };
        for pu in 0..usize::from(pus) {
            let started = bed.start(pu);
            bed.pus.push(started);
            bed.join(pu);
        }
        bed
    }

    fn start(&self, pu: usize) -> Pu {
        let socket = self.folder.path().join(format!("{pu}.sock"));
        let mut config = Config::new(PuId(pu as u8), socket.clone());
        config.memory = (pu == 0).then(|| self.folder.path().join("term"));
        (self.adjust)(&mut config);
        let (supervisor, control) = Supervisor::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let mut shim = Shim::open(config).unwrap();
            shim.obey(control).unwrap();
            shim.run();
        });
        Pu { socket, supervisor: Some(supervisor), thread: Some(thread) }
    }

    /// Links a PU to the head, and waits until it serves.
    fn join(&self, pu: usize) {
        let (head, own) = (self.pus[0].supervisor(), self.pus[pu].supervisor());
        if pu != 0 {
            head.link(own, PuId(0), PuId(pu as u8)).unwrap();
        }
        while !matches!(own.hear().unwrap(), Some(Report::Serving { .. })) {}
    }

    /// Starts a PU again that was ended.
    pub fn restart(&mut self, pu: usize) {
        self.pus[pu] = self.start(pu);
        self.join(pu);
    }

    /// Links a PU to a head that is new.
    pub fn relink(&self, pu: usize) {
        self.join(pu);
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
