//! Small programs in the kernel (BPF), by the system call itself: maps, programs of control groups and for packets, a
//! ring of events, and sockets that are joined.
//!
//! The programs are written as instructions ([`Code`]): no compiler has to be there, and nothing is loaded from files.
//! Everything ends with its descriptors. What the kernel's verifier checks is not checked here.

mod code;
mod groups;
mod relay;
mod ring;

pub use code::{Code, Label, Reg, Width};
pub use groups::groups;
pub use relay::Relay;
pub use ring::Ring;

use crate::check;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MAP_CREATE: i32 = 0;
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const MAP_NEXT_KEY: i32 = 4;
const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const HASH: u32 = 1;
const RINGBUF: u32 = 27;
const NO_PREALLOC: u32 = 1;
const PROG_CLASSIFIER: u32 = 3;
const PROG_CGROUP_SOCK: u32 = 9;
/// The verifier's words, of which the last are the interesting ones.
const LOG_LEN: usize = 64 * 1024;

/// Where a program of a control group's sockets is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// After an IPv4 socket got its address and port; the program can take them away again.
    PostBind4 = 12,
    /// The same of IPv6.
    PostBind6 = 13,
    /// When a socket is closed for good.
    Release = 34,
}

/// How an element is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Any = 0,
    /// Only if it is not there.
    New = 1,
}

/// A table that programs and this process share. Keys and values are plain bytes of fixed lengths.
#[derive(Debug)]
pub struct Map<const KEY: usize, const VALUE: usize>(OwnedFd);

/// A program that the kernel has accepted.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// A program at its hook: it is taken away with this.
#[derive(Debug)]
pub struct Attached {
    #[expect(dead_code, reason = "the kernel takes the program away when this is closed")]
    link: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct MapAttr {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map: u32,
    pad: u32,
    key: u64,
    /// Or where the next key is to be written.
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    kind: u32,
    count: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kern_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    hook: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    program: u32,
    target: u32,
    hook: u32,
    flags: u32,
}

/// # Safety
/// Addresses in `attr` must be of memory that is as long as the kernel takes it to be, and valid until it returns.
unsafe fn bpf<T>(command: i32, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a plain structure of the length given; its addresses are the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    check(result).map(|value| value as i32)
}

/// # Safety
/// As of [`bpf`]; the command must be one that answers a descriptor.
unsafe fn bpf_fd<T>(command: i32, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise, passed on.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn make_map(mut attr: MapAttr) -> io::Result<OwnedFd> {
    // SAFETY: there is no address in it, and the command answers a descriptor.
    unsafe { bpf_fd(MAP_CREATE, &mut attr) }
}

impl<const KEY: usize, const VALUE: usize> Map<KEY, VALUE> {
    /// A hash table of up to so many elements; memory is taken as they come.
    pub fn hash(entries: u32) -> io::Result<Self> {
        let attr = MapAttr { kind: HASH, key: KEY as u32, value: VALUE as u32, entries, flags: NO_PREALLOC };
        make_map(attr).map(Self)
    }

    pub fn get(&self, key: &[u8; KEY]) -> io::Result<Option<[u8; VALUE]>> {
        let mut value = [0; VALUE];
        let mut attr = self.element(key, value.as_mut_ptr() as u64, 0);
        // SAFETY: key and value are as long as the map was made for, and live until the call returns.
        present(unsafe { bpf(MAP_LOOKUP, &mut attr) }).map(|there| there.then_some(value))
    }

    /// Whether it was stored: not where it had to be new and was there.
    pub fn set(&self, key: &[u8; KEY], value: &[u8; VALUE], how: Store) -> io::Result<bool> {
        let mut attr = self.element(key, value.as_ptr() as u64, how as u64);
        // SAFETY: as in `get`; the kernel only reads.
        match unsafe { bpf(MAP_UPDATE, &mut attr) } {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            result => result.map(|_| true),
        }
    }

    /// Whether it was there.
    pub fn remove(&self, key: &[u8; KEY]) -> io::Result<bool> {
        let mut attr = self.element(key, 0, 0);
        // SAFETY: as in `get`; the kernel reads the key alone.
        present(unsafe { bpf(MAP_DELETE, &mut attr) })
    }

    /// The keys there are; some that come or go meanwhile may be missed.
    pub fn keys(&self) -> io::Result<Vec<[u8; KEY]>> {
        let mut keys: Vec<[u8; KEY]> = Vec::new();
        loop {
            let mut next = [0; KEY];
            let mut attr =
                ElementAttr { map: self.0.as_raw_fd() as u32, value: next.as_mut_ptr() as u64, ..Default::default() };
            attr.key = keys.last().map_or(0, |last| last.as_ptr() as u64);
            // SAFETY: `next` is as long as a key; the key before it is a key, or none, which asks for the first.
            if !present(unsafe { bpf(MAP_NEXT_KEY, &mut attr) })? {
                return Ok(keys);
            }
            keys.push(next);
        }
    }

    fn element(&self, key: &[u8; KEY], value: u64, flags: u64) -> ElementAttr {
        ElementAttr { map: self.0.as_raw_fd() as u32, pad: 0, key: key.as_ptr() as u64, value, flags }
    }
}

impl<const KEY: usize, const VALUE: usize> AsFd for Map<KEY, VALUE> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// That there is no such element is no error.
fn present(result: io::Result<i32>) -> io::Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|_| true),
    }
}

