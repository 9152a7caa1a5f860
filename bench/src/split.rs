//! `split`: a call to `localhost` that is answered on another PU, beside one that stays (HeteroPod's split network).
//!
//! Threads of this process stand in network namespaces: a plain one, and the two halves of a network that a daemon of its own
//! keeps. Arms are connections, and take turns, block by block. A bind is timed in the plain one and in a half.

use crate::Plan;
use crate::error::{BenchError, io};
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use crate::scratch::Scratch;
use net::split::client::{Request, SOCKET, ask};
use net::split::{Half, Network};
use os::ns::{self, Kinds};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

const LENGTHS: [usize; 2] = [16, 8 << 10];
/// Round trips of one arm before it is the next one's turn.
const BLOCK: usize = 200;
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 5));
const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 7000;

type Task = Box<dyn FnOnce() + Send>;

/// A network namespace, and the thread that stands in it.
struct Room {
    tasks: SyncSender<Task>,
    half: Half,
}

impl Room {
    fn new(pu: &str) -> io::Result<Self> {
        let (tasks, given): (_, Receiver<Task>) = sync_channel(1);
        let (tell, told) = sync_channel(1);
        std::thread::spawn(move || {
            let made = ns::unshare(Kinds::NET).and_then(|()| os::netlink::loopback_up());
            let _ = tell.send(made.map(|()| rustix::thread::gettid().as_raw_nonzero()));
            given.into_iter().for_each(|task| task());
        });
        let thread = told.recv().map_err(io::Error::other)??;
        let namespace = format!("/proc/{}/task/{thread}/ns/net", std::process::id()).into();
        Ok(Self { tasks, half: Half { pu: pu.to_owned(), namespace, process: None } })
    }

    fn within<R: Send + 'static>(&self, what: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<R> {
        let (tell, told) = sync_channel(1);
        let task = Box::new(move || drop(tell.send(what())));
        self.tasks.send(task).map_err(|_| io::ErrorKind::BrokenPipe)?;
        told.recv().map_err(io::Error::other)?
    }

    /// Echoes what comes to a port, to one caller after the other, until the last has hung up.
    fn echo(&self, port: u16, callers: usize) -> io::Result<()> {
        let listener = self.within(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))?;
        std::thread::spawn(move || {
            for stream in listener.incoming().take(callers).flatten() {
                std::thread::spawn(move || drop(echo(&stream)));
            }
        });
        Ok(())
    }
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; LENGTHS[1]];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            len => stream.write_all(&bytes[..len])?,
        }
    }
}

/// A connection, from the caller's end.
struct Way {
    name: String,
    stream: TcpStream,
    samples: Vec<f64>,
}

impl Way {
    /// Tries until the port is known there.
    fn open(name: &str, from: &Room, to: IpAddr) -> io::Result<Self> {
        let (to, begun) = (SocketAddr::new(to, PORT), Instant::now());
        loop {
            match from.within(move || TcpStream::connect(to)) {
                Err(_) if begun.elapsed() < PATIENCE => crate::pause(Duration::from_millis(1)),
                stream => {
                    let stream = stream?;
                    stream.set_nodelay(true)?;
                    return Ok(Self { name: name.to_owned(), stream, samples: Vec::new() });
                }
            }
        }
    }

    fn measure(&mut self, length: usize, count: usize) -> io::Result<()> {
        let (message, mut answer) = (vec![0x5a; length], vec![0; length]);
        for _ in 0..count {
            let begun = Instant::now();
            self.stream.write_all(&message)?;
            self.stream.read_exact(&mut answer)?;
            self.samples.push(begun.elapsed().as_nanos() as f64 / 1000.0);
        }
        Ok(())
    }
}

/// The daemon of a folder; it ends with this.
struct Daemon(Child);

impl Daemon {
    fn start(program: &Path, folder: &Path) -> Result<Self, BenchError> {
        let mut command = Command::new(program);
        command
            .args(["net", "serve", "--folder"])
            .arg(folder)
            .arg("--users")
            .arg(folder.join("users"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().map_err(|source| BenchError::Program { program: program.to_owned(), source })?;
        let daemon = Self(child);
        let begun = Instant::now();
        while !folder.join(SOCKET).exists() {
            if begun.elapsed() > PATIENCE {
                return Err(BenchError::Broken("`lichen net serve` did not become ready: it takes root".to_owned()));
            }
            crate::pause(Duration::from_millis(5));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let folder = Scratch::new()?;
    let rooms = || Ok([Room::new("plain")?, Room::new("cpu")?, Room::new("dpu")?]);
    let [plain, cpu, dpu] = rooms().map_err(io("no network namespaces: they take root"))?;
    let _daemon = Daemon::start(&plan.program, folder.path())?;
    let halves = vec![cpu.half.clone(), dpu.half.clone()];
    let network = Network { name: "bench".to_owned(), addresses: vec![POD], halves, uplink: None, users: Vec::new() };
    ask(folder.path(), &Request::Join(network)).map_err(|error| BenchError::Broken(error.to_string()))?;

    let mut ways = ways(&plain, &cpu, &dpu).map_err(io("a way between the halves could not be opened"))?;
    let mut arms = Vec::new();
    for length in LENGTHS {
        (plan.tell)(&format!("round trips of {length} bytes"));
        for _ in 0..plan.samples(5_000).div_ceil(BLOCK) {
            for way in &mut ways {
                way.measure(length, BLOCK).map_err(io("a way between the halves has broken"))?;
            }
        }
        for way in &mut ways {
            arms.extend(Arm::of(format!("{}, {length} B", way.name), Unit::Microseconds, &way.samples));
            way.samples.clear();
        }
    }
    let note = "Round trips of blocking TCP, arms in turn. Tier: namespace (one kernel, a pair of virtual devices for the link).";
    let trips = Figure::new("split", "HeteroPod, split network", &machine.with_unit(), arms).with_notes([note]);
    Ok(vec![trips, binds(plan, machine, &plain, &cpu)?])
}

fn ways(plain: &Room, cpu: &Room, dpu: &Room) -> io::Result<Vec<Way>> {
    plain.echo(PORT, 2)?;
    dpu.echo(PORT, 4)?;
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    Ok(vec![
        Way::open("loopback", plain, v4)?,
        Way::open("loopback, IPv6", plain, v6)?,
        Way::open("localhost within a half", dpu, v4)?,
        Way::open("localhost across PUs", cpu, v4)?,
        Way::open("localhost across PUs, IPv6", cpu, v6)?,
        Way::open("the Pod's address across PUs", cpu, POD)?,
    ])
}

/// What a bind costs, and the close after it, where it is a claim.
fn binds(plan: &Plan<'_>, machine: &Machine, plain: &Room, half: &Room) -> Result<Figure, BenchError> {
    (plan.tell)("binds");
    let count = plan.samples(2_000);
    let time = move || {
        let sample = |_| {
            let begun = Instant::now();
            drop(TcpListener::bind((Ipv4Addr::LOCALHOST, PORT + 1))?);
            Ok(begun.elapsed().as_nanos() as f64 / 1000.0)
        };
        (0..count).map(sample).collect::<io::Result<Vec<f64>>>()
    };
    let mut arms = Vec::new();
    for (name, room) in [("plain", plain), ("in a half", half)] {
        let samples = room.within(time).map_err(io("a port could not be bound"))?;
        arms.extend(Arm::of(format!("socket, bind, listen, close: {name}"), Unit::Microseconds, &samples));
    }
    Ok(Figure::new("split-bind", "our own", &machine.with_unit(), arms))
}
