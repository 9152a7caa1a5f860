//! Ways for messages between two processes, behind one face: what FIFOs of shims are compared with.
//!
//! Streams carry a length before each message, in the same write; both sides read into a buffer. Three ways are floors: what
//! the machine can do at best where both ends look for each other's messages and do nothing else, or sleep for them.

use interconnect::floor::Floor;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest message that is measured.
pub const MESSAGE_MAX: usize = 1 << 20;

/// One end of a way.
pub trait Wire {
    /// Sends one message.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;
    /// Waits for the next message, and puts it in the place of what is in `message`.
    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<()>;
    /// A series begins: the peer may have gone to sleep in a way that messages do not end.
    fn rouse(&self) {}
}

/// What a wire is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Two named FIFOs of Linux.
    Fifo,
    /// A Unix stream socket.
    Unix,
    /// TCP over the loopback device, without delay (`TCP_NODELAY`).
    Tcp,
    /// Two words in memory: an exchange without a message.
    Words,
    /// The same by ends that sleep for each other.
    Futex,
    /// A plain ring each way, copied into and out of.
    Ring,
}

impl Medium {
    pub const ALL: [Self; 4] = [Self::Fifo, Self::Unix, Self::Tcp, Self::Futex];
    /// For ends on processors of their own.
    pub const FLOORS: [Self; 2] = [Self::Words, Self::Ring];
    const KNOWN: [Self; 6] = [Self::Fifo, Self::Unix, Self::Tcp, Self::Futex, Self::Words, Self::Ring];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fifo => "Linux FIFO",
            Self::Unix => "Unix socket",
            Self::Tcp => "TCP loopback",
            Self::Words => "two words",
            Self::Futex => "futex",
            Self::Ring => "plain ring",
        }
    }

    /// As the peer's command line has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
            Self::Words => "words",
            Self::Futex => "futex",
            Self::Ring => "ring",
        }
    }

    /// Whether its messages have a length: those of words only come.
    pub fn carries(self) -> bool {
        !matches!(self, Self::Words | Self::Futex)
    }

    /// What `word` makes of it.
    pub fn of(word: &str) -> Option<Self> {
        Self::KNOWN.into_iter().find(|medium| medium.word() == word)
    }
}

/// The end that is there first: its peer joins at [`Waiting::address`].
pub enum Waiting {
    Fifo(PathBuf),
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
    Floor(Medium, OwnedFd, Box<Floor>),
}

impl Waiting {
    /// A way of this medium, whose files, if it has any, lie in `folder`.
    pub fn new(medium: Medium, folder: &Path) -> io::Result<Self> {
        let path = folder.join(medium.word());
        Ok(match medium {
            Medium::Fifo => {
                for end in ["down", "up"] {
                    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                    rustix::fs::mkfifoat(rustix::fs::CWD, path.with_extension(end), mode)?;
                }
                Self::Fifo(path)
            }
            Medium::Unix => Self::Unix(UnixListener::bind(&path)?, path),
            Medium::Tcp => Self::Tcp(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?),
            Medium::Words | Medium::Futex | Medium::Ring => {
                let (memory, floor) = Floor::create()?;
                Self::Floor(medium, memory, Box::new(floor))
            }
        })
    }

    /// Where the peer finds it.
    pub fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Fifo(path) | Self::Unix(_, path) => path.display().to_string(),
            Self::Tcp(listener) => listener.local_addr()?.to_string(),
            Self::Floor(_, memory, _) => format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd()),
        })
    }

    /// Waits for the peer.
    pub fn meet(self) -> io::Result<Box<dyn Wire>> {
        Ok(match self {
            Self::Fifo(path) => {
                let write = OpenOptions::new().write(true).open(path.with_extension("down"))?;
                Box::new(Stream::new(File::open(path.with_extension("up"))?, write))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                Box::new(Stream::new(stream.try_clone()?, stream))
            }
            Self::Tcp(listener) => tcp(listener.accept()?.0)?,
            Self::Floor(medium, _memory, mut floor) => {
                // Until the peer has opened the memory, it is to be there.
                floor.hear()?;
                over(medium, *floor)
            }
        })
    }
}

