//! Capabilities: Lichen only ever gives them up.

use crate::check;
use std::io;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Empties the calling thread's effective, permitted and inheritable sets.
pub fn drop_all() -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let sets = [[0u32; 3]; 2];
    // SAFETY: the kernel reads a header and two triples, which is what is passed.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) }).map(drop)
}

/// Empties the bounding set, so that no program run later could regain anything.
pub fn drop_bounding() {
    for capability in 0..64 {
        // SAFETY: prctl with integer arguments. The first number that the kernel does not know ends the loop.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            break;
        }
    }
}
