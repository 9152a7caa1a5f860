//! Programs started with descriptors at agreed numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The number that the first descriptor handed over has in the program.
pub const FIRST_DESCRIPTOR: i32 = 3;

/// The program will have `descriptors` as its descriptors 3, 4 and so on, and none beyond: not what this process has inherited
/// either. They stay open here as long as `command` does.
pub fn hand_over(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let above = FIRST_DESCRIPTOR + descriptors.len() as i32;
    let place_all = move || -> io::Result<()> {
        // First out of the way of the numbers that are about to be taken.
        let apart: Vec<OwnedFd> = descriptors.iter().map(|d| duplicate_from(d, above)).collect::<io::Result<_>>()?;
        for (descriptor, number) in apart.iter().zip(FIRST_DESCRIPTOR..) {
            crate::process::place(descriptor, number)?;
        }
        crate::process::shut_on_exec_from(above as u32);
        // A mask survives an exec: whoever takes its signals by descriptor must not make its children deaf.
        crate::signal::unblock_all();
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec: beside system calls it allocates one short list, which the C
    // library allows after a fork even where other threads exist (its allocator has fork handlers).
    unsafe { command.pre_exec(place_all) };
}

/// The program is asked to end (SIGTERM) when the thread that has started it is gone, however that came about.
pub fn end_with_parent(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec, and is one system call.
    unsafe { command.pre_exec(|| crate::process::die_with_parent(libc::SIGTERM)) };
}

/// The program hears these signals, also where this process takes them by descriptor.
pub fn hear(command: &mut Command, signals: &'static [i32]) {
    let unblock = || {
        crate::signal::unblock(signals);
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, and is one system call.
    unsafe { command.pre_exec(unblock) };
}

/// The program has a session of its own: no terminal's signals, and, where the kernel shares out processors by sessions
/// (autogroups), a share that is not its starter's.
pub fn in_own_session(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec, and is one system call.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
}

/// The program, and whatever it runs, can gain no privilege.
pub fn gain_nothing(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec, and is one system call.
    unsafe { command.pre_exec(crate::process::no_new_privileges) };
}

/// A copy of a descriptor whose number is at least `least`, closed on exec.
fn duplicate_from(descriptor: impl AsFd, least: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let number = unsafe { libc::fcntl(descriptor.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    crate::check(number.into())?;
    // SAFETY: checked above: a new descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes a descriptor that whoever started this program has handed over. It closes on exec from now on. Call it once
/// per number, before anything else opens descriptors: afterwards the number may be somebody else's.
pub fn take(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers only. The kernel refuses a number that is not open.
    crate::check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and by the contract above nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn descriptors_arrive_in_order_whatever_their_numbers() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (mut answers, answer) = io::pipe().unwrap();
        writer.write_all(b"hello").unwrap();
        drop(writer);
        // In the child, 3 is to be what has another number here, and the other way round.
        let mut command = Command::new("sh");
        command.args(["-c", "cat <&3 >&4"]);
        hand_over(&mut command, vec![reader.into(), answer.into()]);
        assert!(command.status().unwrap().success());
        drop(command);
        let mut text = String::new();
        answers.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn what_was_inherited_goes_no_further() {
        let (reader, _writer) = io::pipe().unwrap();
        let inherited = duplicate_from(&reader, 100).unwrap();
        // SAFETY: integers only, and the descriptor is this test's.
        assert_eq!(unsafe { libc::fcntl(inherited.as_raw_fd(), libc::F_SETFD, 0) }, 0);
        let has = |hands_over: bool| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("[ -e /proc/$$/fd/{} ]", inherited.as_raw_fd())]);
            if hands_over {
                hand_over(&mut command, vec![reader.try_clone().unwrap().into()]);
            }
            command.status().unwrap().success()
        };
        assert!(has(false) && !has(true));
    }

    #[test]
    fn a_program_ends_with_the_thread_that_started_it() {
        let mut command = Command::new("cat");
        command.stdin(std::process::Stdio::piped());
        end_with_parent(&mut command);
        let mut child = std::thread::spawn(move || command.spawn().unwrap()).join().unwrap();
        let input = child.stdin.take();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        drop(input);
    }

    #[test]
    fn a_program_can_have_a_session_of_its_own() {
        let mut command = Command::new("cat");
        command.stdin(std::process::Stdio::piped());
        in_own_session(&mut command);
        let mut child = command.spawn().unwrap();
        let session = rustix::process::getsid(rustix::process::Pid::from_raw(child.id() as i32)).unwrap();
        assert_eq!(session.as_raw_nonzero().get(), child.id() as i32);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_number_that_is_not_open_is_an_error() {
        assert!(take(1000).is_err());
    }
}
