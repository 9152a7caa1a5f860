//! Programs in Pods: a server that sends back what it gets, and a caller. Threads of this process, each in a network namespace
//! and on a processor of its own.

use crate::error::{BenchError, io};
use os::ns::{self, Kinds};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

const LENGTH: usize = 16;
const PATIENCE: Duration = Duration::from_secs(20);

/// Has the calling thread stand in a namespace, on a processor.
fn go(namespace: &Path, cpu: usize) -> io::Result<()> {
    ns::enter(File::open(namespace)?, Kinds::NET)?;
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Serves until the process ends; returns when it listens.
pub fn serve(namespace: &Path, cpu: usize, port: u16) -> Result<(), BenchError> {
    let listen = thread::scope(|scope| {
        let bind = || -> io::Result<TcpListener> {
            go(namespace, cpu)?;
            TcpListener::bind(("0.0.0.0", port))
        };
        scope.spawn(bind).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let listener = listen.map_err(io("a server in a Pod could not listen"))?;
    let namespace = namespace.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let namespace = namespace.clone();
            thread::spawn(move || go(&namespace, cpu).and_then(|()| echo(stream)));
        }
    });
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; LENGTH];
    loop {
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)?;
    }
}

/// Somebody who calls, on connections that stay.
pub struct Caller {
    streams: Vec<TcpStream>,
    cpu: usize,
}

impl Caller {
    /// Connects from a namespace, as often as it takes: rules and proxies may come into force a little later.
    pub fn new(namespace: &Path, cpu: usize, to: SocketAddr, many: usize) -> Result<Self, BenchError> {
        let connected = thread::scope(|scope| {
            let connect = || -> io::Result<Vec<TcpStream>> {
                go(namespace, cpu)?;
                (0..many).map(|_| connect(to)).collect()
            };
            scope.spawn(connect).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let streams = connected.map_err(|source| BenchError::Silent { who: to.to_string(), source })?;
        Ok(Self { streams, cpu })
    }

    /// So many times a message on every connection, and back.
    pub fn rounds(&mut self, count: usize) -> Result<(), BenchError> {
        let mut set = CpuSet::new();
        set.set(self.cpu);
        let here = sched_setaffinity(None, &set);
        here.map_err(|error| BenchError::Io { what: "no processor to call from", source: error.into() })?;
        let round = |streams: &mut [TcpStream]| -> io::Result<()> {
            let mut bytes = [0; LENGTH];
            for stream in &mut *streams {
                stream.write_all(&bytes)?;
            }
            streams.iter_mut().try_for_each(|stream| stream.read_exact(&mut bytes))
        };
        for _ in 0..count {
            round(&mut self.streams).map_err(|source| BenchError::Silent { who: "a Pod".to_owned(), source })?;
        }
        Ok(())
    }
}

/// A connection over which an answer has come.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        match try_once(to) {
            Err(error) if std::time::Instant::now() > until => return Err(error),
            Err(_) => crate::pause(Duration::from_millis(20)),
            connected => return connected,
        }
    }
}

fn try_once(to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut bytes = [1; LENGTH];
    stream.write_all(&bytes)?;
    stream.read_exact(&mut bytes)?;
    Ok(stream)
}

/// How long a processor has worked, in hundredths of a second.
pub fn busy_ticks(cpu: usize) -> Result<u64, BenchError> {
    let text = fs::read_to_string("/proc/stat").map_err(io("/proc/stat cannot be read"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{cpu} ")));
    let counts = line.into_iter().flat_map(str::split_whitespace).map(|word| word.parse::<u64>().unwrap_or(0));
    // For users, nice ones, the kernel, and interrupts; not idle, nor waiting for disks.
    Ok(counts.enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, count)| count).take(5).sum())
}