impl Program {
    /// Has the kernel take a program for the sockets of control groups. An error tells the verifier's last words.
    pub fn load(hook: Hook, code: &Code) -> io::Result<Self> {
        Self::load_as(PROG_CGROUP_SOCK, hook as u32, code)
    }

    /// Has the kernel take a program for packets that enter by a device. Who puts it there: `net::netlink`.
    pub fn classifier(code: &Code) -> io::Result<Self> {
        Self::load_as(PROG_CLASSIFIER, 0, code)
    }

    /// Has the kernel take a program of any kind.
    fn load_as(kind: u32, hook: u32, code: &Code) -> io::Result<Self> {
        let words = code.words();
        let license = b"GPL\0";
        let mut attr = LoadAttr {
            kind,
            count: words.len() as u32,
            code: words.as_ptr() as u64,
            license: license.as_ptr() as u64,
            hook,
            ..Default::default()
        };
        // SAFETY: the instructions and the licence live until the call returns, and are as long as is said.
        match unsafe { bpf_fd(PROG_LOAD, &mut attr) } {
            Ok(program) => Ok(Self(program)),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(error),
            Err(error) => Err(Self::explained(attr, error)),
        }
    }

    /// The same again, to hear why it is refused.
    fn explained(mut attr: LoadAttr, error: io::Error) -> io::Error {
        let mut log = vec![0_u8; LOG_LEN];
        (attr.log_level, attr.log_size, attr.log) = (1, LOG_LEN as u32, log.as_mut_ptr() as u64);
        // SAFETY: as before; the log is as long as is said. Its answer is the same error, or a program that nobody wants.
        let _ = unsafe { bpf_fd(PROG_LOAD, &mut attr) };
        let text = String::from_utf8_lossy(&log);
        let mut lines = text.trim_end_matches('\0').trim_end().lines().rev();
        let last = lines.find(|line| !line.starts_with("processed")).unwrap_or_default();
        io::Error::new(error.kind(), format!("{error}: {last}"))
    }

    /// Runs it for the sockets of a control group (a folder of cgroup2) and of all below it, beside others' programs.
    pub fn attach(&self, group: impl AsFd, hook: Hook) -> io::Result<Attached> {
        self.attach_as(group, hook as u32)
    }

    fn attach_as(&self, group: impl AsFd, hook: u32) -> io::Result<Attached> {
        let (program, target) = (self.0.as_raw_fd() as u32, group.as_fd().as_raw_fd() as u32);
        let mut attr = LinkAttr { program, target, hook, flags: 0 };
        // SAFETY: there is no address in it, and the command answers a descriptor.
        unsafe { bpf_fd(LINK_CREATE, &mut attr) }.map(|link| Attached { link })
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A ring of `len` bytes (a power of two, of pages at least), into which programs write.
fn make_ring(len: u32) -> io::Result<OwnedFd> {
    make_map(MapAttr { kind: RINGBUF, entries: len, ..Default::default() })
}
