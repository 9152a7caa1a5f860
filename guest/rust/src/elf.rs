//! Sets of a static x86-64 program: Dandelion's interface, which Lichen speaks too.
//!
//! ```text
//! the platform loads the program, fills in __dandelion_system_data, and jumps to _start with a stack
//! input_sets    names, and where in input_bufs the items of each begin; one more set at the end closes the last one
//! output_sets   names; the function says where in output_bufs the items of each begin, in the same way
//! the end       the exit code in the structure, then exit_group; where there is no kernel, interrupt 0x20
//! ```
//!
//! Inputs are read where they lie, and outputs handed over where they lie: nothing is copied.

use crate::{Error, Failure, Item, name};
use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::{ptr, slice, str};

#[repr(C)]
struct SystemSet {
    name: *const u8,
    name_len: usize,
    first: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct SystemBuf {
    name: *const u8,
    name_len: usize,
    data: *const u8,
    len: usize,
    key: usize,
}

#[repr(C)]
pub(crate) struct SystemData {
    exit_code: i32,
    pub(crate) heap_begin: usize,
    pub(crate) heap_end: usize,
    input_sets_len: usize,
    input_sets: *const SystemSet,
    output_sets_len: usize,
    output_sets: *mut SystemSet,
    input_bufs: *const SystemBuf,
    output_bufs: *const SystemBuf,
}

const _: () = assert!(size_of::<SystemData>() == 72 && size_of::<SystemSet>() == 24 && size_of::<SystemBuf>() == 40);

/// Exit codes beyond those of functions, and that of a panic.
const NEVER_ENDED: i32 = 256;
const PANIC: i32 = 101;

/// Written by the platform before the start and read by it after the end; there is one thread.
#[repr(transparent)]
pub struct Shared(UnsafeCell<SystemData>);

// SAFETY: the program has one thread, and the platform touches it only while the program does not run.
unsafe impl Sync for Shared {}

#[unsafe(no_mangle)]
#[used]
pub static __dandelion_system_data: Shared = Shared(UnsafeCell::new(SystemData {
    exit_code: NEVER_ENDED,
    heap_begin: usize::MAX,
    heap_end: 0,
    input_sets_len: 0,
    input_sets: ptr::null(),
    output_sets_len: 0,
    output_sets: ptr::null_mut(),
    input_bufs: ptr::null(),
    output_bufs: ptr::null(),
}));

pub(crate) fn system() -> *mut SystemData {
    __dandelion_system_data.0.get()
}

/// Text that the platform has put there: valid for the whole run. It promises UTF-8; what is none counts as empty.
///
/// # Safety
/// `at` and `len` are the platform's.
unsafe fn text<'a>(at: *const u8, len: usize) -> &'a str {
    // SAFETY: the caller's word; the platform's memory is there until the end.
    str::from_utf8(unsafe { bytes(at, len) }).unwrap_or_default()
}

/// # Safety
/// `at` and `len` are the platform's.
unsafe fn bytes<'a>(at: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's word; the platform's memory is there until the end.
    unsafe { slice::from_raw_parts(at, len) }
}

/// The input sets.
pub struct Inputs(PhantomData<*const ()>);

/// An input set.
#[derive(Clone)]
pub struct Set<'a> {
    name: &'a str,
    bufs: &'a [SystemBuf],
}

impl Inputs {
    /// The input set of this name.
    pub fn set(&self, name: &str) -> Result<Set<'_>, Error> {
        self.sets().find(|set| set.name == name).ok_or(Error::NoSet)
    }

    /// All input sets.
    pub fn sets(&self) -> impl Iterator<Item = Set<'_>> {
        // SAFETY: `Inputs` is made in `start`, when the platform has filled the structure in; it has one set more than
        // `input_sets_len` says, and as many buffers as the last one's `first`.
        unsafe {
            let data = &*system();
            (0..data.input_sets_len).map(|index| {
                let set = &*data.input_sets.add(index);
                let end = (*data.input_sets.add(index + 1)).first;
                let bufs = match end - set.first {
                    0 => &[],
                    count => slice::from_raw_parts(data.input_bufs.add(set.first), count),
                };
                Set { name: text(set.name, set.name_len), bufs }
            })
        }
    }
}

