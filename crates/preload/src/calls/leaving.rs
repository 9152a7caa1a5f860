//! What gives descriptors into other hands: other programs, and libc itself.
//!
//! Calls with any number of arguments pass through untouched: their registers are kept while the descriptors are seen to. Only where
//! that is written out, on x86-64; elsewhere `execl` and `dprintf` are not seen.

use crate::{real, settle, slot};
use libc::{FILE, c_char, c_int, c_void, pid_t};

type Words = *const *const c_char;

/// This process becomes another program, if it can.
fn departing(exec: impl FnOnce() -> c_int) -> c_int {
    settle::inherited();
    slot::depart();
    exec()
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const c_char, arguments: Words, environment: Words) -> c_int {
    // SAFETY: the arguments as they came.
    departing(|| unsafe { real::execve(path, arguments, environment) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, arguments: Words) -> c_int {
    // SAFETY: the arguments as they came.
    departing(|| unsafe { real::execv(path, arguments) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, arguments: Words) -> c_int {
    // SAFETY: the arguments as they came.
    departing(|| unsafe { real::execvp(file, arguments) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const c_char, arguments: Words, environment: Words) -> c_int {
    // SAFETY: the arguments as they came.
    departing(|| unsafe { real::execvpe(file, arguments, environment) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(fd: c_int, arguments: Words, environment: Words) -> c_int {
    // SAFETY: the arguments as they came.
    departing(|| unsafe { real::fexecve(fd, arguments, environment) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execveat(
    folder: c_int,
    path: *const c_char,
    arguments: Words,
    environment: Words,
    flags: c_int,
) -> c_int {
    // SAFETY: the arguments as they came.
    departing(|| unsafe { real::execveat(folder, path, arguments, environment, flags) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn_file_actions_adddup2(actions: *mut c_void, fd: c_int, new: c_int) -> c_int {
    // The child has it then, also if it is one that closes there; and nobody sees the child's calls before its program begins.
    settle::descriptor(fd);
    // SAFETY: the arguments as they came.
    unsafe { real::posix_spawn_file_actions_adddup2(actions, fd, new) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn(
    pid: *mut pid_t,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Words,
    environment: Words,
) -> c_int {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::posix_spawn(pid, path, actions, attributes, arguments, environment) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawnp(
    pid: *mut pid_t,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Words,
    environment: Words,
) -> c_int {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::posix_spawnp(pid, file, actions, attributes, arguments, environment) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn system(line: *const c_char) -> c_int {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::system(line) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn popen(line: *const c_char, mode: *const c_char) -> *mut FILE {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::popen(line, mode) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    // What libc reads and writes then, nobody sees; nor that it closes it.
    settle::descriptor(fd);
    // SAFETY: the arguments as they came.
    unsafe { real::fdopen(fd, mode) }
}

/// # Safety
/// As libc's. (A list of arguments comes as a pointer to where it is.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int {
    settle::descriptor(fd);
    // SAFETY: the arguments as they came.
    unsafe { real::vdprintf(fd, format, arguments) }
}

/// # Safety
/// As libc's. (As above.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdprintf_chk(
    fd: c_int,
    checks: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    settle::descriptor(fd);
    // SAFETY: the arguments as they came.
    unsafe { real::__vdprintf_chk(fd, checks, format, arguments) }
}

/// The calls of any number of arguments, by the number with which they ask for themselves.
#[cfg(target_arch = "x86_64")]
mod any {
    use crate::{settle, slot};
    use libc::{c_int, c_void};
    use std::arch::naked_asm;
    use std::ffi::CStr;

    const NAMES: [&CStr; 5] = [c"execl", c"execlp", c"execle", c"dprintf", c"__dprintf_chk"];
    /// From this one on the first argument is a descriptor.
    const WRITES: usize = 3;

    /// Sees to the descriptors, and says where the next library's call is.
    extern "C" fn leave(first: usize, which: usize) -> *mut c_void {
        if which >= WRITES {
            settle::descriptor(first as c_int);
        } else {
            settle::inherited();
            slot::depart();
        }
        // SAFETY: the name ends with a zero; whoever calls one of these has libc.
        unsafe { libc::dlsym(libc::RTLD_NEXT, NAMES[which].as_ptr()) }
    }

    macro_rules! pass {
        ($($name:ident $number:literal)*) => {$(
            /// # Safety
            /// As libc's.
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name() {
                naked_asm!(
                    "sub rsp, 200",
                    "mov [rsp], rdi",
                    "mov [rsp + 8], rsi",
                    "mov [rsp + 16], rdx",
                    "mov [rsp + 24], rcx",
                    "mov [rsp + 32], r8",
                    "mov [rsp + 40], r9",
                    "mov [rsp + 48], rax",
                    "movups [rsp + 64], xmm0",
                    "movups [rsp + 80], xmm1",
                    "movups [rsp + 96], xmm2",
                    "movups [rsp + 112], xmm3",
                    "movups [rsp + 128], xmm4",
                    "movups [rsp + 144], xmm5",
                    "movups [rsp + 160], xmm6",
                    "movups [rsp + 176], xmm7",
                    "mov esi, {number}",
                    "call {leave}",
                    "mov r11, rax",
                    "mov rdi, [rsp]",
                    "mov rsi, [rsp + 8]",
                    "mov rdx, [rsp + 16]",
                    "mov rcx, [rsp + 24]",
                    "mov r8, [rsp + 32]",
                    "mov r9, [rsp + 40]",
                    "mov rax, [rsp + 48]",
                    "movups xmm0, [rsp + 64]",
                    "movups xmm1, [rsp + 80]",
                    "movups xmm2, [rsp + 96]",
                    "movups xmm3, [rsp + 112]",
                    "movups xmm4, [rsp + 128]",
                    "movups xmm5, [rsp + 144]",
                    "movups xmm6, [rsp + 160]",
                    "movups xmm7, [rsp + 176]",
                    "add rsp, 200",
                    "jmp r11",
                    number = const $number,
                    leave = sym leave,
                )
            }
        )*};
    }

    pass! { execl 0 execlp 1 execle 2 dprintf 3 __dprintf_chk 4 }
}
