//! A server that starts a program for every request, or one for each client: the event goes to its standard input, the line
//! that it prints is the answer. It tells when the request had arrived and when the handler began in the header that Lichen's gateway uses.
//!
//! One thread for each client, the answer sent before the program has ended: nothing here waits that need not.

use super::bundle::Bundle;
use super::interpreter::Interpreter;
use crate::spans::HEADER;
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// crun refuses to work where this is mounted beside the hierarchies of version 1.
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// What is started for a request.
pub enum Start {
    /// A container.
    Crun(Bundle),
    /// A plain process, with everything that this one has.
    Process { interpreter: Interpreter, code: PathBuf, runner: TempDir },
}

impl Start {
    /// A plain process for the function in the folder `code`.
    pub fn process(interpreter: &Interpreter, code: &Path) -> io::Result<Self> {
        let runner = TempDir::with_prefix("lichen-bench-")?;
        let (name, text) = interpreter.runner();
        fs::write(runner.path().join(name), text)?;
        Ok(Self::Process { interpreter: interpreter.clone(), code: code.to_owned(), runner })
    }

    fn command(&self) -> Command {
        match self {
            Self::Crun(bundle) => bundle.run(),
            Self::Process { interpreter, code, runner } => {
                let mut command = Command::new(&interpreter.program);
                command.args(interpreter.arguments(&runner.path().join(interpreter.runner().0))).current_dir(code);
                command.env_clear().env("LANG", "C.UTF-8").env("OPENBLAS_NUM_THREADS", "1");
                command
            }
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }
}

/// Whether containers can be started at all.
pub fn has_crun() -> bool {
    Command::new("crun")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Makes the calling thread one that crun can be started from.
pub fn prepare_thread(start: &Start) -> io::Result<()> {
    if matches!(start, Start::Process { .. }) || !Path::new(HYBRID).exists() {
        return Ok(());
    }
    os::ns::unshare(os::ns::Kinds::MOUNT)?;
    os::mount::make_private()?;
    match unmount(HYBRID, UnmountFlags::DETACH) {
        // It is a folder and no mount.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A running server; ends when dropped.
pub struct OneShot {
    pub address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl OneShot {
    /// A server that starts a program for every request.
    pub fn serve(start: Start) -> io::Result<Self> {
        Self::begin(start, false)
    }

    /// A server whose clients have a program each, which stays.
    pub fn serve_warm(start: Start) -> io::Result<Self> {
        Self::begin(start, true)
    }

    fn begin(start: Start, keep: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, ended) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let (stop, start) = (ended.clone(), Arc::new(start));
        let thread = std::thread::spawn(move || {
            let mut clients = Vec::new();
            while !stop.load(Relaxed) {
                let (stream, _) = listener.accept()?;
                let start = start.clone();
                clients.push(std::thread::spawn(move || {
                    prepare_thread(&start).and_then(|()| converse(stream, &start, keep))
                }));
            }
            // A client that broke off has seen why, and is no reason to fail.
            clients.into_iter().for_each(|client| drop(client.join()));
            Ok(())
        });
        Ok(Self { address, ended, thread: Some(thread) })
    }
}

impl Drop for OneShot {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        // Wakes the thread that waits for a client; the connection closes at once.
        let woken = TcpStream::connect(self.address).is_ok();
        if let (true, Some(thread)) = (woken, self.thread.take()) {
            // Its error has reached the client as a closed connection.
            let _ = thread.join();
        }
    }
}

/// Answers a client until it closes its connection.
fn converse(stream: TcpStream, start: &Start, keep: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut reaper: Option<JoinHandle<()>> = None;
    let mut running: Option<Running> = None;
    while let Some(event) = read_event(&mut reader)? {
        let accepted = os::monotonic_ns();
        let asked = match running.take() {
            Some(program) => Ok(program),
            None => Running::start(start),
        };
        let asked = asked.and_then(|mut program| Ok((program.ask(&event, keep)?, program)));
        let (status, spans, body) = match &asked {
            Ok((answer, _)) => {
                let Answered { begun, received, .. } = answer;
                let spans = format!("accepted={accepted},begun={begun},received={received}");
                ("200 OK", spans, answer.body.clone())
            }
            Err(error) => ("502 Bad Gateway", String::new(), error.to_string().into_bytes()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{HEADER}: {spans}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat())?;
        let program = asked.ok().map(|(_, program)| program);
        if keep {
            running = program;
            continue;
        }
        if let Some(before) = reaper.take() {
            // Panics of a thread that only waits cannot be.
            let _ = before.join();
        }
        // Its end is not part of the answer: the next request may arrive while it ends.
        reaper = program.map(|program| std::thread::spawn(move || drop(program)));
    }
    if let Some(last) = reaper {
        let _ = last.join();
    }
    Ok(())
}

/// The body of the next request; nothing when there is none.
fn read_event(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if let Some(value) = text.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

/// A program that answers lines with lines. It has ended when this is dropped.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    errors: BufReader<ChildStderr>,
}

/// One answer of such a program.
pub struct Answered {
    pub body: Vec<u8>,
    begun: String,
    received: u64,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts it. What that needs of the calling thread has been done by [`prepare_thread`].
    pub fn start(start: &Start) -> io::Result<Self> {
        let mut child = start.spawn()?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the program has no standard streams"));
        };
        Ok(Self { child, input: Some(input), output: BufReader::new(output), errors: BufReader::new(errors) })
    }

    /// One event; unless it is to be kept, the program is told that there will be no other.
    pub fn ask(&mut self, event: &[u8], keep: bool) -> io::Result<Answered> {
        if let Some(input) = &mut self.input {
            // A program that ends early leaves the rest unread, and no answer.
            let _ = input.write_all(&[event, b"\n"].concat());
        }
        if !keep {
            self.input = None;
        }
        let (mut body, mut begun) = (Vec::new(), String::new());
        self.output.read_until(b'\n', &mut body)?;
        let received = os::monotonic_ns();
        self.errors.read_line(&mut begun)?;
        if body.is_empty() {
            return Err(io::Error::other(format!("the program printed no answer, but: {begun}")));
        }
        Ok(Answered { body, begun: begun.trim().to_owned(), received })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
