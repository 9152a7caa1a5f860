//! Programs in Pods: a server that sends back what it gets, and a caller, each a process on a processor of its own.

use crate::error::{BenchError, io};
use crate::sockets::{Orders, orders, timed};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::cell::RefCell;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// What such a process is told to do.
pub const SERVE: &str = "mesh-serve";
pub const CALL: &str = "mesh-call";

const LENGTH: usize = 16;
const PATIENCE: Duration = Duration::from_secs(20);

/// A program in a Pod, which ends with this.
struct App(Child);

impl Drop for App {
    fn drop(&mut self) {
        // One that has ended by itself is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What such a process does until its input ends, or it is killed.
pub fn run(role: &str, address: &str, cpu: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    set.set(cpu);
    let here = sched_setaffinity(None, &set).map_err(io::Error::from);
    let done = here.and_then(|()| if role == SERVE { listen(address) } else { call(address) });
    done.map_err(io("a program in a Pod cannot go on"))
}

fn listen(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("ready");
    for stream in listener.incoming() {
        let stream = stream?;
        // One whose caller has gone has ended.
        thread::spawn(|| echo(stream));
    }
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

/// `connect` so many; `rounds` on all of them: the time that they took; `trips` on the first: the time of each.
fn call(address: &str) -> io::Result<()> {
    let to: SocketAddr = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let streams = RefCell::new(Vec::new());
    orders(|order| {
        let (what, count) = order.split_once(' ').unwrap_or((order, "1"));
        let count: usize = count.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut streams = streams.borrow_mut();
        match what {
            "connect" => *streams = (0..count).map(|_| connect(to)).collect::<io::Result<Vec<_>>>()?,
            "rounds" => return Ok(vec![timed(|| (0..count).try_for_each(|_| round(&mut streams)))?]),
            _ => return (0..count).map(|_| timed(|| round(&mut streams))).collect(),
        }
        Ok(Vec::new())
    })
}

/// A message on every connection, and back.
fn round(streams: &mut [TcpStream]) -> io::Result<()> {
    let mut bytes = [0; LENGTH];
    for stream in &mut *streams {
        stream.write_all(&bytes)?;
    }
    streams.iter_mut().try_for_each(|stream| stream.read_exact(&mut bytes))
}

/// A server that listens; `command` is this program, in the Pod.
pub struct Server(#[expect(dead_code, reason = "it is ended with this")] App);

impl Server {
    pub fn start(mut command: Command, cpu: usize, port: u16) -> Result<Self, BenchError> {
        command.args(["bench-peer", SERVE, &format!("0.0.0.0:{port}"), &cpu.to_string()]);
        let mut app = App(spawn(command)?);
        let mut ready = String::new();
        if let Some(output) = app.0.stdout.take() {
            BufReader::new(output).read_line(&mut ready).map_err(io("a server in a Pod does not listen"))?;
        }
        Ok(Self(app))
    }
}

/// Somebody who calls, on connections that stay.
pub struct Caller {
    orders: Orders,
    _app: App,
}

impl Caller {
    /// Connects, as often as it takes: rules and proxies may come into force a little later.
    pub fn start(mut command: Command, cpu: usize, to: &str, many: usize) -> Result<Self, BenchError> {
        command.args(["bench-peer", CALL, to, &cpu.to_string()]);
        let mut app = App(spawn(command)?);
        let mut caller = Self { orders: Orders::of(&mut app.0)?, _app: app };
        caller.call(&format!("connect {many}"))?;
        Ok(caller)
    }

    /// Has the caller do something: the nanoseconds that it tells.
    pub fn call(&mut self, order: &str) -> Result<Vec<u64>, BenchError> {
        self.orders.call("a program in a Pod", order)
    }
}

fn spawn(mut command: Command) -> Result<Child, BenchError> {
    let program = command.get_program().into();
    os::child::end_with_parent(&mut command);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    child.map_err(|source| BenchError::Program { program, source })
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
