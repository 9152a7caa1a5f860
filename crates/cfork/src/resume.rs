//! Going on elsewhere: a process that was forked on one stack continues on another one.
//!
//! The template waits on its own stack, and its forkers fork on theirs. A child has copies of both; it leaves the
//! forker's and returns from where the template waits.

use std::ffi::c_void;

/// What [`park`] answers in a process that has come there by [`resume`].
pub const RESUMED: i64 = i64::MIN;

/// A place to go on from: the stack, on which lies all else.
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    stack: *mut c_void,
}

impl Context {
    /// A place yet to be noted.
    pub const fn new() -> Self {
        Self { stack: std::ptr::null_mut() }
    }
}

/// Notes in `context` where it was called, and answers what `run(argument)` answers, which is not [`RESUMED`].
///
/// # Safety
/// `context` must be valid, and `run` be safe to be called with `argument`.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub unsafe extern "C" fn park(
    context: *mut Context,
    run: unsafe extern "C" fn(*mut c_void) -> i64,
    argument: *mut c_void,
) -> i64 {
    // The seventh word keeps the stack at a multiple of 16 for the call.
    std::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdi], rsp",
        "mov rdi, rdx",
        "call rsi",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// The same: what a callee must preserve is the registers from x19 on, and the lower halves of v8 to v15.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub unsafe extern "C" fn park(
    context: *mut Context,
    run: unsafe extern "C" fn(*mut c_void) -> i64,
    argument: *mut c_void,
) -> i64 {
    std::arch::naked_asm!(
        "stp x29, x30, [sp, #-160]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x9, sp",
        "str x9, [x0]",
        "mov x0, x2",
        "blr x1",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #160",
        "ret",
    )
}

/// Goes on from there: [`park`] returns [`RESUMED`].
///
/// # Safety
/// In this process's memory `park` must be running `run`: the process is a copy of one in which it was. Everything on the
/// stack that is left is forgotten, not dropped.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub unsafe extern "C" fn resume(context: *const Context) -> ! {
    std::arch::naked_asm!(
        "mov rsp, [rdi]",
        "mov rax, {resumed}",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        resumed = const RESUMED,
    )
}

/// The same.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub unsafe extern "C" fn resume(context: *const Context) -> ! {
    std::arch::naked_asm!(
        "ldr x9, [x0]",
        "mov sp, x9",
        "mov x0, {resumed}",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #160",
        "ret",
        resumed = const RESUMED,
    )
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("park and resume are written for x86-64 and aarch64");

#[cfg(test)]
mod tests {
    use super::*;

    struct Forks {
        context: Context,
        child: i32,
    }

    /// Forks; the child resumes.
    unsafe extern "C" fn fork_and_resume(forks: *mut c_void) -> i64 {
        let forks = forks.cast::<Forks>();
        // SAFETY: the test passes its Forks, and the child only exits.
        unsafe {
            match libc::fork() {
                0 => resume(&raw const (*forks).context),
                pid => (*forks).child = pid,
            }
        }
        42
    }

    #[test]
    fn a_child_returns_from_where_its_parent_waits() {
        let mut forks = Forks { context: Context::new(), child: 0 };
        let kept = std::hint::black_box([1u64, 2, 3, 4, 5, 6, 7]);
        let halves = std::hint::black_box([0.5f64; 6]);
        let argument = &raw mut forks;
        // SAFETY: all of it lives here.
        match unsafe { park(&raw mut (*argument).context, fork_and_resume, argument.cast()) } {
            RESUMED => {
                os::process::exit_now(kept.iter().sum::<u64>() as i32 + halves.iter().sum::<f64>() as i32);
            }
            answer => assert_eq!(answer, 42),
        }
        assert_eq!(os::process::wait(forks.child).unwrap(), os::process::End::Exit(31));
    }
}
