//! What gives descriptors into other hands: other programs, and libc itself.

use crate::{real, settle};
use libc::{FILE, c_char, c_int, c_void, pid_t};

type Words = *const *const c_char;

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const c_char, arguments: Words, environment: Words) -> c_int {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::execve(path, arguments, environment) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, arguments: Words) -> c_int {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::execv(path, arguments) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, arguments: Words) -> c_int {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::execvp(file, arguments) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const c_char, arguments: Words, environment: Words) -> c_int {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::execvpe(file, arguments, environment) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(fd: c_int, arguments: Words, environment: Words) -> c_int {
    settle::inherited();
    // SAFETY: the arguments as they came.
    unsafe { real::fexecve(fd, arguments, environment) }
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
