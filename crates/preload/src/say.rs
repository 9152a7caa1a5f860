//! What whoever has started the program is told, once: on its standard error, if somebody looks at that, or has asked for it.

use crate::env::settings;
use crate::real;
use socket::member::NoPlace;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// That this process has no place with its broker, if the broker has said why. Other failures are all in a day's work: it ends, and
/// another one comes.
pub fn no_place(error: &io::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let Some(why) = error.get_ref().and_then(|error| error.downcast_ref::<NoPlace>()) else { return };
    if SAID.swap(true, Relaxed) {
        return;
    }
    let place = settings().broker.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    let remedy = match why {
        NoPlace::Owner(_) => "Start the program by `lichen socket run`, which finds one.",
        _ => {
            "Start the program by `lichen socket run` of the build that the node or `lichen net serve` is of, or those anew with \
             this one's."
        }
    };
    say(&format!(
        "lichen: connections were to go through memory, and stay on TCP: {why}. The broker listens at {place}. {remedy}\n"
    ));
}

/// That this process has an `io_uring`.
pub fn uses_rings() {
    say(
        "lichen: connections of this program stay on TCP: it uses io_uring, which goes past the library that would find what lies in \
         memory.\n",
    );
}

fn say(text: &str) {
    // SAFETY: a question about a descriptor.
    let is_heard = settings().log || unsafe { libc::isatty(libc::STDERR_FILENO) } == 1;
    if !is_heard {
        return;
    }
    let kept = real::errno();
    // SAFETY: the bytes are a string's. One that cannot be written has nobody to read it.
    let _ = unsafe { libc::syscall(libc::SYS_write, libc::STDERR_FILENO, text.as_ptr(), text.len()) };
    real::set_errno(kept);
}
