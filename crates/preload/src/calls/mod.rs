//! The calls as programs make them, by their own names and those under which compilers and libraries make them.
//!
//! | module | which |
//! |---|---|
//! | [`streams`] | reading and writing |
//! | [`sockets`] | what a socket is, from its making to its end |
//! | [`waiting`] | poll, select, epoll |
//! | [`leaving`] | what gives descriptors into other hands |
//! | [`later`] | reading and writing by libc's own threads |
//! | [`rings`] | making an `io_uring` |
//! | [`numbers`] | those by number |
//!
//! Each looks up its descriptor; where that is no connection with memory, or one that may get some, the next library's call is made
//! with the same arguments. What a caller owes libc it owes these.

pub mod later;
pub mod leaving;
pub mod numbers;
pub mod rings;
pub mod sockets;
pub mod streams;
pub mod waiting;

/// Whether what a program points to lies in a frame of this thread's that is not far above this one: then it
/// is there, as the kernel would find.
fn is_on_stack<T>(at: *const T) -> bool {
    let here = 0u8;
    (at as usize).wrapping_sub(&raw const here as usize) < 64 << 10
}