impl<'a> Set<'a> {
    pub fn name(&self) -> &'a str {
        self.name
    }

    pub fn len(&self) -> usize {
        self.bufs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bufs.is_empty()
    }

    pub fn item(&self, index: usize) -> Option<Result<Item<'a>, Error>> {
        self.bufs.get(index).map(|buf| Ok(item(buf)))
    }

    pub fn items(&self) -> impl Iterator<Item = Result<Item<'a>, Error>> + use<'a> {
        self.bufs.iter().map(|buf| Ok(item(buf)))
    }
}

fn item<'a>(buf: &SystemBuf) -> Item<'a> {
    // SAFETY: a buffer of `input_bufs` is the platform's.
    unsafe { Item { name: text(buf.name, buf.name_len), key: buf.key as u64, data: bytes(buf.data, buf.len) } }
}

/// What the function leaves.
pub struct Outputs<'a> {
    put: Vec<Output<'a>>,
}

struct Output<'a> {
    set: usize,
    number: usize,
    name: alloc::string::String,
    key: u64,
    data: Cow<'a, [u8]>,
}

impl<'a> Outputs<'a> {
    /// Adds an item. One without a name is named by its number in the set.
    pub fn put(&mut self, set: &str, item: &str, key: u64, data: impl Into<Cow<'a, [u8]>>) -> Result<(), Error> {
        let set = Self::number(set).ok_or(Error::NoSet)?;
        // The set's last item is not far as a rule.
        let number = self.put.iter().rfind(|output| output.set == set).map_or(0, |last| last.number + 1);
        let name = if item.is_empty() { number.to_string() } else { item.into() };
        if !name::is_good(&name) {
            return Err(Error::Name);
        }
        self.put.push(Output { set, number, name, key, data: data.into() });
        Ok(())
    }

    fn number(name: &str) -> Option<usize> {
        // SAFETY: the platform has filled the structure in, and nothing writes to it before `hand_over`.
        unsafe {
            let data = &*system();
            (0..data.output_sets_len).find(|&index| {
                let set = &*data.output_sets.add(index);
                text(set.name, set.name_len) == name
            })
        }
    }

    /// Hands over what was put, sorted by set; it stays in memory for the platform to take.
    fn hand_over(mut self) {
        self.put.sort_by_key(|output| output.set);
        let put = self.put.leak();
        let bufs: Vec<SystemBuf> = put.iter().map(Output::buf).collect();
        // SAFETY: `output_sets` has one set more than `output_sets_len` says, and nobody else writes while we run.
        unsafe {
            let data = &mut *system();
            for set in 0..=data.output_sets_len {
                if !data.output_sets.is_null() {
                    (*data.output_sets.add(set)).first = put.partition_point(|output| output.set < set);
                }
            }
            data.output_bufs = bufs.leak().as_ptr();
        }
    }
}

impl Output<'_> {
    fn buf(&self) -> SystemBuf {
        SystemBuf {
            name: self.name.as_ptr(),
            name_len: self.name.len(),
            data: self.data.as_ptr(),
            len: self.data.len(),
            key: self.key as usize,
        }
    }
}

/// Runs the function.
pub fn start(run: impl FnOnce(&'static Inputs, &mut Outputs<'static>) -> Result<(), Failure>) -> i32 {
    const INPUTS: &Inputs = &Inputs(PhantomData);
    let mut outputs = Outputs { put: Vec::new() };
    let code = crate::code(run(INPUTS, &mut outputs));
    if code == 0 {
        outputs.hand_over();
    }
    code
}

unsafe extern "C" {
    /// Of the macro `function`.
    safe fn lichen_main() -> i32;
}

extern "C" fn entry() -> ! {
    leave(lichen_main())
}

fn leave(code: i32) -> ! {
    // SAFETY: nobody else writes while we run; the system call ends the program, and so does the interrupt where there is
    // no kernel.
    unsafe {
        (*system()).exit_code = code;
        core::arch::asm!("syscall", "int 0x20", "ud2", in("rax") 231, in("rdi") i64::from(code), options(noreturn))
    }
}

/// The platform gives a stack; that it is aligned, nobody promises.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    core::arch::naked_asm!("xor ebp, ebp", "and rsp, -16", "call {entry}", "ud2", entry = sym entry)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    leave(PANIC)
}

/// `alloc` is compiled with unwinding and names this; with `panic = "abort"` nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