/// The other end.
pub fn join(medium: Medium, address: &str) -> io::Result<Box<dyn Wire>> {
    let path = Path::new(address);
    Ok(match medium {
        Medium::Fifo => {
            let read = File::open(path.with_extension("down"))?;
            Box::new(Stream::new(read, OpenOptions::new().write(true).open(path.with_extension("up"))?))
        }
        Medium::Unix => {
            let stream = UnixStream::connect(path)?;
            Box::new(Stream::new(stream.try_clone()?, stream))
        }
        Medium::Tcp => tcp(TcpStream::connect(address)?)?,
        Medium::Words | Medium::Futex | Medium::Ring => {
            let mut floor = Floor::join(OpenOptions::new().read(true).write(true).open(path)?)?;
            floor.say();
            over(medium, floor)
        }
    })
}

fn over(medium: Medium, floor: Floor) -> Box<dyn Wire> {
    match medium {
        Medium::Words => Box::new(Words(floor)),
        Medium::Futex => Box::new(Futex(floor)),
        _ => Box::new(Plain(floor)),
    }
}

/// Messages of which only their coming is told: every one is taken for a question.
struct Words(Floor);

impl Wire for Words {
    fn send(&mut self, _message: &[u8]) -> io::Result<()> {
        self.0.say();
        Ok(())
    }

    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<()> {
        self.0.hear()?;
        message.clear();
        message.push(super::peer::ECHO);
        Ok(())
    }

    fn rouse(&self) {
        self.0.rouse();
    }
}

/// The same, asleep.
struct Futex(Floor);

impl Wire for Futex {
    fn send(&mut self, _message: &[u8]) -> io::Result<()> {
        self.0.call();
        Ok(())
    }

    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<()> {
        self.0.doze();
        message.clear();
        message.push(super::peer::ECHO);
        Ok(())
    }
}

struct Plain(Floor);

impl Wire for Plain {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.send(message)
    }

    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<()> {
        self.0.receive(message)
    }

    fn rouse(&self) {
        self.0.rouse();
    }
}

fn tcp(stream: TcpStream) -> io::Result<Box<dyn Wire>> {
    stream.set_nodelay(true)?;
    Ok(Box::new(Stream::new(stream.try_clone()?, stream)))
}

/// Framed messages over two byte streams.
struct Stream<R, W> {
    read: R,
    write: W,
    /// What has been read and not been taken: `filled` bytes from `taken` on.
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
    out: Vec<u8>,
}

/// Bytes of a message's length.
const LENGTH: usize = 4;

impl<R: Read, W: Write> Stream<R, W> {
    fn new(read: R, write: W) -> Self {
        Self { read, write, buffer: vec![0; 2 * (LENGTH + MESSAGE_MAX)], taken: 0, filled: 0, out: Vec::new() }
    }

    /// Reads on until `count` bytes wait to be taken.
    fn await_bytes(&mut self, count: usize) -> io::Result<()> {
        if self.taken + count > self.buffer.len() {
            self.buffer.copy_within(self.taken..self.filled, 0);
            (self.taken, self.filled) = (0, self.filled - self.taken);
        }
        while self.filled - self.taken < count {
            match self.read.read(&mut self.buffer[self.filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => self.filled += more,
            }
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> &[u8] {
        let bytes = &self.buffer[self.taken..self.taken + count];
        self.taken += count;
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
        bytes
    }
}

impl<R: Read, W: Write> Wire for Stream<R, W> {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.out.clear();
        self.out.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.out.extend_from_slice(message);
        self.write.write_all(&self.out)
    }

    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<()> {
        self.await_bytes(LENGTH)?;
        let length = self.take(LENGTH).try_into().map_or(0, u32::from_le_bytes) as usize;
        if length > MESSAGE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.await_bytes(length)?;
        message.clear();
        message.extend_from_slice(self.take(length));
        Ok(())
    }
}
